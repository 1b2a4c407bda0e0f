"""Walks along a log's file: every event with its entry, built again from its row.

What ``evrt db check`` and the tree of the log's leaves have in common: both believe rows, not
what is stored beside them.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from evrt.errors import NotFound, TreeDisagrees, UsageError
from evrt.log.address import parse_url
from evrt.log.contract import Recorded
from evrt.log.entry import entry_of, leaf_hash
from evrt.log.sqlite.connect import cannot_read, check_place, connect_reading, inspect, read_log_id
from evrt.log.sqlite.schema import FROM_EVENTS, RECORDED
from evrt.log.sqlite.transaction import recorded

PAGE_EVENTS = 500
"""Events read by one SELECT, so that a long walk does not keep the WAL from being emptied."""

# The event before in the same stream comes along with each event, so no state per stream is needed.
EVENTS = f"""
SELECT {RECORDED}, p.position, p.leaf, e.stream
{FROM_EVENTS}
LEFT JOIN events AS p ON p.stream = e.stream AND p.version = e.version - 1
WHERE e.position > ? ORDER BY e.position LIMIT ?
"""

# Entries need no payloads, and those may be large.
_WITHOUT_PAYLOADS = EVENTS.replace("e.salt, e.payload", "NULL, NULL")


class Step(NamedTuple):
    """An event, with position and leaf of the one before it in its stream, and its stream's number in the file."""

    event: Recorded
    previous_position: int | None
    previous_leaf: bytes | None
    stream: int


class Proved(NamedTuple):
    """An event's place in the tree, and what it is proved by."""

    position: int
    entry: bytes
    leaf: bytes


def step(row: tuple[Any, ...]) -> Step:
    """A row of ``EVENTS``."""
    return Step(recorded(row[:-3]), *row[-3:])


class LogFile:
    """A log's file, open for reading only."""

    def __init__(self, path: str, connection: sqlite3.Connection) -> None:
        self.path = path
        self.connection = connection
        self.id = read_log_id(connection)

    def position(self) -> int:
        """Position of the last event, 0 for an empty log."""
        (position,) = self.connection.execute("SELECT coalesce(max(position), 0) FROM events").fetchone()
        return int(position)

    def proved(self, *, after: int, upto: int) -> Iterator[Proved]:
        """Entries and leaves of the events with ``after < position <= upto``, in order, without gaps.

        Raises TreeDisagrees at the first event that is not what was recorded.
        """
        while after < upto:
            limit = min(PAGE_EVENTS, upto - after)
            page = self.connection.execute(_WITHOUT_PAYLOADS, (after, limit)).fetchall()
            for event, _, previous_leaf, _ in map(step, page):
                if event.position != after + 1:
                    break
                yield self._proved(event, previous_leaf)
                after = event.position
            else:
                if page:
                    continue
            raise TreeDisagrees(
                f"{self.path} has no event at position {after + 1}, though it has later ones. "
                "`evrt db check` finds what else is wrong."
            )

    def _proved(self, event: Recorded, previous_leaf: bytes | None) -> Proved:
        try:
            entry = entry_of(self.id, event, previous_leaf)
        except (TypeError, ValueError):
            entry = b""
        if leaf_hash(entry) != event.leaf:
            raise TreeDisagrees(
                f"The event at position {event.position} of {self.path} is not what was recorded: its leaf is not "
                "the hash of its entry. `evrt db check` finds what else is wrong."
            )
        return Proved(event.position, entry, event.leaf)


@contextmanager
def open_file(url: str, doing: str) -> Iterator[LogFile]:
    """The SQLite log at this URL, for reading only; ``doing`` says in an error what could not be done.

    Raises UsageError, NotFound, Denied, UnusableLog, Unavailable.
    """
    path = parse_url(url)
    if path is None:
        raise UsageError("A log in memory has no file to read; give the URL of a file.")
    path = check_place(path, read_only=True)
    if inspect(path) == "new":
        raise NotFound(f"{path} is empty: no log has been made there yet.")
    try:
        connection = connect_reading(path)
        try:
            yield LogFile(path, connection)
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise cannot_read(error, path, doing) from error
