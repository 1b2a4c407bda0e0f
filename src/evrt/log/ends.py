"""The two ends of a copy: the log that is copied, and the one that it becomes, whatever their stores.

Rows are written as they are, ids and leaves and all; what they are worth has been found out before. Each call to a
target is one transaction, durable when it returns, so whoever is killed between two of them can go on.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol

import orjson

from evrt.errors import UsageError
from evrt.log.address import is_postgres, parse_url
from evrt.log.beside import Difference, Table
from evrt.log.postgres.address import needing_psycopg, parse_postgres_url
from evrt.log.standing import Origin, Standing
from evrt.log.walk import Rows, Step

LOCK_TIMEOUT_SECONDS = 30.0
"""How long either end waits for somebody who writes there."""


class BlobPiece(NamedTuple):
    """A part of a blob: of which, by its number in the database; which part, from 0."""

    blob: int
    number: int
    content: bytes


class Source(Protocol):
    """A log that is copied."""

    @property
    def rows(self) -> Rows: ...

    def standing(self) -> Standing: ...

    def check_sealable(self) -> None:
        """Raises Denied, UnusableLog where ``seal`` could do no good, so that this is known before all is copied."""
        ...

    def seal(self, moved_to: str) -> None:
        """Have it take nothing more from anybody, and say where it has moved. Raises Denied, Unavailable, UnusableLog."""
        ...

    def close(self) -> None: ...


class Target(Protocol):
    """A log in the making. Every method raises Denied, Unavailable, UnusableLog; nothing is lost then."""

    @property
    def place(self) -> str:
        """Where it is, for people, and as the log that moves there will say."""
        ...

    @property
    def is_there(self) -> bool:
        """Whether there is a log already."""
        ...

    def is_same_as(self, source: Source) -> bool:
        """Whether it is the very log that is to be copied."""
        ...

    def standing(self) -> Standing: ...

    def rows(self) -> AbstractContextManager[Rows]:
        """What stands there by now."""
        ...

    def begin(self, origin: Origin, position: int) -> None:
        """Make it where it is not there, and have it take nothing but this copy. Raises Conflict.

        ``position`` is where it ended when it was looked at.
        """
        ...

    def write(self, steps: Sequence[Step]) -> None:
        """The next events, and the heads of their streams. Raises Conflict where somebody else has written."""
        ...

    def erase(self, positions: Sequence[int]) -> None:
        """Payloads that have been erased since they were copied."""
        ...

    def change(self, table: Table, differences: Sequence[Difference]) -> None:
        """Rows of a table beside the events."""
        ...

    def write_pieces(self, pieces: Sequence[BlobPiece]) -> None:
        """Parts of blobs, which nobody finds before their rows are there."""
        ...

    def drop_pieces(self, blobs: Sequence[int]) -> None:
        """All parts of these blobs, whose rows are gone."""
        ...

    def finish(self) -> None:
        """All of it is there: from now on it is a log like any other."""
        ...

    def close(self) -> None: ...


class StreamRow(NamedTuple):
    """A stream as it is kept: name, and head; without a leaf where it is but the correlation of others' events."""

    name: str
    version: int
    leaf: bytes | None
    epoch: int


def heads_after(steps: Sequence[Step]) -> dict[int, StreamRow]:
    """The streams that these events name, by number, as their heads are after them as far as the events tell.

    An epoch that no event names is 0 here, and stays what it was.
    """
    found: dict[int, StreamRow] = {}
    for event, _, _, stream, correlation in steps:
        before = found.get(stream)
        epoch = 0 if before is None else before.epoch
        if b'"epoch"' in event.meta:
            named = orjson.loads(event.meta).get("epoch")
            epoch = max(epoch, named) if type(named) is int else epoch
        found[stream] = StreamRow(event.stream, event.version, event.leaf, epoch)
        if correlation not in found:
            found[correlation] = StreamRow(event.correlation, 0, None, 0)
    return found


def open_source(url: str) -> Source:
    """The log at this URL. Raises UsageError, NotFound, Denied, UnusableLog, Unavailable."""
    if is_postgres(url):
        address = parse_postgres_url(url)
        with needing_psycopg():
            from evrt.log.postgres.copying import PostgresSource
        return PostgresSource(address)
    path = parse_url(url)
    if path is None:
        raise UsageError("A log in memory cannot be copied: it ends with its process.")
    from evrt.log.sqlite.copying import SqliteSource

    return SqliteSource(path)


def open_target(url: str) -> Target:
    """What a log is to be copied to; nothing is made yet. Raises UsageError, NotFound, Denied, UnusableLog, Unavailable."""
    if is_postgres(url):
        address = parse_postgres_url(url)
        with needing_psycopg():
            from evrt.log.postgres.copying import PostgresTarget
        return PostgresTarget(address)
    path = parse_url(url)
    if path is None:
        raise UsageError("A log in memory ends with its process, so nothing can be copied there.")
    from evrt.log.sqlite.copying import SqliteTarget

    return SqliteTarget(path)
