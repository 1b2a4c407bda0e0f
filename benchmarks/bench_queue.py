"""How many empty runs per second go through the queue, from request to end, and what of it is a raw commit?

Each run is requested (an event, an entry and its place), given to a worker, claimed in the log under Hold, and ended:
three appends and its share of a claim of ten. 32 are under way at once. Raw is one row in one durable commit.
PostgreSQL is measured where EVRT_TEST_POSTGRES names a server. What a claim takes is printed at the end.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import statistics
import sys
import tempfile
import time
from contextlib import aclosing
from itertools import count
from pathlib import Path
from uuid import uuid4

from evrt.log import NEW, Append, Claim, Draft, Fence, Log, open_log
from evrt.log.coordination import Change, Enqueue, Hold, Remove
from evrt.log.ids import new_event_id
from harness import Bench, Case, Ratio
from queued import drain

UNDER_WAY = 32
RUNS_A_SECOND = 500
"""What two worker processes are given to work off, for each second that a sample may take."""
WORKER = "bench:1:a"

claims: dict[str, list[float]] = {}
"""How long each claim took, by store."""


def event(run: str, kind: str, epoch: int | None = None) -> Draft:
    meta = b"{}" if epoch is None else b'{"epoch":%d}' % epoch
    return Draft(run, kind, new_event_id(), run, meta, b"{}")


async def through(log: Log, store: str, seconds: float) -> float:
    """Runs per second that were requested and ended."""
    queue = log.coordination
    await queue.renew(WORKER, seconds=1_000)
    until = time.perf_counter() + seconds
    # Runs of earlier rounds are in the log already.
    numbers = count(await log.position())
    waiting: dict[str, asyncio.Event] = {}
    ended = 0

    async def one() -> None:
        nonlocal ended
        while time.perf_counter() < until:
            run = f"run-{next(numbers)}"
            given = waiting[run] = asyncio.Event()
            await log.append(Append([event(run, "a")], {run: NEW}, beside=[Enqueue(run, "t")]))
            await given.wait()
            hold: list[Change] = [Hold(run, WORKER)]
            await log.append(Append([event(run, "b", 1)], {run: Claim(1)}, beside=hold))
            await log.append(Append([event(run, "c", 1)], {run: Fence(1)}, beside=[*hold, Remove(run)]))
            ended += 1

    async def give() -> None:
        while True:
            begun = time.perf_counter()
            for run, *_ in await queue.claim(WORKER, targets={"t": None}, limit=10):
                waiting.pop(run).set()
            claims.setdefault(store, []).append(time.perf_counter() - begun)

    giving = asyncio.create_task(give())
    begun = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(UNDER_WAY)))
    rate = ended / (time.perf_counter() - begun)
    giving.cancel()
    await asyncio.wait([giving])
    return rate


def evrt(store: str, url: str, seconds: float) -> float:
    async def main() -> float:
        async with aclosing(await open_log(url)) as log:
            return await through(log, store, seconds)

    return asyncio.run(main())


def sqlite(seconds: float) -> float:
    with tempfile.TemporaryDirectory() as folder:
        return evrt("SQLite", f"sqlite:///{folder}/evrt.db", seconds)


def processes(url: str, seconds: float) -> float:
    """Empty runs per second that two worker processes work off, their workflow executed and all."""
    runs = max(int(RUNS_A_SECOND * seconds), 50)
    return asyncio.run(drain(url, workers=2, runs=runs, steps=0, concurrency=20)).rate


def processes_sqlite(seconds: float) -> float:
    with tempfile.TemporaryDirectory() as folder:
        return processes(f"sqlite:///{folder}/evrt.db", seconds)


def raw_sqlite(seconds: float) -> float:
    with tempfile.TemporaryDirectory() as folder:
        connection = sqlite3.connect(Path(folder) / "raw.db", isolation_level=None)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("CREATE TABLE t (a INTEGER PRIMARY KEY, b TEXT)")
        done, begun = 0, time.perf_counter()
        while time.perf_counter() - begun < seconds:
            connection.execute("INSERT INTO t (b) VALUES ('x')")
            done += 1
        rate = done / (time.perf_counter() - begun)
        connection.close()
        return rate


def raw_postgres(server: str, seconds: float) -> float:
    import psycopg

    with psycopg.connect(server, autocommit=True) as connection:
        table = f"raw_{uuid4().hex}"
        connection.execute(f"CREATE TABLE {table} (a serial PRIMARY KEY, b text)")
        done, begun = 0, time.perf_counter()
        while time.perf_counter() - begun < seconds:
            connection.execute(f"INSERT INTO {table} (b) VALUES ('x')")
            done += 1
        rate = done / (time.perf_counter() - begun)
        connection.execute(f"DROP TABLE {table}")
        return rate


def main() -> None:
    cases = [Case("raw SQLite, 1 row per commit", raw_sqlite), Case("evrt on SQLite", sqlite)]
    cases.append(Case("two workers on SQLite", processes_sqlite))
    ratios = [
        Ratio(case, "raw SQLite, 1 row per commit") for case in ("evrt on SQLite", "two workers on SQLite")
    ]
    server = os.environ.get("EVRT_TEST_POSTGRES")
    if server:
        url = f"{server}{'&' if '?' in server else '?'}schema=bench_{uuid4().hex[:8]}"
        cases += [
            Case("raw PostgreSQL, 1 row per commit", lambda seconds: raw_postgres(server, seconds)),
            Case("evrt on PostgreSQL", lambda seconds: evrt("PostgreSQL", url, seconds)),
            Case("two workers on PostgreSQL", lambda seconds: processes(f"{url}_w", seconds)),
        ]
        ratios += [
            Ratio(case, "raw PostgreSQL, 1 row per commit")
            for case in ("evrt on PostgreSQL", "two workers on PostgreSQL")
        ]
    Bench(__doc__, "runs/s").run(cases=cases, ratios=ratios)
    for store, times in claims.items():
        p99 = statistics.quantiles(times, n=100)[98] if len(times) > 1 else times[0]
        told = f"a claim of up to 10 takes {statistics.median(times) * 1e3:.2f} ms, p99 {p99 * 1e3:.2f} ms"
        print(f"{store}: {told}", file=sys.stderr)


if __name__ == "__main__":
    main()
