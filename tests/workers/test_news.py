"""A worker is told of what has come for a run that it executes; the run may just be ending."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import evrt
from evrt.inbox import signal_run
from evrt.log import Log, Recorded
from evrt.worker.worker import Worker, working
from workers.waits import Ctx


class SlowToRead:
    """A log of whose streams nothing is read while the gate is shut."""

    def __init__(self, log: Log) -> None:
        self.log = log
        self.gate = asyncio.Event()
        self.gate.set()
        self.somebody_waits = asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.log, name)

    async def read_stream(self, stream: str, **options: Any) -> list[Recorded]:
        if not self.gate.is_set():
            self.somebody_waits.set()
            await self.gate.wait()
        return await self.log.read_stream(stream, **options)


class SlowApp(evrt.App):
    """An app over such a log."""

    slow: SlowToRead | None = None

    async def log(self, *, read_only: bool = False) -> Log:
        log = await super().log(read_only=read_only)
        if self.slow is None:
            self.slow = SlowToRead(log)
        return cast(Log, self.slow)


async def test_a_run_that_ends_while_it_looks_at_its_news_does_not_take_its_worker_along(url: str) -> None:
    async with SlowApp(url) as app:
        came, go_on = asyncio.Event(), asyncio.Event()

        @evrt.tool(effect="read")
        async def stay() -> None:
            came.set()
            await go_on.wait()

        @app.workflow
        async def visit(ctx: Ctx) -> str:
            await ctx.call(stay)
            return "left"

        @app.workflow
        async def another(ctx: Ctx) -> str:
            return "came"

        await app.log()
        slow = app.slow
        assert slow is not None
        log = slow.log
        async with working(Worker(app, poll_seconds=0.02, grace_seconds=0.0)) as worker:
            run = await app.enqueue(visit)
            await came.wait()
            slow.gate.clear()
            await signal_run(log, run.run_id, "news", None, by=None)
            await slow.somebody_waits.wait()
            go_on.set()
            while worker.running:  # noqa: ASYNC110  (nobody rings a bell for it)
                await asyncio.sleep(0.005)
            slow.gate.set()
            assert (await (await app.enqueue(another)).result()).output == "came"
