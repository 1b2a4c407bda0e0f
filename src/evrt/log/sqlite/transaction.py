"""What happens between BEGIN and COMMIT: requests checked in order, their rows gathered, then written.

Nothing is inserted before it has been checked, so a request that is refused leaves nothing to
undo and the others of its batch go on. Later requests see what earlier ones will have written.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Sequence
from functools import cache
from itertools import chain
from typing import NamedTuple

from evrt.errors import NotFound
from evrt.log.changing import CHANGES, COUNT_CHANGE
from evrt.log.contract import EMPTY_HEAD, Appended, Head, Recorded
from evrt.log.coordinating import Rows, Statement
from evrt.log.foreign.kept import Kept, Tracked
from evrt.log.ids import new_ref
from evrt.log.plan import CHANGE_BYTES, SALT_BYTES, Checked, End, places_of, plan, settle_repeat
from evrt.log.queueing import Queue, QueueWork, local_now
from evrt.log.sqlite.blobs import Change
from evrt.log.sqlite.connect import check_schema, read_standing
from evrt.log.sqlite.schema import SELECT_RECORDED

HEADS_CACHED_MAX = 50_000
"""Names and heads kept between transactions; beyond it they are read again."""

INSERTED = (
    "position, event_id, time, stream, version, type, correlation, meta, "
    "payload_length, payload_digest, salt, payload, leaf"
)
"""Columns of an event in the order of ``Recorded``."""

EVENT_COLUMNS = 13
STREAM_COLUMNS = 5
HEAD_COLUMNS = 4

STATEMENT_ROWS_MAX = 32
"""Rows that one statement writes.

sqlite3 lets go of the interpreter's lock at every statement, and takes it again in competition with
busy event loops: with one statement per row that cost three times the insert itself.
"""


class Planned(NamedTuple):
    """The events of one transaction: position of the first, the leaf of each, and about how many bytes they are.

    ``changes`` counts the transactions that changed the queue and had no event, this one included; else it is None.
    """

    first: int
    leaves: Sequence[bytes]
    bytes: int
    changes: int | None = None


class Transaction:
    """The writing connection with what it remembers of the log between transactions."""

    def __init__(self, connection: sqlite3.Connection, path: str, log_id: str) -> None:
        self._connection = connection
        self._path = path
        self._end = End(log=log_id, position=0, time=0, heads={})
        self._ids: dict[str, int] = {}
        self._last_id = 0
        self._data_version: int | None = None
        self._now = local_now()
        self._bytes = 0
        self._leaves: list[bytes] = []
        self._salts = b""
        self._salts_used = 0
        self._values: list[object] = []
        """The rows of the events to insert, one after the other.

        Bytes are in bytearrays: for each parameter that is bytes, sqlite3 looks for an adapter, in vain, which
        took longer than to bind it.
        """
        self._changed: set[str] = set()
        self._new: set[str] = set()
        self._queue = Queue(self._ask, self._send)
        self._coordinated = False
        """Whether the queue has been worked on in this transaction by itself."""
        self._changes_before = 0

    def begin(self, events: int) -> None:
        """Begin a batch that may write up to this many events."""
        self._connection.execute("BEGIN IMMEDIATE")
        (version,) = self._connection.execute("PRAGMA data_version").fetchone()
        if version != self._data_version:
            # Another connection has committed since: what is remembered may be out of date.
            self._remember(version)
        elif len(self._end.heads) > HEADS_CACHED_MAX:
            self._end.heads.clear()
            self._ids.clear()
        self._now = local_now()
        self._queue.begin()
        self._bytes = 0
        self._leaves = []
        self._coordinated = False
        self._changes_before = self._connection.total_changes
        # One call to the system for the whole batch.
        self._salts = os.urandom(SALT_BYTES * events)
        self._salts_used = 0

    def append(self, request: Checked) -> Appended:
        """Raises WrongVersion, Fenced, Conflict, RepeatMismatch; then nothing of the request is taken."""
        heads = self._end.heads
        for name in request.streams:
            if name not in heads:
                self._load(name)
        for draft in request.drafts:
            if draft.correlation not in heads:
                self._load(draft.correlation)
        if request.repeat_after is not None:
            before = settle_repeat(request, self._find(request))
            if before is not None:
                return before
        # Before anything is planned, for that cannot be taken back.
        ready = self._queue.decide(request.beside, self._now) if request.beside else None
        begin = self._salts_used
        self._salts_used = begin + SALT_BYTES * len(request.drafts)
        rows = plan(request, self._end, self._now.wall, self._salts[begin : self._salts_used])
        self._bytes += request.bytes
        ids = self._ids
        versions: list[int] = []
        for (
            position,
            event_id,
            now,
            stream,
            version,
            type_,
            correlation,
            meta,
            length,
            digest,
            salt,
            payload,
            leaf,
        ) in rows:
            self._values += (
                position,
                bytearray.fromhex(event_id.replace("-", "")),
                now,
                ids.get(stream) or self._name(stream),
                version,
                type_,
                ids.get(correlation) or self._name(correlation),
                bytearray(meta),
                length,
                bytearray(digest),
                bytearray(salt),  # type: ignore[arg-type]  # It has one: nothing of it has been erased yet.
                bytearray(payload),  # type: ignore[arg-type]
                bytearray(leaf),
            )
            versions.append(version)
            self._leaves.append(leaf)
            self._changed.add(stream)
        if ready is not None:
            self._queue.make(ready, places_of(rows), self._now)
        return Appended(range(rows[0].position, rows[-1].position + 1), tuple(versions))

    def append_tracked(self, request: Tracked) -> Appended:
        """Raises Conflict where the place has been recorded already, and what ``append`` raises."""
        # Before the append, for what that has planned cannot be taken back.
        request.place.check(self._ask)
        appended = self.append(request.append)
        request.place.set(self._send)
        return appended

    def keep(self, work: Kept) -> None:
        """Keep what has no event. Raises Conflict."""
        self._bytes += work.bytes
        work.do(self._ask, self._send)

    def ref(self, kind: str, external: str) -> str:
        found = self._connection.execute(
            "SELECT ref FROM refs WHERE kind = ? AND external = ?", (kind, external)
        ).fetchone()
        if found is not None:
            return str(found[0])
        ref = new_ref(kind)
        self._connection.execute("INSERT INTO refs VALUES (?, ?, ?)", (ref, kind, external))
        return ref

    def coordinate(self, work: QueueWork) -> object:
        """Work on the queue without an event. Raises Conflict, Fenced."""
        self._bytes += CHANGE_BYTES
        self._coordinated = True
        return work.do(self._queue, self._now, self._end.position)

    def _ask(self, statements: Sequence[Statement]) -> list[Rows]:
        return [self._connection.execute(sql, dict(named)).fetchall() for sql, named in statements]

    def _send(self, statement: Statement) -> None:
        self._connection.execute(statement.sql, dict(statement.parameters))

    def change(self, change: Change) -> object:
        """Change what stands beside the events. Raises NotFound, Conflict."""
        self._bytes += change.bytes
        return change.make(self._connection)

    def erase(self, position: int) -> None:
        """Raises NotFound."""
        self.flush()
        changed = self._connection.execute(
            "UPDATE events SET salt = NULL, payload = NULL WHERE position = ?", (position,)
        ).rowcount
        if changed == 0:
            raise NotFound(f"There is no event at position {position}.")

    def forget(self, ref: str) -> None:
        """Forget the external id behind a ref, if there is one."""
        self._connection.execute("DELETE FROM refs WHERE ref = ?", (ref,))

    def planned(self) -> Planned:
        """The events of this transaction. Where there are none but the queue has changed, a count tells it apart."""
        changes = None
        if self._coordinated and not self._leaves and self._connection.total_changes > self._changes_before:
            self._connection.execute(COUNT_CHANGE)
            changes = self.changes()
        return Planned(self._end.position + 1 - len(self._leaves), self._leaves, self._bytes, changes)

    def changes(self) -> int:
        """How many transactions without an event have changed the queue."""
        (count,) = self._connection.execute(CHANGES).fetchone()
        return int(count)

    def commit(self) -> int:
        """Roughly how many pages this has put into the WAL: ends of the trees, and what was gathered.

        What was planned has been flushed before.
        """
        self._connection.execute("COMMIT")
        return 4 + self._bytes // 2_048

    def roll_back(self) -> None:
        """Forget everything of this transaction, and all that was remembered with it."""
        self._values.clear()
        self._changed.clear()
        self._new.clear()
        self._data_version = None
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")

    # ------------------------------------------------------------------------------------------

    def _remember(self, data_version: int) -> None:
        execute = self._connection.execute
        check_schema(self._connection, self._path)
        read_standing(self._connection).check(self._path)
        self._end.heads.clear()
        self._ids.clear()
        last = execute("SELECT position, time FROM events ORDER BY position DESC LIMIT 1").fetchone()
        self._end.position, self._end.time = last or (0, 0)
        (self._last_id,) = execute("SELECT coalesce(max(id), 0) FROM streams").fetchone()
        self._data_version = data_version

    def _load(self, name: str) -> None:
        """Remember a name's id and its head as a stream."""
        found = self._connection.execute(
            "SELECT id, version, leaf, epoch FROM streams WHERE name = ?", (name,)
        ).fetchone()
        if found is None:
            self._end.heads[name] = EMPTY_HEAD
        else:
            self._ids[name] = found[0]
            self._end.heads[name] = Head(*found[1:])

    def _name(self, name: str) -> int:
        """Enter a new name into the dictionary."""
        self._last_id += 1
        self._ids[name] = self._last_id
        self._new.add(name)
        return self._last_id

    def _find(self, request: Checked) -> list[Recorded]:
        """The events that a repeated request may have recorded at its first try."""
        # The first try may be in this very batch.
        self.flush()
        wanted = {_to_bytes(draft.event_id) for draft in request.drafts}
        execute = self._connection.execute
        positions: list[int] = []
        for stream, version in (request.repeat_after or {}).items():
            cursor = execute(
                "SELECT position, event_id FROM events WHERE stream = ? AND version > ?",
                (self._ids.get(stream), version),
            )
            positions.extend(position for position, event_id in cursor if event_id in wanted)
        return [
            recorded(execute(f"{SELECT_RECORDED} WHERE e.position = ?", (position,)).fetchone())
            for position in positions
        ]

    def flush(self) -> None:
        """Write what has been planned so far."""
        if not self._values:
            return
        heads, ids = self._end.heads, self._ids
        self._write(_insert_events, EVENT_COLUMNS, self._values)
        new = [(ids[name], name, *heads[name]) for name in self._new]
        self._write(_insert_streams, STREAM_COLUMNS, list(chain.from_iterable(new)))
        old: list[object] = []
        for name in self._changed - self._new:
            version, leaf, epoch = heads[name]
            assert leaf is not None
            old += (ids[name], version, bytearray(leaf), epoch)
        self._write(_update_streams, HEAD_COLUMNS, old)
        self._values.clear()
        self._changed.clear()
        self._new.clear()

    def _write(self, statement: Callable[[int], str], columns: int, values: list[object]) -> None:
        """Write rows in parts whose sizes are powers of two: few statements, to be prepared once."""
        start = 0
        rows = STATEMENT_ROWS_MAX
        while left := (len(values) - start) // columns:
            while rows > left:
                rows //= 2
            self._connection.execute(statement(rows), values[start : start + rows * columns])
            start += rows * columns


@cache
def _insert_events(rows: int) -> str:
    return f"INSERT INTO events ({INSERTED}) VALUES {_values(rows, EVENT_COLUMNS)}"


@cache
def _insert_streams(rows: int) -> str:
    return f"INSERT INTO streams VALUES {_values(rows, STREAM_COLUMNS)}"


@cache
def _update_streams(rows: int) -> str:
    if rows == 1:
        return "UPDATE streams SET version = ?2, leaf = ?3, epoch = ?4 WHERE id = ?1"
    return (
        "UPDATE streams SET version = head.column2, leaf = head.column3, epoch = head.column4 "
        f"FROM (VALUES {_values(rows, HEAD_COLUMNS)}) AS head WHERE streams.id = head.column1"
    )


def _values(rows: int, columns: int) -> str:
    return ", ".join([f"({', '.join('?' * columns)})"] * rows)


def _to_bytes(event_id: str) -> bytes:
    return bytes.fromhex(event_id.replace("-", ""))


def recorded(row: tuple[int, bytes, *tuple[object, ...]]) -> Recorded:
    """A row of ``SELECT_RECORDED`` as the contract has it."""
    text = row[1].hex()
    event_id = f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
    return Recorded._make((row[0], event_id, *row[2:]))
