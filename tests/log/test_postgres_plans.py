"""What a log asks of PostgreSQL is found by an index, however large it has become."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import aclosing, contextmanager
from typing import Any

import psycopg
import pytest

from evrt.log import Append, Log, open_log
from evrt.log.postgres import blobs, store, transaction
from evrt.log.postgres.address import parse_postgres_url
from evrt.log.postgres.connect import connect_writing
from evrt.log.postgres.schema import named
from log.stores import draft
from postgres import fresh_url, shared

EVENTS = 50_000
ROWS_MAX = 700
"""A page of a subscription has 500 rows; nothing here may touch many more."""

REQUEST_EVENTS = 500
STREAMS = 1_000


async def fill(log: Log, events: int) -> None:
    """Events of a thousand runs in twenty conversations; one run goes on for a quarter of the log."""
    for first in range(0, events, REQUEST_EVENTS):
        drafts = [
            draft(
                "run-long" if number % 4 == 0 else f"run-{number % STREAMS}",
                correlation="run-long" if number % 4 == 0 else f"conversation-{number % 20}",
            )
            for number in range(first, first + REQUEST_EVENTS)
        ]
        await log.append(Append(drafts, {}))


ASKED: dict[str, tuple[str, Any]] = {
    "a page": (store.READ, {"after": 30_000, "upto": store.NUMBER_MAX, "limit": 500}),
    "the end": (store.READ, {"after": EVENTS - 10, "upto": store.NUMBER_MAX, "limit": 500}),
    "a stream": (
        store.READ_STREAM,
        {"stream": "run-long", "after": 5_000, "upto": store.NUMBER_MAX, "limit": 500},
    ),
    "a short stream": (
        store.READ_STREAM,
        {"stream": "run-7", "after": -1, "upto": store.NUMBER_MAX, "limit": 1_000},
    ),
    "a correlation": (
        store.READ_CORRELATION,
        {"correlation": "conversation-7", "after": 25_000, "upto": store.NUMBER_MAX, "limit": 200},
    ),
    "a run's own correlation": (
        store.READ_CORRELATION,
        {"correlation": "run-long", "after": 25_000, "upto": store.NUMBER_MAX, "limit": 200},
    ),
    "a correlation up to a position": (
        store.READ_CORRELATION,
        {"correlation": "run-long", "after": 40_000, "upto": 40_100, "limit": 1_000},
    ),
    "the head of a stream": ("SELECT version, leaf, epoch FROM @.streams WHERE name = %s", ("run-7",)),
    "the position": ("SELECT position FROM @.head", ()),
    "the streams of a prefix": (store.STREAMS, ("run-77", "run-77" + store.BEYOND_EVERY_NAME)),
    "a ref": ("SELECT ref FROM @.refs WHERE kind = %s AND external = %s", ("user", b"ann")),
    "an external id": ("SELECT external FROM @.refs WHERE ref = %s", ("user-x",)),
    "a blob": (blobs.FIND, (b"digest",)),
    "a piece of a blob": (blobs.READ_PIECE, (1, 1, b"digest")),
    "heads for an append": (transaction.LOAD, (["run-7", "run-8", "new"],)),
    "the lock": (transaction.LOCK, ()),
}


@contextmanager
def filled(events: int) -> Iterator[psycopg.Connection[Any]]:
    """A connection as the log has it, to a log of so many events of which nobody has counted the rows."""
    url = fresh_url(shared().owner)

    async def make() -> None:
        async with aclosing(await open_log(url)) as log:
            await fill(log, events)

    asyncio.run(make())
    address = parse_postgres_url(url)
    with connect_writing(address, lock_timeout_seconds=30) as connection:
        yield connection
        connection.execute(f"DROP SCHEMA {address.quoted_schema} CASCADE")


@pytest.fixture(scope="module")
def connection() -> Iterator[psycopg.Connection[Any]]:
    with filled(EVENTS) as connection:
        yield connection


def touched(plan: dict[str, Any]) -> Iterator[tuple[str, str, float]]:
    """Each step that reads a table: how, which, and how many rows it has looked at."""
    if "Relation Name" in plan:
        seen = plan["Actual Rows"] + plan.get("Rows Removed by Filter", 0)
        yield plan["Node Type"], plan["Relation Name"], seen * plan["Actual Loops"]
    for part in plan.get("Plans", ()):
        yield from touched(part)


def check_plan(connection: psycopg.Connection[Any], sql: str, parameters: Any, generic: bool) -> None:
    connection.execute(f"SET plan_cache_mode = force_{'generic' if generic else 'custom'}_plan")
    name = connection.execute("SHOW search_path").fetchone()
    assert name is not None
    text: Any = "EXPLAIN (ANALYZE, FORMAT JSON) " + named(sql, str(name[0]).split(",")[0])
    # Prepared, so that it is planned as it is for a session that asks again and again.
    row = connection.execute(text, parameters or None, prepare=True).fetchone()
    assert row is not None
    plan = row[0] if isinstance(row[0], list) else json.loads(row[0])
    steps = list(touched(plan[0]["Plan"]))
    for how, table, _ in steps:
        assert how != "Seq Scan" or table == "head", f"all of {table} is read: {plan}"
    assert sum(rows for *_, rows in steps if rows) <= 4 * ROWS_MAX, plan


@pytest.mark.parametrize("generic", [False, True], ids=["custom", "generic"])
@pytest.mark.parametrize("asked", ASKED)
def test_what_is_asked_often_reads_no_table_whole(
    connection: psycopg.Connection[Any], asked: str, generic: bool
) -> None:
    check_plan(connection, *ASKED[asked], generic)


@pytest.mark.soak
def test_plans_stay_as_they_are_at_a_million_events() -> None:
    with filled(1_000_000) as connection:
        for counted in (False, True):
            if counted:
                connection.execute("ANALYZE")
            for sql, parameters in ASKED.values():
                for generic in (False, True):
                    check_plan(connection, sql, parameters, generic)
