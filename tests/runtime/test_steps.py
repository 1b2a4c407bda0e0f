"""Steps: a function of the code's own, run once and remembered."""

from __future__ import annotations

import asyncio
import threading
from functools import partial
from typing import Any

import pytest

import evrt
from evrt.events.calls import StepFailed, StepStarted
from runtime.logs import Ctx, watch

SOON = evrt.Retry(3, base_seconds=0.0)


async def test_a_sync_function_runs_in_a_thread_and_an_async_one_in_the_loop(url: str) -> None:
    def where() -> bool:
        return threading.current_thread() is threading.main_thread()

    async def here() -> bool:
        return where()

    async with evrt.App(url) as app:

        @app.workflow
        async def places(ctx: Ctx) -> list[Any]:
            return [
                await ctx.step("thread", where),
                await ctx.step("loop", here),
                await ctx.step("lambda", lambda: asyncio.sleep(0, "awaited")),
                await ctx.step("partial", partial(max, 1), 2),
            ]

        run = await app.run(places)
        assert run.output == [False, True, "awaited", 2]
        assert (await app.replay(run.run_id)).complete


async def test_arguments_reach_the_function_by_place_and_by_name() -> None:
    async with evrt.App("memory://") as app:

        @app.workflow
        async def adds(ctx: Ctx) -> Any:
            return await ctx.step("add", lambda a, b=0: a + b, 1, b=2)

        assert (await app.run(adds)).output == 3


async def test_a_pure_step_has_no_intent_and_waits_for_nothing(url: str) -> None:
    """When the last of them is done, the log has not been asked for anything yet."""
    async with evrt.App(url) as app:
        done: list[int] = []

        async def count(number: int) -> int:
            done.append(number)
            return number

        @app.workflow
        async def pure(ctx: Ctx) -> int:
            for number in range(5):
                await ctx.step("count", count, number)
            return len(watched.appends)

        watched = await watch(app)
        run = await app.run(pure)
        assert run.output == 0
        assert done == [0, 1, 2, 3, 4]
        history = await app.get(run.run_id)
        assert [e.type for e in history.events][3:-1] == ["step.completed"] * 5


async def test_a_step_that_reads_has_an_intent_before_it(url: str) -> None:
    async with evrt.App(url) as app:

        @app.workflow
        async def reads(ctx: Ctx) -> Any:
            return await ctx.step("read", lambda: 1, effect="read")

        run = await app.run(reads)
        history = await app.get(run.run_id)
        types = [e.type for e in history.events]
        assert types[3:5] == ["step.started", "step.completed"]
        assert isinstance(history.events[3].event, StepStarted)


async def test_a_step_cannot_write() -> None:
    async with evrt.App("memory://") as app:

        @app.workflow
        async def writes(ctx: Ctx) -> None:
            await ctx.step("write", lambda: 1, effect="write")  # type: ignore[arg-type]

        run = await app.run(writes)
        assert run.failure is not None
        assert "use ctx.call" in run.failure.message


@pytest.mark.parametrize("effect", ["pure", "read"])
async def test_a_failing_step_is_tried_again_as_often_as_asked(url: str, effect: Any) -> None:
    tries: list[int] = []

    def flaky() -> str:
        tries.append(len(tries))
        if len(tries) < 3:
            raise OSError("not yet")
        return "there"

    async with evrt.App(url) as app:

        @app.workflow
        async def patient(ctx: Ctx) -> Any:
            return await ctx.step("flaky", flaky, effect=effect, retry=SOON)

        run = await app.run(patient)
        assert run.output == "there"
        failed = [e.event for e in (await app.get(run.run_id)).events if isinstance(e.event, StepFailed)]
        assert [(f.attempt, f.final, f.failure.error_type) for f in failed] == [
            (1, False, "OSError"),
            (2, False, "OSError"),
        ]
        assert (await app.replay(run.run_id)).complete
        assert len(tries) == 3


async def test_after_the_last_attempt_the_code_sees_the_failure_live_and_on_replay(url: str) -> None:
    seen: list[str] = []
    tries: list[int] = []

    def broken() -> None:
        tries.append(1)
        raise ValueError("no good")

    async with evrt.App(url) as app:

        @app.workflow
        async def told(ctx: Ctx) -> None:
            try:
                await ctx.step("broken", broken, retry=SOON)
            except evrt.StepFailed as error:
                seen.append(f"{error.operation} {error.error_type} {error.message}")

        run = await app.run(told)
        assert (await app.replay(run.run_id)).complete
        assert seen == ["broken#1 ValueError no good"] * 2
        assert len(tries) == 3


async def test_a_time_out_is_a_recorded_outcome_and_takes_no_time_on_replay(url: str) -> None:
    seen: list[str] = []
    calls: list[int] = []

    async def slow() -> None:
        calls.append(1)
        await asyncio.sleep(60)

    async with evrt.App(url) as app:

        @app.workflow
        async def impatient(ctx: Ctx) -> None:
            try:
                await ctx.step("slow", slow, timeout=0.01)
            except evrt.StepFailed as error:
                seen.append(f"{error.error_type}: {error.message}")

        run = await app.run(impatient)
        assert (await app.replay(run.run_id)).complete
        assert seen == ["timeout: No result within 0.01 s."] * 2
        assert calls == [1]


async def test_a_time_out_raised_by_the_function_itself_is_told_apart() -> None:
    def raises() -> None:
        raise TimeoutError("the printer is asleep")

    async with evrt.App("memory://") as app:

        @app.workflow
        async def told(ctx: Ctx) -> None:
            await ctx.step("raises", raises, timeout=60)

        run = await app.run(told)
        assert run.failure is not None
        assert run.failure.message == "raises#1 failed: TimeoutError: the printer is asleep"


async def test_a_function_that_declares_what_json_cannot_hold_is_refused_before_it_runs() -> None:
    ran: list[int] = []

    def opens() -> threading.Lock:
        ran.append(1)
        return threading.Lock()

    opens.__annotations__["return"] = threading.Thread
    async with evrt.App("memory://") as app:

        @app.workflow
        async def locks(ctx: Ctx) -> None:
            await ctx.step("opens", opens)

        run = await app.run(locks)
        assert run.failure is not None
        assert "Declare a type that JSON can hold" in run.failure.message
        assert ran == []


async def test_a_context_operation_inside_a_step_or_a_tool_is_refused(url: str) -> None:
    """On replay neither runs, so what they did through the context would be missing."""
    async with evrt.App(url) as app:

        @app.workflow
        async def nested(ctx: Ctx) -> list[str]:
            async def inner() -> None:
                await ctx.emit("inside")

            texts = []
            for attempt in (ctx.step("inner", inner), ctx.call(evrt.tool(name="inner_tool")(inner))):
                try:
                    await attempt
                except evrt.EvrtError as error:
                    texts.append(str(error))
            return texts

        run = await app.run(nested)
        assert [text.split(":")[1] for text in run.output] == [" WrongTask", " WrongTask"]
        assert "inside a tool or a step" in run.output[0]
        assert (await app.replay(run.run_id)).complete
