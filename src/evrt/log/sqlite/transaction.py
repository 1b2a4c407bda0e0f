"""What happens between BEGIN and COMMIT: requests checked in order, their rows gathered, then written.

Nothing is inserted before it has been checked, so a request that is refused leaves nothing to
undo and the others of its batch go on. Later requests see what earlier ones will have written.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from functools import cache
from itertools import chain

from evrt.errors import NotFound
from evrt.log.contract import EMPTY_HEAD, Appended, Head, Recorded
from evrt.log.ids import new_ref
from evrt.log.plan import SALT_BYTES, Checked, End, plan, settle_repeat
from evrt.log.sqlite.schema import SELECT_RECORDED

HEADS_CACHED_MAX = 50_000
"""Names and heads kept between transactions; beyond it they are read again."""

STATEMENT_ROWS_MAX = 32
"""Rows that one statement writes.

sqlite3 lets go of the interpreter's lock at every statement, and takes it again in competition with
busy event loops: with one statement per row that cost three times the insert itself.
"""

Row = tuple[object, ...]


class Transaction:
    """The writing connection with what it remembers of the log between transactions."""

    def __init__(self, connection: sqlite3.Connection, log_id: str) -> None:
        self._connection = connection
        self._end = End(log=log_id, position=0, time=0, heads={})
        self._ids: dict[str, int] = {}
        self._last_id = 0
        self._data_version: int | None = None
        self._now = 0
        self._bytes = 0
        self._salts = b""
        self._salts_used = 0
        self._rows: list[Row] = []
        self._changed: set[str] = set()
        self._new: set[str] = set()

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
        self._now = time.time_ns() // 1_000
        self._bytes = 0
        # One call to the system for the whole batch.
        self._salts = os.urandom(SALT_BYTES * events)
        self._salts_used = 0

    def append(self, request: Checked) -> Appended:
        """Raises WrongVersion, Fenced, RepeatMismatch; then nothing of the request is taken."""
        self._load(request)
        if request.repeat_after is not None:
            before = settle_repeat(request, self._find(request))
            if before is not None:
                return before
        begin = self._salts_used
        self._salts_used = begin + SALT_BYTES * len(request.drafts)
        rows = plan(request, self._end, self._now, self._salts[begin : self._salts_used])
        self._bytes += request.bytes
        ids = self._ids
        for row in rows:
            (position, event_id, at, stream, version, type_, correlation, *body) = row
            meta, length, digest, salt, payload, leaf = body
            self._rows.append(
                (
                    position,
                    bytes.fromhex(event_id.replace("-", "")),
                    at,
                    ids.get(stream) or self._name(stream),
                    version,
                    type_,
                    ids.get(correlation) or self._name(correlation),
                    meta,
                    length,
                    digest,
                    leaf,
                    salt,
                    payload,
                )
            )
            self._changed.add(stream)
        return Appended(range(rows[0].position, rows[-1].position + 1), tuple([row.version for row in rows]))

    def ref(self, kind: str, external: str) -> str:
        found = self._connection.execute(
            "SELECT ref FROM refs WHERE kind = ? AND external = ?", (kind, external)
        ).fetchone()
        if found is not None:
            return str(found[0])
        ref = new_ref(kind)
        self._connection.execute("INSERT INTO refs VALUES (?, ?, ?)", (ref, kind, external))
        return ref

    def erase(self, position: int) -> None:
        """Raises NotFound."""
        self._flush()
        changed = self._connection.execute(
            "UPDATE events SET salt = NULL, payload = NULL WHERE position = ?", (position,)
        ).rowcount
        if changed == 0:
            raise NotFound(f"There is no event at position {position}.")

    def commit(self) -> int:
        """Roughly how many pages this has put into the WAL: ends of the trees, and what was gathered."""
        self._flush()
        self._connection.execute("COMMIT")
        return 4 + self._bytes // 2_048

    def roll_back(self) -> None:
        """Forget everything of this transaction, and all that was remembered with it."""
        self._rows.clear()
        self._changed.clear()
        self._new.clear()
        self._data_version = None
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")

    # ------------------------------------------------------------------------------------------

    def _remember(self, data_version: int) -> None:
        execute = self._connection.execute
        self._end.heads.clear()
        self._ids.clear()
        last = execute("SELECT position, time FROM events ORDER BY position DESC LIMIT 1").fetchone()
        self._end.position, self._end.time = last or (0, 0)
        (self._last_id,) = execute("SELECT coalesce(max(id), 0) FROM streams").fetchone()
        self._data_version = data_version

    def _load(self, request: Checked) -> None:
        """Have the heads of every stream and the ids of every name that the request needs."""
        heads = self._end.heads
        for stream in request.streams:
            if stream not in heads:
                self._load_name(stream)
        for draft in request.drafts:
            if draft.correlation not in heads:
                self._load_name(draft.correlation)

    def _load_name(self, name: str) -> None:
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
        self._flush()
        wanted = {draft.event_id for draft in request.drafts}
        found: list[Recorded] = []
        for stream, version in (request.repeat_after or {}).items():
            if stream not in self._ids:
                continue
            cursor = self._connection.execute(
                f"{SELECT_RECORDED} WHERE e.stream = ? AND e.version > ? ORDER BY e.version",
                (self._ids[stream], version),
            )
            found.extend(row for row in map(recorded, cursor) if row.event_id in wanted)
        return found

    def _flush(self) -> None:
        """Write what has been planned so far."""
        if not self._rows:
            return
        heads, ids = self._end.heads, self._ids
        self._write(_insert_events, self._rows)
        self._write(_insert_streams, [(ids[name], name, *heads[name]) for name in self._new])
        self._write(_update_streams, [(ids[name], *heads[name]) for name in self._changed - self._new])
        self._rows.clear()
        self._changed.clear()
        self._new.clear()

    def _write(self, statement: Callable[[int], str], rows: list[Row]) -> None:
        for part in _parts(rows):
            self._connection.execute(statement(len(part)), tuple(chain.from_iterable(part)))


def _parts(rows: list[Row]) -> Iterator[list[Row]]:
    """The rows in pieces whose sizes are powers of two: few statements, to be prepared once."""
    start = 0
    size = STATEMENT_ROWS_MAX
    while start < len(rows):
        while size > len(rows) - start:
            size //= 2
        yield rows[start : start + size]
        start += size


@cache
def _insert_events(rows: int) -> str:
    return f"INSERT INTO events VALUES {_values(rows, 13)}"


@cache
def _insert_streams(rows: int) -> str:
    return f"INSERT INTO streams VALUES {_values(rows, 5)}"


@cache
def _update_streams(rows: int) -> str:
    return (
        "UPDATE streams SET version = head.column2, leaf = head.column3, epoch = head.column4 "
        f"FROM (VALUES {_values(rows, 4)}) AS head WHERE streams.id = head.column1"
    )


def _values(rows: int, columns: int) -> str:
    return ", ".join([f"({', '.join('?' * columns)})"] * rows)


def recorded(row: tuple[int, bytes, *tuple[object, ...]]) -> Recorded:
    """A row of ``SELECT_RECORDED`` as the contract has it."""
    text = row[1].hex()
    event_id = f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
    return Recorded._make((row[0], event_id, *row[2:]))
