"""The queue made from the log is the queue that was there, but for claims and rates."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from pathlib import Path

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import evrt
from evrt.codec import encode, meta_for
from evrt.errors import Conflict
from evrt.events import Event
from evrt.events.calls import QuestionAnswered
from evrt.events.run import (
    Failure,
    RunCancelRequested,
    RunClaimed,
    RunPaused,
    RunRequested,
    RunRetryScheduled,
    RunSucceeded,
    RunUnpaused,
    RunWaiting,
)
from evrt.log import NEW, Append, Claim, Draft, Expectation, Fence, Log, open_log
from evrt.log.coordination import (
    Change,
    Enqueue,
    Entry,
    Hold,
    Key,
    Park,
    Pause,
    Remove,
    Tick,
    Unpause,
    Wake,
    Yield,
)
from evrt.log.ids import new_event_id
from evrt.requeue import Astray, astray, requeue

LATER = 4_000_000_000_000_000
WORKER = "host:1:abc"
RUNS = ["run-a", "run-b", "run-c", "run-d", "run-e"]
LANES = ["conversation-x", "conversation-y"]


class History:
    """Writes to a log what the runtime writes, each event with the change that comes with it."""

    def __init__(self, log: Log) -> None:
        self.log = log
        self.requested: dict[str, RunRequested] = {}
        self.epochs: dict[str, int] = {}
        self.pausing: set[str] = set()

    async def write(
        self, run: str, *events: Event, beside: list[Change], expect: Expectation | None = None
    ) -> None:
        meta = {"epoch": self.epochs[run]} if run in self.epochs else {}
        drafts = [
            Draft(run, event.type, new_event_id(), run, meta_for(event, orjson.dumps(meta)), encode(event))
            for event in events
        ]
        await self.log.append(Append(drafts, {} if expect is None else {run: expect}, beside=beside))

    async def request(self, run: str, lane: str | None, priority: int, later: bool, key: str | None) -> None:
        event = RunRequested(
            target="t",
            kind="workflow",
            conversation=lane,
            user="user-1" if key else None,
            priority=priority,
            not_before=LATER if later else None,
            idempotency_key=key,
            schedule="daily" if key else None,
            tick=len(self.requested) if key else None,
        )
        owned = None if key is None else Key("user-1", key)
        change = Enqueue(run, "t", priority, lane, event.not_before, None, owned)
        tick = [Tick("daily", len(self.requested))] if key else []
        await self.write(run, event, beside=[*tick, change], expect=NEW)
        self.requested[run] = event

    async def claim(self, run: str, worker: str) -> None:
        """By a worker that has been given it, or by a process on its own."""
        epoch = self.epochs.get(run, 0) + 1
        before = dict(self.epochs)
        self.epochs[run] = epoch
        event = RunClaimed(epoch=epoch, worker=worker, reason="start")
        hold: Change = Hold(run, worker) if worker == WORKER else Remove(run)
        try:
            await self.write(run, event, beside=[hold], expect=Claim(epoch))
        except BaseException:
            self.epochs = before
            raise

    async def park(self, run: str, event: RunWaiting | RunRetryScheduled) -> None:
        lane, priority = self.requested[run].conversation, self.requested[run].priority
        change: Change
        match event:
            case RunRetryScheduled() | RunWaiting(reason="handover"):
                change = Yield(
                    run, "t", LATER if isinstance(event, RunRetryScheduled) else None, lane, priority
                )
            case RunWaiting(reason="paused"):
                change = Park(run, "t", None, lane, paused=True, priority=priority)
            case RunWaiting(due=due):
                change = Park(run, "t", due, lane, priority=priority)
        await self.write(run, event, beside=[change], expect=Fence(self.epochs[run]))


def order(run: str, kind: int) -> tuple[Event, list[Change]]:
    orders: list[tuple[Event, list[Change]]] = [
        (QuestionAnswered(operation="ask#1", answer="yes"), [Wake(run)]),
        (RunCancelRequested(), [Wake(run)]),
        (RunPaused(), [Pause(run)]),
        (RunUnpaused(), [Unpause(run)]),
    ]
    return orders[kind]


steps = st.lists(
    st.tuples(st.sampled_from(RUNS), st.integers(0, 9), st.integers(0, 3), st.booleans()), max_size=60
)


async def live(log: Log, what: list[tuple[str, int, int, bool]]) -> None:
    """A life of a few runs: requested, claimed, parked, ordered about and ended, in any order that there can be."""
    history = History(log)
    queue = log.coordination
    await queue.renew(WORKER, seconds=1_000)
    for run, do, number, flag in what:
        entry = await queue.entry(run)
        ended = run in history.requested and (await log.read_stream(run))[-1].type == "run.succeeded"
        if run not in history.requested:
            lane = LANES[number] if number < 2 else None
            await history.request(run, lane, number, flag, f"key-{run}" if do % 2 else None)
        elif ended:
            continue
        elif do < 3 and entry is not None and entry.state == "ready":
            await queue.claim(WORKER, targets={"t": None}, limit=number + 1)
            for taken in await queue.entries(state="claimed"):
                await history.claim(taken.run, WORKER)
        elif do == 3 and flag and entry is not None and entry.state != "claimed":
            await history.claim(run, "host:1")
        elif do < 7 and run in history.epochs and (entry is None or entry.state == "claimed"):
            outside = entry is None
            parks: list[RunWaiting | RunRetryScheduled] = [
                RunWaiting(reason="question"),
                RunWaiting(reason="timer", due=LATER),
                RunWaiting(reason="handover"),
                RunWaiting(reason="question")
                if outside
                else RunRetryScheduled(
                    reopens="a#1",
                    attempt=1,
                    delay_ms=(LATER - await queue.now()) / 1_000,
                    failure=Failure(error_type="x", message=""),
                ),
            ]
            if run in history.pausing:
                await history.park(run, RunWaiting(reason="paused"))
            else:
                await history.park(run, parks[number])
        elif do == 7 and run in history.epochs and (entry is None or entry.state == "claimed"):
            await history.write(run, RunSucceeded(), beside=[Remove(run)], expect=Fence(history.epochs[run]))
        elif do > 7:
            event, changes = order(run, number)
            (history.pausing.add if number == 2 else history.pausing.discard)(run)
            epoch = history.epochs.pop(run, None)
            await history.write(run, event, beside=changes)
            if epoch is not None:
                history.epochs[run] = epoch


def comparable(entry: Entry) -> Entry:
    """Claimed is ready again; of a time it counts that there is one."""
    state = "ready" if entry.state == "claimed" else entry.state
    return entry._replace(worker=None, due=None if state == "ready" else entry.due and 0, state=state)


async def emptied(log: Log) -> None:
    """Lose the queue, and have somebody else's entry in it."""
    for entry in await log.coordination.entries():
        await log.coordination.change(Remove(entry.run))
    await log.coordination.change(Enqueue("run-gone", "t"))


@settings(max_examples=60, deadline=None)
@given(steps)
def test_the_queue_is_made_from_the_log_as_it_was(what: list[tuple[str, int, int, bool]]) -> None:
    async def main() -> None:
        async with aclosing(await open_log("memory://")) as log:
            await live(log, what)
            queue = log.coordination
            before = [comparable(entry) for entry in await queue.entries()]
            ticks = await queue.ticks()
            await emptied(log)
            assert await requeue(log) == len(before)
            after = [comparable(entry) for entry in await queue.entries()]
            assert [entry.run for entry in after] == [entry.run for entry in before]
            for made, was in zip(after, before, strict=True):
                # One that was parked behind others and has moved up since waits again only when it has been taken.
                moved_up = was.lane is not None and was.state in ("ready", "delayed")
                assert made == was or (moved_up and made == was._replace(state="waiting"))
            assert await queue.ticks() == ticks
            # Once more: nothing is there to be put right.
            entries = await queue.entries()
            assert await requeue(log) == len(entries)
            assert await queue.entries() == entries

    asyncio.run(main())


async def test_keys_and_ticks_of_runs_that_have_ended_are_made_again(tmp_path: Path) -> None:
    async with aclosing(await open_log(f"sqlite:///{tmp_path / 'one.db'}")) as log:
        history = History(log)
        await log.coordination.renew(WORKER, seconds=1_000)
        await history.request("run-a", None, 0, False, "key")
        await log.coordination.claim(WORKER, targets={"t": None}, limit=1)
        await history.claim("run-a", WORKER)
        await history.write("run-a", RunSucceeded(), beside=[Remove("run-a")])
        rows = await log.read()
    async with aclosing(await open_log(f"sqlite:///{tmp_path / 'other.db'}")) as log:
        # Only the events are there.
        for row in rows:
            expect: Expectation | None = Claim(1) if row.type == "run.claimed" else None
            drafts = [
                Draft(row.stream, row.type, row.event_id, row.correlation, row.meta, row.payload or b"")
            ]
            await log.append(Append(drafts, {} if expect is None else {row.stream: expect}))
        assert await requeue(log) == 0
        assert await log.coordination.run_of(Key("user-1", "key")) == "run-a"
        assert await log.coordination.ticks() == {"daily": 0}
        with pytest.raises(Conflict):
            await log.coordination.change(Enqueue("run-b", "t", key=Key("user-1", "key")))


async def test_what_a_worker_has_claimed_stays_with_it() -> None:
    async with aclosing(await open_log("memory://")) as log:
        history = History(log)
        await log.coordination.renew(WORKER, seconds=1_000)
        await history.request("run-a", None, 0, False, None)
        await log.coordination.claim(WORKER, targets={"t": None}, limit=1)
        assert await requeue(log) == 1
        [entry] = await log.coordination.entries()
        assert (entry.state, entry.worker) == ("claimed", WORKER)


# ------------------------------------------------------------------------- the queue against the log


@pytest.fixture(params=["sqlite", "postgres"])
def kept_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "postgres":
        return str(request.getfixturevalue("postgres"))
    return f"sqlite:///{tmp_path}/evrt.db"


async def test_a_queue_that_is_not_what_the_log_says_is_found_and_made_anew(kept_url: str) -> None:
    async with aclosing(await open_log(kept_url)) as log:
        history = History(log)
        for run in RUNS[:4]:
            await history.request(run, None, 0, later=False, key=None)
        queue = log.coordination
        await queue.renew(WORKER)
        await queue.claim(WORKER, targets={"t": None}, limit=1)
        assert await astray(log) == []
        # Lost; and left behind by a run that there never was.
        await queue.change(Remove("run-b"), Enqueue("run-of-nobody", "t"))
        # Ended, its entry left behind.
        await history.write("run-c", RunSucceeded(), beside=[])
        assert await astray(log) == [
            Astray("run-b", missing=True),
            Astray("run-c", missing=False),
            Astray("run-of-nobody", missing=False),
        ]
        await requeue(log)
        assert await astray(log) == []


async def test_a_run_that_is_executed_outside_of_the_queue_is_not_missing_in_it(kept_url: str) -> None:
    async with evrt.App(kept_url) as app:

        @app.workflow
        async def one(ctx: evrt.Context[None]) -> str:
            found.extend(await astray(await app.log()))
            seen.append(await (await app.log()).coordination.entries())
            return str(await ctx.ask("Go on?"))

        found: list[Astray] = []
        seen: list[object] = []
        run = await app.run(one)
        assert (found, seen) == ([], [[]])
        log = await app.log()
        assert await astray(log) == []
        await log.coordination.change(Remove(run.run_id))
        assert await astray(log) == [Astray(run.run_id, missing=True)]
