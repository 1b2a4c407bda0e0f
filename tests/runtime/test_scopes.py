"""Who may use the context: the task that owns the scope, and none that came from elsewhere."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import evrt
from evrt.errors import WrongTask
from runtime.logs import Ctx, cut_off, put, watch


@evrt.tool(effect="read")
async def look(number: int) -> int:
    await asyncio.sleep(0)
    return number


@evrt.tool(effect="read")
async def fail(text: str) -> None:
    raise ValueError(text)


async def test_an_operation_in_a_task_of_its_own_is_refused() -> None:
    async with evrt.App("memory://") as app:

        @app.workflow
        async def wild(ctx: Ctx) -> str:
            try:
                await asyncio.create_task(ctx.call(look, 1))
            except WrongTask as error:
                return str(error)
            return "let through"

        run = await app.run(wild)
    assert "ctx.gather" in run.output
    assert "ctx.scope(key)" in run.output


async def test_a_scope_takes_in_tasks_that_something_else_created(url: str) -> None:
    async with evrt.App(url) as app:

        @app.workflow
        async def framework(ctx: Ctx) -> list[int]:
            async def handle(key: str, number: int) -> Any:
                async with ctx.scope(key):
                    await ctx.call(look, number)
                    return await ctx.call(look, number + 1)

            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(handle(f"call:{n}", n)) for n in range(3)]
            return [task.result() for task in tasks]

        watched = await watch(app)
        run = await app.run(framework)
        assert run.output == [1, 2, 3]
        whole = await app.get(run.run_id)
        assert set(whole.journal.operations) == {
            f"scope%3Acall%3A{n}/look#{ordinal}" for n in range(3) for ordinal in (1, 2)
        }
        assert (await app.replay(run.run_id)).complete
        log = await app.log()
        for position in watched.boundaries[:-1]:
            put(app, await cut_off(log, position))
            assert (await app.resume(run.run_id)).output == [1, 2, 3]
            assert (await app.get(run.run_id)).digest == whole.digest
        await log.aclose()


async def test_a_scope_in_the_codes_own_task_groups_operations_and_goes_on_counting(url: str) -> None:
    async with evrt.App(url) as app:

        @app.workflow
        async def grouped(ctx: Ctx) -> None:
            for _ in range(2):
                async with ctx.scope("page/1"):
                    await ctx.call(look, 1)
            await ctx.call(look, 2)

        run = await app.run(grouped)
        history = await app.get(run.run_id)
        assert list(history.journal.operations) == [
            "scope%3Apage%2F1/look#1",
            "scope%3Apage%2F1/look#2",
            "look#1",
        ]
        assert (await app.replay(run.run_id)).complete


async def test_a_question_in_a_framework_s_task_parks_the_run(url: str) -> None:
    """Else the run would hang: its own task waits for the framework's, and that one for a person."""
    async with evrt.App(url) as app:

        @app.workflow
        async def asks(ctx: Ctx) -> Any:
            async def handle() -> Any:
                async with ctx.scope("call_1"):
                    return await ctx.ask("May I?")

            async with asyncio.TaskGroup() as group:
                task = group.create_task(handle())
            return task.result()

        run = await app.run(asks)
        assert (run.status, run.reason) == ("waiting", "question")
        await app.answer(run.run_id, "yes")
        assert (await app.resume(run.run_id)).output == "yes"
        assert (await app.replay(run.run_id)).complete


async def test_when_a_framework_cancels_what_one_failure_made_useless_a_replay_does_so_too(url: str) -> None:
    never = asyncio.Event()

    @evrt.tool(effect="read")
    async def endless() -> None:
        await never.wait()

    async with evrt.App(url) as app:

        @app.workflow
        async def group(ctx: Ctx) -> list[str]:
            async def handle(key: str, work: Any) -> None:
                async with ctx.scope(key):
                    await work

            texts: list[str] = []
            try:
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(handle("a", ctx.call(endless)))
                    tasks.create_task(handle("b", ctx.call(fail, "broken")))
            except* evrt.ToolFailed as errors:
                texts = [str(error) for error in errors.exceptions]
            return texts

        run = await app.run(group)
        assert run.output == ["scope%3Ab/fail#1 failed: ValueError: broken"]
        history = await app.get(run.run_id)
        outcome = history.journal.operations["scope%3Aa/endless#1"].outcome
        assert outcome is not None
        assert outcome.event.model_dump()["failure"]["error_type"] == "cancelled"
        assert (await app.replay(run.run_id)).complete


async def test_after_the_end_of_the_run_the_context_refuses_clearly(url: str) -> None:
    kept: list[Ctx] = []
    strays: list[asyncio.Task[Any]] = []
    let_go = asyncio.Event()
    async with evrt.App(url) as app:

        @app.workflow
        async def leaks(ctx: Ctx) -> str:
            kept.append(ctx)

            async def stray() -> None:
                await let_go.wait()
                async with ctx.scope("late"):
                    await ctx.emit("too late")

            strays.append(asyncio.create_task(stray()))
            return "ended"

        run = await app.run(leaks)
        let_go.set()
        with pytest.raises(WrongTask, match="has ended, so nothing more can be done in it"):
            await strays[0]
        with pytest.raises(WrongTask, match="has ended"):
            await kept[0].call(look, 1)
        history = await app.get(run.run_id)
        assert history.events[-1].type == "run.succeeded"


async def test_a_task_left_behind_is_stopped_and_writes_nothing_after_the_end(url: str) -> None:
    never = asyncio.Event()

    @evrt.tool(effect="read")
    async def endless() -> None:
        await never.wait()

    async with evrt.App(url) as app:
        strays: list[asyncio.Task[Any]] = []

        @app.workflow
        async def leaks(ctx: Ctx) -> str:
            async def stray() -> None:
                async with ctx.scope("s"):
                    await ctx.call(endless)

            strays.append(asyncio.create_task(stray()))
            await ctx.call(look, 1)
            return "ended"

        run = await app.run(leaks)
        assert run.status == "succeeded"
        assert strays[0].cancelled()
        assert (await app.get(run.run_id)).events[-1].type == "run.succeeded"


async def test_a_write_left_behind_leaves_the_run_in_doubt(url: str) -> None:
    paying = asyncio.Event()
    never = asyncio.Event()

    @evrt.tool
    async def pay() -> None:
        paying.set()
        await never.wait()

    @evrt.tool(effect="read")
    async def watch_the_payment() -> None:
        await paying.wait()

    async with evrt.App(url) as app:
        strays: list[asyncio.Task[Any]] = []

        @app.workflow
        async def leaks(ctx: Ctx) -> None:
            async def stray() -> None:
                async with ctx.scope("s"):
                    await ctx.call(pay)

            strays.append(asyncio.create_task(stray()))
            await ctx.call(watch_the_payment)

        run = await app.run(leaks)
        assert (run.status, run.reason, run.waiting_for) == ("waiting", "in_doubt", ("scope%3As/pay#1",))
        assert await app.settle(run.run_id, result=None) == "scope%3As/pay#1"
