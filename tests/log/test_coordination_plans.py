"""However long the queue is, what is done often looks only at what it gives: no statement walks over a backlog."""

from __future__ import annotations

import re
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence

import pytest

from evrt.log.claiming import NEWS, Now, left, outlook_statements, renewed
from evrt.log.coordinating import Rows, Statement
from evrt.log.coordination import (
    Change,
    Claimed,
    Enqueue,
    Hold,
    Key,
    Park,
    Pause,
    Rate,
    Remove,
    Tick,
    Unpause,
    Wake,
    Yield,
)
from evrt.log.queue_tables import for_sqlite
from evrt.log.queueing import Claiming, Queue

LATER = 4_000_000_000_000_000
ENTRIES = 10_000

WALKS = re.compile(
    r"SCAN (queue|earlier|other|gone|keys|rates|ticks)\b(?! USING (COVERING )?INDEX queue_claimed)"
)
"""A step that walks over a table. What is claimed may be counted: that many runs are being executed just now."""

CHANGES: list[Change] = [
    Enqueue("run-new", "t0", lane="l5", key=Key("ann", "new"), rate=Rate("r0", 3, 60.0)),
    Hold("run-4", "w0"),
    Park("run-1", "t0", lane="l1"),
    Park("run-other", "t0", lane="l1"),
    Yield("run-2", "t0", lane="l1"),
    Wake("run-3"),
    Pause("run-3"),
    Unpause("run-3"),
    Remove("run-5"),
    Tick("s", 5),
]


class Tables:
    """The tables in memory, and every statement that was executed on them."""

    def __init__(self, entries: int) -> None:
        self.connection = sqlite3.connect(":memory:", isolation_level=None)
        for statement in for_sqlite():
            self.connection.execute(statement)
        self.connection.execute("BEGIN")
        self.queue = queue = Queue(self.ask, self.send)
        begin = Now(1_000, 0, restarts=True)
        for renewal in renewed("w0", 100.0, begin) + renewed("w1", 100.0, begin):
            self.send(renewal)
        for number in range(entries):
            kind = number % 5
            run = f"run-{number}"
            change = Enqueue(
                run,
                f"t{number % 3}",
                number % 4,
                f"l{number % 100}" if kind in (1, 2) else None,
                LATER - number if kind == 3 else None,
                Rate(f"r{number % 50}", 3, 60.0) if number % 7 == 0 else None,
                Key("ann", run),
            )
            queue.make(queue.decide([change], begin), lambda _, place=number: place, begin)  # type: ignore[misc]
        self.connection.execute(
            "UPDATE queue SET state = 'claimed', worker = 'w0' WHERE run IN "
            "(SELECT run FROM queue WHERE state = 'ready' ORDER BY place DESC LIMIT 50) OR run = 'run-4'"
        )
        self.connection.execute("COMMIT")
        self.executed: dict[str, Mapping[str, object]] = {}
        self.steps = 0

    def ask(self, statements: Sequence[Statement]) -> list[Rows]:
        if hasattr(self, "executed"):
            self.executed.update(statements)
        return [self.connection.execute(sql, dict(named)).fetchall() for sql, named in statements]

    def send(self, statement: Statement) -> None:
        self.ask([statement])

    def claim(
        self, limit: int, caps: Mapping[str, int | None], most: int | None, steady: int
    ) -> list[Claimed]:
        return self.queue.claim(Claiming("w1", caps, limit, most), Now(2_000, steady, restarts=True))

    def count_steps(self) -> None:
        """Count what SQLite does from now on, in hundreds of its steps."""

        def step() -> None:
            self.steps += 1

        self.connection.set_progress_handler(step, 100)


@pytest.fixture(scope="module")
def tables() -> Iterator[Tables]:
    made = Tables(ENTRIES)
    yield made
    made.connection.close()


def use(tables: Tables) -> None:
    """Everything that is done often."""
    now = Now(2_000, 60_000_000, restarts=True)
    tables.queue.begin()
    tables.queue.make(tables.queue.decide(CHANGES, now), lambda run: 1_000_000, now)
    tables.claim(5, {"t0": None, "t1": 60, "t2": 0}, 500, 50_000_000)
    tables.claim(30, {"t0": None, "t1": None, "t2": 70}, 500, 50_000_000)
    tables.send(Statement(NEWS, {"worker": "w0"}))
    tables.queue.news("w0")
    for statement in outlook_statements(["t0", "t1", "t2"]) + renewed("w1", 100.0, now):
        tables.send(statement)
    # The other worker's lease has run out: all it had is there for the taking.
    tables.claim(5, {"t0": None}, None, 150_000_000)
    for statement in left("w1"):
        tables.send(statement)


def test_a_claim_costs_the_same_however_long_the_queue_is(tables: Tables) -> None:
    few = Tables(ENTRIES // 10)
    for queue in (few, tables):
        queue.count_steps()
        for number in range(20):
            queue.claim(2, {"t0": None, "t1": 60, "t2": 1}, 400, 50_000_000 + number)
        queue.connection.set_progress_handler(None, 0)
    few.connection.close()
    # Trees grow by a level. A claim that walked over a backlog would take ten times the steps.
    assert tables.steps <= 1.5 * few.steps, (few.steps, tables.steps)


def test_every_statement_finds_what_it_needs_by_an_index(tables: Tables) -> None:
    use(tables)
    assert len(tables.executed) > 25
    for sql, parameters in tables.executed.items():
        plan = tables.connection.execute(f"EXPLAIN QUERY PLAN {sql}", dict(parameters)).fetchall()
        for *_, step in plan:
            assert not WALKS.match(step), f"{step}: {sql}"
            if "ORDER BY" in sql and sql.startswith("SELECT * FROM (SELECT run"):
                assert "USE TEMP B-TREE" not in step, f"{step}: {sql}"


@pytest.mark.soak
def test_a_hundred_thousand_entries_wait_and_a_claim_is_as_cheap() -> None:
    """Prints what a claim costs; see docs on figures."""
    for entries in (ENTRIES, 10 * ENTRIES):
        tables = Tables(entries)
        times = []
        for number in range(500):
            begun = time.process_time()
            tables.connection.execute("BEGIN")
            tables.claim(10, {"t0": None, "t1": None, "t2": None}, None, 50_000_000 + number)
            tables.connection.execute("COMMIT")
            times.append(time.process_time() - begun)
        times.sort()
        print(
            f"{entries} entries: a claim of 10 takes {times[250] * 1e6:.0f} µs, p99 {times[494] * 1e6:.0f} µs"
        )
        tables.executed.clear()
        use(tables)
        for sql, parameters in tables.executed.items():
            for *_, step in tables.connection.execute(f"EXPLAIN QUERY PLAN {sql}", dict(parameters)):
                assert not WALKS.match(step), f"{step}: {sql}"
        tables.connection.close()
