"""How much of PostgreSQL's own commit rate is left when 1, 50 and 256 tasks append events?

Raw is psycopg alone on one connection, to the bare table of events without index, trigger or hash,
rows made beforehand: one row in a commit by an INSERT, or a hundred by COPY. Client and server share
the machine and talk by a socket; the server is the tests' own, and it syncs.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from pathlib import Path

import psycopg

from bench_append import META, PAYLOAD, appending, batching
from harness import Bench, Case, Ratio

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from postgres import fresh_url, shared

COLUMNS = (
    "position bigint, time bigint, stream bigint, version bigint, correlation bigint, payload_length integer, "
    "event_id uuid, type text, meta bytea, payload_digest bytea, leaf bytea, salt bytea, payload bytea"
)
TYPES = [column.split()[1] for column in COLUMNS.split(", ")]


def raw(rows: int, seconds: float) -> float:
    with psycopg.connect(shared().owner, autocommit=True) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS raw_events (" + COLUMNS + ")")
        connection.execute("TRUNCATE raw_events")
        digest = os.urandom(32)
        row = (1, 1, 1, 1, 1, len(PAYLOAD), "018f0000-0000-7000-8000-000000000000", "tool_call.completed")
        batch = [(*row, META, digest, digest, digest, PAYLOAD)] * rows
        count = 0
        start = time.perf_counter()
        while time.perf_counter() - start < seconds:
            if rows == 1:
                connection.execute(
                    "INSERT INTO raw_events VALUES (" + ", ".join(["%s"] * len(TYPES)) + ")", batch[0]
                )
            else:
                with connection.cursor() as cursor, cursor.copy("COPY raw_events FROM STDIN") as copy:
                    for one in batch:
                        copy.write_row(one)
            count += rows
        return count / (time.perf_counter() - start)


def evrt(appenders: int, seconds: float) -> float:
    return asyncio.run(appending(fresh_url(shared().owner), appenders, seconds))


def evrt_batches(events: int, seconds: float) -> float:
    return asyncio.run(batching(fresh_url(shared().owner), events, seconds))


def main() -> None:
    Bench(__doc__, "events/s").run(
        cases=[
            Case("raw, 1 row per commit", lambda seconds: raw(1, seconds)),
            Case("evrt, 1 appender", lambda seconds: evrt(1, seconds)),
            Case("evrt, 50 appenders", lambda seconds: evrt(50, seconds)),
            Case("raw, COPY of 100 rows", lambda seconds: raw(100, seconds)),
            Case("evrt, 256 appenders", lambda seconds: evrt(256, seconds)),
            Case("evrt, 100 events per append", lambda seconds: evrt_batches(100, seconds)),
        ],
        ratios=[
            Ratio("evrt, 1 appender", "raw, 1 row per commit"),
            Ratio("evrt, 50 appenders", "raw, 1 row per commit"),
            Ratio("evrt, 50 appenders", "raw, COPY of 100 rows"),
            Ratio("evrt, 256 appenders", "raw, COPY of 100 rows"),
            Ratio("evrt, 100 events per append", "raw, COPY of 100 rows"),
        ],
    )


if __name__ == "__main__":
    main()
