"""Code that cancels what it waits for, with a time-out of its own say, does so again on replay; and interruptions."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest

import evrt
from evrt.events.calls import QuestionExpired, ToolCallInDoubt
from evrt.testing import ScriptedModel
from runtime.logs import Ctx, cut_off, put, until


async def forever() -> None:
    await asyncio.Event().wait()


endless_read = evrt.tool(effect="read", name="endless_read")(forever)
endless_write = evrt.tool(name="endless_write")(forever)


@evrt.tool(name="endless_keyed")
async def endless_keyed(idempotency_key: str) -> None:
    await forever()


@evrt.tool(effect="read")
async def look(number: int) -> int:
    return number


async def silent(request: Any) -> str:
    await forever()
    return ""


Operation = Callable[[Ctx], Awaitable[Any]]
ENDLESS: dict[str, Operation] = {
    "read": lambda ctx: ctx.call(endless_read),
    "keyed write": lambda ctx: ctx.call(endless_keyed),
    "pure step": lambda ctx: ctx.step("endless", forever),
    "reading step": lambda ctx: ctx.step("endless", forever, effect="read"),
    "model": lambda ctx: ctx.model("Hello", model="silent"),
    "gather": lambda ctx: ctx.gather(ctx.call(endless_read), ctx.step("endless", forever), ctx.call(look, 1)),
    "question beside a call": lambda ctx: ctx.gather(ctx.ask("Well?"), ctx.call(endless_read)),
}


@pytest.mark.parametrize("operation", ENDLESS.values(), ids=ENDLESS)
async def test_a_time_out_of_the_codes_own_is_recorded_and_happens_again_on_replay(
    url: str, operation: Operation
) -> None:
    async with evrt.App(url, models={"silent": ScriptedModel(silent)}) as app:

        @app.workflow
        async def impatient(ctx: Ctx) -> list[Any]:
            seen: list[Any] = [await ctx.call(look, 1)]
            try:
                async with asyncio.timeout(0.03):
                    await operation(ctx)
            except TimeoutError:
                seen.append("too late")
            return [*seen, await ctx.call(look, 2), await ctx.ask("Go on?")]

        run = await app.run(impatient)
        assert (run.status, run.waiting_for) == ("waiting", ("ask#1",))
        assert (await app.replay(run.run_id)).ok
        await app.answer(run.run_id, "yes", operation="ask#1")
        run = await app.resume(run.run_id)
        assert run.output == [1, "too late", 2, "yes"]
        assert (await app.replay(run.run_id)).complete
        journal = (await app.get(run.run_id)).journal
        assert not any(known.open for known in journal.operations.values())


async def test_an_abandoned_question_cannot_be_answered_any_more(url: str) -> None:
    async with evrt.App(url) as app:

        @app.workflow
        async def impatient(ctx: Ctx) -> Any:
            try:
                async with asyncio.timeout(0.03):
                    await ctx.gather(ctx.ask("Well?"), ctx.call(endless_read))
            except TimeoutError:
                return await ctx.ask("Then this?")

        run = await app.run(impatient)
        assert run.waiting_for == ("ask#1",)
        history = await app.get(run.run_id)
        assert [e.event.cause for e in history.events if isinstance(e.event, QuestionExpired)] == [
            "cancelled"
        ]
        with pytest.raises(evrt.Conflict, match="does not wait"):
            await app.answer(run.run_id, "late", operation="gather#1:0/ask#1")
        assert await app.answer(run.run_id, "this") == "ask#1"


class Cutting:
    """A write that is cut off by a time-out of the code's own, once so many calls of it are under way."""

    def __init__(self, calls: int) -> None:
        self.calls = calls
        self.limit = asyncio.timeout(None)

    async def write(self) -> None:
        self.calls -= 1
        if self.calls == 0:
            self.limit.reschedule(0)
        await forever()


async def test_a_write_without_a_key_that_the_code_cancels_is_in_doubt(url: str) -> None:
    cutting = Cutting(1)
    write = evrt.tool(name="write")(cutting.write)
    async with evrt.App(url) as app:

        @app.workflow
        async def impatient(ctx: Ctx) -> str:
            cutting.limit = asyncio.timeout(None)
            try:
                async with cutting.limit:
                    return str(await ctx.call(write))
            except TimeoutError:
                return "given up"

        run = await app.run(impatient)
        assert (run.status, run.reason, run.waiting_for) == ("waiting", "in_doubt", ("write#1",))
        await app.settle(run.run_id, result=None)
        run = await app.resume(run.run_id)
        assert run.output == "None"
        assert (await app.replay(run.run_id)).complete


async def test_every_write_that_is_cut_off_is_in_doubt_at_once(url: str) -> None:
    cutting = Cutting(2)
    write = evrt.tool(name="write")(cutting.write)
    async with evrt.App(url) as app:

        @app.workflow
        async def impatient(ctx: Ctx) -> list[Any]:
            cutting.limit = asyncio.timeout(None)
            async with cutting.limit:
                return await ctx.gather(ctx.call(write), ctx.call(write))

        run = await app.run(impatient)
        both = ("gather#1:0/write#1", "gather#1:1/write#1")
        assert run.waiting_for == both
        history = await app.get(run.run_id)
        doubts = [e.event for e in history.events if isinstance(e.event, ToolCallInDoubt)]
        assert {doubt.operation for doubt in doubts} == set(both)
        for operation in both:
            await app.settle(run.run_id, operation, result=None)
        assert (await app.resume(run.run_id)).output == [None, None]


async def test_a_write_that_is_cancelled_before_it_began_has_failed_and_is_not_in_doubt(url: str) -> None:
    """The intent was not durable yet, so nothing can have happened."""
    cutting = Cutting(1)
    write = evrt.tool(name="write")(cutting.write)
    async with evrt.App(url) as app:

        @app.workflow
        async def hasty(ctx: Ctx) -> str:
            try:
                async with asyncio.timeout(0):
                    await ctx.call(write)
            except TimeoutError:
                return "given up"
            return "let through"

        run = await app.run(hasty)
        assert run.output == "given up"
        assert cutting.calls == 1
        assert (await app.replay(run.run_id)).complete


async def test_code_that_forgot_its_time_out_diverges_instead_of_waiting_for_ever(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("evrt.runtime.execution.CANCELLED_AGAIN_SECONDS", 0.05)
    limit: list[float | None] = [0.02]
    async with evrt.App(url) as app:

        @app.workflow
        async def impatient(ctx: Ctx) -> str:
            try:
                async with asyncio.timeout(limit[0]):
                    await ctx.call(endless_read)
            except TimeoutError:
                pass
            return "done"

        run = await app.run(impatient)
        assert run.output == "done"
        limit[0] = None
        report = await app.replay(run.run_id)
        assert report.divergence is not None
        assert "does not cancel it now" in str(report.divergence)


async def test_what_had_its_outcome_then_has_it_on_replay_though_the_code_cancels_it_now(url: str) -> None:
    """How long a replay takes must not decide what a time-out of the code's own cuts off."""
    cancels = [False]
    async with evrt.App(url) as app:

        @app.workflow
        async def group(ctx: Ctx) -> None:
            async def one(key: str) -> None:
                async with ctx.scope(key):
                    await ctx.call(look, 1)

            async with asyncio.TaskGroup() as tasks:
                first = tasks.create_task(one("a"))
                tasks.create_task(one("b"))
                await asyncio.sleep(0)
                if cancels[0]:
                    first.cancel()

        run = await app.run(group)
        assert run.status == "succeeded"
        cancels[0] = True
        report = await app.replay(run.run_id)
        assert report.complete


async def test_a_cancellation_that_came_too_late_and_was_taken_back_strikes_nobody(url: str) -> None:
    """A time-out whose block came to its end all the same takes its cancellation back: the code goes on."""
    naps = {"a": 0.02, "b": 0.0}
    seconds: list[float] = [60]
    async with evrt.App(url) as app:

        @app.workflow
        async def group(ctx: Ctx) -> list[Any]:
            async def one(key: str) -> Any:
                async with ctx.scope(key):
                    await asyncio.sleep(naps[key])
                    async with asyncio.timeout(seconds[0]):
                        first = await ctx.call(look, 1)
                    return first + await ctx.call(look, 2)

            async with asyncio.TaskGroup() as tasks:
                branches = [tasks.create_task(one(key)) for key in "ab"]
            return [branch.result() for branch in branches]

        run = await app.run(group)
        assert run.output == [3, 3]
        # Killed before its last call, the first now waits for its outcome until the other has asked for two: too long.
        log = await app.log()
        completed = [row.position for row in await log.read() if row.type == "tool_call.completed"]
        put(app, await cut_off(log, completed[2]))
        await log.aclose()
        naps |= {"a": 0.0, "b": 0.02}
        seconds[0] = 0
        assert (await app.resume(run.run_id)).output == [3, 3]
        assert (await app.replay(run.run_id)).complete


async def test_a_memory_operation_that_is_cut_off_is_recorded_too(url: str) -> None:
    """The run waits for the disk there, so a time-out can hit it."""
    async with evrt.App(url) as app:
        slow = Slow(await app.log())
        app._log = slow

        @app.workflow
        async def impatient(ctx: Ctx) -> list[str]:
            seen = []
            for work in (ctx.memory.get("k"), ctx.memory.set("k", 1), ctx.memory.forget("k")):
                slow.reads = True
                try:
                    async with asyncio.timeout(0.01):
                        await work
                except TimeoutError:
                    seen.append("too late")
                slow.reads = False
            return [*seen, str(await ctx.memory.get("k"))]

        run = await app.run(impatient, user="ann")
        assert run.output == ["too late"] * 3 + ["None"]
        assert (await app.replay(run.run_id)).complete


class Slow:
    """A log whose reads of streams do not come back while ``reads`` is set."""

    def __init__(self, log: Any) -> None:
        self._log = log
        self.reads = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    async def read_stream(self, *args: Any, **kwargs: Any) -> Any:
        if self.reads:
            await forever()
        return await self._log.read_stream(*args, **kwargs)


# The run's own time-out


async def test_the_time_out_of_a_run_ends_it(url: str) -> None:
    async with evrt.App(url) as app:

        @app.workflow(timeout="50ms")
        async def slow(ctx: Ctx) -> None:
            await ctx.call(look, 1)
            await ctx.call(endless_read)

        run = await app.run(slow)
        assert run.status == "timed_out"
        with pytest.raises(evrt.errors.RunTimedOut):
            run.unwrap()
        history = await app.get(run.run_id)
        assert history.events[-1].event.model_dump() == {"timeout_seconds": 0.05}
        assert (await app.replay(run.run_id)).ok
        with pytest.raises(evrt.Conflict, match="has ended"):
            await app.resume(run.run_id)


async def test_a_run_that_times_out_during_a_write_without_a_key_is_in_doubt(url: str) -> None:
    async with evrt.App(url) as app:

        @app.workflow(timeout="400ms")
        async def slow(ctx: Ctx) -> list[Any]:
            return await ctx.gather(ctx.call(endless_write), ctx.call(endless_read))

        run = await app.run(slow)
        assert (run.status, run.reason) == ("waiting", "in_doubt")
        history = await app.get(run.run_id)
        assert [e.event.cause for e in history.events if isinstance(e.event, ToolCallInDoubt)] == ["timeout"]
        await app.settle(run.run_id, result=None)
        assert (await app.resume(run.run_id)).status == "timed_out"


async def test_waiting_for_a_person_does_not_count_towards_the_time_out(url: str) -> None:
    async with evrt.App(url) as app:

        @app.workflow(timeout="300ms")
        async def asks(ctx: Ctx) -> Any:
            return await ctx.ask("Well?")

        run = await app.run(asks)
        await asyncio.sleep(0.35)
        await app.answer(run.run_id, "yes")
        assert (await app.resume(run.run_id)).output == "yes"


async def test_code_that_swallows_its_being_stopped_is_stopped_all_the_same(url: str) -> None:
    async with evrt.App(url) as app:

        @app.workflow(timeout="50ms")
        async def stubborn(ctx: Ctx) -> str:
            for _ in range(3):
                with suppress(BaseException):
                    await ctx.call(endless_read)
            return "never mind"

        assert (await app.run(stubborn)).status == "timed_out"


# Interruptions: whoever runs the run is cancelled


async def test_a_run_whose_runner_is_cancelled_can_be_resumed(url: str) -> None:
    """Like a crash, but in order: no outcome is made up for what was under way."""
    gate = asyncio.Event()

    @evrt.tool(effect="read")
    async def hold() -> str:
        await gate.wait()
        return "held"

    async with evrt.App(url) as app:

        @app.workflow
        async def works(ctx: Ctx) -> list[Any]:
            return [await ctx.call(look, 1), await ctx.call(hold)]

        running = await app.start(works)
        await until(app, "tool_call.requested", 2)
        waiter = asyncio.ensure_future(_wait(running))
        await asyncio.sleep(0)
        waiter.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiter
        history = await app.get(running.run_id)
        assert history.events[-1].type == "tool_call.requested"
        gate.set()
        run = await app.resume(running.run_id)
        assert run.output == [1, "held"]
        assert (await app.replay(run.run_id)).complete


async def _wait(running: evrt.Running) -> evrt.Result:
    return await running


async def test_an_interrupted_write_without_a_key_is_in_doubt_when_resumed(url: str) -> None:
    async with evrt.App(url) as app:

        @app.workflow
        async def works(ctx: Ctx) -> Any:
            return await ctx.call(endless_write)

        running = await app.start(works)
        await until(app, "tool_call.requested")
        await asyncio.sleep(0)
        running._task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert (await app.resume(running.run_id)).reason == "in_doubt"


async def test_code_that_cancels_itself_fails_its_run(url: str) -> None:
    async with evrt.App(url) as app:

        @app.workflow
        async def suicidal(ctx: Ctx) -> None:
            await ctx.call(look, 1)
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            await asyncio.sleep(0)

        run = await app.run(suicidal)
        assert run.failure is not None
        assert run.failure.message == "The run's code cancelled itself."
        assert (await app.replay(run.run_id)).complete
