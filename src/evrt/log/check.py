"""Checks a log from its first event to its last: what ``evrt db check`` reports.

Everything is computed again: digests, entries, leaves, the chain of every stream, positions,
versions and times, the heads, the epochs, the blobs; and the database is looked at for its triggers and
settings. It reads in pages, as of one moment, writes nothing to the log, and needs no more
memory for a long log than for a short one. Every store's rows are checked by the same rules.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from hashlib import sha256
from typing import NamedTuple

import orjson

from evrt.log.contract import BLOB_PIECE_BYTES, Recorded
from evrt.log.entry import entry_of, leaf_hash, payload_digest
from evrt.log.walk import BlobRow, HeadRow, Proved, Rows, Step, open_rows

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
    """What a check found. ``payload_bytes`` are those still there, ``file_bytes`` what the log takes up."""

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
    """Check the log at this URL. Blocks; run it in a thread where an event loop runs.

    ``proved`` is told of every event in order, its leaf computed again; where no entry can be built
    from a row, the entry is empty.

    Raises UsageError, NotFound, Denied, UnusableLog, Unavailable.
    """
    # Epochs are gathered in a database that goes to a temporary file if it grows.
    with open_rows(url, "The check could not be finished") as rows, closing(sqlite3.connect("")) as epochs:
        return _Check(rows, _Epochs(epochs), progress, proved).run()


class _Epochs:
    """The epoch that the events of each stream have reached so far."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._page: dict[int, int] = {}
        connection.execute("CREATE TABLE epochs (stream INTEGER PRIMARY KEY, epoch INTEGER)")

    def of(self, stream: int) -> int:
        before = self._page.get(stream)
        if before is None:
            row = self._connection.execute("SELECT epoch FROM epochs WHERE stream = ?", (stream,)).fetchone()
            before = 0 if row is None else int(row[0])
        return before

    def reach(self, stream: int, epoch: int) -> None:
        self._page[stream] = epoch

    def end_page(self) -> None:
        self._connection.executemany("INSERT OR REPLACE INTO epochs VALUES (?, ?)", self._page.items())
        self._page.clear()


@dataclass(slots=True)
class _Check:
    rows: Rows
    epochs: _Epochs
    progress: Progress | None
    proved: Callable[[Proved], None] | None
    events: int = 0
    streams: int = 0
    erased: int = 0
    payload_bytes: int = 0
    last_position: int = 0
    last_time: int = 0
    findings: list[Finding] = field(default_factory=list)
    left_off: int = 0

    def run(self) -> CheckReport:
        # One moment: the heads are those of the events that were read.
        with self.rows.moment():
            for fault in self.rows.faults():
                self.found(None, fault)
            self.all_events()
            for page in self.rows.heads():
                for head in page:
                    self.head(head)
            for fault in blob_faults(self.rows):
                self.found(None, fault)
        return CheckReport(
            log=self.rows.id,
            events=self.events,
            streams=self.streams,
            erased=self.erased,
            payload_bytes=self.payload_bytes,
            file_bytes=self.rows.size(),
            findings=tuple(self.findings),
            findings_left_off=self.left_off,
        )

    def found(self, position: int | None, text: str) -> None:
        if len(self.findings) < FINDINGS_MAX:
            self.findings.append(Finding(position, text))
        else:
            self.left_off += 1

    # -------------------------------------------------------------------------------- the events

    def all_events(self) -> None:
        total = self.rows.count()
        for page in self.rows.steps():
            before = self.events
            self.events_of(page)
            if self.progress is not None and self.events > before:
                self.progress(self.events, total)
        if self.events != total:
            # The joins find no name for these.
            self.found(None, f"{total - self.events} events belong to no stream or correlation.")

    def events_of(self, page: Iterable[Step]) -> None:
        for step in page:
            self.event(step)
            self.epoch(step.event, step.stream)
        self.epochs.end_page()

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
            entry = entry_of(self.rows.id, event, taken.previous_leaf)
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

    def epoch(self, event: Recorded, stream: int) -> None:
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
        before = self.epochs.of(stream)
        if epoch < before:
            self.found(
                event.position, f"It was written under epoch {epoch} of {event.stream}, after epoch {before}."
            )
        self.epochs.reach(stream, max(epoch, before))

    # --------------------------------------------------------------------------------- the heads

    def head(self, head: HeadRow) -> None:
        name, last = head.name, head.last_version
        epoch = self.epochs.of(head.stream)
        if last is not None:
            self.streams += 1
        if head.version != (last or 0):
            self.found(
                None, f"The head of {name} is at version {head.version}; its last event has {last or 0}."
            )
        elif head.leaf != head.event_leaf:
            self.found(None, f"The head of {name} does not carry the leaf of its last event.")
        if head.epoch != epoch:
            self.found(None, f"The head of {name} is at epoch {head.epoch}; its events reach {epoch}.")


# ------------------------------------------------------------------------------------------ blobs


def blob_faults(rows: Rows) -> Iterator[str]:
    """What is wrong with the blobs of a log: every byte is read and hashed again, a piece in memory at a time."""
    for blob in rows.blobs():
        if not _holds(rows, blob):
            yield f"Blob {blob.digest.hex()} does not hold the bytes that were written."
    if strays := rows.stray_pieces():
        yield f"{strays} pieces belong to no blob."


def _holds(rows: Rows, blob: BlobRow) -> bool:
    hashed = sha256()
    found = 0
    for number, content in rows.blob_pieces(blob.id):
        # Reading from an offset goes by the number of the piece.
        if number * BLOB_PIECE_BYTES != found:
            break
        hashed.update(content)
        found += len(content)
    return (hashed.digest(), found) == (blob.digest, blob.length)
