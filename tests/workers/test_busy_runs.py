"""Orders and signals reach a run that writes faster than anybody can read it."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import evrt
from evrt.codec import encode
from evrt.events.run import RunSignalled
from evrt.log import Append, Draft, Log, Recorded
from evrt.log.ids import new_event_id
from evrt.worker.worker import Worker, working
from workers.waits import Ctx, types_of, until, until_written


class Outrun:
    """A log in which, whenever a run has been read, there is one event more by the time of the answer."""

    def __init__(self, log: Log) -> None:
        self._log = log

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    async def read_stream(self, stream: str, **bounds: Any) -> list[Recorded]:
        rows = await self._log.read_stream(stream, **bounds)
        event = RunSignalled(name="noise", payload=None, by=None)
        await self._log.append(
            Append([Draft(stream, event.type, new_event_id(), stream, b"{}", encode(event))], {})
        )
        return rows


async def test_a_run_that_writes_without_end_is_signalled_paused_and_cancelled(url: str) -> None:
    async with evrt.App(url) as app:
        made: list[int] = []
        heard: list[object] = []

        @evrt.tool(effect="read")
        async def look(number: int) -> None:
            made.append(number)
            await asyncio.sleep(0.01)

        @app.workflow
        async def busy(ctx: Ctx) -> None:
            await ctx.call(look, number=0)
            heard.append(await ctx.wait_for_signal("go"))
            for number in range(1, 100_000):
                await ctx.call(look, number=number)

        log = await app.log()
        person = evrt.App("memory://")
        person._log = cast(Log, Outrun(log))
        queued = await app.enqueue(busy)
        run = queued.run_id
        async with working(Worker(app)):
            await until(lambda: made == [0])
            await person.signal(run, "go", "on")
            await until(lambda: heard == ["on"])
            await person.pause(run)
            await until_written(log, run, "run.waiting")
            await app.unpause(run)
            before = len(made)
            await until(lambda: len(made) > before)
            assert await person.cancel(run) == "requested"
            assert (await queued.result()).status == "cancelled"
        types = await types_of(log, run)
        assert (types.count("run.paused"), types.count("run.cancel_requested")) == (1, 1)
