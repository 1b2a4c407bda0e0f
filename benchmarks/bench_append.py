"""How much of raw SQLite's durable commit rate is left when 1, 16 and 256 tasks append events?

Raw is the sqlite3 module alone: WAL, synchronous=FULL, the bare table of events without index,
trigger, hash or thread, rows made beforehand, one row in a commit or a hundred. Each appender
awaits one event's acknowledgement before it sends the next, to a stream of its own.

Answer, on two quiet cores (fdatasync 0.2 ms): one appender reaches 0.5 of one-row commits, for each
append wakes two threads in turn (0.1 ms there) and touches three pages where raw touches two. Sixteen
make 2 to 4 times as many events as one-row commits. 256 reach 0.26, a hundred events in one append 0.5
of hundred-row commits: per event a third goes to Python (check, entry, two hashes, task), a third to an
index, the trigger and the head of the stream, a third is the raw row.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import tempfile
import time
from contextlib import aclosing
from pathlib import Path

from evrt.log import Append, Draft, Exact, open_log
from evrt.log.ids import new_event_id
from harness import Bench, Case, Ratio

META = b'{"run":"run-aaaaaaaaaaaaaaaa","epoch":0,"actor":"worker","causation":"018f0000-0000-7000-8000-000000000000"}'
PAYLOAD = b'{"operation":"search#2","value":"' + b"x" * 160 + b'"}'


def raw(rows: int, seconds: float) -> float:
    with tempfile.TemporaryDirectory() as folder:
        connection = sqlite3.connect(Path(folder) / "raw.db", isolation_level=None)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(
            "CREATE TABLE events (position INTEGER PRIMARY KEY, event_id BLOB, time INTEGER, stream INTEGER, "
            "version INTEGER, type TEXT, correlation INTEGER, meta BLOB, payload_length INTEGER, "
            "payload_digest BLOB, leaf BLOB, salt BLOB, payload BLOB) STRICT"
        )
        digest = os.urandom(32)
        batch = [
            (
                None,
                digest[:16],
                1,
                1,
                1,
                "tool_call.completed",
                1,
                META,
                len(PAYLOAD),
                digest,
                digest,
                digest,
                PAYLOAD,
            )
        ] * rows
        count = 0
        start = time.perf_counter()
        while time.perf_counter() - start < seconds:
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany("INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", batch)
            connection.execute("COMMIT")
            count += rows
        rate = count / (time.perf_counter() - start)
        connection.close()
        return rate


def evrt(appenders: int, seconds: float) -> float:
    with tempfile.TemporaryDirectory() as folder:
        return asyncio.run(appending(f"sqlite:///{folder}/evrt.db", appenders, seconds))


async def appending(url: str, appenders: int, seconds: float) -> float:
    async with aclosing(await open_log(url)) as log:
        until = time.perf_counter() + seconds

        async def appender(number: int) -> int:
            stream = f"run-{number:016d}"
            version = 0
            while time.perf_counter() < until:
                draft = Draft(stream, "tool_call.completed", new_event_id(), stream, META, PAYLOAD)
                await log.append(Append([draft], {stream: Exact(version)}))
                version += 1
            return version

        start = time.perf_counter()
        counts = await asyncio.gather(*(appender(number) for number in range(appenders)))
        return sum(counts) / (time.perf_counter() - start)


def evrt_batches(events: int, seconds: float) -> float:
    with tempfile.TemporaryDirectory() as folder:
        return asyncio.run(batching(f"sqlite:///{folder}/evrt.db", events, seconds))


async def batching(url: str, events: int, seconds: float) -> float:
    async with aclosing(await open_log(url)) as log:
        stream = "run-aaaaaaaaaaaaaaaa"
        version = 0
        start = time.perf_counter()
        while time.perf_counter() - start < seconds:
            drafts = [
                Draft(stream, "tool_call.completed", new_event_id(), stream, META, PAYLOAD)
                for _ in range(events)
            ]
            await log.append(Append(drafts, {stream: Exact(version)}))
            version += events
        return version / (time.perf_counter() - start)


def main() -> None:
    Bench(__doc__, "events/s").run(
        cases=[
            Case("raw, 1 row per commit", lambda seconds: raw(1, seconds)),
            Case("evrt, 1 appender", lambda seconds: evrt(1, seconds)),
            Case("evrt, 16 appenders", lambda seconds: evrt(16, seconds)),
            Case("raw, 100 rows per commit", lambda seconds: raw(100, seconds)),
            Case("evrt, 256 appenders", lambda seconds: evrt(256, seconds)),
            Case("evrt, 100 events per append", lambda seconds: evrt_batches(100, seconds)),
        ],
        ratios=[
            Ratio("evrt, 1 appender", "raw, 1 row per commit", 0.6),
            Ratio("evrt, 16 appenders", "raw, 1 row per commit"),
            Ratio("evrt, 256 appenders", "raw, 100 rows per commit"),
            Ratio("evrt, 100 events per append", "raw, 100 rows per commit", 0.4),
        ],
    )


if __name__ == "__main__":
    main()
