"""What is measured with whom: systems, measures, and for each empty cell the reason why it is empty."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

STEPS = 1_000
STEPS_QUICK = 200
BASELINE = "raw"
OURS = "evrt"


@dataclass(frozen=True, slots=True)
class System:
    """Somebody who keeps steps, in one setting. Its worker is ``against.systems.<module>``."""

    name: str
    title: str
    setting: str
    variant: str = ""
    module: str = ""
    """The worker's module, and the rival's venv and requirements file; the name where it is empty."""
    durable: bool = True
    """Whether a finished step is on disk before the next one begins."""
    prepares_itself: bool = False
    """Whether a worker brings its store into the state that is looked at, instead of being handed a copy."""

    @property
    def worker(self) -> str:
        return self.module or self.name


@dataclass(frozen=True, slots=True)
class Measure:
    """A question with one figure for each system that can answer it."""

    name: str
    title: str
    unit: str
    short: str
    """Heading of a column, where the title would be too long."""
    more_is_better: bool = True
    worker: str = ""
    """What the worker calls it; the name where it is empty."""
    steps: int | None = None
    """Steps of the run that is looked at; the plan's own number where it is None."""
    prepared: bool = False
    """Whether the worker is handed a copy of a store whose process died in the step after the last."""
    rounds_most: int = 100
    races_the_disk: bool = False
    """Whether it matters here that a system goes on before its last step is on disk."""

    @property
    def asks(self) -> str:
        return self.worker or self.name


SYSTEMS: Sequence[System] = (
    System("raw", "raw sqlite3", "WAL, FULL; a row for a step; with 50 runs, 50 rows in a commit"),
    System("evrt", "evrt", "as it comes: WAL, FULL"),
    System("dbos", "DBOS", "as it comes: rollback journal, FULL, 20 connections"),
    System(
        "dbos-tuned", "DBOS, tuned", "WAL, FULL, 1 connection: the fastest setting found", "tuned", "dbos"
    ),
    System(
        "langgraph",
        "LangGraph",
        'as it comes: WAL, FULL, durability "async": the next step does not wait for the disk',
        durable=False,
    ),
    System("langgraph-sync", "LangGraph, sync", 'WAL, FULL, durability "sync"', "sync", "langgraph"),
    System(
        "langgraph-delta",
        "LangGraph, delta",
        'durability "sync", results in a DeltaChannel (beta)',
        "delta",
        "langgraph",
    ),
    System(
        "langgraph-tasks",
        "LangGraph, tasks",
        "functional API: tasks in an entrypoint, their results written in the background",
        "tasks",
        "langgraph",
        durable=False,
    ),
    System(
        "restate",
        "Restate",
        "as it comes: a server and its own log, synced, 24 partitions",
        prepares_itself=True,
    ),
    System("restate-one", "Restate, 1 part.", "one partition", "one", "restate", prepares_itself=True),
    System("eventsourcing", "eventsourcing", "as it comes: WAL, FULL; an event of an aggregate for a step"),
)

MEASURES: Sequence[Measure] = (
    Measure(
        "steps",
        "Durable steps, one after another",
        "steps/s",
        "one after another, steps/s",
        races_the_disk=True,
    ),
    Measure(
        "many",
        "Durable steps, 50 runs at once",
        "steps/s in all",
        "50 runs at once, steps/s",
        races_the_disk=True,
    ),
    Measure(
        "kept",
        f"Of {STEPS:,} finished steps, on disk after SIGKILL in the next",
        "steps",
        "on disk after SIGKILL, steps",
        prepared=True,
        rounds_most=2,
        races_the_disk=True,
    ),
    Measure(
        "resume",
        f"Resuming after {STEPS:,} steps, to the first live step",
        "ms",
        "resuming, ms",
        False,
        prepared=True,
    ),
    Measure(
        "states",
        f"The state at every one of {STEPS:,} steps",
        "ms",
        "every state, ms",
        False,
        prepared=True,
        rounds_most=3,
    ),
    Measure("fold", "From the file to the state of a run", "events/s", "fold, events/s", prepared=True),
    Measure(
        "bytes@100",
        "Growth of the store, 100 steps",
        "bytes a step",
        "bytes a step, 100 steps",
        False,
        "bytes",
        100,
        True,
        1,
    ),
    Measure(
        "bytes",
        f"Growth of the store, {STEPS:,} steps",
        "bytes a step",
        f"bytes a step, {STEPS:,} steps",
        False,
        prepared=True,
        rounds_most=1,
    ),
)

EMPTY = Measure("bytes@0", "The store without a step", "bytes", "", False, "bytes", 0, True, 1)
"""Taken off before bytes are divided by steps: schemas differ, and are no step's fault."""

SAME = "as above"
NO_RUN = "a table, not a run"
SNAPSHOTS = "keeps snapshots, folds nothing"
RESULTS = "keeps results, folds nothing"

WHY_NOT: dict[tuple[str, str], str] = {
    ("raw", "kept"): NO_RUN,
    ("raw", "resume"): NO_RUN,
    ("raw", "states"): NO_RUN,
    ("dbos", "fold"): RESULTS,
    ("dbos-tuned", "fold"): RESULTS,
    ("dbos-tuned", "kept"): SAME,
    ("dbos-tuned", "states"): SAME,
    ("dbos-tuned", "bytes@100"): SAME,
    ("dbos-tuned", "bytes"): SAME,
    ("langgraph", "fold"): SNAPSHOTS,
    ("langgraph-sync", "fold"): SNAPSHOTS,
    ("langgraph-sync", "resume"): SAME,
    ("langgraph-sync", "states"): SAME,
    ("langgraph-sync", "bytes@100"): SAME,
    ("langgraph-sync", "bytes"): SAME,
    ("langgraph-delta", "steps"): "its setting changes the state only",
    ("langgraph-delta", "many"): "its setting changes the state only",
    ("langgraph-delta", "kept"): "as LangGraph, sync",
    ("langgraph-delta", "fold"): "no call of its own: reading a state folds",
    ("langgraph-tasks", "states"): "a task leaves no state, only its result",
    ("langgraph-tasks", "fold"): RESULTS,
    ("restate", "states"): "a journal of results, no state; asked for by SQL only",
    ("restate", "fold"): "replayed by the server, no fold",
    ("restate-one", "states"): SAME,
    ("restate-one", "fold"): SAME,
    ("restate-one", "kept"): SAME,
    ("restate-one", "resume"): SAME,
    ("restate-one", "bytes@100"): SAME,
    ("restate-one", "bytes"): SAME,
    ("eventsourcing", "resume"): "records events, executes nothing",
}
