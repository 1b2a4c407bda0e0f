"""Another worker takes a run over between a worker's last look and its append: nothing that it writes is accepted."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, cast

import orjson
import pytest

import evrt
from evrt.events.run import RunClaimed
from evrt.log import Append, Appended, Claim, Draft, Log
from evrt.log.contract import Landing
from evrt.log.coordination import Hold
from evrt.log.ids import new_event_id
from evrt.worker.worker import Worker, working
from workers.waits import Ctx, types_of, until_entry

OTHER = "elsewhere:1:other"


class Interrupted:
    """A log that lets something else happen once, just before an event of a type is appended."""

    def __init__(self, log: Log, before: str, happens: Callable[[str], Awaitable[None]]) -> None:
        self._log = log
        self._before = before
        self._happens = happens
        self.done = asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    def append(self, request: Append) -> Landing[Appended]:
        if self.done.is_set() or all(draft.type != self._before for draft in request.drafts):
            return self._log.append(request)
        self.done.set()
        answer: Landing[Appended] = Landing()
        task = asyncio.get_running_loop().create_task(self._interrupted(request))
        task.add_done_callback(lambda done: _deliver(done, answer))
        return answer

    async def _interrupted(self, request: Append) -> Appended:
        await self._happens(request.drafts[0].stream)
        return await self._log.append(request)


def _deliver(done: asyncio.Task[Appended], answer: Landing[Appended]) -> None:
    error = done.exception()
    if error is None:
        answer.set_result(done.result())
    else:
        answer.set_exception(error)


class InterruptedApp(evrt.App):
    """An app whose log is interrupted."""

    interrupted: Interrupted | None = None

    def interrupt(self, log: Log, before: str, happens: Callable[[str], Awaitable[None]]) -> None:
        self.interrupted = Interrupted(log, before, happens)

    async def log(self, *, read_only: bool = False) -> Log:
        log = await super().log(read_only=read_only)
        return log if self.interrupted is None else cast(Log, self.interrupted)


async def take_over(log: Log, run: str, worker: Worker) -> None:
    """What another worker does when this one's lease has run out: take the entry, and claim the run."""
    await log.coordination.leave(worker.id)
    await log.coordination.renew(OTHER)
    (given,) = await log.coordination.claim(OTHER, targets={"wait": None}, limit=1)
    assert given.run == run
    head = await log.head(run)
    claimed = RunClaimed(epoch=head.epoch + 1, worker=OTHER, reason="takeover")
    meta = orjson.dumps({"epoch": head.epoch + 1})
    draft = Draft(run, claimed.type, new_event_id(), run, meta, orjson.dumps(claimed.model_dump()))
    await log.append(Append([draft], {run: Claim(head.epoch + 1)}, beside=(Hold(run, OTHER),)))


@pytest.mark.parametrize("before", ["run.waiting", "tool_call.requested", "tool_call.completed"])
async def test_a_worker_that_is_overtaken_before_an_append_writes_nothing_more(url: str, before: str) -> None:
    async with InterruptedApp(url) as app:

        @evrt.tool(effect="read")
        async def look() -> str:
            return "seen"

        @app.workflow
        async def wait(ctx: Ctx) -> Any:
            await ctx.call(look)
            return await ctx.wait_for_signal("go")

        log = await app.log()
        worker = Worker(app, concurrency=1, grace_seconds=0.0, poll_seconds=0.05, lease_seconds=600.0)
        app.interrupt(log, before, lambda run: take_over(log, run, worker))
        assert app.interrupted is not None
        run = (await app.enqueue(wait)).run_id
        async with working(worker):
            await app.interrupted.done.wait()
            while worker.figures.lost + worker.figures.parked == 0:  # noqa: ASYNC110  (nobody rings a bell for it)
                await asyncio.sleep(0.005)
        types = await types_of(log, run)
        assert types[-1] == "run.claimed", types
        assert (await until_entry(log, run, "claimed")).worker == OTHER
