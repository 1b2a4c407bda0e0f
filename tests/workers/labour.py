"""A worker process that lives until it is told to drain, or is killed; and the nursery that makes such.

Starting Python takes half a second, a fork takes milliseconds. So one process imports everything, starts no thread,
no loop and no log, and forks a worker for every job that it reads from its standard input:
``python -m workers.labour``. One JSON object a line, one a line back:

    {"spawn": {job}}  →  {"pid": 123}
    {"wait": 123}     →  {"status": status of waitpid}, also when it was stopped
"""

from __future__ import annotations

import asyncio
import faulthandler
import gc
import json
import logging
import os
import signal
import sys
import time
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Any, TypedDict, cast

import evrt.log.postgres.store
import evrt.log.sqlite.store  # noqa: F401  # Opened in every worker, so imported before they are forked.
from crash.apps import book, fetch, look, pay, peer, send, wire
from crash.mortal import MortalApp, MortalLog
from crash.world import Failpoints, World
from evrt import Context, Retry, ToolContext, tool
from evrt.errors import Unavailable
from evrt.events import JsonValue
from evrt.log import Log
from evrt.log.coordination import Claimed, Coordination
from evrt.worker.worker import Worker

OUT_OF_PATIENCE = Retry(10_000, base_seconds=0.01, cap_seconds=0.1)
"""A run whose workers are killed over and over is not to be failed for that here."""

MOMENT_SECONDS = 0.01
HANGING_SECONDS = 600
DRAINED, BROKEN = 0, 13
"""How a worker exits: it was told to drain · this should never happen (see its error file)."""


class Job(TypedDict, total=False):
    """What a worker is to do.

    ``site``, ``nth``: where it stops itself (see ``Failpoints``) · ``plant``: a bug to work with ·
    ``hours``: how far its wall clock is set off · ``concurrency``, ``lease_seconds``: as of ``Worker``.
    """

    url: str
    folder: str
    site: str | None
    nth: int
    plant: str | None
    hours: float
    concurrency: int
    lease_seconds: float


@tool
async def carry(item: str, context: ToolContext[World]) -> str:
    """A write without a key that takes its time, before it has happened and after."""
    await asyncio.sleep(MOMENT_SECONDS)
    carried = context.deps.call(context, "carry", f"carried {item}")
    await asyncio.sleep(MOMENT_SECONDS)
    return carried


WRITES = frozenset({"pay", "send", "wire", "carry"})
"""Those without a key."""


async def labour(ctx: Context[World], item: str, *, waits: bool) -> JsonValue:
    """A little of everything: reads, writes with a key, without, some that can be looked up, branches, a wait."""
    seen = await ctx.call(look, where=item)
    paid = await ctx.call(pay, amount=3)
    booked, wired, page = await ctx.gather(
        ctx.call(book, item=item), ctx.call(wire, amount=5), ctx.call(fetch, page=1)
    )
    told = await ctx.wait_for_signal("go") if waits else "nobody"
    carried = await ctx.call(carry, item=item)
    sent = await ctx.call(send, letter=item)
    return [seen, paid, booked, wired, page, told, carried, sent, await ctx.call(peer, where=item)]


def expected(item: str, *, waits: bool) -> list[str]:
    """What every such run comes to, whatever happens to its workers."""
    told = "gone" if waits else "nobody"
    effects = [f"saw the {item}", "paid 3", f"booked {item}", "wired 5", "page 1", told]
    return [*effects, f"carried {item}", f"sent {item}", f"peered at the {item}"]


async def steady(ctx: Context[World], item: str) -> JsonValue:
    return await labour(ctx, item, waits=False)


async def patient(ctx: Context[World], item: str) -> JsonValue:
    return await labour(ctx, item, waits=True)


class MortalQueueLog(MortalLog):
    """A mortal log whose queue has places to die at as well."""

    @property
    def coordination(self) -> Coordination:
        return cast(Coordination, MortalQueue(self._log.coordination, self._failpoints))


class MortalQueue:
    """A queue with a place to die before entries are given, and one when they are and nobody has heard of it."""

    def __init__(self, queue: Coordination, failpoints: Failpoints) -> None:
        self._queue = queue
        self._failpoints = failpoints

    def __getattr__(self, name: str) -> Any:
        return getattr(self._queue, name)

    async def claim(self, *args: Any, **options: Any) -> list[Claimed]:
        self._failpoints.reach("claim.before")
        claimed = await self._queue.claim(*args, **options)
        if claimed:
            self._failpoints.reach("claim.after")
        return claimed


class LabourApp(MortalApp):
    """An app with these runs over a mortal log."""

    async def log(self, *, read_only: bool = False) -> Log:
        fresh = self._mortal is None
        log = await super().log(read_only=read_only)
        if fresh:
            mortal = cast(MortalLog, log)
            self._mortal = cast(Log, MortalQueueLog(mortal._log, self.world.failpoints))
        assert self._mortal is not None
        return self._mortal


def make_app(url: str, world: World, *, plant: str | None = None) -> LabourApp:
    app = LabourApp(url, world, models={}, plant=plant)
    for run in (steady, patient):
        app.workflow(retry=OUT_OF_PATIENCE)(run)
    return app


async def work(job: Job) -> int:
    failpoints = Failpoints(job.get("site"), job.get("nth", 0), signal.SIGSTOP)
    app = make_app(job["url"], World(Path(job["folder"]), failpoints), plant=job.get("plant"))
    await opened(app)
    async with app:
        worker = Worker(
            app,
            concurrency=job.get("concurrency", 8),
            lease_seconds=job["lease_seconds"],
            poll_seconds=0.1,
            grace_seconds=0.0,
        )
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, worker.drain)
        await worker.run()
    return DRAINED


async def opened(app: LabourApp) -> None:
    """Return when there is a log to work on: the server may just be starting again."""
    while True:
        try:
            await app.log()
            return
        except Unavailable:
            await asyncio.sleep(0.1)


def set_clock_off(hours: float) -> None:
    """Have this process believe in another hour. What only ever rises stays as it is."""
    real, real_ns = time.time, time.time_ns
    time.time = lambda: real() + hours * 3_600.0
    time.time_ns = lambda: real_ns() + int(hours * 3_600_000_000_000)


# ------------------------------------------------------------------------------------- the nursery


def main() -> None:
    gc.freeze()
    for line in sys.stdin:
        command = json.loads(line)
        if "spawn" in command:
            answer = {"pid": _spawn(command["spawn"])}
        else:
            _, status = os.waitpid(command["wait"], os.WUNTRACED)
            answer = {"status": status}
        os.write(1, json.dumps(answer).encode() + b"\n")


def _spawn(job: Job) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = BROKEN
    path = Path(job["folder"], f"worker-{os.getpid()}.txt")
    try:
        said = open(path, "w")  # noqa: SIM115  # For as long as this process lives.
        faulthandler.dump_traceback_later(HANGING_SECONDS, exit=True, file=said)
        logging.basicConfig(stream=said, level=logging.INFO)
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, 0)
        os.dup2(null, 1)
        set_clock_off(job.get("hours", 0.0))
        code = asyncio.run(work(job))
    except BaseException:  # noqa: BLE001  # Whatever it was is to be read in the file.
        with suppress(OSError):
            path.write_text(traceback.format_exc())
    finally:
        os._exit(code)


if __name__ == "__main__":
    main()
