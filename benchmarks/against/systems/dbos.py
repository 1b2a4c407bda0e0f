"""DBOS: a step is a function under ``@DBOS.step``, its outcome one commit after it.

As it comes, DBOS keeps SQLite's rollback journal and twenty connections. The variant ``tuned`` is the fastest
setting found that is as durable: the file put into WAL mode beforehand, and one connection, so that nobody
waits for a lock in SQLite's own sleep. Synchronous functions are taken for both; they were the faster ones.

The variant ``postgres`` is DBOS as it comes on the server and in the schema that AGAINST_POSTGRES names, for
``steps`` and ``many`` only; see bench_postgres_steps.py.
"""

from __future__ import annotations

import os
import sqlite3
import sys
import time
from typing import Any

if sqlite3.sqlite_version_info < (3, 42):
    # DBOS asks for functions of SQLite 3.42; SQLAlchemy has to find the newer one under the usual name.
    import pysqlite3

    sys.modules["sqlite3"] = pysqlite3
    sys.modules["sqlite3.dbapi2"] = pysqlite3.dbapi2
    sqlite3 = pysqlite3

from dbos import DBOS, SetWorkflowID

from against.systems.worker import (
    RUNS,
    WARM_SECONDS,
    Sample,
    Task,
    checkpointed_bytes,
    count,
    die,
    now,
    serve,
    text,
)

FILE = "dbos.sqlite"
RUN = "the-run"
STEPS_STORED = "SELECT count(*) FROM operation_outputs WHERE function_name LIKE '%look%'"


class Seen:
    """What the functions below tell the worker, and it them: workflows have to be plain functions."""

    crash = False
    began_at = 0.0
    live_at = 0.0


@DBOS.step()
def look(n: int) -> str:
    return text(n)


@DBOS.step()
def mark() -> None:
    """The first live step: where the process dies the first time."""
    if Seen.crash:
        die()
    Seen.live_at = now()


@DBOS.workflow()
def for_a_while(until: float) -> int:
    done = 0
    while now() < until:
        look(done)
        done += 1
    return done


@DBOS.workflow()
def so_many(steps: int) -> None:
    Seen.began_at = now()
    for n in range(steps):
        look(n)
    mark()


def server() -> tuple[str, str]:
    """The address of the PostgreSQL server, and the schema to keep everything in."""
    address, schema = os.environ["AGAINST_POSTGRES"].split("schema=")
    return address.rstrip("?&"), schema


def launch(task: Task) -> None:
    config: dict[str, Any] = {
        "name": "against",
        "system_database_url": f"sqlite:///{task.folder / FILE}",
        "log_level": "ERROR",
        "run_admin_server": False,
    }
    if task.variant == "tuned":
        config["sys_db_pool_size"] = 1
        connection = sqlite3.connect(task.folder / FILE)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.close()
    if task.variant == "postgres":
        config["system_database_url"], config["dbos_system_schema"] = server()
    DBOS(config=config)
    DBOS.launch()


def stored(task: Task) -> int:
    if task.variant != "postgres":
        return count(sqlite3, task.folder / FILE, STEPS_STORED)
    import psycopg

    address, schema = server()
    with psycopg.connect(address, options=f"-csearch_path={schema}") as connection:
        [(found,)] = connection.execute(STEPS_STORED).fetchall()
        return int(found)


def rate(task: Task, runs: int) -> Sample:
    launch(task)
    warmed = for_a_while(now() + WARM_SECONDS)
    start = now()
    until = start + task.seconds
    if runs == 1:
        steps = for_a_while(until)
    else:
        handles = [DBOS.start_workflow(for_a_while, until) for _ in range(runs)]
        steps = sum(handle.get_result() for handle in handles)
    spent = now() - start
    return Sample(steps / spent, steps, stored(task) - warmed)


def prepare(task: Task) -> None:
    Seen.crash = True
    launch(task)
    with SetWorkflowID(RUN):
        so_many(task.steps)


def resume(task: Task) -> Sample:
    """From the launch, which finds the run by itself, to the first live step."""
    start = now()
    launch(task)
    while not Seen.live_at:
        time.sleep(0.001)
    replayed = 1_000 * (Seen.live_at - Seen.began_at)
    return Sample(1_000 * (Seen.live_at - start), task.steps, stored(task), {"ms of it replay": replayed})


def states(task: Task) -> Sample:
    """After each step: the outputs so far, read once. DBOS keeps no other state of a workflow."""
    launch(task)
    start = now()
    outputs = [step["output"] for step in DBOS.list_workflow_steps(RUN)]
    kept = [tuple(outputs[:number]) for number in range(1, task.steps + 1)]
    spent = now() - start
    assert kept[-1] == tuple(text(n) for n in range(task.steps))
    return Sample(spent, task.steps, len(kept))


def kept(task: Task) -> Sample:
    found = stored(task)
    return Sample(found, task.steps, found)


def size(task: Task) -> Sample:
    return Sample(checkpointed_bytes(sqlite3, task.folder / FILE), task.steps, stored(task))


if __name__ == "__main__":
    serve(
        {
            "prepare": prepare,
            "crash": prepare,
            "steps": lambda task: rate(task, 1),
            "many": lambda task: rate(task, RUNS),
            "resume": resume,
            "states": states,
            "kept": kept,
            "bytes": size,
        },
        ["dbos"],
        sqlite=sqlite3.sqlite_version,
    )
