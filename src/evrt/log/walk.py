"""Walks along a log's rows as they stand in its database: what a check, an audit and a copy have in common.

All three believe rows, not what is stored beside them: from each the entry is built again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, NamedTuple, Protocol

from evrt.errors import TreeDisagrees, UsageError
from evrt.log.address import is_postgres, parse_url
from evrt.log.beside import Table
from evrt.log.contract import Recorded
from evrt.log.entry import entry_of, leaf_hash

PAGE_EVENTS = 500
"""Events read by one SELECT, so that a long walk does not hold up those who write."""


class Step(NamedTuple):
    """An event, with position and leaf of the one before it in its stream.

    ``stream`` and ``correlation`` are the numbers that the database has for the two names.
    """

    event: Recorded
    previous_position: int | None
    previous_leaf: bytes | None
    stream: int
    correlation: int


class HeadRow(NamedTuple):
    """The head of a stream as it is kept, beside what its events say: leaf of that version, last version."""

    stream: int
    name: str
    version: int
    leaf: bytes | None
    epoch: int
    event_leaf: bytes | None
    last_version: int | None


class BlobRow(NamedTuple):
    """A blob that is known: its number in the database, its SHA-256, its length in bytes."""

    id: int
    digest: bytes
    length: int


class Proved(NamedTuple):
    """An event's place in the tree, and what it is proved by."""

    position: int
    entry: bytes
    leaf: bytes


class Rows(Protocol):
    """A log's rows, for reading only and for one thread. What goes wrong is told as the store's own errors."""

    @property
    def place(self) -> str:
        """Where the log is, for people."""
        ...

    @property
    def id(self) -> str: ...

    @property
    def created(self) -> int:
        """When the log was made, in microseconds since 1970."""
        ...

    def moment(self) -> AbstractContextManager[None]:
        """What is read within is the log as of one moment."""
        ...

    def position(self) -> int:
        """Position of the last event, 0 for an empty log."""
        ...

    def count(self) -> int:
        """How many rows of events there are, whatever they hold."""
        ...

    def steps(
        self, *, after: int = 0, upto: int | None = None, payloads: bool = True
    ) -> Iterator[Iterator[Step]]:
        """Events with ``after < position <= upto`` in order, page by page, each page read one row at a time."""
        ...

    def leaves(self, *, after: int, upto: int) -> Iterator[tuple[int, bytes]]:
        """Position and leaf of each event, as they are stored."""
        ...

    def erased(self, *, upto: int) -> Iterator[int]:
        """Positions of the events whose payload has been erased."""
        ...

    def heads(self) -> Iterator[list[HeadRow]]:
        """Every stream with its head, page by page."""
        ...

    def blobs(self) -> Iterator[BlobRow]:
        """The blobs that are known, by number."""
        ...

    def blob_pieces(self, blob: int) -> Iterator[tuple[int, bytes]]:
        """A blob's pieces in order: the number of each and its bytes."""
        ...

    def stray_pieces(self) -> int:
        """How many pieces belong to no blob."""
        ...

    def table(self, table: Table) -> Iterator[tuple[Any, ...]]:
        """The rows of a table that stands beside the events, by its key; none where the log is too old to have it."""
        ...

    def faults(self) -> Iterator[str]:
        """What is wrong with the database itself: settings, tables, triggers."""
        ...

    def size(self) -> int:
        """Bytes that the log takes up."""
        ...


def prove(rows: Rows, *, after: int, upto: int) -> Iterator[Proved]:
    """Entries and leaves of the events with ``after < position <= upto``, in order, without gaps.

    Raises TreeDisagrees at the first event that is not what was recorded.
    """
    for step in _each(rows.steps(after=after, upto=upto, payloads=False)):
        if step.event.position != after + 1:
            break
        yield prove_step(rows, step)
        after += 1
    if after < upto:
        raise TreeDisagrees(
            f"{rows.place} has no event at position {after + 1}, though it has later ones. "
            "`evrt db check` finds what else is wrong."
        )


def prove_step(rows: Rows, step: Step) -> Proved:
    """The entry that an event comes to. Raises TreeDisagrees where its leaf is another one's."""
    event = step.event
    try:
        entry = entry_of(rows.id, event, step.previous_leaf)
    except (TypeError, ValueError):
        entry = b""
    if leaf_hash(entry) != event.leaf:
        raise TreeDisagrees(
            f"The event at position {event.position} of {rows.place} is not what was recorded: its leaf is not "
            "the hash of its entry. `evrt db check` finds what else is wrong."
        )
    return Proved(event.position, entry, event.leaf)


def _each(pages: Iterable[Iterable[Step]]) -> Iterator[Step]:
    for page in pages:
        yield from page


@contextmanager
def open_rows(url: str, doing: str) -> Iterator[Rows]:
    """The rows of the log at this URL; ``doing`` says in an error what could not be done.

    Raises UsageError, NotFound, Denied, UnusableLog, Unavailable.
    """
    if is_postgres(url):
        from evrt.log.postgres.address import needing_psycopg, parse_postgres_url

        address = parse_postgres_url(url)
        with needing_psycopg():
            from evrt.log.postgres.rows import open_postgres_rows
        with open_postgres_rows(address, doing) as rows:
            yield rows
        return
    path = parse_url(url)
    if path is None:
        raise UsageError("A log in memory has no file to read; give the URL of a file.")
    from evrt.log.sqlite.rows import open_sqlite_rows

    with open_sqlite_rows(path, doing) as rows:
        yield rows
