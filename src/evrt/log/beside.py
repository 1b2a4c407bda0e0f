"""What stands beside the events and goes along when a log is copied: its tables, alike in every store.

Leases do not go along: they are about processes of this moment. Nor do views, which are built from the events.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

Row = tuple[Any, ...]


class Table(NamedTuple):
    """A table, its columns, and how many of them, from the first on, are the key that its rows are sorted by."""

    name: str
    columns: tuple[str, ...]
    key: int
    numbers: tuple[str, ...] = ()
    """Those of the key that are whole numbers; the others are texts, sorted by their bytes in UTF-8."""

    @property
    def listed(self) -> str:
        return ", ".join(self.columns)

    @property
    def key_columns(self) -> tuple[str, ...]:
        return self.columns[: self.key]


REFS = Table("refs", ("ref", "kind", "external"), 1)
BLOBS = Table("blobs", ("id", "digest", "length", "time"), 1, ("id",))
"""Those that are known; one that is still being written goes with the process that writes it."""

QUEUE = Table("queue", ("run", "state", "target", "priority", "place", "lane", "due", "worker", "news"), 1)

TABLES = (
    REFS,
    Table("tracking", ("application", "notification_id"), 1),
    Table("snapshots", ("purpose", "originator", "version", "topic", "state"), 3, ("version",)),
    QUEUE,
    Table("keys", ("owner", "key", "run"), 2),
    Table("rates", ("run", "key", "begins", "later", "counts_until"), 1),
    Table("ticks", ("schedule", "tick"), 1),
    Table("turns", ("one", "claims", "changes"), 1, ("one",)),
)
"""Those that are copied as they are; blobs come piece by piece."""


def carried(table: Table, rows: Iterable[Row]) -> Iterator[Row]:
    """The rows as the copy is to have them: what a worker has claimed is ready, for its lease stays behind.

    A worker that had it can write nothing under its epoch once another has claimed the run.
    """
    if table != QUEUE:
        yield from rows
        return
    for run, state, target, priority, place, lane, due, worker, news in rows:
        if state == "claimed":
            yield run, "ready", target, priority, place, lane, due, None, 0
        else:
            yield run, state, target, priority, place, lane, due, worker, news


class Difference(NamedTuple):
    """What makes one row of a table what it is to be: ``key`` names it; ``row`` is None where it is to go."""

    key: Row
    row: Row | None


def differences(table: Table, wanted: Iterable[Row], there: Iterable[Row]) -> Iterator[Difference]:
    """What turns the rows that are there into those that are wanted. Both come sorted by key, and so does this."""
    found = iter(there)
    other = next(found, None)
    for row in wanted:
        key = row[: table.key]
        while other is not None and other[: table.key] < key:
            yield Difference(other[: table.key], None)
            other = next(found, None)
        if other is None or other[: table.key] != key:
            yield Difference(key, row)
            continue
        if other != row:
            yield Difference(key, row)
        other = next(found, None)
    while other is not None:
        yield Difference(other[: table.key], None)
        other = next(found, None)
