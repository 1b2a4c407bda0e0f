"""Measures the service times that ``simulate.py`` takes, and checks its predictions against real worker processes.

Processor time is read for the thread of the event loop, for the other threads of the process (the writer's, and
readers'), and on Linux for the sessions of a PostgreSQL server on this machine. What of an append's time is none of
these is waiting: for the disk, and for hand-overs.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import ExitStack, aclosing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

from evrt.log import NEW, Append, Claim, Draft, Fence, Log, open_log
from evrt.log.coordination import Enqueue, Hold
from evrt.log.ids import new_event_id
from evrt.worker.worker import Worker, working
from harness import machine, print_table
from queued import drain, enqueue, make_app, postgres_url, until_empty
from simulate import Costs, Plan, simulate

WORKER = "bench:1:a"
MANY = 32
STEPS = 5
CONCURRENCY = 20
SQLITE_HELD = 1 / 3
"""The share of its writer's time in which the interpreter is held; see "What bounds it" in docs/performance.md."""
BATCH = 6
"""Requests in a batch of a worker with 20 runs, roughly: only used to tell reads of the server from writes."""


@dataclass(frozen=True, slots=True)
class Spent:
    """Seconds: of the clock, of the loop's thread, of the other threads, and of the server's sessions."""

    wall: float
    loop: float
    others: float
    server: float

    def per(self, count: float) -> Spent:
        return Spent(self.wall / count, self.loop / count, self.others / count, self.server / count)

    @property
    def waiting(self) -> float:
        return max(self.wall - self.loop - self.others, 0.0)


class Server:
    """Processor time of the sessions that evrt has on a server, where that is on this machine."""

    def __init__(self, url: str) -> None:
        self._connection: Any = None
        if url.startswith("postgresql"):
            import psycopg

            self._connection = psycopg.connect(url.partition("schema=")[0].rstrip("?&"), autocommit=True)

    def cpu_seconds(self) -> float:
        if self._connection is None:
            return 0.0
        rows = self._connection.execute(
            "SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'evrt %%' AND application_name LIKE %s",
            (f"%:{os.getpid()}",),
        )
        return sum(_cpu_seconds(pid) for (pid,) in rows)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()


def _cpu_seconds(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Meter:
    """Reads the clocks, at the beginning of a block and at its end."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def read(self) -> Spent:
        loop = time.thread_time()
        return Spent(time.perf_counter(), loop, time.process_time() - loop, self._server.cpu_seconds())

    def since(self, before: Spent) -> Spent:
        now = self.read()
        return Spent(
            now.wall - before.wall,
            now.loop - before.loop,
            now.others - before.others,
            now.server - before.server,
        )


# ---------------------------------------------------------------------------------------- appends


async def appends(logs: Sequence[Log], meter: Meter, many: int, seconds: float) -> Spent:
    """So many appends at once, as a worker makes them: what one round of them takes.

    ``logs`` are one log, opened once or several times: by turns they write.
    """
    log = logs[0]
    queue = log.coordination
    await queue.renew(WORKER, seconds=1_000)
    runs = [f"run-{uuid4().hex[:16]}" for _ in range(many)]
    await asyncio.gather(
        *(log.append(Append([event(run, None)], {run: NEW}, beside=[Enqueue(run, "t")])) for run in runs)
    )
    while len([1 async for _ in _claimed(log, runs)]) < many:
        await queue.claim(WORKER, targets={"t": None}, limit=many)
    hold = {run: [Hold(run, WORKER)] for run in runs}
    await asyncio.gather(
        *(log.append(Append([event(run, 1)], {run: Claim(1)}, beside=hold[run])) for run in runs)
    )
    walls: list[float] = []
    before = meter.read()
    while time.perf_counter() - before.wall < seconds:
        begun = time.perf_counter()
        one = logs[len(walls) % len(logs)]
        await asyncio.gather(
            *(one.append(Append([event(run, 1)], {run: Fence(1)}, beside=hold[run])) for run in runs)
        )
        walls.append(time.perf_counter() - begun)
    # The median round, for others may use the machine as well.
    return replace(meter.since(before).per(len(walls)), wall=statistics.median(walls))


async def _claimed(log: Log, runs: list[str]) -> AsyncIterator[str]:
    for run in runs:
        entry = await log.coordination.entry(run)
        if entry is not None and entry.worker == WORKER:
            yield run


def event(run: str, epoch: int | None) -> Draft:
    meta = b"{}" if epoch is None else b'{"epoch":%d}' % epoch
    return Draft(run, "measured", new_event_id(), run, meta, b'{"value":"' + b"x" * 160 + b'"}')


# ------------------------------------------------------------------------------------------- runs


async def executed(url: str, meter: Meter, runs: int, steps: int) -> Spent:
    """A worker in this process: what one run takes."""
    async with make_app(url) as app:
        log = await app.log()
        await enqueue(app, CONCURRENCY, steps)
        async with working(Worker(app, concurrency=CONCURRENCY)):
            await until_empty(log)
        await enqueue(app, runs, steps)
        before = meter.read()
        async with working(Worker(app, concurrency=CONCURRENCY)):
            await until_empty(log)
            # Its sessions are still there.
            return meter.since(before).per(runs)


async def measure(url: Callable[[str], str], *, local: bool, quick: bool) -> Costs:
    seconds, runs = (0.3, 200) if quick else (1.5, 600)
    server = Server(url("appends"))
    meter = Meter(server)
    async with (
        aclosing(await open_log(url("appends"))) as log,
        aclosing(await open_log(url("appends"))) as other,
    ):
        one, many = [await appends([log], meter, number, seconds) for number in (1, MANY)]
        by_turns = await appends([log, other], meter, 1, seconds)
    bare = await executed(url("bare"), meter, runs, 0)
    stepping = await executed(url("steps"), meter, runs // 2, STEPS)
    server.close()
    cpu_request = max(many.others - one.others, 0.0) / (MANY - 1)
    cpu_batch = max(one.others - cpu_request, 0.0)
    wait_request = max(many.waiting - one.waiting, 0.0) / (MANY - 1)
    wait_batch = max(one.waiting - wait_request, 0.0)
    handover = max(by_turns.wall - one.wall, 0.0)
    cpu_step = max(stepping.loop - bare.loop, 0.0) / STEPS
    if local:
        free = 1 - SQLITE_HELD
        of_run = 2 * (cpu_request + cpu_batch / BATCH)
        return Costs(
            cpu_run=bare.loop,
            cpu_step=cpu_step,
            cpu_batch=cpu_batch * SQLITE_HELD,
            cpu_request=cpu_request * SQLITE_HELD,
            head_batch=cpu_batch * free,
            head_request=cpu_request * free + wait_request,
            sync=wait_batch,
            handover=handover,
            store_run=max(bare.others - of_run, 0.0),
            local=True,
        )
    head_request = max(many.server - one.server, 0.0) / (MANY - 1) or wait_request
    head_batch = min(max(one.server - head_request, 0.0), wait_batch)
    return Costs(
        cpu_run=bare.loop,
        cpu_step=cpu_step,
        cpu_batch=cpu_batch,
        cpu_request=cpu_request,
        head_batch=head_batch,
        head_request=head_request,
        sync=wait_batch - head_batch,
        handover=handover,
        store_run=max(bare.server - 2 * (head_request + head_batch / BATCH), 0.0),
        local=False,
    )


# ------------------------------------------------------------------------------------------ checks


@contextmanager
def fresh_logs(store: str) -> Iterator[Callable[[str], str]]:
    """A new log for each name."""
    if store == "sqlite":
        with tempfile.TemporaryDirectory() as folder:
            yield lambda name: f"sqlite:///{folder}/{name}.db"
    else:
        with ExitStack() as stack:
            urls: dict[str, str] = {}

            def url_of(name: str) -> str:
                if name not in urls:
                    urls[name] = stack.enter_context(postgres_url())
                return urls[name]

            yield url_of


def measure_and_check(*, quick: bool) -> dict[str, Costs]:
    """Print costs, and for one worker process and two what was predicted and what was measured."""
    print(", ".join(f"{what} {value}" for what, value in machine().items()))
    found: dict[str, Costs] = {}
    rows = [["", "predicted, runs/s", "measured", "ratio", "CPU of the workers, ms a run"]]
    runs = 300 if quick else 1_500
    for store in ("sqlite", "postgres"):
        with fresh_logs(store) as url:
            costs = asyncio.run(measure(url, local=store == "sqlite", quick=quick))
        found[store] = costs
        for steps in (0, STEPS):
            for workers in (1, 2):
                some = runs // (1 + steps // 2)
                plan = Plan(
                    costs,
                    workers=workers,
                    concurrency=CONCURRENCY,
                    cores=os.cpu_count() or 1,
                    steps=steps,
                    runs=some,
                )
                predicted = simulate(plan).runs_per_second
                with fresh_logs(store) as url:
                    real = asyncio.run(
                        drain(
                            url("drained"), workers=workers, runs=some, steps=steps, concurrency=CONCURRENCY
                        )
                    )
                name = f"{store}, {workers} worker{'s' if workers > 1 else ''}, {steps} steps"
                rows.append(
                    [
                        name,
                        f"{predicted:,.0f}",
                        f"{real.rate:,.0f}",
                        f"{predicted / real.rate:.2f}",
                        f"{1_000 * real.cpu_seconds / some:.2f}",
                    ]
                )
                print(name, file=sys.stderr)
    print()
    print_table([["microseconds", *found], *_lines(found)])
    print()
    print_table(rows)
    return found


def _lines(found: dict[str, Costs]) -> list[list[str]]:
    names = [name for name in Costs.__slots__ if name != "local"]
    return [[name, *(f"{getattr(costs, name) * 1e6:,.0f}" for costs in found.values())] for name in names]
