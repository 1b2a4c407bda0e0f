"""Checks a log from its first event to its last: what ``evrt db check`` reports.

Everything is computed again: digests, entries, leaves, the chain of every stream, positions,
versions and times, the heads, the epochs, the blobs; and the database is looked at for its triggers and
settings. It reads in pages, as of one moment, writes nothing to the log, and needs no more
memory for a long log than for a short one.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import orjson

from evrt.log.contract import Recorded
from evrt.log.entry import entry_of, leaf_hash, payload_digest
from evrt.log.sqlite.blobs import faults
from evrt.log.sqlite.connect import inspect, read_schema_version
from evrt.log.sqlite.schema import schema_of
from evrt.log.walk import EVENTS, PAGE_EVENTS, Proved, Step, open_file, step

FINDINGS_MAX = 100
"""Findings that are kept; a log with more is damaged beyond listing."""

Progress = Callable[[int, int], None]
"""Called with the number of events checked so far, and of all."""


class Finding(NamedTuple):
    """One thing that is not as it must be; ``position`` is None where it is about no one event."""

    position: int | None
    text: str


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What a check found. ``payload_bytes`` are those still there, ``file_bytes`` those of the database and WAL."""

    log: str
    events: int
    streams: int
    erased: int
    payload_bytes: int
    file_bytes: int
    findings: tuple[Finding, ...]
    findings_left_off: int

    @property
    def ok(self) -> bool:
        return not self.findings


def check(
    url: str, *, progress: Progress | None = None, proved: Callable[[Proved], None] | None = None
) -> CheckReport:
    """Check the SQLite log at this URL. Blocks; run it in a thread where an event loop runs.

    ``proved`` is told of every event in order, its leaf computed again; where no entry can be built
    from a row, the entry is empty.

    Raises UsageError, NotFound, Denied, UnusableLog, Unavailable.
    """
    with open_file(url, "The check could not be finished") as file:
        return _Check(file.connection, file.path, progress, proved, log=file.id).run()


_HEADS = """
SELECT s.id, s.name, s.version, s.leaf, s.epoch, e.leaf,
       (SELECT max(version) FROM events WHERE stream = s.id),
       (SELECT epoch FROM temp.epochs WHERE stream = s.id)
FROM streams AS s
LEFT JOIN events AS e ON e.stream = s.id AND e.version = s.version
WHERE s.id > ? ORDER BY s.id LIMIT ?
"""


@dataclass(slots=True)
class _Check:
    connection: sqlite3.Connection
    path: str
    progress: Progress | None
    proved: Callable[[Proved], None] | None
    log: str
    events: int = 0
    streams: int = 0
    erased: int = 0
    payload_bytes: int = 0
    last_position: int = 0
    last_time: int = 0
    findings: list[Finding] = field(default_factory=list)
    left_off: int = 0

    def run(self) -> CheckReport:
        # Epochs are gathered in a table that goes to a temporary file if it grows.
        self.connection.execute("PRAGMA temp_store = FILE")
        self.connection.execute("CREATE TEMP TABLE epochs (stream INTEGER PRIMARY KEY, epoch INTEGER) STRICT")
        # One transaction: the heads are those of the events that were read.
        self.connection.execute("BEGIN")
        self.database()
        self.all_events()
        self.all_heads()
        self.blobs()
        self.connection.execute("COMMIT")
        return CheckReport(
            log=self.log,
            events=self.events,
            streams=self.streams,
            erased=self.erased,
            payload_bytes=self.payload_bytes,
            file_bytes=sum(os.path.getsize(file) for file in _files(self.path)),
            findings=tuple(self.findings),
            findings_left_off=self.left_off,
        )

    def found(self, position: int | None, text: str) -> None:
        if len(self.findings) < FINDINGS_MAX:
            self.findings.append(Finding(position, text))
        else:
            self.left_off += 1

    # ------------------------------------------------------------------------------ the database

    def database(self) -> None:
        # Asked of the header: a connection to a file that lies still names another mode.
        if inspect(self.path) != "ready":
            self.found(None, "The database is not in WAL mode. Opening the log for writing sets it.")
        for (text,) in self.connection.execute(f"PRAGMA integrity_check({FINDINGS_MAX})"):
            if text != "ok":
                self.found(None, f"SQLite finds the database damaged: {text}.")
        there = {
            sql for (sql,) in self.connection.execute("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL")
        }
        for statement in schema_of(read_schema_version(self.connection)):
            if statement not in there:
                what = " ".join(statement.split("(")[0].split()[1:4]).replace(" BEFORE", "")
                self.found(None, f"The database lacks its {what}, or has another of that name.")
        ours = schema_of(read_schema_version(self.connection))
        for name, sql in self.connection.execute(
            "SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'"
        ):
            if sql not in ours and not any(
                statement.startswith(f"CREATE TRIGGER {name} ") for statement in ours
            ):
                self.found(
                    None,
                    f"The database has a trigger {name} that is not ours: it could change what is written.",
                )

    def blobs(self) -> None:
        if read_schema_version(self.connection) >= 2:
            for fault in faults(self.connection):
                self.found(None, fault)

    # -------------------------------------------------------------------------------- the events

    def all_events(self) -> None:
        (total,) = self.connection.execute("SELECT count(*) FROM events").fetchone()
        while self.events_of_a_page():
            if self.progress is not None:
                self.progress(self.events, total)
        if self.events != total:
            # The joins find no name for these.
            self.found(None, f"{total - self.events} events belong to no stream or correlation.")

    def events_of_a_page(self) -> bool:
        """Check the next events, one row in memory at a time. Whether there were any."""
        before = self.events
        epochs: dict[int, int] = {}
        for row in self.connection.execute(EVENTS, (self.last_position, PAGE_EVENTS)):
            taken = step(row)
            self.event(taken)
            self.epoch(taken.event, taken.stream, epochs)
        self.connection.executemany("INSERT OR REPLACE INTO temp.epochs VALUES (?, ?)", epochs.items())
        return self.events > before

    def event(self, taken: Step) -> None:
        event = taken.event
        position = event.position
        if position != self.last_position + 1:
            self.found(
                position, f"The event before it has position {self.last_position}: some are missing between."
            )
        if event.time < self.last_time:
            self.found(position, "It is older than the event before it: times must not decrease.")
        self.last_position, self.last_time = position, event.time
        self.events += 1
        self.version(taken)
        self.payload(event)
        try:
            entry = entry_of(self.log, event, taken.previous_leaf)
        except (TypeError, ValueError) as error:
            self.found(position, f"No entry can be built from it: {error}.")
            entry = b""
        leaf = leaf_hash(entry)
        if entry and leaf != event.leaf:
            self.found(
                position,
                "Its leaf is not the hash of its entry: the event, or the one before it in its stream, "
                "is not what was recorded.",
            )
        if self.proved is not None:
            self.proved(Proved(position, entry, leaf))

    def version(self, taken: Step) -> None:
        event = taken.event
        if taken.previous_position is None:
            # A stream begins at 1, or at 0.
            if event.version in (0, 1):
                return
            self.found(
                event.position,
                f"It is version {event.version} of {event.stream}, which has no version {event.version - 1}.",
            )
        elif taken.previous_position > event.position:
            self.found(event.position, f"It comes before the version that precedes it in {event.stream}.")

    def payload(self, event: Recorded) -> None:
        if event.payload is None and event.salt is None:
            self.erased += 1
        elif event.payload is None or event.salt is None:
            self.found(event.position, "It lacks one of payload and salt: they can only go together.")
        else:
            self.payload_bytes += len(event.payload)
            if len(event.payload) != event.payload_length:
                self.found(event.position, "Its payload has not the length that was recorded.")
            if payload_digest(event.salt, event.payload) != event.payload_digest:
                self.found(event.position, "Its payload is not the one whose digest was recorded.")

    def epoch(self, event: Recorded, stream: int, epochs: dict[int, int]) -> None:
        """Follow the epoch of its stream, where the meta names one."""
        try:
            meta = orjson.loads(event.meta)
        except orjson.JSONDecodeError:
            meta = None
        if not isinstance(meta, dict):
            self.found(event.position, "Its meta is not a JSON object.")
            return
        epoch = meta.get("epoch")
        if epoch is None:
            return
        if type(epoch) is not int:
            self.found(event.position, f"The epoch in its meta is {epoch!r}, not a whole number.")
            return
        before = epochs.get(stream)
        if before is None:
            row = self.connection.execute(
                "SELECT epoch FROM temp.epochs WHERE stream = ?", (stream,)
            ).fetchone()
            before = 0 if row is None else row[0]
        if epoch < before:
            self.found(
                event.position, f"It was written under epoch {epoch} of {event.stream}, after epoch {before}."
            )
        epochs[stream] = max(epoch, before)

    # --------------------------------------------------------------------------------- the heads

    def all_heads(self) -> None:
        for _, name, version, leaf, epoch, event_leaf, last, event_epoch in self.heads():
            if last is not None:
                self.streams += 1
            if version != (last or 0):
                self.found(
                    None, f"The head of {name} is at version {version}; its last event has {last or 0}."
                )
            elif leaf != event_leaf:
                self.found(None, f"The head of {name} does not carry the leaf of its last event.")
            if epoch != (event_epoch or 0):
                self.found(
                    None, f"The head of {name} is at epoch {epoch}; its events reach {event_epoch or 0}."
                )

    def heads(
        self,
    ) -> Iterator[tuple[int, str, int, bytes | None, int, bytes | None, int | None, int | None]]:
        after = 0
        while page := list(self.connection.execute(_HEADS, (after, PAGE_EVENTS))):
            yield from page
            after = page[-1][0]


def _files(path: str) -> Iterator[Path]:
    for suffix in ("", "-wal"):
        file = Path(path + suffix)
        if file.exists():
            yield file
