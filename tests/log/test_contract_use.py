"""What every log promises about limits, reading, refs, erasure and its end, whatever it is stored in."""

from __future__ import annotations

import asyncio

import pytest

from evrt.errors import (
    InvalidInput,
    NotFound,
    PayloadTooLarge,
    UsageError,
)
from evrt.log import (
    META_BYTES_MAX,
    NAME_BYTES_MAX,
    NEW,
    PAYLOAD_BYTES_MAX,
    REQUEST_EVENTS_MAX,
    Append,
    Claim,
    Exact,
    Fence,
    Log,
    Next,
)
from evrt.log.ids import new_event_id
from log.stores import Open, append, draft, leaf_of

# --------------------------------------------------------------------------------- what is refused

LONG = "x" * (NAME_BYTES_MAX + 1)
LONG_IN_BYTES = "é" * (NAME_BYTES_MAX // 2 + 1)


@pytest.mark.parametrize(
    "refused",
    [
        append(),
        append(*[draft(payload=b"")] * (REQUEST_EVENTS_MAX + 1)),
        append(draft("")),
        append(draft(LONG)),
        append(draft(LONG_IN_BYTES)),
        append(draft("run\n1")),
        append(draft("run\x00")),
        append(draft("run\x7f")),
        append(draft("run\x85")),
        append(draft("run\ud800")),
        append(draft(type="")),
        append(draft(type="note\twritten")),
        append(draft(type=LONG)),
        append(draft(correlation="")),
        append(draft(correlation="a\x1fb")),
        append(draft(event_id="1")),
        append(draft(event_id=new_event_id().upper())),
        append(draft(event_id=new_event_id().replace("-", ""))),
        append(draft(event_id=f"{{{new_event_id()}}}")),
        append(*[draft(event_id="018f0000-0000-7000-8000-000000000000")] * 2),
        append(draft(meta=b"")),
        append(draft(meta=b"[]")),
        append(draft(meta=b"null")),
        append(draft(meta=b"{")),
        append(draft(meta=b'{"a": 1}')),
        append(draft(meta=b'{"a":1} ')),
        append(draft(meta=b'{"a":1,"a":2}')),
        append(draft(meta=b'{"a":{"b":1.0e5,"b":2}}')),
        append(draft(meta=b'{"a":1e5, "b":"c d"}')),
        append(draft(meta=b'{"a":"\xff"}')),
        append(draft(meta=b'{"a":NaN}')),
        append(draft(meta=b'{"a":' + b"[" * 300 + b"]" * 300 + b"}")),
        append(draft(meta=b'{"a":"' + b"x" * META_BYTES_MAX + b'"}')),
        append(draft(meta=b'{"epoch":"1"}')),
        append(draft(meta=b'{"epoch":true}')),
        append(draft(meta=b'{"epoch":1.0}')),
        append(draft(), run_1=Exact(-1)),
        append(draft(), run_1=Next(-1)),
        append(draft(), run_2=Next(0)),
        append(draft(), run_1=Fence(-1)),
        append(draft(), run_1=Claim(0)),
        Append([draft()], {"": NEW}),
        append(draft(), repeat_after={}),
        append(draft(), draft("run-2"), repeat_after={"run-1": 0}),
        append(draft(), repeat_after={"run-1": -2}),
    ],
)
async def test_what_no_log_could_take_is_refused_in_words(open_lasting: Open, refused: Append) -> None:
    async with open_lasting() as log:
        with pytest.raises(InvalidInput) as caught:
            await log.append(refused)
        assert str(caught.value).endswith(".")
        assert len(str(caught.value)) < 400
        assert await log.position() == 0
        await log.append(append(draft()))


async def test_names_and_meta_may_be_as_large_as_the_limits_say(open_store: Open) -> None:
    name = "é" * (NAME_BYTES_MAX // 2)
    quotes = '"\\' * (NAME_BYTES_MAX // 2)
    meta = b'{"a":"' + b"x" * (META_BYTES_MAX - 8) + b'"}'
    async with open_store() as log:
        await log.append(append(draft(quotes, type=quotes, correlation=quotes, meta=meta)))
        await log.append(append(draft(name, type=name, correlation=name, meta=meta)))
        assert await log.streams("") == [quotes, name]
        assert [row.meta for row in await log.read(correlation=name)] == [meta]


async def test_any_compact_json_object_can_be_meta(open_store: Open) -> None:
    metas = [
        b'{"a":1e5,"b":-0.0,"c":1E+2}',
        b'{"a":"\\u00e9 \\" x \\\\"}',
        b'{"a":{"b":1.50},"c":{"b":"\\/"}}',
    ]
    async with open_store() as log:
        await log.append(append(*[draft(meta=meta) for meta in metas]))
        assert [row.meta for row in await log.read()] == metas


async def test_a_payload_beyond_the_limit_is_refused(open_store: Open) -> None:
    async with open_store() as log:
        with pytest.raises(PayloadTooLarge, match="1048577 bytes; this log takes 1048576"):
            await log.append(append(draft(), draft(payload=b"x" * (PAYLOAD_BYTES_MAX + 1))))
        assert await log.position() == 0


# ---------------------------------------------------------------------------------------- reading


async def filled(log: Log) -> None:
    for number in range(1, 11):
        await log.append(append(draft(f"run-{number % 2}", correlation=f"conversation-{number % 3}")))


async def test_reading_a_range(open_store: Open) -> None:
    async with open_store() as log:
        await filled(log)

        async def positions(after: int, upto: int | None, limit: int = 1_000) -> list[int]:
            return [row.position for row in await log.read(after=after, upto=upto, limit=limit)]

        assert await positions(0, None) == list(range(1, 11))
        assert await positions(3, 6) == [4, 5, 6]
        assert await positions(3, None, 2) == [4, 5]
        assert await positions(3, 3) == []
        assert await positions(10, None) == []
        assert await positions(0, 0) == []
        assert await positions(0, None, 0) == []
        assert await positions(8, 99) == [9, 10]


async def test_reading_a_correlation(open_store: Open) -> None:
    async with open_store() as log:
        await filled(log)
        rows = await log.read(correlation="conversation-1", after=1, limit=2)
        assert [row.position for row in rows] == [4, 7]
        assert await log.read(correlation="conversation-9") == []


async def test_reading_a_stream(open_store: Open) -> None:
    async with open_store() as log:
        await filled(log)

        async def versions(after: int = 0, upto: int | None = None, limit: int | None = None) -> list[int]:
            rows = await log.read_stream("run-1", after=after, upto=upto, limit=limit)
            assert {row.stream for row in rows} <= {"run-1"}
            return [row.version for row in rows]

        assert await versions() == [1, 2, 3, 4, 5]
        assert await versions(1, 3) == [2, 3]
        assert await versions(1, None, 2) == [2, 3]
        assert await versions(5) == []
        assert await versions(0, 0) == []
        assert await versions(0, None, 0) == []


async def test_a_long_stream_is_read_whole(open_lasting: Open) -> None:
    async with open_lasting() as log:
        await log.append(append(*[draft(payload=b"") for _ in range(2_500)]))
        rows = await log.read_stream("run-1")
        assert [row.version for row in rows] == list(range(1, 2_501))
        assert len(await log.read_stream("run-1", limit=1_500)) == 1_500
        assert len(await log.read_stream("run-1", after=300, upto=2_300)) == 2_000


async def test_streams_are_found_by_prefix_oldest_first(open_store: Open) -> None:
    names = ["run-b", "run-a", "run%", "RUN-A", "é-2", "é-1", "run-b-2", "\U0010ffff"]
    async with open_store() as log:
        # A name that has only correlated events is no stream.
        await log.append(append(draft(names[0], correlation="run-c")))
        for name in names[1:]:
            await log.append(append(draft(name, correlation=name)))
        assert await log.streams("run-") == ["run-b", "run-a", "run-b-2"]
        assert await log.streams("run-b") == ["run-b", "run-b-2"]
        assert await log.streams("run%") == ["run%"]
        assert await log.streams("é") == ["é-2", "é-1"]
        assert await log.streams("\U0010ffff") == ["\U0010ffff"]
        assert await log.streams("run-c") == []
        assert await log.streams("") == names


async def test_a_stream_is_as_old_as_its_first_event(open_store: Open) -> None:
    async with open_store() as log:
        await log.append(append(draft("run-1", correlation="run-2")))
        await log.append(append(draft("run-3", correlation="run-3")))
        await log.append(append(draft("run-2", correlation="run-2")))
        assert await log.streams("run-") == ["run-1", "run-3", "run-2"]


async def test_what_was_acknowledged_is_read(open_lasting: Open) -> None:
    async with open_lasting() as log:
        for number in range(1, 30):
            appended = await log.append(append(draft()))
            assert await log.position() == appended.position == number
            assert (await log.head("run-1")).version == number
            assert len(await log.read()) == number


# ------------------------------------------------------------------------------------------- refs


async def test_a_ref_stands_for_an_external_id_for_ever(open_store: Open) -> None:
    async with open_store() as log:
        ref = await log.ref("user", "ann@example.org")
        assert ref is not None
        assert ref.startswith("user-")
        assert await log.ref("user", "ann@example.org") == ref
        assert await log.ref("user", "ann@example.org", create=False) == ref
        assert await log.external(ref) == "ann@example.org"


async def test_refs_are_apart_by_kind_and_id(open_store: Open) -> None:
    async with open_store() as log:
        refs = {
            await log.ref(kind, external)
            for kind in ("user", "conversation")
            for external in ("a", "b", " ", "日本\x00\n", "A")
        }
        assert len(refs) == 10


async def test_an_unknown_ref_is_none(open_store: Open) -> None:
    async with open_store() as log:
        assert await log.ref("user", "nobody", create=False) is None
        assert await log.external("user-aaaaaaaaaaaaaaaa") is None


async def test_one_ref_is_made_however_many_ask_at_once(open_store: Open) -> None:
    async with open_store() as log:
        assert len(set(await asyncio.gather(*(log.ref("user", "ann") for _ in range(8))))) == 1


@pytest.mark.parametrize(
    "kind, external",
    [("user", ""), ("user", LONG), ("user", LONG_IN_BYTES), ("user", "\ud800"), ("", "a"), ("U ser", "a")],
)
async def test_an_external_id_that_cannot_be_kept_is_refused(
    open_lasting: Open, kind: str, external: str
) -> None:
    async with open_lasting() as log:
        with pytest.raises(InvalidInput):
            await log.ref(kind, external)


# ---------------------------------------------------------------------------------------- erasure


async def test_erasing_a_payload_leaves_everything_else_as_it_was(open_store: Open) -> None:
    async with open_store() as log:
        await log.append(append(draft(payload=b"secret"), draft(), draft("run-2")))
        before = await log.read()
        await log.erase_payload(1)
        after = await log.read()
        assert after == [before[0]._replace(salt=None, payload=None), *before[1:]]
        assert after[0].leaf == leaf_of(log.id, after[0], None)
        assert after[1].leaf == leaf_of(log.id, after[1], after[0].leaf)
        await log.append(append(draft()))
        assert (await log.head("run-1")).version == 3


async def test_erasing_twice_is_erasing_once(open_store: Open) -> None:
    async with open_store() as log:
        await log.append(append(draft()))
        await log.erase_payload(1)
        await log.erase_payload(1)
        assert (await log.read())[0].payload is None


async def test_what_does_not_exist_cannot_be_erased(open_store: Open) -> None:
    async with open_store() as log:
        await log.append(append(draft()))
        for position in (0, 2, -1):
            with pytest.raises(NotFound, match=f"position {position}"):
                await log.erase_payload(position)


# ------------------------------------------------------------------------ cancellation and closing


async def test_a_cancelled_awaiter_takes_nothing_back(open_lasting: Open) -> None:
    async with open_lasting() as log:

        async def write() -> None:
            await log.append(append(draft()))

        tasks = [asyncio.create_task(write()) for _ in range(20)]
        await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await log.append(append(draft(), run_1=Exact(20)))
        assert await log.position() == 21


async def test_closing_writes_what_was_queued(open_lasting: Open) -> None:
    async with open_lasting() as log:
        answers = [log.append(append(draft())) for _ in range(50)]
        await log.aclose()
        appended = await asyncio.gather(*answers)
        assert [answer.position for answer in appended] == list(range(1, 51))


async def test_a_closed_log_says_so(open_lasting: Open) -> None:
    async with open_lasting() as log:
        await log.aclose()
        await log.aclose()
        with pytest.raises(UsageError, match="closed"):
            await log.append(append(draft()))
        with pytest.raises(UsageError, match="closed"):
            await log.read()
        with pytest.raises(UsageError, match="closed"):
            await log.ref("user", "ann")
        with pytest.raises(UsageError, match="closed"):
            log.subscribe()


async def test_a_log_has_an_id_of_its_own(open_store: Open) -> None:
    async with open_store() as log, open_store() as same:
        await log.append(append(draft()))
        await same.append(append(draft()))
        assert len(log.id) == len(same.id) == 36
