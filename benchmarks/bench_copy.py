"""How much of the rate at which a database takes bare rows is left when a log is copied into it?

A copy builds every event again from its row and compares leaf and payload before it is written, writes the heads of
streams beside it, lets the triggers check both, commits after every two thousand events, then reads all of it back and
builds it again. Raw is the same rows, made beforehand, into the bare table without index, trigger or hash, by INSERT
into SQLite and by COPY into PostgreSQL, as many in a commit. Client and server share the machine.

Answer, on two busy cores: 0.16 into SQLite (22,000 events/s) and 0.12 into PostgreSQL (16,600 events/s). Most of it
is Python: each event is built and hashed on the way in, and once more when it is read back.
"""

from __future__ import annotations

import asyncio
import sqlite3
import sys
import tempfile
import time
from contextlib import aclosing, closing
from functools import cache
from pathlib import Path

import psycopg

from bench_append import META, PAYLOAD
from bench_postgres_log import COLUMNS
from evrt.log import Append, Draft, open_log
from evrt.log.ids import new_event_id
from evrt.moving import BATCH_EVENTS, copy
from harness import Bench, Case, Ratio

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from log.copies import Quiet
from postgres import fresh_url, shared

EVENTS = 20_000
STREAMS = 100


@cache
def source() -> tuple[str, tempfile.TemporaryDirectory[str]]:
    """The URL of a log to copy, and the folder that it is in as long as somebody holds on to it."""
    folder = tempfile.TemporaryDirectory()
    url = f"sqlite:///{folder.name}/source.db"
    asyncio.run(_fill(url))
    return url, folder


async def _fill(url: str) -> None:
    async with aclosing(await open_log(url)) as log:
        for first in range(0, EVENTS, 1_000):
            drafts = [
                Draft(f"run-{n % STREAMS:016d}", "tool_call.completed", new_event_id(), "c-1", META, PAYLOAD)
                for n in range(first, first + 1_000)
            ]
            await log.append(Append(drafts, {}))


@cache
def rows() -> list[tuple[object, ...]]:
    """The rows of that log's events."""
    url, _ = source()
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection:
        return connection.execute(
            "SELECT position, time, stream, version, correlation, payload_length, hex(event_id), type, meta, "
            "payload_digest, leaf, salt, payload FROM events ORDER BY position"
        ).fetchall()


def raw_sqlite(seconds: float) -> float:
    made = rows()
    with (
        tempfile.TemporaryDirectory() as folder,
        closing(sqlite3.connect(f"{folder}/raw.db", isolation_level=None)) as connection,
    ):
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(f"CREATE TABLE events ({', '.join(c.split()[0] for c in COLUMNS.split(', '))})")
        start = time.perf_counter()
        for first in range(0, EVENTS, BATCH_EVENTS):
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(
                f"INSERT INTO events VALUES ({', '.join('?' * 13)})", made[first : first + BATCH_EVENTS]
            )
            connection.execute("COMMIT")
        return EVENTS / (time.perf_counter() - start)


def raw_postgres(seconds: float) -> float:
    made = rows()
    with psycopg.connect(shared().owner, autocommit=True) as connection:
        connection.execute("DROP TABLE IF EXISTS raw_copied")
        connection.execute("CREATE TABLE raw_copied (" + COLUMNS + ")")
        start = time.perf_counter()
        for first in range(0, EVENTS, BATCH_EVENTS):
            with connection.cursor() as cursor, cursor.copy("COPY raw_copied FROM STDIN") as sink:
                for row in made[first : first + BATCH_EVENTS]:
                    sink.write_row(row)
        return EVENTS / (time.perf_counter() - start)


def copying(target: str) -> float:
    url, _ = source()
    start = time.perf_counter()
    copy(url, target, teller=Quiet())
    return EVENTS / (time.perf_counter() - start)


def to_sqlite(seconds: float) -> float:
    source()
    with tempfile.TemporaryDirectory() as folder:
        return copying(f"sqlite:///{folder}/copy.db")


def to_postgres(seconds: float) -> float:
    source()
    return copying(fresh_url(shared().owner))


def main() -> None:
    Bench(__doc__, "events/s").run(
        cases=[
            Case("raw, INSERT into SQLite", raw_sqlite),
            Case("evrt db copy to SQLite", to_sqlite),
            Case("raw, COPY into PostgreSQL", raw_postgres),
            Case("evrt db copy to PostgreSQL", to_postgres),
        ],
        ratios=[
            Ratio("evrt db copy to SQLite", "raw, INSERT into SQLite"),
            Ratio("evrt db copy to PostgreSQL", "raw, COPY into PostgreSQL"),
        ],
    )


if __name__ == "__main__":
    main()
