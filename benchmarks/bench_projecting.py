"""How many events of a log go into SQLite views in a second, and how many does the eventsourcing library's runner take?

The log is that of agents at work, fifty runs at once: model calls, tool calls, memory, conversations. Reading and
decoding is the floor that every view stands on; then the fold of runs alone, on events that are decoded already; then
views in a file of their own: that of runs, and all that are installed, over one read of the log. The baseline is
ProjectionRunner of the eventsourcing library on a log of the same kind, which counts events into one SQLite table.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import tempfile
import time
from collections.abc import Iterable
from contextlib import aclosing
from pathlib import Path
from uuid import UUID

from eventsourcing.application import Application
from eventsourcing.domain import Aggregate
from eventsourcing.persistence import Tracking
from eventsourcing.projection import Projection as LibraryProjection
from eventsourcing.projection import ProjectionRunner
from eventsourcing.sqlite import SQLiteCursor, SQLiteDatastore, SQLiteTrackingRecorder
from eventsourcing.utils import get_topic

from evrt.events import Envelope
from evrt.folds.run import RunState, evolve_run
from evrt.log import open_log
from evrt.log.envelopes import Row
from evrt.projector.files import FileReader, open_file
from evrt.projector.registry import projections
from evrt.projector.views import Views
from harness import Bench, Case, Ratio
from projecting import fill

EVENTS = 50_000
EVENTS_QUICK = 4_000
LIBRARY_EVENTS = 4_000


class Ours:
    """One log, read again and again; its views are thrown away before each sample."""

    def __init__(self, folder: Path, events: int) -> None:
        self._file = folder / "evrt.db"
        self._url = f"sqlite:///{self._file}"
        self.events = asyncio.run(fill(self._url, events))
        self._decoded = asyncio.run(self._decode())

    async def _decode(self) -> list[Envelope]:
        async with aclosing(await open_log(self._url)) as log:
            found: list[Envelope] = []
            while rows := await log.read(after=found[-1].position if found else 0):
                found.extend(Row(row).envelope for row in rows)
            return found

    def read(self, seconds: float) -> float:
        return asyncio.run(self._read())

    async def _read(self) -> float:
        async with aclosing(await open_log(self._url)) as log:
            start, after = time.perf_counter(), 0
            while rows := await log.read(after=after):
                for row in rows:
                    Row(row).envelope  # noqa: B018  # Which decodes it.
                after = rows[-1].position
            return self.events / (time.perf_counter() - start)

    def fold_runs(self, seconds: float) -> float:
        states: dict[str, RunState] = {}
        chosen = [envelope for envelope in self._decoded if envelope.stream.startswith("run-")]
        start = time.perf_counter()
        for envelope in chosen:
            run = envelope.stream
            states[run] = evolve_run(states.get(run) or RunState(run=run), envelope)
        return len(chosen) / (time.perf_counter() - start)

    def views(self, names: Iterable[str]) -> float:
        for file in self._file.parent.glob("evrt.db-views*"):
            file.unlink()
        return asyncio.run(self._project(set(names)))

    async def _project(self, names: set[str]) -> float:
        async with aclosing(await open_log(self._url)) as log:
            chosen = {name: projection for name, projection in projections().items() if name in names}
            store = await open_file(f"{self._file}-views", log.id)
            reader = FileReader(store.place)
            async with aclosing(Views(log, store, reader, chosen, None)) as views:
                start = time.perf_counter()
                await views.wait_for(self.events, timeout_seconds=None)
                return self.events / (time.perf_counter() - start)


class Counters(SQLiteTrackingRecorder):
    """The library's view: how many events there were of each kind, beside how far it has come."""

    def __init__(self, datastore: SQLiteDatastore, **settings: object) -> None:
        super().__init__(datastore, **settings)
        self.create_table_statements.append(
            "CREATE TABLE IF NOT EXISTS counters (name TEXT PRIMARY KEY, counted INTEGER)"
        )

    def count(self, name: str, tracking: Tracking) -> None:
        cursor: SQLiteCursor
        with self.datastore.transaction(commit=True) as cursor:
            cursor.execute(
                "INSERT INTO counters VALUES (?, 1) ON CONFLICT (name) DO UPDATE SET counted = counted + 1",
                (name,),
            )
            self._insert_tracking(cursor, tracking)


class Counting(LibraryProjection[Counters]):
    name = "counting"
    topics = (get_topic(Aggregate.Created), get_topic(Aggregate.Event))

    def process_event(self, event: object, tracking: Tracking) -> None:
        self.view.count(type(event).__name__, tracking)


class Library:
    """An application of the library on a log of evrt, and its runner with a view in the library's own SQLite."""

    def __init__(self, folder: Path, events: int) -> None:
        self._folder = folder
        self._events = events
        self._samples = 0
        self._upstream = {
            "PERSISTENCE_MODULE": "evrt.log.sqlite",
            "SQLITE_DBNAME": str(folder / "library.db"),
            "SQLITE_LOCK_TIMEOUT": "30",
        }
        application = Application[UUID](self._upstream)
        for _ in range(events // 100):
            aggregate = Aggregate()
            for _ in range(99):
                aggregate.trigger_event(Aggregate.Event)
            application.save(aggregate)
        application.close()

    def runner(self, seconds: float) -> float:
        self._samples += 1
        env = {
            **self._upstream,
            "COUNTING_PERSISTENCE_MODULE": "eventsourcing.sqlite",
            "COUNTING_SQLITE_DBNAME": str(self._folder / f"counters-{self._samples}.db"),
        }
        start = time.perf_counter()
        with ProjectionRunner(
            application_class=Application[UUID], projection_class=Counting, view_class=Counters, env=env
        ) as runner:
            runner.wait(self._events, timeout=120)
        return self._events / (time.perf_counter() - start)


def main() -> None:
    bench = Bench(__doc__, "events/s")
    with tempfile.TemporaryDirectory() as folder:
        ours = Ours(Path(folder), EVENTS_QUICK if bench.quick else EVENTS)
        library = Library(Path(folder), LIBRARY_EVENTS // (10 if bench.quick else 1))
        # What has been made ready is not to be looked through for garbage in the samples.
        gc.freeze()
        print(f"{ours.events:,} events, {len(projections())} projections", file=sys.stderr)
        bench.run(
            cases=[
                Case("ProjectionRunner", library.runner),
                Case("read and decode", ours.read),
                Case("fold runs, decoded", ours.fold_runs),
                Case("view of runs", lambda seconds: ours.views(["runs"])),
                Case("all views", lambda seconds: ours.views(projections())),
            ],
            ratios=[
                Ratio("view of runs", "ProjectionRunner"),
                Ratio("all views", "ProjectionRunner"),
                Ratio("view of runs", "read and decode"),
                Ratio("all views", "read and decode"),
            ],
        )


if __name__ == "__main__":
    main()
