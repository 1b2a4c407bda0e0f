"""However long the queue on PostgreSQL is, what is done often is found by an index: nothing walks over a backlog."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager
from typing import Any

import psycopg
import pytest

from evrt.log import open_log
from evrt.log.claiming import NEWS, Now, left, outlook_statements, renewed
from evrt.log.coordinating import Rows, Statement
from evrt.log.postgres.address import parse_postgres_url
from evrt.log.postgres.connect import connect_writing
from evrt.log.postgres.queueing import to_postgres
from evrt.log.postgres.schema import named
from evrt.log.queueing import Claiming, Queue
from log.test_coordination_plans import CHANGES, LATER
from log.test_postgres_plans import touched
from postgres import passing_url

ENTRIES = 10_000
TABLES = ("queue", "keys", "rates", "ticks")
CLAIMED = 50
ROWS_MAX = 500
"""What one statement may touch, whatever the number of entries. What is claimed may be counted."""

FILL = """
INSERT INTO @.queue (run, state, target, priority, place, lane, due, worker, news)
SELECT
    'run-' || n,
    CASE WHEN n %% 5 = 3 THEN 'delayed' WHEN n %% 5 = 4 AND n <= 5 * %(claimed)s THEN 'claimed' ELSE 'ready' END,
    't' || n %% 3, n %% 4, n,
    CASE WHEN n %% 5 IN (1, 2) THEN 'l' || n %% 100 END,
    CASE WHEN n %% 5 = 3 THEN %(later)s - n END,
    CASE WHEN n %% 5 = 4 AND n <= 5 * %(claimed)s THEN 'w0' END,
    0
FROM generate_series(1, %(entries)s) AS n
"""

FILL_KEYS = (
    "INSERT INTO @.keys SELECT 'ann', 'run-' || n, 'run-' || n FROM generate_series(1, %(entries)s) AS n"
)

FILL_RATES = """
INSERT INTO @.rates (run, key, begins, later, counts_until)
SELECT 'run-' || n, 'r' || n %% 50, n * 1000000::bigint, 0, %(later)s
FROM generate_series(1, %(entries)s, 7) AS n
"""


class Tables:
    """The queue of a log in a transaction of its own, and what each statement touched."""

    def __init__(self, connection: psycopg.Connection[Any], schema: str) -> None:
        self._connection = connection
        self._schema = schema
        self.queue = Queue(self.ask, self.send)
        self.plans: dict[str, dict[str, Any]] = {}

    def execute(self, sql: str, parameters: Mapping[str, object] | None = None) -> Any:
        text: Any = named(sql, self._schema)
        return self._connection.execute(text, parameters)

    def ask(self, statements: Sequence[Statement]) -> list[Rows]:
        answers: list[Rows] = []
        for statement in statements:
            sql, parameters = to_postgres(statement)
            with self._connection.transaction(force_rollback=True):
                [(plan,)] = self.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {sql}", parameters).fetchall()
            self.plans[statement.sql] = plan[0]["Plan"]
            cursor = self.execute(sql, parameters)
            answers.append(cursor.fetchall() if cursor.description is not None else [])
        return answers

    def send(self, statement: Statement) -> None:
        self.ask([statement])


@contextmanager
def filled(entries: int) -> Iterator[Tables]:
    """A queue of so many entries of which nobody has counted the rows."""

    async def make(url: str) -> None:
        async with aclosing(await open_log(url)):
            pass

    with passing_url() as url:
        asyncio.run(make(url))
        address = parse_postgres_url(url)
        with connect_writing(address, lock_timeout_seconds=30) as connection:
            connection.execute("BEGIN")
            tables = Tables(connection, address.quoted_schema)
            much: dict[str, object] = {"entries": entries, "later": LATER, "claimed": CLAIMED}
            for sql in (FILL, FILL_KEYS, FILL_RATES):
                tables.execute(sql, {name: value for name, value in much.items() if f"%({name})s" in sql})
            yield tables
            connection.execute("ROLLBACK")


def use(tables: Tables) -> None:
    """Everything that is done often."""
    begin = Now(1_000, 0, restarts=False)
    now = Now(2_000, 60_000_000, restarts=False)
    for statement in renewed("w0", 100.0, begin) + renewed("w1", 100.0, begin):
        tables.send(statement)
    tables.queue.begin()
    tables.queue.make(tables.queue.decide(CHANGES, now), lambda run: 1_000_000, now)
    claim(tables, 5, {"t0": None, "t1": 60, "t2": 0}, 50_000_000)
    claim(tables, 30, {"t0": None, "t1": None, "t2": 70}, 50_000_000)
    tables.send(Statement(NEWS, {"worker": "w0"}))
    tables.queue.news("w0")
    for statement in outlook_statements(["t0", "t1", "t2"]) + renewed("w1", 100.0, now):
        tables.send(statement)
    # The other worker's lease has run out: all it had is there for the taking.
    claim(tables, 5, {"t0": None}, 150_000_000)
    for statement in left("w1"):
        tables.send(statement)


def claim(tables: Tables, limit: int, caps: Mapping[str, int | None], steady: int) -> None:
    tables.queue.claim(Claiming("w1", caps, limit, 500), Now(2_000, steady, restarts=False))


def walks(tables: Tables) -> list[str]:
    """The statements that read a table whole, or touch more than what they are about."""
    found: list[str] = []
    for sql, plan in tables.plans.items():
        steps = [step for step in touched(plan) if step[1] in TABLES]
        whole = [table for how, table, _ in steps if how == "Seq Scan"]
        rows = sum(rows for *_, rows in steps)
        if whole or rows > ROWS_MAX:
            found.append(f"{whole} {rows:.0f}: {' '.join(sql.split())}")
    return found


@pytest.mark.parametrize(
    "entries", [ENTRIES, pytest.param(10 * ENTRIES, marks=pytest.mark.soak)], ids=lambda entries: f"{entries}"
)
def test_what_is_done_often_walks_over_no_backlog(entries: int) -> None:
    with filled(entries) as tables:
        use(tables)
        assert len(tables.plans) > 20
        assert walks(tables) == []
