"""Worker processes as ``evrt worker`` starts them, and how fast they work off what is queued.

A worker of its own is ``python queued.py URL CONCURRENCY``: it opens the log, says that it is ready, begins when it is
told to, and says at the end how much processor time it took.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import evrt
from evrt.log import Log
from evrt.worker.worker import Worker, working

AT_ONCE = 200
LOOK_SECONDS = 0.04

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))


@dataclass(frozen=True, slots=True)
class Drained:
    """A backlog that was worked off. ``cpu_seconds``: of all worker processes together, since they were told to begin."""

    runs: int
    seconds: float
    cpu_seconds: float

    @property
    def rate(self) -> float:
        """Runs per second."""
        return self.runs / self.seconds


@evrt.tool(effect="read")
async def look(n: int) -> int:
    """Give back what was given."""
    return n


def make_app(url: str) -> evrt.App:
    app = evrt.App(url)

    @app.workflow
    async def steps(ctx: evrt.Context[None], count: int) -> None:
        for n in range(count):
            await ctx.call(look, n=n)

    return app


async def enqueue(app: evrt.App, runs: int, steps: int) -> None:
    for begin in range(0, runs, AT_ONCE):
        some = range(begin, min(begin + AT_ONCE, runs))
        await asyncio.gather(*(app.enqueue("steps", steps) for _ in some))


async def until_empty(log: Log) -> None:
    # Whoever looked at every commit would be in the way of what is measured.
    while await log.coordination.counts():  # noqa: ASYNC110
        await asyncio.sleep(LOOK_SECONDS)


async def drain(url: str, *, workers: int, runs: int, steps: int, concurrency: int) -> Drained:
    """Enqueue runs of so many steps, have so many processes work them off, and time that."""
    async with make_app(url) as app:
        log = await app.log()
        processes = [await _started(url, concurrency) for _ in range(workers)]
        try:
            await enqueue(app, runs, steps)
            for process in processes:
                await _told(process)
            begun = time.perf_counter()
            for process in processes:
                _tell(process)
            await until_empty(log)
            spent = time.perf_counter() - begun
            cpu = 0.0
            for process in processes:
                _tell(process)
                cpu += json.loads(await _told(process))
            return Drained(runs, spent, cpu)
        finally:
            for process in processes:
                if process.returncode is None:
                    assert process.stdin is not None
                    process.stdin.close()
                    await process.wait()


async def _started(url: str, concurrency: int) -> Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, __file__, url, str(concurrency), stdin=PIPE, stdout=PIPE
    )


def _tell(process: Process) -> None:
    assert process.stdin is not None
    process.stdin.write(b"\n")


async def _told(process: Process) -> str:
    assert process.stdout is not None
    return (await process.stdout.readline()).decode()


async def work(url: str, concurrency: int) -> None:
    """What a worker process does."""
    loop = asyncio.get_running_loop()
    # What is imported when it is first needed is here from the beginning.
    async with make_app("memory://") as app, working(Worker(app)):
        await (await app.enqueue("steps", 3)).result()
    async with make_app(url) as app:
        await app.log()
        print("ready", flush=True)
        if not await loop.run_in_executor(None, sys.stdin.readline):
            return
        before = time.process_time()
        async with working(Worker(app, concurrency=concurrency)):
            await loop.run_in_executor(None, sys.stdin.readline)
            print(json.dumps(time.process_time() - before), flush=True)


@contextmanager
def postgres_url() -> Iterator[str]:
    """The URL of a log that is not there yet, on the server of the tests; its schema is dropped afterwards."""
    import psycopg

    from postgres import fresh_url, shared

    url = fresh_url(shared().owner)
    try:
        yield url
    finally:
        address, schema = url.split("schema=")
        with psycopg.connect(address.rstrip("?&"), autocommit=True) as connection:
            connection.execute(f'DROP SCHEMA IF EXISTS "{schema}" CASCADE')


if __name__ == "__main__":
    asyncio.run(work(sys.argv[1], int(sys.argv[2])))
