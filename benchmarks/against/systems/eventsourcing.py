"""The eventsourcing library on its SQLite recorder: a step is an event of an aggregate, saved in a commit.

It records and does not execute, so there is nothing to resume. Fifty at once are fifty threads with an
aggregate each; the library has no commit that several share.
"""

from __future__ import annotations

import copy
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import UUID

from eventsourcing.application import Application
from eventsourcing.domain import Aggregate, event

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

FILE = "eventsourcing.db"
ID = "the-run.id"
STEPS_STORED = "SELECT count(*) FROM stored_events WHERE originator_version > 1"


class Work(Aggregate):
    """All results so far."""

    @event("Started")
    def __init__(self) -> None:
        self.results: list[str] = []

    @event("Looked")
    def look(self, result: str) -> None:
        self.results.append(result)


def opened(task: Task) -> Application[UUID]:
    settings = {
        "PERSISTENCE_MODULE": "eventsourcing.sqlite",
        "SQLITE_DBNAME": str(task.folder / FILE),
        "SQLITE_LOCK_TIMEOUT": "30",
    }
    return Application(settings)


def stored(folder: Path) -> int:
    return count(sqlite3, folder / FILE, STEPS_STORED)


def for_a_while(application: Application[UUID], until: float) -> int:
    work = Work()
    application.save(work)
    done = 0
    while now() < until:
        work.look(text(done))
        application.save(work)
        done += 1
    return done


def rate(task: Task, runs: int) -> Sample:
    application = opened(task)
    warmed = for_a_while(application, now() + WARM_SECONDS)
    start = now()
    with ThreadPoolExecutor(runs) as pool:
        steps = sum(pool.map(lambda _: for_a_while(application, start + task.seconds), range(runs)))
    spent = now() - start
    return Sample(steps / spent, steps, stored(task.folder) - warmed)


def prepare(task: Task) -> None:
    application = opened(task)
    work = Work()
    (task.folder / ID).write_text(str(work.id))
    application.save(work)
    for n in range(task.steps):
        work.look(text(n))
        application.save(work)
    die()


def the_run(task: Task) -> UUID:
    return UUID((task.folder / ID).read_text())


def events_of(application: Application[UUID], run: UUID) -> list[Any]:
    return list(application.events.get(run))


def states(task: Task) -> Sample:
    """After each step: the aggregate as it was, copied, for an aggregate changes in place."""
    application, run = opened(task), the_run(task)
    start = now()
    work, kept = None, []
    for happened in events_of(application, run):
        work = happened.mutate(work)
        kept.append(copy.copy(work))
        kept[-1].results = list(work.results)
    spent = now() - start
    assert kept[-1].results == [text(n) for n in range(task.steps)]
    return Sample(spent, task.steps, len(kept) - 1)


def fold(task: Task) -> Sample:
    """From the file to the aggregate: read, decoded, folded."""
    application, run = opened(task), the_run(task)
    folded = 0
    start = now()
    while now() - start < task.seconds:
        folded += application.repository.get(run).version
    spent = now() - start
    events = events_of(application, run)
    start, work = now(), None
    for happened in events:
        work = happened.mutate(work)
    alone = len(events) / (now() - start)
    return Sample(
        folded / spent, task.steps, stored(task.folder), {"events/s of those decoded already": alone}
    )


def kept(task: Task) -> Sample:
    found = stored(task.folder)
    return Sample(found, task.steps, found)


def size(task: Task) -> Sample:
    return Sample(checkpointed_bytes(sqlite3, task.folder / FILE), task.steps, stored(task.folder))


if __name__ == "__main__":
    serve(
        {
            "prepare": prepare,
            "crash": prepare,
            "steps": lambda task: rate(task, 1),
            "many": lambda task: rate(task, RUNS),
            "states": states,
            "fold": fold,
            "kept": kept,
            "bytes": size,
        },
        ["eventsourcing"],
        sqlite=sqlite3.sqlite_version,
    )
