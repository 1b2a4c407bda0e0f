"""Parking: a run that only waits is put away, with the change of the queue that belongs to it, and loses no cause."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import evrt
from evrt.errors import Conflict
from evrt.events.run import RunWaiting
from evrt.log import Append, Appended, Exact
from evrt.log.contract import Landing
from evrt.log.coordination import Park
from evrt.runtime import parking
from evrt.worker.worker import Worker
from runtime.clocks import HOUR, Clocked, as_worker, clocked, taken
from runtime.logs import Ctx, put, until

EXAMPLES = (settings.default or settings()).max_examples
"""100, in a soak 2,000."""


@evrt.tool(effect="read")
async def look(number: int) -> int:
    return number


@evrt.tool
async def pay(number: int) -> int:
    await asyncio.Event().wait()
    return number


async def everything(ctx: Ctx, sleeps: bool | None) -> list[Any]:
    """Waits for one thing of each kind, beside one another and one after the other."""

    async def patient() -> Any:
        return [await ctx.ask("A?"), await ctx.wait_for_signal("b"), bool(await ctx.approve("C"))]

    async def limited() -> Any:
        try:
            return [await ctx.wait_for_signal("b", timeout="1h"), await ctx.ask("D?", timeout="1h")]
        except evrt.TimedOut as error:
            return error.operation

    async def sleepy() -> int:
        if sleeps is not False:
            await ctx.sleep("1h")
        return int(await ctx.call(look, 1))

    return await ctx.gather(patient(), limited(), sleepy())


async def test_the_append_that_parks_expects_just_the_version_that_is_known(url: str) -> None:
    async with evrt.App(url) as app:
        log = await clocked(app)
        app.workflow(everything)
        run = await app.run("everything")
        [request] = [request for request in log.appends if "run.waiting" in log.types_of(request)]
        assert log.types_of(request) == ["run.waiting"]
        history = await app.get(run.run_id)
        assert request.expect == {run.run_id: Exact(len(history.events) - 1)}
        waiting = history.events[-1].event
        assert isinstance(waiting, RunWaiting)
        assert request.beside == (Park(run.run_id, "everything", due=waiting.due),)


async def test_of_several_reasons_the_one_is_said_that_asks_most_of_a_person(url: str) -> None:
    async with evrt.App(url) as app:
        log = await clocked(app)
        app.workflow(everything)
        run = await app.run("everything")
        assert (run.reason, run.waiting_for) == (
            "question",
            ("gather#1:0/ask#1", "gather#1:1/signal.b#1", "gather#1:2/sleep#1"),
        )
        dues = {known.due for known in (await app.get(run.run_id)).journal.operations.values() if known.due}
        assert log.parks[-1].due == min(dues)
        for answer, reason in (("b", "signal"), ("signal", "approval")):
            if answer == "b":
                await app.answer(run.run_id, 1)
            else:
                await app.signal(run.run_id, "b", 1)
                await app.signal(run.run_id, "b", 1)
            run = await app.resume(run.run_id)
            assert run.reason == reason


async def test_in_a_process_of_its_own_a_run_parks_at_once_when_it_waits_for_more_than_time(url: str) -> None:
    async with evrt.App(url) as app:
        log = await clocked(app)

        @app.workflow
        async def either(ctx: Ctx) -> int:
            return (await ctx.race(ctx.sleep("1h"), ctx.ask("Well?"))).branch

        run = await app.run(either)
        assert (run.status, run.reason) == ("waiting", "question")
        entry = await log.coordination.entry(run.run_id)
        assert (entry.state, entry.due) == ("waiting", log.parks[-1].due)
        log.ahead_seconds = HOUR
        run = await app.resume(run.run_id)
        assert run.output == 0
        assert (await app.replay(run.run_id)).complete
        assert await log.coordination.entry(run.run_id) is None


async def test_a_parked_run_is_in_the_lane_of_its_conversation(url: str) -> None:
    async with evrt.App(url) as app:
        log = await clocked(app)
        app.workflow(everything)
        run = await app.run("everything", conversation="c1")
        entry = await log.coordination.entry(run.run_id)
        assert entry.lane == (await app.get(run.run_id)).state.conversation


@pytest.mark.parametrize("how", ["waits", "paused"])
async def test_an_entry_that_is_made_anew_has_the_runs_priority(url: str, how: str) -> None:
    async with evrt.App(url) as app:

        @app.workflow
        async def one(ctx: Ctx) -> Any:
            if how == "paused":
                await ctx.step("pause", app.pause, queued.run_id)
            return await ctx.ask("Go on?")

        queued = await app.enqueue(one, priority=7)
        run = await app.resume(queued.run_id)
        assert run.reason == ("question" if how == "waits" else "paused")
        entry = await (await app.log()).coordination.entry(queued.run_id)
        assert entry is not None
        assert (entry.state, entry.priority) == ("waiting" if how == "waits" else "paused", 7)


async def test_a_child_in_its_parents_conversation_that_parks_stands_behind_nobody(url: str) -> None:
    async with evrt.App(url) as app:

        @app.workflow
        async def inner(ctx: Ctx) -> Any:
            return await ctx.ask("Go on?")

        @app.workflow
        async def outer(ctx: Ctx) -> Any:
            return await ctx.child(inner, conversation="c1")

        run = await app.run(outer, conversation="c1")
        queue = (await app.log()).coordination
        [child] = [entry for entry in await queue.entries() if entry.run != run.run_id]
        # Executed here, outside of the queue, and parked again.
        await app.resume(child.run)
        await app.answer(child.run, "yes")
        entry = await queue.entry(child.run)
        assert entry is not None
        assert (entry.state, entry.lane) == ("ready", None)
        assert (await app.resume(child.run)).output == "yes"
        assert (await app.resume(run.run_id)).output == "yes"


@pytest.mark.parametrize("cause", ["answer", "signal", "decide", "settle"])
async def test_whatever_comes_from_outside_wakes_the_run_that_waits(url: str, cause: str) -> None:
    async with evrt.App(url) as app:
        log = await clocked(app)

        @app.workflow(timeout="400ms")
        async def waits(ctx: Ctx) -> Any:
            match cause:
                case "answer":
                    return await ctx.ask("Well?")
                case "signal":
                    return await ctx.wait_for_signal("go")
                case "decide":
                    return bool(await ctx.approve("Go"))
                case _:
                    return await ctx.call(pay, 1)

        run = await app.run(waits)
        assert run.status == "waiting"
        assert (await log.coordination.entry(run.run_id)).state == "waiting"
        match cause:
            case "answer":
                await app.answer(run.run_id, 1)
            case "signal":
                await app.signal(run.run_id, "go")
            case "decide":
                await app.decide(run.run_id, True)
            case _:
                await app.settle(run.run_id, result=1)
        assert log.wakes == [run.run_id]
        assert (await log.coordination.entry(run.run_id)).state == "ready"


class Interrupting(Clocked):
    """A log in which something is written by others just before some of a run's appends."""

    def __init__(self, log: Any) -> None:
        super().__init__(log)
        self.before: Callable[[list[str]], Awaitable[object] | None] = lambda types: None
        self._tail: asyncio.Task[None] | None = None

    def append(self, request: Append) -> Landing[Appended]:
        landing: Landing[Appended] = Landing()
        self.appends.append(request)
        self._tail = asyncio.get_running_loop().create_task(self._append(self._tail, request, landing))
        return landing

    async def _append(
        self, earlier: asyncio.Task[None] | None, request: Append, landing: Landing[Appended]
    ) -> None:
        if earlier is not None:
            await earlier
        meanwhile = self.before(self.types_of(request))
        if meanwhile is not None:
            await meanwhile
        try:
            landing.set_result(await self._log.append(request))
        except evrt.EvrtError as error:
            landing.set_exception(error)


async def test_a_cause_that_slips_in_before_the_parking_append_is_taken_in_and_nothing_is_parked(
    url: str,
) -> None:
    async with evrt.App(url) as app:
        log = Interrupting(await app.log())
        others = put(evrt.App("memory://"), log._log)
        put(app, log)

        @app.workflow
        async def asks(ctx: Ctx) -> Any:
            return await ctx.ask("Well?")

        running = await app.start(asks)
        log.before = lambda types: others.answer(running.run_id, "well") if "run.waiting" in types else None
        run = await running
        assert run.output == "well"
        assert "run.waiting" not in [e.type for e in (await app.get(run.run_id)).events]
        assert await log.coordination.entry(run.run_id) is None
        assert (await app.replay(run.run_id)).complete


async def test_one_of_two_waits_that_is_over_while_the_run_is_being_parked_keeps_it_going(url: str) -> None:
    """What it does then is done before the run is parked for the other."""
    async with evrt.App(url) as app:
        log = Interrupting(await app.log())
        others = put(evrt.App("memory://"), log._log)
        put(app, log)

        @app.workflow
        async def asks(ctx: Ctx) -> Any:
            async def one() -> Any:
                return [await ctx.ask("A?"), await ctx.call(look, 1), await ctx.call(look, 2)]

            return await ctx.gather(one(), ctx.ask("B?"))

        running = await app.start(asks)
        answered: list[str] = []

        def before(types: list[str]) -> Awaitable[object] | None:
            if "run.waiting" not in types or answered:
                return None
            answered.append("A")
            return others.answer(running.run_id, "a", operation="gather#1:0/ask#1")

        log.before = before
        run = await running
        assert run.waiting_for == ("gather#1:1/ask#1",)
        types = [e.type for e in (await app.get(run.run_id)).events]
        assert types.count("tool_call.completed") == 2
        assert types.count("run.waiting") == 1
        await app.answer(run.run_id, "b")
        run = await app.resume(run.run_id)
        assert run.output == [["a", 1, 2], "b"]
        assert (await app.replay(run.run_id)).complete


async def test_a_run_whose_code_was_stopped_is_woken_where_its_cause_had_come_before(url: str) -> None:
    """It is settled between the run's time-out, which leaves a write in doubt, and the append that parks it."""
    async with evrt.App(url) as app:
        log = Interrupting(await app.log())
        others = put(evrt.App("memory://"), log._log)
        put(app, log)

        @app.workflow(timeout="400ms")
        async def pays(ctx: Ctx) -> Any:
            return await ctx.call(pay, 1)

        running = await app.start(pays)
        settled: list[str] = []

        def before(types: list[str]) -> Awaitable[object] | None:
            if "run.waiting" not in types or settled:
                return None
            settled.append("once")
            return others.settle(running.run_id, result=1)

        log.before = before
        run = await running
        assert (run.status, run.reason) == ("waiting", "in_doubt")
        assert (await log.coordination.entry(run.run_id)).state == "ready"
        run = await app.resume(run.run_id)
        assert run.output == 1
        assert (await app.replay(run.run_id)).complete


async def test_a_worker_that_lost_its_claim_does_not_park_the_run(url: str) -> None:
    async with evrt.App(url) as app:
        log = Interrupting(await app.log())
        others = put(evrt.App("memory://"), log._log)
        put(app, log)

        async def asks(ctx: Ctx) -> Any:
            return await ctx.ask("Well?")

        app.workflow(asks)
        others.workflow(asks)
        running = await app.start("asks")
        claimed: list[str] = []

        def before(types: list[str]) -> Awaitable[object] | None:
            if "run.waiting" not in types or claimed:
                return None
            claimed.append("once")
            return others.resume(running.run_id)

        log.before = before
        with pytest.raises(evrt.Fenced):
            await running
        history = await app.get(running.run_id)
        assert [e.meta["epoch"] for e in history.events if e.type == "run.waiting"] == [2]


async def test_a_run_that_parks_in_a_worker_is_taken_when_its_timer_is_due(
    file_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the queue's own clock, and executed by a real worker."""
    monkeypatch.setattr(parking, "PARK_AFTER_SECONDS", 0.0)
    async with evrt.App(file_url) as app:

        @app.workflow
        async def naps(ctx: Ctx) -> list[Any]:
            await ctx.sleep("30ms")
            approval = await ctx.approve("Go on", timeout="30ms")
            return [approval.reason, await ctx.wait_for_signal("go", timeout="1d")]

        worker = Worker(app, poll_seconds=0.05)
        working = asyncio.get_running_loop().create_task(worker.run())
        queued = await app.enqueue(naps)
        await until(app, "timer.set", 2)
        await app.signal(queued.run_id, "go", "gone")
        result = await queued.result()
        worker.drain()
        await working
        assert result.output == ["timeout", "gone"]
        types = [e.type for e in (await app.get(queued.run_id)).events]
        assert types.count("run.waiting") >= 2
        assert (await app.replay(queued.run_id)).complete


# Whatever comes, whenever it comes, the run ends.

CAUSES = ("answer A", "answer D", "signal", "signal again", "decide", "time")


@settings(max_examples=EXAMPLES, deadline=None)
@given(
    order=st.permutations(CAUSES),
    moments=st.lists(st.integers(0, 6), min_size=len(CAUSES), max_size=len(CAUSES)),
    in_worker=st.booleans(),
)
def test_no_cause_is_lost_whenever_it_comes(order: list[str], moments: list[int], in_worker: bool) -> None:
    asyncio.run(_ends(dict(zip(order, moments, strict=True)), in_worker=in_worker))


async def _ends(causes: dict[str, int], *, in_worker: bool) -> None:
    """Each cause comes before the append of its number, counted from the last cause; the run is taken while it is ready."""
    async with evrt.App("memory://") as app:
        log = Interrupting(await app.log())
        others = put(evrt.App("memory://"), log._log)
        put(app, log)
        if in_worker:
            as_worker(app)
        app.workflow(everything)
        left = list(causes.items())
        gone_by = 0
        run = ""

        async def come(cause: str) -> None:
            operation = {"answer A": "gather#1:0/ask#1", "answer D": "gather#1:1/ask#1"}.get(cause)
            match cause.split(maxsplit=1)[0]:
                case "answer":
                    await others.answer(run, cause[-1], operation=operation)
                case "decide":
                    await others.decide(run, True)
                case "signal":
                    await others.signal(run, "b", cause)
                case _:
                    log.ahead_seconds += HOUR

        async def come_if_it_can(cause: str) -> None:
            try:
                await come(cause)
                left.remove((cause, causes[cause]))
            except (Conflict, evrt.NotFound):
                pass  # It does not wait for that yet, or not any more.

        def before(types: list[str]) -> Awaitable[object] | None:
            nonlocal gone_by
            gone_by += 1
            if not left or "run.requested" in types or gone_by <= left[0][1]:
                return None
            gone_by = 0
            left.append(left.pop(0))
            return come_if_it_can(left[-1][0])

        log.before = before
        running = await app.start("everything", in_worker)  # Outside of one it would sleep a real hour.
        run = running.run_id
        result = await running
        for _ in range(100):
            if result.status != "waiting":
                break
            entry = await log.coordination.entry(run)
            assert entry is not None
            if entry.state == "ready" or (
                entry.due is not None and entry.due <= await log.coordination.now()
            ):
                result = await (taken(app, run) if in_worker else app.resume(run))
                continue
            # It waits for what has not come: so it may come now.
            assert left, f"{result.waiting_for} is waited for, and everything has come."
            left.append(left.pop(0))
            await come_if_it_can(left[-1][0])
        assert result.status == "succeeded", result
        assert (await app.replay(run)).complete
