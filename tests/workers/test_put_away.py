"""Runs whose code was stopped, paused or diverged, stay where they are: what came for code that has not got to it wakes nobody."""

from __future__ import annotations

import asyncio

import evrt
from evrt.log import Log
from evrt.worker.worker import Worker, working
from workers.waits import Ctx, types_of, until_entry, until_written


async def claims(log: Log, run: str) -> int:
    return (await types_of(log, run)).count("run.claimed")


async def test_a_run_that_is_paused_is_claimed_no_more_though_a_child_of_it_has_ended(url: str) -> None:
    async with evrt.App(url) as app:
        go_on = asyncio.Event()

        @evrt.tool(effect="read")
        async def wait() -> str:
            await go_on.wait()
            return "waited"

        @app.workflow
        async def child(ctx: Ctx) -> str:
            return "ended"

        @app.workflow
        async def parent(ctx: Ctx) -> list[object]:
            started = await ctx.start_child(child)
            return [await ctx.call(wait), await started]

        log = await app.log()
        queued = await app.enqueue(parent)
        async with working(Worker(app)):
            await until_written(log, queued.run_id, "child.ended")
            await app.pause(queued.run_id)
            await until_entry(log, queued.run_id, "paused")
            assert await claims(log, queued.run_id) == 1
            go_on.set()
            await app.unpause(queued.run_id)
            assert (await queued.result()).output == ["waited", "ended"]
        assert (await app.replay(queued.run_id)).ok


async def test_a_run_that_has_diverged_is_claimed_no_more_though_a_child_of_it_has_ended(url: str) -> None:
    async with evrt.App(url) as app:
        deployed: list[str] = []

        @evrt.tool(effect="read")
        async def wait() -> str:
            await asyncio.Event().wait()
            return "never"

        @app.workflow
        async def child(ctx: Ctx) -> str:
            return "ended"

        @app.workflow
        async def parent(ctx: Ctx) -> list[object]:
            if deployed:
                await ctx.step("something else", str)
            started = await ctx.start_child(child)
            return [await ctx.call(wait), await started]

        log = await app.log()
        queued = await app.enqueue(parent)
        async with working(Worker(app, grace_seconds=0.0)):
            await until_written(log, queued.run_id, "child.ended")
        deployed.append("a bad version")
        async with working(Worker(app)):
            await until_written(log, queued.run_id, "run.diverged")
            await until_entry(log, queued.run_id, "waiting")
            # Had it been woken, it would come before what is asked for now.
            assert (await (await app.enqueue(child)).result()).output == "ended"
        assert await claims(log, queued.run_id) == 2
        assert (await app.cancel(queued.run_id)) == "cancelled"
