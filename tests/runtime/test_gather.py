"""Doing several things at once."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import evrt
from evrt.retry import NO_RETRY
from runtime.logs import Ctx, watch


@evrt.tool(effect="read")
async def wait(milliseconds: int, result: str = "done") -> str:
    await asyncio.sleep(milliseconds / 1000)
    return result


@evrt.tool(effect="read")
async def fail(milliseconds: int, text: str) -> None:
    await asyncio.sleep(milliseconds / 1000)
    raise ValueError(text)


async def test_results_come_in_the_order_given_whoever_is_first(url: str) -> None:
    async with evrt.App(url) as app:

        @app.workflow
        async def race(ctx: Ctx) -> list[Any]:
            return await ctx.gather(*(ctx.call(wait, ms, result=str(ms)) for ms in (8, 0, 4)))

        run = await app.run(race)
        assert run.output == ["8", "0", "4"]
        history = await app.get(run.run_id)
        assert history.journal.order == ["gather#1:1/wait#1", "gather#1:2/wait#1", "gather#1:0/wait#1"]
        assert (await app.replay(run.run_id)).complete


async def test_gather_waits_for_all_and_raises_the_first_error_by_position(url: str) -> None:
    ended: list[str] = []
    async with evrt.App(url) as app:

        @app.workflow
        async def errors(ctx: Ctx) -> str:
            async def branch(work: Any, name: str) -> None:
                try:
                    await work
                finally:
                    ended.append(name)

            try:
                await ctx.gather(
                    branch(ctx.call(wait, 6), "slow"),
                    branch(ctx.call(fail, 4, "second to fail"), "b"),
                    branch(ctx.call(fail, 0, "first to fail"), "c"),
                )
            except evrt.ToolFailed as error:
                return error.message
            return "no error"

        run = await app.run(errors)
        assert run.output == "second to fail"
        assert ended == ["c", "b", "slow"]
        assert (await app.replay(run.run_id)).complete
        assert ended == ["c", "b", "slow"] * 2


async def test_nothing_to_gather_gives_nothing() -> None:
    async with evrt.App("memory://") as app:

        @app.workflow
        async def nothing(ctx: Ctx) -> list[Any]:
            return [await ctx.gather(), await ctx.gather(ctx.gather(), ctx.emit("x"))]

        run = await app.run(nothing)
        assert run.output == [[], [[], None]]
        assert (await app.replay(run.run_id)).complete


async def test_gathers_nest_and_each_branch_counts_for_itself(url: str) -> None:
    async with evrt.App(url) as app:

        @app.workflow
        async def tree(ctx: Ctx) -> list[Any]:
            async def twig(depth: int) -> Any:
                if depth == 0:
                    return await ctx.call(wait, 0, result="leaf")
                return await ctx.gather(twig(depth - 1), twig(depth - 1))

            return [await twig(3), await twig(1)]

        run = await app.run(tree)
        assert run.output == [[[["leaf"] * 2] * 2] * 2, ["leaf"] * 2]
        history = await app.get(run.run_id)
        assert len(history.journal.operations) == 10
        assert "gather#1:1/gather#1:0/gather#1:1/wait#1" in history.journal.operations
        assert "gather#2:0/wait#1" in history.journal.operations
        assert (await app.replay(run.run_id)).complete


async def test_two_hundred_branches_share_their_appends(url: str) -> None:
    async with evrt.App(url) as app:

        @app.workflow
        async def crowd(ctx: Ctx) -> int:
            async def branch(number: int) -> Any:
                await ctx.call(wait, 0)
                return await ctx.call(wait, 0, result=str(number))

            results = await ctx.gather(*(branch(number) for number in range(200)))
            return sum(map(int, results))

        watched = await watch(app)
        run = await app.run(crowd)
        assert run.output == sum(range(200))
        assert len(watched.appends) < 300
        assert (await app.replay(run.run_id)).complete


async def test_tasks_and_futures_cannot_be_gathered_as_they_run_already() -> None:
    async with evrt.App("memory://") as app:

        @app.workflow
        async def mistaken(ctx: Ctx) -> None:
            running = asyncio.create_task(asyncio.sleep(0))
            try:
                await ctx.gather(ctx.call(wait, 0), running)
            finally:
                await running

        run = await app.run(mistaken)
        assert run.failure is not None
        assert (
            run.failure.message == "ctx.gather takes coroutines that have not started, not tasks or futures."
        )


async def test_an_error_that_escapes_gather_fails_the_run_and_names_the_operation(url: str) -> None:
    async with evrt.App(url) as app:

        @app.workflow(retry=NO_RETRY)
        async def fails(ctx: Ctx) -> None:
            await ctx.gather(ctx.call(wait, 0), ctx.call(fail, 0, "broken"))

        run = await app.run(fails)
        assert run.status == "failed"
        with pytest.raises(evrt.errors.RunFailed, match="broken"):
            run.unwrap()
        terminal = (await app.get(run.run_id)).journal.terminal
        assert terminal is not None
        assert terminal.event.model_dump()["operation"] == "gather#1:1/fail#1"
        assert (await app.replay(run.run_id)).complete


async def test_branches_go_on_while_another_is_in_a_long_call_after_a_resume(url: str) -> None:
    """The long call waits for the other branch: they have to be under way at the same time."""
    gate = asyncio.Event()

    @evrt.tool(effect="read")
    async def long() -> str:
        await gate.wait()
        return "long"

    @evrt.tool(effect="read")
    async def opens() -> str:
        gate.set()
        return "short"

    async with evrt.App(url) as app:

        @app.workflow
        async def both(ctx: Ctx) -> list[Any]:
            async def first() -> Any:
                await ctx.call(wait, 0)
                await ctx.ask("Go on?", options=["yes"])
                return await ctx.call(long)

            async def second() -> Any:
                await ctx.ask("And you?")
                return await ctx.call(opens)

            return await ctx.gather(first(), second())

        run = await app.run(both)
        await app.answer(run.run_id, "yes", operation="gather#1:0/ask#1")
        await app.answer(run.run_id, "yes", operation="gather#1:1/ask#1")
        run = await app.resume(run.run_id)
        assert run.output == ["long", "short"]
