"""What do queued runs leave behind on PostgreSQL: bytes per event, dead rows and growth of the queue's tables?

A worker process executes empty runs from the queue. Before and after, and with autovacuum off for these tables as
well as with the settings that docs/scaling.md proposes, live and dead rows and sizes are read from the server.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

from evrt.log import open_log
from harness import print_table
from queued import drain, postgres_url

TABLES = ("head", "streams", "events", "queue", "turns", "leases", "keys")
OFF = "ALTER TABLE {table} SET (autovacuum_enabled = off)"
PROPOSED = """
ALTER TABLE {schema}.queue SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
ALTER TABLE {schema}.turns SET (fillfactor = 10);
ALTER TABLE {schema}.head SET (fillfactor = 10);
"""

FIGURES = """
SELECT s.n_dead_tup, s.n_tup_ins, s.n_tup_upd, s.n_tup_hot_upd, s.n_tup_del, s.autovacuum_count,
    pg_table_size(s.relid), pg_indexes_size(s.relid)
FROM pg_stat_user_tables AS s WHERE s.schemaname = %s AND s.relname = %s
"""


def figures(url: str) -> dict[str, tuple[Any, ...]]:
    with connected(url) as (connection, schema):
        found = {}
        for table in TABLES:
            row = connection.execute(FIGURES, (schema, table)).fetchone()
            assert row is not None
            # What the server takes for live rows is wrong where two sessions told of them in another order.
            text: Any = f'SELECT count(*) FROM "{schema}".{table}'
            live = connection.execute(text).fetchone()
            assert live is not None
            found[table] = (live[0], *row)
        return found


@contextmanager
def connected(url: str) -> Iterator[tuple[psycopg.Connection[Any], str]]:
    """A connection of one's own, and the schema of the log."""
    address, schema = url.split("schema=")
    with psycopg.connect(address.rstrip("?&"), autocommit=True) as connection:
        yield connection, schema


async def make(url: str) -> None:
    await (await open_log(url)).aclose()


def set_all(url: str, statements: list[str]) -> None:
    with connected(url) as (connection, schema):
        for statement in statements:
            text: Any = statement.format(schema=f'"{schema}"')
            connection.execute(text)


def measure(title: str, settings: list[str], runs: int, steps: int) -> None:
    with postgres_url() as url:
        asyncio.run(make(url))
        set_all(url, settings)
        drained = asyncio.run(drain(url, workers=1, runs=runs, steps=steps, concurrency=20))
        # The server's sessions tell of what they did at the latest when they end; give the collector a moment.
        asyncio.run(asyncio.sleep(1.5))
        found = figures(url)
    print(f"\n{title}: {runs:,} runs of {steps} steps, {drained.rate:,.0f} runs/s\n")
    rows = [
        [
            "",
            "live",
            "dead",
            "inserts",
            "updates",
            "of them hot",
            "deletes",
            "vacuums",
            "table KiB",
            "indexes KiB",
        ]
    ]
    for table, (*counts, size, indexes) in found.items():
        rows.append(
            [table, *(f"{count:,}" for count in counts), f"{size / 1024:,.0f}", f"{indexes / 1024:,.0f}"]
        )
    print_table(rows)
    events = found["events"][2]
    of_events = sum(found["events"][-2:])
    of_streams = sum(found["streams"][-2:])
    print(
        f"{events:,} events; {of_events / events:,.0f} bytes an event with its indexes, "
        f"{of_streams / found['streams'][2]:,.0f} bytes a stream"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="few runs")
    parser.add_argument("--runs", type=int, default=10_000)
    options = parser.parse_args()
    runs = 300 if options.quick else options.runs
    off = [OFF.format(table="{schema}." + table) for table in ("queue", "turns", "head", "streams")]
    measure("Without any vacuum", off, runs, 0)
    measure("As it comes", [], runs, 0)
    measure("With the settings proposed", [PROPOSED], runs, 0)
    measure("Ten steps in each", [], runs // 10, 10)


if __name__ == "__main__":
    main()
