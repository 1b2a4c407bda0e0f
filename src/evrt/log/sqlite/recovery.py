"""After a failed write: write the WAL anew, reopen, verify what was acknowledged, prove that the disk takes writes.

Why nothing less will do, and why this is enough:

- When fsync fails, Linux marks the pages clean all the same. What was written can be read back
  from memory as if it were on the disk, and the next fsync, with nothing left to write, succeeds.
  So neither a successful read nor a later successful fsync says anything about those bytes.
- What a commit wrote before its fsync failed is a ghost: whole frames in the WAL that count for
  nobody, because SQLite moves the WAL's index only after the fsync. But whoever makes the index
  anew from the file takes the ghost for a commit. If anything were then acknowledged behind it and
  the power went, the WAL would end before the ghost, and what stood behind would be lost; and a
  checkpoint would copy the ghost into the database while the disk holds no WAL to finish it from.
- Therefore the bytes of the WAL, as they are read, are first written again, which makes every page
  dirty, and synced (``write_wal_anew``). From then on the disk holds what everybody reads, ghost or
  not. It happens under the file lock and before SQLite opens the file, and the bytes do not change,
  so a reader beside it sees nothing of it. Frames acknowledged earlier were synced in their time;
  writing the same bytes over them cannot tear them.
- Then SQLite opens the file, the settings are checked, and everything that this process has
  acknowledged lately must be there, leaf by leaf, computed again (``verify_tail``). This comes before
  the first changed byte: where something is missing, the files stay as they are.
- The checkpoint copies into the database what may never have reached it: SQLite counts frames as
  copied only after a successful fsync of the database, so what an earlier failed one left behind is
  written again, on a file opened before the writing, which hears of every error since. A reader
  may hold it up; that is no harm, for the WAL is durable by now.
- Last a commit that changes nothing (``prove``). It lays its frame over the ghost if SQLite does not
  see that, so that from here on "not recorded" stays true whatever happens. It shows that write and
  fsync work again. Only then may anything be acknowledged.

The kernel reports a failed write-back once to every open file (Linux 4.13 and later), so a commit
or checkpoint of another process hears of it by itself. A ghost outlives its process, however, in
memory and in the WAL: the mark in the lock file tells the next process to begin with a recovery.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections import deque
from collections.abc import Iterable

from evrt.errors import Unavailable, UnusableLog
from evrt.log.entry import entry_of, leaf_hash, payload_digest
from evrt.log.sqlite.connect import connect_writing, read_log_id, sync_folder
from evrt.log.sqlite.schema import FROM_EVENTS, RECORDED
from evrt.log.sqlite.transaction import Planned, recorded

KEPT_EVENTS_MAX = 10_000
KEPT_BYTES_MAX = 16 * 1024 * 1024
"""Of what was acknowledged, the latest are kept to be verified: more than the WAL holds as a rule."""

TAIL_EVENTS = 100
"""Events at the end of the log that are verified whoever wrote them."""

WAIT_SECONDS = 1.0
"""How long a recovery waits for programs that hold up its checkpoint, or have locked the database."""

_CHUNK_BYTES = 1024 * 1024


class Acknowledged:
    """The events that this process has acknowledged last, by position and leaf."""

    def __init__(self) -> None:
        self._kept: deque[Planned] = deque()
        self._events = 0
        self._bytes = 0

    def add(self, planned: Planned) -> None:
        self._kept.append(planned)
        self._events += len(planned.leaves)
        self._bytes += planned.bytes
        while len(self._kept) > 1 and (self._events > KEPT_EVENTS_MAX or self._bytes > KEPT_BYTES_MAX):
            gone = self._kept.popleft()
            self._events -= len(gone.leaves)
            self._bytes -= gone.bytes

    def leaves(self) -> dict[int, bytes]:
        return {
            position: leaf
            for planned in self._kept
            for position, leaf in enumerate(planned.leaves, start=planned.first)
        }


class LostEvents(Exception):
    """Something acknowledged is not there any more, or is not what it was. The text says which."""


def reopen(
    path: str, log_id: str, acknowledged: Acknowledged, busy_timeout_seconds: float
) -> sqlite3.Connection:
    """A connection to write with again. Only under the file lock, the failed connection closed.

    Raises LostEvents, UnusableLog, Unavailable, sqlite3.Error, OSError.
    """
    write_wal_anew(path)
    connection = connect_writing(path, WAIT_SECONDS)
    try:
        if read_log_id(connection) != log_id:
            raise UnusableLog(f"{path} is another log than the one that was opened.")
        verify_tail(connection, log_id, acknowledged.leaves())
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        prove(connection)
        connection.execute(f"PRAGMA busy_timeout = {busy_timeout_seconds * 1_000:.0f}")
        # SQLite syncs the folder of a WAL that it has made, but does not say when that failed.
        sync_folder(os.path.dirname(path))
    except BaseException:
        connection.close()
        raise
    return connection


def write_wal_anew(path: str) -> None:
    """Write the bytes of the WAL over themselves and sync them. Raises OSError."""
    try:
        file = os.open(f"{path}-wal", os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        offset = 0
        while chunk := os.pread(file, _CHUNK_BYTES, offset):
            written = os.pwrite(file, chunk, offset)
            if written == 0:
                raise Unavailable(f"The WAL of {path} takes no bytes.")
            offset += written
        sync = getattr(fcntl, "F_FULLFSYNC", None)  # On macOS a plain fsync does not reach the disk.
        if sync is None:
            os.fsync(file)
        else:
            fcntl.fcntl(file, sync)
    finally:
        # No lock goes with it: SQLite locks the database and the index, never the WAL.
        os.close(file)


def prove(connection: sqlite3.Connection) -> None:
    """Commit a page that says what it said before. Raises sqlite3.Error."""
    connection.execute("BEGIN IMMEDIATE")
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    connection.execute(f"PRAGMA user_version = {version}")
    connection.execute("COMMIT")


# --------------------------------------------------------------------------------- the verification

_EVENT = f"""
SELECT {RECORDED}, p.leaf
{FROM_EVENTS}
LEFT JOIN events AS p ON p.stream = e.stream AND p.version = e.version - 1
WHERE e.position = ?
"""

_HEAD = """
SELECT s.version, s.leaf, (SELECT max(version) FROM events WHERE stream = s.id),
       (SELECT leaf FROM events WHERE stream = s.id AND version = s.version)
FROM streams AS s WHERE s.name = ?
"""


def verify_tail(connection: sqlite3.Connection, log_id: str, acknowledged: dict[int, bytes]) -> None:
    """Compute the last events and heads anew and hold them against what was acknowledged. Raises LostEvents."""
    (end,) = connection.execute("SELECT coalesce(max(position), 0) FROM events").fetchone()
    streams: set[str] = set()
    for position in sorted(acknowledged.keys() | range(max(1, end - TAIL_EVENTS + 1), end + 1)):
        row = connection.execute(_EVENT, (position,)).fetchone()
        if row is None:
            raise LostEvents(f"the event at position {position} is not there")
        event, previous = recorded(row[:13]), row[13]
        entry = entry_of(log_id, event, previous)
        same = event.leaf == leaf_hash(entry) and acknowledged.get(position, event.leaf) == event.leaf
        if event.salt is not None and event.payload is not None:
            same = same and payload_digest(event.salt, event.payload) == event.payload_digest
        if not same:
            raise LostEvents(f"the event at position {position} is not what was recorded")
        streams.add(event.stream)
    _verify_heads(connection, streams)


def _verify_heads(connection: sqlite3.Connection, streams: Iterable[str]) -> None:
    for stream in streams:
        version, leaf, last, last_leaf = connection.execute(_HEAD, (stream,)).fetchone()
        if (version, leaf) != (last, last_leaf):
            raise LostEvents(f"the head of {stream} is not that of its last event")


def is_recorded(connection: sqlite3.Connection, planned: Planned) -> bool:
    """Whether the transaction that planned these events was committed. Raises LostEvents for half of one."""
    found = [
        leaf
        for (leaf,) in connection.execute(
            "SELECT leaf FROM events WHERE position >= ? ORDER BY position", (planned.first,)
        )
    ]
    if found and found != list(planned.leaves):
        raise LostEvents(f"the events from position {planned.first} on are not those that were written there")
    return bool(found)
