"""What every log promises to those who append, whatever it is stored in. More in test_contract_use.py."""

from __future__ import annotations

import asyncio

import pytest

from evrt.errors import (
    Fenced,
    InvalidInput,
    RepeatMismatch,
    WrongVersion,
)
from evrt.log import (
    EMPTY_HEAD,
    NEW,
    PAYLOAD_BYTES_MAX,
    Append,
    Claim,
    Draft,
    Exact,
    Fence,
    Next,
)
from log.stores import Open, append, as_drafts, claimed, draft, leaf_of

# ------------------------------------------------------------------------------------- recording


async def test_an_empty_log_is_empty(open_store: Open) -> None:
    async with open_store() as log:
        assert await log.read() == []
        assert await log.position() == 0
        assert await log.head("run-1") == EMPTY_HEAD
        assert await log.read_stream("run-1") == []
        assert await log.streams("") == []


async def test_events_come_back_as_they_were_written(open_store: Open) -> None:
    drafts = [
        draft(payload=b""),
        draft("memory-user-é-日本", b"\x00\xff" * 10, type="memory.set", correlation="conversation-ü"),
        draft("run-2", "smile 🙂".encode(), meta='{"actor":"Zoë","n":1.5,"list":[1,null]}'.encode()),
        draft(payload=b"x" * PAYLOAD_BYTES_MAX),
    ]
    async with open_store() as log:
        appended = await log.append(append(*drafts))
        rows = await log.read()
    assert as_drafts(rows) == drafts
    assert appended.positions == range(1, 5)
    assert appended.versions == (1, 1, 1, 2)
    assert [row.position for row in rows] == [1, 2, 3, 4]
    assert [row.version for row in rows] == [1, 1, 1, 2]
    assert [row.payload_length for row in rows] == [0, 20, 10, PAYLOAD_BYTES_MAX]


async def test_positions_are_dense_and_versions_contiguous_in_the_order_of_the_calls(
    open_store: Open,
) -> None:
    async with open_store() as log:
        answers = await asyncio.gather(
            *(log.append(append(draft(f"run-{number % 3}"), draft("run-all"))) for number in range(12))
        )
        rows = await log.read()
    assert [list(answer.positions) for answer in answers] == [[2 * n + 1, 2 * n + 2] for n in range(12)]
    assert [row.position for row in rows] == list(range(1, 25))
    for stream in ("run-0", "run-1", "run-2", "run-all"):
        versions = [row.version for row in rows if row.stream == stream]
        assert versions == list(range(1, len(versions) + 1))


async def test_every_leaf_follows_from_the_row_and_the_leaf_before_it_in_the_stream(open_store: Open) -> None:
    async with open_store() as log:
        await log.append(append(draft("run-1"), draft("run-2"), draft("run-1")))
        await log.append(append(draft("run-2"), draft("run-1")))
        rows = await log.read()
        prev: dict[str, bytes] = {}
        for row in rows:
            assert row.leaf == leaf_of(log.id, row, prev.get(row.stream))
            prev[row.stream] = row.leaf
        assert await log.head("run-1") == (3, prev["run-1"], 0)
        assert await log.head("run-2") == (2, prev["run-2"], 0)


async def test_time_never_decreases(open_store: Open) -> None:
    async with open_store() as log:
        for _ in range(5):
            await log.append(append(draft(), draft()))
        times = [row.time for row in await log.read()]
    assert times == sorted(times)


async def test_every_event_has_a_salt_of_its_own(open_store: Open) -> None:
    async with open_store() as log:
        await asyncio.gather(*(log.append(append(draft(), draft())) for _ in range(5)))
        rows = await log.read()
    assert len({row.salt for row in rows}) == 10
    assert {len(row.salt or b"") for row in rows} == {32}
    assert len({row.payload_digest for row in rows}) == 10


# ---------------------------------------------------------------------------------- expectations


async def test_a_new_stream_can_be_begun_once(open_store: Open) -> None:
    async with open_store() as log:
        await log.append(append(draft(), run_1=NEW))
        with pytest.raises(WrongVersion, match="run-1 was to be new"):
            await log.append(append(draft(), run_1=NEW))
        assert await log.position() == 1


async def test_an_exact_version_must_be_the_one_expected(open_store: Open) -> None:
    async with open_store() as log:
        await log.append(append(draft(), draft()))
        for wrong in (1, 3):
            with pytest.raises(WrongVersion, match="at version 2"):
                await log.append(append(draft(), run_1=Exact(wrong)))
        assert (await log.append(append(draft(), run_1=Exact(2)))).versions == (3,)


async def test_a_stream_whose_author_counts_begins_at_0_or_1_and_has_no_gaps(open_store: Open) -> None:
    async with open_store() as log:
        with pytest.raises(WrongVersion, match=r"next event of run-1 was to have version 2, but it is new"):
            await log.append(append(draft(), run_1=Next(2)))
        assert (await log.append(append(draft(), run_1=Next(1)))).versions == (1,)
        assert (await log.append(append(draft("run-2"), draft("run-2"), run_2=Next(0)))).versions == (0, 1)
        for wrong in (0, 1, 3):
            with pytest.raises(WrongVersion, match="it is at version 1"):
                await log.append(append(draft("run-2"), run_2=Next(wrong)))
        assert (await log.append(append(draft("run-2"), run_2=Next(2)))).versions == (2,)


async def test_a_stream_at_version_0_is_not_taken_for_a_new_one(open_store: Open) -> None:
    async with open_store() as log:
        await log.append(append(draft(), draft("run-2"), run_1=Next(0)))
        head = await log.head("run-1")
        assert head.version == 0
        assert head.leaf is not None
        for wrong in (NEW, Next(0), Next(2)):
            with pytest.raises(WrongVersion, match="at version 0"):
                await log.append(append(draft(), run_1=wrong))
        assert await log.streams("") == ["run-1", "run-2"]
        assert (await log.append(append(draft(), draft(), run_1=Next(1)))).versions == (1, 2)
        assert [row.version for row in await log.read_stream("run-1")] == [0, 1, 2]
        assert [row.version for row in await log.read_stream("run-1", after=0)] == [1, 2]
        assert [row.version for row in await log.read_stream("run-1", after=0, upto=1)] == [1]
        assert [row.version for row in await log.read_stream("run-1", after=-1, upto=0)] == [0]
        assert await log.streams("") == ["run-1", "run-2"]


async def test_the_first_event_of_a_stream_that_begins_at_0_can_be_repeated(open_store: Open) -> None:
    async with open_store() as log:
        first = append(draft(), draft(), run_1=Next(0), repeat_after={"run-1": -1})
        assert (await log.append(first)).versions == (0, 1)
        assert (await log.append(first)).versions == (0, 1)
        assert await log.position() == 2


async def test_appends_that_expect_nothing_interleave(open_store: Open) -> None:
    async with open_store() as log:
        await log.append(append(draft(), run_1=NEW))
        await log.append(append(draft(type="input.given")))
        assert (await log.append(append(draft(), run_1=Exact(2)))).versions == (3,)


async def test_a_claim_raises_the_epoch_and_fences_the_one_before(open_store: Open) -> None:
    async with open_store() as log:
        await log.append(append(draft()))
        await log.append(append(claimed("run-1", 1), run_1=Claim(1)))
        await log.append(append(draft(), run_1=Fence(1)))
        await log.append(append(claimed("run-1", 2), run_1=Claim(2)))
        assert (await log.head("run-1")).epoch == 2
        for epoch in (0, 1, 3):
            with pytest.raises(Fenced, match=f"made under epoch {epoch}"):
                await log.append(append(draft(), run_1=Fence(epoch)))
        for epoch in (1, 2, 4):
            with pytest.raises(Fenced, match=f"cannot be claimed as epoch {epoch}"):
                await log.append(append(claimed("run-1", epoch), run_1=Claim(epoch)))
        assert (await log.append(append(draft(), run_1=Fence(2)))).versions == (5,)


async def test_a_stream_can_be_claimed_by_its_first_event(open_store: Open) -> None:
    async with open_store() as log:
        await log.append(append(draft(), claimed("run-1", 1), run_1=Claim(1)))
        head = await log.head("run-1")
        assert (head.version, head.epoch) == (2, 1)


async def test_only_one_of_several_claims_at_once_succeeds(open_store: Open) -> None:
    async with open_store() as log:
        answers = await asyncio.gather(
            *(log.append(append(claimed("run-1", 1), run_1=Claim(1))) for _ in range(5)),
            return_exceptions=True,
        )
        assert [type(answer).__name__ for answer in answers] == ["Appended"] + ["Fenced"] * 4
        assert await log.position() == 1


async def test_a_claim_has_to_be_recorded_by_an_event_that_names_its_epoch(open_store: Open) -> None:
    async with open_store() as log:
        for other in (draft(), claimed("run-1", 2), claimed("run-2", 1)):
            with pytest.raises(InvalidInput, match='"epoch":1'):
                await log.append(append(other, run_1=Claim(1)))


async def test_an_event_that_names_an_epoch_is_refused_under_another(open_store: Open) -> None:
    async with open_store() as log:
        await log.append(append(claimed("run-1", 1), run_1=Claim(1)))
        await log.append(append(draft(meta=b'{"epoch":1}')))
        for epoch in (0, 2):
            with pytest.raises(Fenced, match=f"written under epoch {epoch}"):
                await log.append(append(draft(meta=b'{"epoch":%d}' % epoch)))
        assert await log.position() == 2


async def test_several_streams_are_appended_to_together_or_not_at_all(open_store: Open) -> None:
    async with open_store() as log:
        await log.append(append(draft("run-1"), draft("run-2"), run_1=NEW, run_2=NEW))
        with pytest.raises(WrongVersion, match="run-2"):
            await log.append(append(draft("run-1"), draft("run-2"), run_1=Exact(1), run_2=Exact(5)))
        assert await log.position() == 2
        assert (await log.head("run-1")).version == 1


async def test_an_expectation_may_concern_a_stream_that_gets_no_event(open_store: Open) -> None:
    async with open_store() as log:
        await log.append(append(draft("run-1")))
        await log.append(append(draft("run-2"), run_1=Exact(1)))
        with pytest.raises(WrongVersion):
            await log.append(append(draft("run-2"), run_1=NEW))
        with pytest.raises(WrongVersion):
            await log.append(append(draft("run-2"), run_9=Exact(1)))
        assert await log.streams("run-") == ["run-1", "run-2"]


async def test_a_refused_append_disturbs_no_other_that_was_made_at_the_same_time(open_store: Open) -> None:
    async with open_store() as log:
        answers = await asyncio.gather(
            log.append(append(draft(), run_1=NEW)),
            log.append(append(draft(), draft("run-2"), run_1=NEW)),
            log.append(append(draft(), run_1=Exact(1))),
            log.append(append(draft(meta=b"no JSON"))),
            log.append(append(draft("run-2"), run_2=NEW)),
            return_exceptions=True,
        )
        kinds = [type(answer).__name__ for answer in answers]
        assert kinds == ["Appended", "WrongVersion", "Appended", "InvalidInput", "Appended"]
        rows = await log.read()
        assert [(row.stream, row.version) for row in rows] == [("run-1", 1), ("run-1", 2), ("run-2", 1)]


# ------------------------------------------------------------------------------------ repetition


async def test_a_repeated_append_returns_its_first_positions_and_writes_nothing(open_store: Open) -> None:
    first = append(draft("run-1"), draft("run-2"), draft("run-1"), run_1=NEW, run_2=NEW)
    async with open_store() as log:
        appended = await log.append(first)
        # Others have gone on since, so the expectations of the first try do not hold any more.
        await log.append(append(draft("run-1"), draft("run-2")))
        repeated = Append(first.drafts, first.expect, repeat_after={"run-1": 0, "run-2": 0})
        assert await log.append(repeated) == appended
        assert await log.position() == 5


async def test_a_repeated_append_that_never_happened_is_written(open_store: Open) -> None:
    async with open_store() as log:
        await log.append(append(draft(), draft()))
        appended = await log.append(append(draft(), repeat_after={"run-1": 2}, run_1=Exact(2)))
        assert appended.versions == (3,)


async def test_a_repeated_append_that_never_happened_is_still_checked(open_store: Open) -> None:
    async with open_store() as log:
        await log.append(append(draft(), draft()))
        with pytest.raises(WrongVersion):
            await log.append(append(draft(), repeat_after={"run-1": 1}, run_1=Exact(1)))


async def test_an_append_and_its_repetition_made_at_once_are_one(open_store: Open) -> None:
    first = append(draft(), run_1=NEW)
    async with open_store() as log:
        one, other = await asyncio.gather(
            log.append(first), log.append(Append(first.drafts, first.expect, repeat_after={"run-1": 0}))
        )
        assert one == other
        assert await log.position() == 1


async def test_a_repetition_after_erasure_is_recognised(open_store: Open) -> None:
    first = append(draft(), run_1=NEW)
    async with open_store() as log:
        appended = await log.append(first)
        await log.erase_payload(1)
        assert await log.append(Append(first.drafts, first.expect, repeat_after={"run-1": 0})) == appended


async def test_a_repetition_with_other_content_is_an_error(open_store: Open) -> None:
    a, b = draft(payload=b"a"), draft("run-2", payload=b"b")
    others: list[list[Draft]] = [
        [a._replace(payload=b"x"), b],
        [a._replace(payload=b"longer"), b],
        [a._replace(type="other.type"), b],
        [a._replace(meta=b'{"other":1}'), b],
        [a._replace(correlation="other"), b],
        [a, b._replace(stream="run-1")],
        [a, b, draft()],
        [a, draft("run-2")],
        [b, a],
    ]
    async with open_store() as log:
        await log.append(append(a, b))
        for drafts in others:
            with pytest.raises(RepeatMismatch, match="not the one it repeats"):
                await log.append(append(*drafts, repeat_after={"run-1": 0, "run-2": 0}))
        assert await log.position() == 2


async def test_only_what_lies_behind_the_versions_of_the_first_try_is_a_repetition(open_store: Open) -> None:
    first = append(draft())
    async with open_store() as log:
        await log.append(first)
        assert (await log.append(Append(first.drafts, {}, repeat_after={"run-1": 1}))).versions == (2,)
