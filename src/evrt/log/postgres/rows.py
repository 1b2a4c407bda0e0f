"""The rows of a log in its PostgreSQL schema, for who checks, audits or copies them (see ``evrt.log.walk``)."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg import IsolationLevel
from psycopg.rows import TupleRow

from evrt.errors import NotFound, UnusableLog
from evrt.log.beside import BLOBS, REFS, Table
from evrt.log.postgres.address import Address
from evrt.log.postgres.blobs import PIECES_MAX, place_of
from evrt.log.postgres.connect import connect_walking, translate
from evrt.log.postgres.making import HEAD, LOOK, check_version, judge
from evrt.log.postgres.schema import FROM_EVENTS, GUARDED, RECORDED, SCHEMA, named
from evrt.log.postgres.transaction import recorded
from evrt.log.standing import Standing
from evrt.log.walk import PAGE_EVENTS, BlobRow, HeadRow, Rows, Step

LEAVES_PAGE = 5_000

# The event before in the same stream comes along with each event, so no state per stream is needed.
EVENTS = f"""
SELECT {RECORDED}, p.position, p.leaf, e.stream, e.correlation
{FROM_EVENTS}
LEFT JOIN @.events AS p ON p.stream = e.stream AND p.version = e.version - 1
WHERE e.position > %s ORDER BY e.position LIMIT %s
"""

# Entries need no payloads, and those may be large.
_WITHOUT_PAYLOADS = EVENTS.replace("e.salt, e.payload", "NULL, NULL")

_HEADS = """
SELECT s.id, s.name, s.version, s.leaf, s.epoch, e.leaf,
    (SELECT o.version FROM @.events AS o WHERE o.stream = s.id ORDER BY o.version DESC LIMIT 1)
FROM @.streams AS s
LEFT JOIN @.events AS e ON e.stream = s.id AND e.version = s.version
WHERE s.id > %s ORDER BY s.id LIMIT %s
"""

_TRIGGERS = """
SELECT c.relname, t.tgname, t.tgenabled::text, pg_get_triggerdef(t.oid)
FROM pg_trigger AS t JOIN pg_class AS c ON c.oid = t.tgrelid JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE n.nspname = %s AND NOT t.tgisinternal ORDER BY 1, 2
"""
_FUNCTIONS = "SELECT p.proname, p.prosrc FROM pg_proc AS p JOIN pg_namespace AS n ON n.oid = p.pronamespace WHERE n.nspname = %s"
_SIZE = """
SELECT coalesce(sum(pg_total_relation_size(c.oid)), 0)::bigint
FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE n.nspname = %s AND c.relkind = 'r'
"""
_SAME = """
SELECT (SELECT oid::bigint FROM pg_database WHERE datname = current_database()), to_regnamespace(%s)::oid::bigint,
    pg_postmaster_start_time()::text
"""
"""What tells one schema from every other, by whatever URL it was reached."""


class PostgresRows:
    """See ``evrt.log.walk.Rows``."""

    def __init__(self, address: Address, connection: psycopg.Connection[TupleRow]) -> None:
        self.address = address
        self.place = address.shown
        self.connection = connection
        self._names = itertools.count()
        [(self.id, self.created)] = self._all("SELECT log, created FROM @.head")

    @contextmanager
    def moment(self) -> Iterator[None]:
        with self.connection.transaction():
            yield

    def position(self) -> int:
        return self._one("SELECT position FROM @.head")

    def count(self) -> int:
        return self._one("SELECT count(*) FROM @.events")

    def steps(
        self, *, after: int = 0, upto: int | None = None, payloads: bool = True
    ) -> Iterator[Iterator[Step]]:
        sql = EVENTS if payloads else _WITHOUT_PAYLOADS
        while upto is None or after < upto:
            limit = PAGE_EVENTS if upto is None else min(PAGE_EVENTS, upto - after)
            page = self._all(sql, after, limit)
            if not page:
                return
            yield (Step(recorded(row[:13]), *row[13:]) for row in page)
            after = page[-1][0]

    def leaves(self, *, after: int, upto: int) -> Iterator[tuple[int, bytes]]:
        while page := self._all(
            "SELECT position, leaf FROM @.events WHERE position > %s AND position <= %s ORDER BY position LIMIT %s",
            after,
            upto,
            LEAVES_PAGE,
        ):
            yield from page
            after = page[-1][0]

    def erased(self, *, upto: int) -> Iterator[int]:
        for (position,) in self._stream(
            "SELECT position FROM @.events WHERE position <= %s AND salt IS NULL ORDER BY position", upto
        ):
            yield position

    def heads(self) -> Iterator[list[HeadRow]]:
        after = 0
        while page := self._all(_HEADS, after, PAGE_EVENTS):
            yield [HeadRow(*row) for row in page]
            after = page[-1][0]

    def blobs(self) -> Iterator[BlobRow]:
        for row in self._stream(
            "SELECT id, digest, length FROM @.blobs WHERE digest IS NOT NULL ORDER BY id"
        ):
            yield BlobRow(*row)

    def blob_pieces(self, blob: int) -> Iterator[tuple[int, bytes]]:
        first, number = place_of(blob, 0), -1
        while found := self._all(
            "SELECT place, bytes FROM @.blob_pieces WHERE place > %s AND place < %s ORDER BY place LIMIT 1",
            first + number,
            first + PIECES_MAX,
        ):
            [(place, content)] = found
            number = place - first
            yield number, content

    def stray_pieces(self) -> int:
        return self._one(
            f"SELECT count(*) FROM @.blob_pieces AS p "
            f"WHERE NOT EXISTS (SELECT FROM @.blobs AS b WHERE b.id = p.place / {PIECES_MAX})"
        )

    def table(self, table: Table) -> Iterator[tuple[Any, ...]]:
        if not self._has(table.name):
            return
        order = ", ".join(
            column if column in table.numbers else f'{column} COLLATE "C"' for column in table.key_columns
        )
        where = "WHERE digest IS NOT NULL" if table == BLOBS else ""
        rows = self._stream(f"SELECT {table.listed} FROM @.{table.name} {where} ORDER BY {order}")
        if table == REFS:
            rows = ((ref, kind, external.decode()) for ref, kind, external in rows)
        yield from rows

    # ------------------------------------------------------------------------------- the database

    def faults(self) -> Iterator[str]:
        yield from self._end_faults()
        schema = self.address.schema
        found = {(table, name): (enabled, sql) for table, name, enabled, sql in self._all(_TRIGGERS, schema)}
        for table, names in GUARDED.items():
            for name in names:
                enabled, sql = found.pop((table, name), ("", ""))
                if not sql:
                    yield f"The database lacks its trigger {name}."
                elif enabled != "A" or _columns_named(sql) != _COMPARED[name]:
                    yield f"The database has another trigger {name} than the one it was made with, or has it disabled."
        for table, name in found:
            yield f"The table {table} has a trigger {name} that is not ours: it could change what is written."
        functions: dict[str, str] = dict(self._all(_FUNCTIONS, schema))
        for name, source in _FUNCTION_SOURCES.items():
            if functions.get(name) != named(source, self.address.quoted_schema):
                yield f"The database lacks its function {name}, or has another of that name."

    def _end_faults(self) -> Iterator[str]:
        [(position, time, streams)] = self._all("SELECT position, time, streams FROM @.head")
        [(last_position, last_time)] = self._all(
            "SELECT coalesce(max(position), 0), coalesce(max(time), 0) FROM "
            "(SELECT position, time FROM @.events ORDER BY position DESC LIMIT 1) AS last"
        )
        [(last_stream,)] = self._all("SELECT coalesce(max(id), 0) FROM @.streams")
        if position != last_position:
            yield f"The log's head is at position {position}; its last event has {last_position}."
        if time < last_time:
            yield "The log's head is older than its last event."
        if streams < last_stream:
            yield f"The log's head counts {streams} streams; the last has number {last_stream}."

    def size(self) -> int:
        return self._one(_SIZE, self.address.schema)

    def standing(self) -> Standing:
        """What the log says of itself."""
        [row] = self._all("SELECT moved_to, copied_from FROM @.head")
        return Standing(*row)

    def may_seal(self) -> bool:
        """Whether this user may write what ``standing`` reads: its owner may."""
        [(may,)] = self._all(
            "SELECT has_column_privilege(%s, 'moved_to', 'UPDATE')",
            named("@.head", self.address.quoted_schema),
        )
        return bool(may)

    def identity(self) -> tuple[object, ...]:
        """What tells this schema from every other."""
        [row] = self._all(_SAME, self.address.quoted_schema)
        return tuple(row)

    # ------------------------------------------------------------------------------------------

    def _has(self, table: str) -> bool:
        [(there,)] = self._all("SELECT to_regclass(%s) IS NOT NULL", f"{self.address.quoted_schema}.{table}")
        return bool(there)

    def _one(self, sql: str, *parameters: object) -> int:
        [(number,)] = self._all(sql, *parameters)
        return int(number)

    def _all(self, sql: str, *parameters: object) -> list[TupleRow]:
        text: Any = named(sql, self.address.quoted_schema)
        return self.connection.execute(text, parameters or None, binary=True).fetchall()

    def _stream(self, sql: str, *parameters: object) -> Iterator[TupleRow]:
        """The rows of a SELECT, of which there may be any number."""
        text: Any = named(sql, self.address.quoted_schema)
        # Inside of a moment this is a part of its transaction.
        with (
            self.connection.transaction(),
            self.connection.cursor(f"evrt_{next(self._names)}") as cursor,
        ):
            cursor.itersize = PAGE_EVENTS
            yield from cursor.execute(text, parameters or None, binary=True)


def _columns_named(sql: str) -> list[str]:
    """What a trigger looks at, in the order of the alphabet: the server writes its condition in its own way."""
    return sorted(re.findall(r"\b(?:new|old)\.\w+", sql.lower().replace('"', "")))


_COMPARED = {
    name: _columns_named(body) for name, body in re.findall(r"CREATE TRIGGER (\w+) (.*?);", SCHEMA, re.DOTALL)
}
_FUNCTION_SOURCES = dict(re.findall(r"CREATE FUNCTION @\.(\w+)\(\).*?AS \$\$(.*?)\$\$", SCHEMA, re.DOTALL))


@contextmanager
def open_postgres_rows(address: Address, doing: str) -> Iterator[Rows]:
    """See ``evrt.log.walk.open_rows``."""
    try:
        connection = connect_walking(address)
        try:
            connection.isolation_level = IsolationLevel.REPEATABLE_READ
            look: Any = LOOK
            found = connection.execute(look, {"schema": address.schema}).fetchone()
            assert found is not None
            if judge(found, address) == "new":
                raise NotFound(f"There is no log in the schema {address.schema} of {address.shown}.")
            head: Any = named(HEAD, address.quoted_schema)
            row = connection.execute(head).fetchone()
            if row is None:
                raise UnusableLog(f"The log {address.shown} has no head: its row has been removed.")
            check_version(row[0], address)
            yield PostgresRows(address, connection)
        finally:
            connection.close()
    except psycopg.Error as error:
        raise translate(error, address, doing) from error
