"""What every store's queue does: each change of each state, who is given what, leases, keys, ticks, news."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import get_args

import pytest

from evrt.errors import Conflict, Fenced, InvalidInput, WrongVersion
from evrt.log import NEW, Append, Exact, Log, coordinating
from evrt.log.coordination import (
    OLDEST_FIRST_EVERY,
    Change,
    Claimed,
    Coordination,
    Enqueue,
    Entry,
    Hold,
    Key,
    Park,
    Pause,
    Rate,
    Remove,
    Restore,
    State,
    Tick,
    Unpause,
    Wake,
    Yield,
)
from log.stores import Open, append, draft

X = "run-x"
LATER = 4_000_000_000_000_000
"""In the year 2096."""
PAST = 1

STATES: tuple[str, ...] = (*get_args(State), "-")


async def enqueue(log: Log, run: str, target: str = "t", **more: object) -> int:
    """Request a run through the queue; its place."""
    change = Enqueue(run, target, **more)  # type: ignore[arg-type]  # Named as they are there.
    appended = await log.append(Append([draft(run)], {run: NEW}, beside=[change]))
    return appended.positions[0]


async def beside(log: Log, *changes: Change) -> None:
    """Make changes with an event of another stream."""
    await log.append(append(draft("run-cause"), beside=changes))


async def state_of(queue: Coordination, run: str = X) -> str:
    entry = await queue.entry(run)
    return "-" if entry is None else entry.state


async def claim(queue: Coordination, worker: str = "w", limit: int = 1, **targets: int | None) -> list[str]:
    return [given.run for given in await queue.claim(worker, targets=targets or {"t": None}, limit=limit)]


async def lapse(queue: Coordination, worker: str = "w") -> None:
    """Its lease has run out."""
    await queue.renew(worker, seconds=0.000001)
    await asyncio.sleep(0.001)


# ------------------------------------------------------------------------------- state by state


async def bring_into(log: Log, state: str) -> None:
    """Have run-x in this state. Its lane is its own unless another is before it."""
    if state == "-":
        return
    if state == "behind":
        await enqueue(log, "run-first", lane="l")
    await enqueue(log, X, lane="l", not_before=LATER if state == "delayed" else None)
    if state == "claimed":
        await log.coordination.renew("w")
        assert await claim(log.coordination) == [X]
    elif state == "waiting":
        await beside(log, Park(X, "t"))
    elif state == "paused":
        await beside(log, Pause(X))
    assert await state_of(log.coordination) == state


CHANGES: dict[str, Change] = {
    "Enqueue": Enqueue(X, "t"),
    "Hold": Hold(X, "w"),
    "Park": Park(X, "t"),
    "Yield": Yield(X, "t"),
    "Wake": Wake(X),
    "Pause": Pause(X),
    "Unpause": Unpause(X),
    "Remove": Remove(X),
    "Restore": Restore(X, "t", "waiting", 0, 2, "l"),
}


def documented() -> list[tuple[str, str, str]]:
    """The table in the module's own words: a change, the state it meets, what comes of it."""
    found = []
    for name in CHANGES:
        line = re.search(rf"^ +{name} +(.*)$", coordinating.__doc__ or "", re.MULTILINE)
        assert line is not None, name
        cells = re.split(r" {2,}", line.group(1).strip())
        assert len(cells) == len(STATES), line
        columns = ("ready", "delayed", "behind", "claimed", "waiting", "paused", "-")
        found += [
            (name, state, re.sub("[¹²³⁴⁵⁶]", "", cell)) for state, cell in zip(columns, cells, strict=True)
        ]
    return found


@pytest.mark.parametrize("change, state, outcome", documented())
async def test_a_change_does_to_a_state_what_the_table_says(
    open_lasting: Open, change: str, state: str, outcome: str
) -> None:
    async with open_lasting() as log:
        queue = log.coordination
        await bring_into(log, state)
        before, end = await queue.entry(X), await log.position()
        if outcome in ("Conflict", "Fenced"):
            with pytest.raises(Conflict) as caught:
                await beside(log, CHANGES[change])
            assert type(caught.value).__name__ == outcome
            assert await queue.entry(X) == before
            assert await log.position() == end
            return
        await beside(log, CHANGES[change])
        told = await queue.news("w")
        if outcome.startswith("="):
            assert await queue.entry(X) == before
            assert told == ([X] if outcome == "=, news" else [])
        else:
            assert await state_of(queue) == outcome
            assert told == []
            if before is not None and (after := await queue.entry(X)) is not None:
                assert after.place == before.place or change == "Restore"
                assert after.worker is None


@pytest.mark.parametrize("change", [Park(X, "t", paused=True), Park(X, "t", paused=True, due=LATER)])
@pytest.mark.parametrize("state", STATES)
async def test_one_that_is_parked_as_paused_is_paused(open_lasting: Open, state: str, change: Park) -> None:
    async with open_lasting() as log:
        await bring_into(log, state)
        await beside(log, change)
        entry = await log.coordination.entry(X)
        assert entry is not None
        assert (entry.state, entry.due) == ("paused", change.due)


async def test_one_that_yields_until_later_is_delayed(open_lasting: Open) -> None:
    async with open_lasting() as log:
        await bring_into(log, "claimed")
        await beside(log, Yield(X, "t", due=LATER))
        assert await state_of(log.coordination) == "delayed"
        await beside(log, Yield(X, "t", due=PAST))
        assert await state_of(log.coordination) == "ready"


async def test_what_was_woken_while_it_was_paused_or_behind_is_not_delayed_afterwards(
    open_lasting: Open,
) -> None:
    async with open_lasting() as log:
        queue = log.coordination
        await enqueue(log, "run-woken", not_before=LATER)
        await enqueue(log, "run-not", not_before=LATER)
        await beside(log, Pause("run-woken"), Pause("run-not"), Wake("run-woken"))
        await beside(log, Unpause("run-woken"), Unpause("run-not"))
        assert await state_of(queue, "run-woken") == "ready"
        assert await state_of(queue, "run-not") == "delayed"
        await enqueue(log, "run-1", lane="l")
        await enqueue(log, "run-2", lane="l", not_before=LATER)
        await enqueue(log, "run-3", lane="l", not_before=LATER)
        await beside(log, Wake("run-2"), Remove("run-1"))
        assert await state_of(queue, "run-2") == "ready"
        await beside(log, Remove("run-2"))
        assert await state_of(queue, "run-3") == "delayed"


# --------------------------------------------------------------------------------- with an append


async def test_an_append_that_is_refused_changes_nothing_of_the_queue(open_lasting: Open) -> None:
    async with open_lasting() as log:
        await enqueue(log, X)
        with pytest.raises(WrongVersion):
            await log.append(
                append(draft(X), run_x=Exact(5), beside=[Remove(X), Enqueue("run-y", "t", key=Key("", "k"))])
            )
        assert await state_of(log.coordination) == "ready"
        assert await state_of(log.coordination, "run-y") == "-"
        assert await log.coordination.run_of(Key("", "k")) is None


async def test_a_change_that_is_refused_refuses_its_own_request_and_no_other(open_lasting: Open) -> None:
    async with open_lasting() as log:
        await enqueue(log, X, key=Key("ann", "k"))
        answers = await asyncio.gather(
            log.append(append(draft("run-1"), beside=[Enqueue("run-1", "t")])),
            log.append(append(draft("run-2"), beside=[Wake(X), Enqueue("run-2", "t", key=Key("ann", "k"))])),
            log.append(append(draft("run-3"), beside=[Enqueue("run-3", "t", key=Key("bob", "k"))])),
            return_exceptions=True,
        )
        assert [type(answer).__name__ for answer in answers] == ["Appended", "Conflict", "Appended"]
        assert "The idempotency key 'k' has been used already, by run-x." in str(answers[1])
        assert [entry.run for entry in await log.coordination.entries()] == [X, "run-1", "run-3"]
        assert await log.position() == 3


async def test_later_requests_of_a_batch_see_what_earlier_ones_changed(open_lasting: Open) -> None:
    async with open_lasting() as log:
        answers = await asyncio.gather(
            *(
                log.append(append(draft(f"run-{n}"), beside=[Enqueue(f"run-{n}", "t", key=Key("", "k"))]))
                for n in range(4)
            ),
            log.append(append(draft("s"), beside=[Tick("s", 5)])),
            log.append(append(draft("s"), beside=[Tick("s", 5)])),
            return_exceptions=True,
        )
        names = [type(answer).__name__ for answer in answers]
        assert sorted(names[:4]) == ["Appended", "Conflict", "Conflict", "Conflict"]
        assert sorted(names[4:]) == ["Appended", "Conflict"]


async def test_an_append_that_is_repeated_and_found_changes_nothing_again(open_lasting: Open) -> None:
    async with open_lasting() as log:
        request = append(draft(X), beside=[Enqueue(X, "t", key=Key("", "k"))])
        appended = await log.append(request)
        await beside(log, Remove(X))
        assert await log.append(request._replace(repeat_after={X: 0})) == appended
        assert await state_of(log.coordination) == "-"
        # One that is not found is made for the first time.
        other = append(draft("run-y"), beside=[Enqueue("run-y", "t")], repeat_after={"run-y": 0})
        await log.append(other)
        assert await state_of(log.coordination, "run-y") == "ready"


async def test_a_place_is_the_position_of_the_runs_first_event_in_the_append(open_lasting: Open) -> None:
    async with open_lasting() as log:
        await log.append(
            append(
                draft("run-p"),
                draft("run-b"),
                draft("run-b"),
                draft("run-a"),
                beside=[Enqueue("run-a", "t"), Enqueue("run-b", "t"), Park("run-q", "t")],
            )
        )
        places = {entry.run: entry.place for entry in await log.coordination.entries()}
        assert places == {"run-q": 1, "run-b": 2, "run-a": 4}


async def test_two_of_one_append_cannot_have_one_key_or_one_tick(open_lasting: Open) -> None:
    async with open_lasting() as log:
        with pytest.raises(Conflict, match="by another run of the same append"):
            await beside(
                log, Enqueue("run-1", "t", key=Key("", "k")), Enqueue("run-2", "t", key=Key("", "k"))
            )
        with pytest.raises(Conflict, match="is in the queue already"):
            await beside(log, Enqueue("run-1", "t"), Enqueue("run-1", "t"))
        with pytest.raises(Conflict, match="has come to the tick 7 already"):
            await beside(log, Tick("s", 7), Tick("s", 7))
        assert await log.coordination.entries() == []
        assert await log.coordination.ticks() == {}


async def test_a_schedule_only_goes_forward(open_lasting: Open) -> None:
    async with open_lasting() as log:
        await beside(log, Tick("s", 5), Tick("other", 1))
        for tick in (5, 4):
            with pytest.raises(Conflict, match=f"the tick 5 already: {tick} is no later one"):
                await beside(log, Tick("s", tick), Enqueue(f"run-{tick}", "t"))
        await log.coordination.change(Tick("s", 6))
        assert await log.coordination.ticks() == {"s": 6, "other": 1}
        assert await log.coordination.entries() == []


async def test_a_key_stays_taken_when_its_run_is_gone(open_lasting: Open) -> None:
    async with open_lasting() as log:
        await enqueue(log, X, key=Key("ann", "k"))
        await beside(log, Remove(X))
        with pytest.raises(Conflict):
            await enqueue(log, "run-y", key=Key("ann", "k"))
        assert await log.coordination.run_of(Key("ann", "k")) == X
        assert await log.coordination.run_of(Key("bob", "k")) is None


@pytest.mark.parametrize(
    "change",
    [
        Enqueue("", "t"),
        Enqueue(X, "t\0"),
        Enqueue(X, "t", priority=2**63),
        Enqueue(X, "t", not_before=0.5),  # type: ignore[arg-type]
        Enqueue(X, "t", rate=Rate("r", 0, 1.0)),
        Enqueue(X, "t", rate=Rate("r", 1, 0.0)),
        Enqueue(X, "t", rate=Rate("r", 1, float("nan"))),
        Enqueue(X, "t", key=Key("", "")),
        Park(X, "t", lane=""),
        Wake("\ud800"),
        Enqueue(X, "t", key=Key("\ud800", "k")),
        Enqueue(X, "t", key=Key("", "k" * 1_025)),
        Tick("s", 2**63),
    ],
)
async def test_what_no_queue_can_hold_is_refused(open_lasting: Open, change: Change) -> None:
    async with open_lasting() as log:
        with pytest.raises(InvalidInput):
            await beside(log, change)
        with pytest.raises(InvalidInput):
            await log.coordination.change(change)
        assert await log.position() == 0


# ----------------------------------------------------------------------------------- who is given


async def test_entries_are_given_by_priority_and_then_as_they_came(open_lasting: Open) -> None:
    async with open_lasting() as log:
        for run, priority in {"run-a": 0, "run-b": 1, "run-c": 0, "run-d": 1}.items():
            await enqueue(log, run, priority=priority)
        await enqueue(log, "run-other", "other", priority=9)
        await log.coordination.renew("w")
        # None of the first claims of a log goes to the oldest.
        for run in ("run-b", "run-d", "run-a", "run-c"):
            assert await claim(log.coordination) == [run]
        assert await claim(log.coordination, limit=10) == []


async def test_nobody_is_given_anything_without_a_lease(open_lasting: Open) -> None:
    async with open_lasting() as log:
        await enqueue(log, X)
        assert await claim(log.coordination) == []
        await lapse(log.coordination)
        assert await claim(log.coordination) == []
        await log.coordination.renew("w")
        assert await log.coordination.claim("w", targets={"t": None}, limit=0) == []
        assert await log.coordination.claim("w", targets={}, limit=1) == []
        assert await claim(log.coordination) == [X]


async def test_caps_hold_for_all_workers_together(open_lasting: Open) -> None:
    async with open_lasting() as log:
        queue = log.coordination
        for number in range(4):
            await enqueue(log, f"run-a{number}", "a")
            await enqueue(log, f"run-b{number}", "b")
        await queue.renew("w")
        await queue.renew("v")
        assert await claim(queue, "w", 10, a=2, b=1) == ["run-a0", "run-b0", "run-a1"]
        assert await claim(queue, "v", 10, a=2, b=1) == []
        assert await claim(queue, "v", 10, a=2, b=3) == ["run-b1", "run-b2"]
        total = await queue.claim("v", targets={"a": None, "b": None}, limit=10, claimed_max=6)
        assert [given.run for given in total] == ["run-a2"]
        assert await claim(queue, "v", 10, a=0, b=0) == []
        # What a worker had whose lease ran out counts no more.
        await lapse(queue, "w")
        assert await claim(queue, "v", 10, a=2) == ["run-a0"]


async def test_a_lane_goes_on_when_its_first_has_ended_and_not_before(open_lasting: Open) -> None:
    async with open_lasting() as log:
        queue = log.coordination
        for number in range(3):
            await enqueue(log, f"run-{number}", lane="l", priority=number)
        await queue.renew("w")
        assert await claim(queue, limit=9) == ["run-0"]
        await beside(log, Park("run-0", "t", lane="l"))
        assert await claim(queue, limit=9) == []
        await beside(log, Pause("run-0"))
        assert await claim(queue, limit=9) == []
        await beside(log, Unpause("run-0"), Remove("run-1"))
        assert await claim(queue, limit=9) == ["run-0"]
        await beside(log, Hold("run-0", "w"), Remove("run-0"))
        assert await claim(queue, limit=9) == ["run-2"]


async def test_one_that_is_not_due_keeps_its_lane(open_lasting: Open) -> None:
    async with open_lasting() as log:
        await enqueue(log, "run-0", lane="l", not_before=LATER)
        await enqueue(log, "run-1", lane="l")
        await log.coordination.renew("w")
        assert await claim(log.coordination, limit=9) == []


async def test_one_paused_in_the_middle_of_its_lane_waits_for_its_turn_again(open_lasting: Open) -> None:
    async with open_lasting() as log:
        queue = log.coordination
        for number in range(3):
            await enqueue(log, f"run-{number}", lane="l")
        await beside(log, Pause("run-1"), Unpause("run-1"))
        assert await state_of(queue, "run-1") == "behind"
        await beside(log, Pause("run-1"), Remove("run-0"))
        assert [entry.state for entry in await queue.entries()] == ["paused", "behind"]
        await beside(log, Unpause("run-1"))
        assert [entry.state for entry in await queue.entries()] == ["ready", "behind"]


async def test_a_run_from_outside_the_queue_parks_behind_what_is_in_its_lane(open_lasting: Open) -> None:
    async with open_lasting() as log:
        queue = log.coordination
        await enqueue(log, "run-0", lane="l")
        await beside(log, Park("run-1", "t", lane="l"), Park("run-2", "t", lane="other"))
        assert {entry.run: entry.state for entry in await queue.entries()} == {
            "run-0": "ready",
            "run-1": "behind",
            "run-2": "waiting",
        }
        await beside(log, Remove("run-0"))
        assert await state_of(queue, "run-1") == "ready"


async def test_what_is_due_is_given(open_lasting: Open) -> None:
    async with open_lasting() as log:
        queue = log.coordination
        await enqueue(log, "run-0", not_before=LATER)
        await enqueue(log, "run-1", not_before=PAST)
        await queue.renew("w")
        assert await claim(queue, limit=9) == ["run-1"]
        soon = await queue.now() + 30_000
        await enqueue(log, "run-2", not_before=soon)
        await beside(log, Park("run-1", "t", due=soon))
        ready, wait = await queue.outlook(["t"])
        while not ready:
            await asyncio.sleep(wait or 0)
            ready, wait = await queue.outlook(["t"])
        while len(given := await queue.entries(state="claimed")) < 2:
            await claim(queue, limit=9)
        assert [entry.run for entry in given] == ["run-1", "run-2"]


async def test_an_outlook_says_whether_a_claim_could_give_anything_and_what_comes_next(
    open_lasting: Open,
) -> None:
    async with open_lasting() as log:
        queue = log.coordination
        assert await queue.outlook(["t", "u"]) == (False, None)
        assert await queue.outlook([]) == (False, None)
        await enqueue(log, "run-0", not_before=LATER)
        await beside(log, Park("run-1", "u"), Pause("run-1"))
        ready, wait = await queue.outlook(["t", "u"])
        assert not ready
        assert wait is not None
        assert wait > 1_000_000
        assert await queue.outlook(["u"]) == (False, None)
        await enqueue(log, "run-2")
        assert (await queue.outlook(["u", "t"])).ready
        await queue.renew("w", seconds=100)
        assert await claim(queue) == ["run-2"]
        ready, wait = await queue.outlook(["t"])
        assert not ready
        assert wait is not None
        assert 0 < wait <= 100
        await lapse(queue)
        assert (await queue.outlook(["t"])).ready


async def test_the_oldest_is_given_in_the_end_however_many_more_urgent_ones_come(open_lasting: Open) -> None:
    async with open_lasting() as log:
        queue = log.coordination
        await enqueue(log, "run-old")
        for worker in ("w", "v"):
            await queue.renew(worker)
        for number in range(5 * OLDEST_FIRST_EVERY):
            await enqueue(log, f"run-{number}a", priority=9)
            await enqueue(log, f"run-{number}b", priority=9)
            # They take turns, and ask for other things as well.
            if "run-old" in await claim(queue, "w", 1, t=None, u=None):
                return
            if number and number % 2 == 0:
                await enqueue(log, f"run-{number}u", "u")
            await claim(queue, "v", 1, u=None)
        pytest.fail("It starved.")


@pytest.mark.parametrize("rhythm", range(1, 40))
def test_no_rhythm_of_claims_misses_the_turns_of_the_oldest(rhythm: int) -> None:
    from evrt.log.claiming import is_oldest_first

    for start in range(rhythm):
        turns = [is_oldest_first(start + rhythm * number) for number in range(1_000)]
        assert 70 <= sum(turns) <= 130
        assert any(turns[:300])


# ------------------------------------------------------------------------------------------ rates


async def test_a_rate_delays_those_who_come_too_fast_in_their_order(open_lasting: Open) -> None:
    async with open_lasting() as log:
        queue = log.coordination
        rate = Rate("user-1", 2, 60.0)
        for number in range(5):
            await enqueue(log, f"run-{number}", rate=rate)
        await enqueue(log, "run-else", rate=Rate("user-2", 2, 60.0))
        entries = await queue.entries(target="t")
        assert [entry.state for entry in entries] == [
            "ready",
            "ready",
            "delayed",
            "delayed",
            "delayed",
            "ready",
        ]
        now = await queue.now()
        waits = [round((entry.due or now) / 60e6 - now / 60e6, 1) for entry in entries]
        assert waits == [0, 0, 1, 1, 2, 0]


async def test_one_that_is_to_begin_later_does_not_hold_up_its_rate(open_lasting: Open) -> None:
    async with open_lasting() as log:
        rate = Rate("user-1", 2, 60.0)
        for number in range(2):
            await enqueue(log, f"run-later{number}", rate=rate, not_before=LATER)
        await enqueue(log, "run-later2", rate=rate, not_before=LATER)
        await enqueue(log, "run-now", rate=rate)
        assert await state_of(log.coordination, "run-now") == "ready"
        due = [entry.due for entry in await log.coordination.entries(state="delayed")]
        assert due == [LATER, LATER, LATER + 60_000_000]


# ---------------------------------------------------------------------------------- leases, news


async def test_what_a_worker_had_whose_lease_ran_out_is_given_to_the_next_who_asks(
    open_lasting: Open,
) -> None:
    async with open_lasting() as log:
        queue = log.coordination
        await enqueue(log, X)
        await enqueue(log, "run-y")
        await queue.renew("w")
        assert await claim(queue, limit=2) == [X, "run-y"]
        await lapse(queue)
        [(_, left, claimed)] = await queue.leases()
        assert (left < 0, claimed) == (True, 2)
        await queue.renew("v")
        assert await queue.claim("v", targets={"t": None}, limit=1) == [Claimed(X, "t", "w")]
        # The first is alive after all, and has kept what nobody took.
        await queue.renew("w")
        assert await claim(queue, "v", 9) == []
        await beside(log, Hold("run-y", "w"), Hold(X, "v"))
        with pytest.raises(Fenced, match="w has not claimed run-x, which is claimed by v"):
            await beside(log, Hold(X, "w"))
        assert [(lease.worker, lease.claimed) for lease in await queue.leases()] == [("v", 1), ("w", 1)]


async def test_whoever_leaves_gives_back_what_it_has(open_lasting: Open) -> None:
    async with open_lasting() as log:
        queue = log.coordination
        place = await enqueue(log, X)
        await queue.renew("w")
        await claim(queue)
        await beside(log, Wake(X))
        await queue.leave("w")
        assert await queue.leases() == []
        assert await queue.entry(X) == Entry(X, "ready", "t", 0, place, None, None, None)
        await queue.renew("v")
        assert await queue.claim("v", targets={"t": None}, limit=1) == [Claimed(X, "t", None)]
        assert await queue.news("v") == []


async def test_leases_that_ran_out_and_hold_nothing_are_forgotten(open_lasting: Open) -> None:
    async with open_lasting() as log:
        queue = log.coordination
        await lapse(queue, "w")
        await queue.renew("v")
        assert [lease.worker for lease in await queue.leases()] == ["v"]


async def test_a_worker_is_told_once_of_what_was_woken_or_paused(open_lasting: Open) -> None:
    async with open_lasting() as log:
        queue = log.coordination
        for number in range(3):
            await enqueue(log, f"run-{number}")
        await queue.renew("w")
        await claim(queue, limit=3)
        assert await queue.news("w") == []
        await beside(log, Wake("run-2"), Pause("run-0"), Wake("run-0"))
        assert await queue.news("v") == []
        assert await queue.news("w") == ["run-0", "run-2"]
        assert await queue.news("w") == []
        await beside(log, Wake("run-1"), Yield("run-1", "t"))
        assert await queue.news("w") == []


async def test_a_park_takes_the_entry_from_one_that_was_given_it_and_has_not_begun(
    open_lasting: Open,
) -> None:
    """The worker that parks still has the epoch, so the other has not come as far as its claim in the log."""
    async with open_lasting() as log:
        queue = log.coordination
        await enqueue(log, X)
        await queue.renew("w")
        await claim(queue)
        await lapse(queue)
        await queue.renew("v")
        assert await claim(queue, "v") == [X]
        await beside(log, Park(X, "t"))
        with pytest.raises(Fenced, match="v has not claimed run-x, which is waiting"):
            await beside(log, Hold(X, "v"))
        assert await state_of(queue) == "waiting"


@pytest.mark.parametrize("seconds", [0, -1.0, float("nan"), 1e12])
async def test_a_lease_takes_a_time(open_lasting: Open, seconds: float) -> None:
    async with open_lasting() as log:
        with pytest.raises(InvalidInput):
            await log.coordination.renew("w", seconds=seconds)
        with pytest.raises(InvalidInput):
            await log.coordination.renew("")
        with pytest.raises(InvalidInput):
            await log.coordination.claim("w", targets={"t": -1}, limit=1)


# ------------------------------------------------------------------------------------------ looks


async def test_entries_are_listed_by_place_in_pages(open_lasting: Open) -> None:
    async with open_lasting() as log:
        queue = log.coordination
        places = [await enqueue(log, f"run-{number}", "tu"[number % 2], lane="l") for number in range(6)]
        assert [entry.place for entry in await queue.entries()] == places
        assert [entry.place for entry in await queue.entries(after=places[1], limit=2)] == places[2:4]
        assert [entry.run for entry in await queue.entries(state="behind", target="t")] == ["run-2", "run-4"]
        assert await queue.counts() == {("t", "ready"): 1, ("t", "behind"): 2, ("u", "behind"): 3}


async def test_a_watch_hears_of_commits_and_of_none_when_there_is_none(open_lasting: Open) -> None:
    async with open_lasting() as log:
        watch = log.watch()
        while await watch.wait(0.1):
            pass  # The first look of a file counts as one.
        await log.append(append(draft()))
        assert await watch.wait(10)
        while await watch.wait(0.1):
            pass
        asyncio.get_running_loop().call_later(
            0.02, lambda: asyncio.ensure_future(log.coordination.renew("w"))
        )
        assert await watch.wait(10)


async def test_a_watch_hears_nothing_of_claims_in_vain(open_lasting: Open) -> None:
    """Else workers would have one another claim without end wherever there is work and no room for it."""
    async with open_lasting() as log:
        queue = log.coordination
        await enqueue(log, "run-a", "a")
        await queue.renew("w")
        watch = log.watch()
        while await watch.wait(0.1):
            pass
        assert await claim(queue, "w", 10, a=0) == []
        assert not await watch.wait(0.1)
        assert await claim(queue, "w", 10, a=1) == ["run-a"]
        assert await watch.wait(10)


async def test_a_watch_hears_of_what_was_committed_before_it_waits(open_lasting: Open) -> None:
    async with open_lasting() as log:
        watch = log.watch()
        while await watch.wait(0.1):
            pass
        await log.append(append(draft()))
        await asyncio.sleep(0.01)
        # Of a file another connection may have seen it as well; in memory nothing but the count has.
        assert await watch.wait(0)


async def test_two_logs_of_one_file_hear_each_other(tmp_path_factory: pytest.TempPathFactory) -> None:
    url = f"sqlite:///{tmp_path_factory.mktemp('log') / 'evrt.db'}"
    async with both(url) as (one, other):
        watch = other.watch()
        while await watch.wait(0.1):
            pass
        await enqueue(one, X)
        assert await watch.wait(10)
        await other.coordination.renew("w")
        assert await claim(other.coordination) == [X]
        assert await claim(one.coordination) == []


def both(url: str) -> AbstractAsyncContextManager[tuple[Log, Log]]:
    from contextlib import aclosing, asynccontextmanager

    from evrt.log import open_log

    @asynccontextmanager
    async def opened() -> AsyncIterator[tuple[Log, Log]]:
        async with aclosing(await open_log(url)) as one, aclosing(await open_log(url)) as other:
            yield one, other

    return opened()
