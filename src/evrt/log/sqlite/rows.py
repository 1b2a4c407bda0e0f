"""The rows of a log in its SQLite file, for who checks, audits or copies them (see ``evrt.log.walk``)."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from evrt.errors import NotFound
from evrt.log.beside import Table
from evrt.log.sqlite.blobs import OF_BLOB, PIECES_MAX, place_of, places_of
from evrt.log.sqlite.connect import (
    cannot_read,
    check_place,
    connect_reading,
    inspect,
    read_log_id,
    read_schema_version,
)
from evrt.log.sqlite.schema import FROM_EVENTS, RECORDED, schema_of
from evrt.log.sqlite.transaction import recorded
from evrt.log.walk import PAGE_EVENTS, BlobRow, HeadRow, Rows, Step

FAULTS_MAX = 100
"""Of what SQLite itself finds damaged, so much is told."""

# The event before in the same stream comes along with each event, so no state per stream is needed.
EVENTS = f"""
SELECT {RECORDED}, p.position, p.leaf, e.stream, e.correlation
{FROM_EVENTS}
LEFT JOIN events AS p ON p.stream = e.stream AND p.version = e.version - 1
WHERE e.position > ? ORDER BY e.position LIMIT ?
"""

# Entries need no payloads, and those may be large.
_WITHOUT_PAYLOADS = EVENTS.replace("e.salt, e.payload", "NULL, NULL")

_HEADS = """
SELECT s.id, s.name, s.version, s.leaf, s.epoch, e.leaf, (SELECT max(version) FROM events WHERE stream = s.id)
FROM streams AS s
LEFT JOIN events AS e ON e.stream = s.id AND e.version = s.version
WHERE s.id > ? ORDER BY s.id LIMIT ?
"""


def step(row: tuple[Any, ...]) -> Step:
    """A row of ``EVENTS``."""
    return Step(recorded(row[:13]), *row[13:])


class SqliteRows:
    """See ``evrt.log.walk.Rows``."""

    def __init__(self, path: str, connection: sqlite3.Connection) -> None:
        self.place = path
        self.connection = connection
        self.id = read_log_id(connection)
        [(self.created,)] = self._all("SELECT created FROM log")

    @contextmanager
    def moment(self) -> Iterator[None]:
        self.connection.execute("BEGIN")
        try:
            yield
        finally:
            if self.connection.in_transaction:
                self.connection.execute("COMMIT")

    def position(self) -> int:
        return self._one("SELECT coalesce(max(position), 0) FROM events")

    def count(self) -> int:
        return self._one("SELECT count(*) FROM events")

    def steps(
        self, *, after: int = 0, upto: int | None = None, payloads: bool = True
    ) -> Iterator[Iterator[Step]]:
        sql = EVENTS if payloads else _WITHOUT_PAYLOADS
        while upto is None or after < upto:
            limit = PAGE_EVENTS if upto is None else min(PAGE_EVENTS, upto - after)
            page = _Page(self.connection.execute(sql, (after, limit)))
            yield page
            for _ in page:
                pass
            if page.last is None:
                return
            after = page.last

    def leaves(self, *, after: int, upto: int) -> Iterator[tuple[int, bytes]]:
        while page := self._all(
            "SELECT position, leaf FROM events WHERE position > ? AND position <= ? ORDER BY position LIMIT 5000",
            after,
            upto,
        ):
            yield from page
            after = page[-1][0]

    def erased(self, *, upto: int) -> Iterator[int]:
        for (position,) in self.connection.execute(
            "SELECT position FROM events WHERE position <= ? AND salt IS NULL ORDER BY position", (upto,)
        ):
            yield position

    def heads(self) -> Iterator[list[HeadRow]]:
        after = 0
        while page := self._all(_HEADS, after, PAGE_EVENTS):
            yield [HeadRow(*row) for row in page]
            after = page[-1][0]

    def blobs(self) -> Iterator[BlobRow]:
        if self._has("blobs"):
            for row in self.connection.execute(
                "SELECT id, digest, length FROM blobs WHERE digest IS NOT NULL ORDER BY id"
            ):
                yield BlobRow(*row)

    def blob_pieces(self, blob: int) -> Iterator[tuple[int, bytes]]:
        for place, content in self.connection.execute(
            f"SELECT place, bytes FROM blob_pieces WHERE {OF_BLOB} ORDER BY place", places_of(blob)
        ):
            yield place - place_of(blob, 0), content

    def stray_pieces(self) -> int:
        if not self._has("blobs"):
            return 0
        return self._one(
            f"SELECT count(*) FROM blob_pieces WHERE place / {PIECES_MAX} NOT IN (SELECT id FROM blobs)"
        )

    def table(self, table: Table) -> Iterator[tuple[Any, ...]]:
        if self._has(table.name):
            where = " WHERE digest IS NOT NULL" if table.name == "blobs" else ""
            yield from self.connection.execute(
                f"SELECT {table.listed} FROM {table.name}{where} ORDER BY {', '.join(table.key_columns)}"
            )

    def faults(self) -> Iterator[str]:
        # Asked of the header: a connection to a file that lies still names another mode.
        if inspect(self.place) != "ready":
            yield "The database is not in WAL mode. Opening the log for writing sets it."
        for (text,) in self.connection.execute(f"PRAGMA integrity_check({FAULTS_MAX})"):
            if text != "ok":
                yield f"SQLite finds the database damaged: {text}."
        ours = schema_of(read_schema_version(self.connection))
        there = {sql for (sql,) in self._all("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL")}
        for statement in ours:
            if statement not in there:
                what = " ".join(statement.split("(")[0].split()[1:4]).replace(" BEFORE", "")
                yield f"The database lacks its {what}, or has another of that name."
        for name, sql in self._all("SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'"):
            if sql not in ours and not any(
                statement.startswith(f"CREATE TRIGGER {name} ") for statement in ours
            ):
                yield f"The database has a trigger {name} that is not ours: it could change what is written."

    def size(self) -> int:
        """Of the database and its WAL."""
        files = (self.place + suffix for suffix in ("", "-wal"))
        return sum(os.path.getsize(file) for file in files if os.path.exists(file))

    def _has(self, table: str) -> bool:
        return bool(self._all("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?", table))

    def _one(self, sql: str) -> int:
        [(number,)] = self._all(sql)
        return int(number)

    def _all(self, sql: str, *parameters: object) -> list[Any]:
        return self.connection.execute(sql, parameters).fetchall()


class _Page:
    """The rows of one SELECT, one at a time, and the position of the last that has been taken."""

    def __init__(self, rows: Iterator[tuple[Any, ...]]) -> None:
        self._rows = rows
        self.last: int | None = None

    def __iter__(self) -> Iterator[Step]:
        return self

    def __next__(self) -> Step:
        row = next(self._rows)
        self.last = row[0]
        return step(row)


@contextmanager
def open_sqlite_rows(path: str, doing: str) -> Iterator[Rows]:
    """See ``evrt.log.walk.open_rows``."""
    path = check_place(path, read_only=True)
    if inspect(path) == "new":
        raise NotFound(f"{path} is empty: no log has been made there yet.")
    try:
        connection = connect_reading(path)
        try:
            yield SqliteRows(path, connection)
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise cannot_read(error, path, doing) from error
