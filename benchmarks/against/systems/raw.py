"""The baseline: the sqlite3 module alone, WAL and synchronous=FULL, one row for a step.

One after another is a commit for each row; fifty at once is a commit for each fifty rows, which is the
best that anybody sharing commits could do with SQLite.
"""

from __future__ import annotations

import json
import sqlite3
import time

from against.systems.worker import RUNS, Sample, Task, checkpointed_bytes, count, die, serve, text

FILE = "raw.db"


def opened(task: Task) -> sqlite3.Connection:
    connection = sqlite3.connect(task.folder / FILE, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("CREATE TABLE steps (run INTEGER, step INTEGER, result TEXT, PRIMARY KEY (run, step))")
    return connection


def insert(connection: sqlite3.Connection, runs: int, step: int) -> None:
    """One step of each run, in one commit."""
    connection.execute("BEGIN IMMEDIATE")
    connection.executemany(
        "INSERT INTO steps VALUES (?, ?, ?)", [(run, step, json.dumps(text(step))) for run in range(runs)]
    )
    connection.execute("COMMIT")


def rate(task: Task, runs: int) -> Sample:
    connection = opened(task)
    step = 0
    start = time.perf_counter()
    while time.perf_counter() - start < task.seconds:
        insert(connection, runs, step)
        step += 1
    spent = time.perf_counter() - start
    connection.close()
    return Sample(step * runs / spent, step * runs, stored(task))


def prepare(task: Task) -> None:
    connection = opened(task)
    for step in range(task.steps):
        insert(connection, 1, step)
    die()


def stored(task: Task) -> int:
    return count(sqlite3, task.folder / FILE, "SELECT count(*) FROM steps")


def fold(task: Task) -> Sample:
    """Rows read and decoded: what any fold has to do first."""
    connection = sqlite3.connect(task.folder / FILE)
    read, rows = 0, list[tuple[str]]()
    start = time.perf_counter()
    while time.perf_counter() - start < task.seconds:
        rows = connection.execute("SELECT result FROM steps WHERE run = 0 ORDER BY step").fetchall()
        state = [json.loads(result) for (result,) in rows]
        read += len(state)
    return Sample(read / (time.perf_counter() - start), task.steps, len(rows))


def size(task: Task) -> Sample:
    return Sample(checkpointed_bytes(sqlite3, task.folder / FILE), task.steps, stored(task))


if __name__ == "__main__":
    serve(
        {
            "prepare": prepare,
            "steps": lambda task: rate(task, 1),
            "many": lambda task: rate(task, RUNS),
            "fold": fold,
            "bytes": size,
        },
        [],
        sqlite=sqlite3.sqlite_version,
    )
