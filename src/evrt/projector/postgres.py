"""Views in a schema of PostgreSQL beside that of their log: the same statements as in a file, put into its words.

Like the file, the schema can be dropped at any time (``DROP SCHEMA evrt_views CASCADE``): it is built again from the
log. Commits of views need not be durable at once, for what a crash of the server loses of them is folded again.

Whoever keeps views does so in the name of the schema's owner, of whom he has to be a member: so several users can keep
the same ones, each dropping what another has made. Who is none may read them by SQL, and builds his own.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import types
import typing
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from functools import lru_cache
from typing import Any, TypeVar, Union

import psycopg
from psycopg import sql as sql_of

from evrt.errors import Denied, EvrtError, InvalidInput, UnusableLog
from evrt.log.postgres.address import NAME_BYTES_MAX, Address
from evrt.log.postgres.connect import connect_reading, connect_writing, is_lost, translate
from evrt.log.postgres.listening import Listener
from evrt.log.postgres.reader import Readers
from evrt.projection import AnyProjection
from evrt.projector.opening import FIRST_ID_BITS
from evrt.projector.reading import Fetch, ViewReader
from evrt.projector.schema import INDEX_COLUMN, SCHEMA_VERSION, column, tables_of
from evrt.projector.store import ViewStore

R = TypeVar("R")

LOCK_TIMEOUT_SECONDS = 30.0

MARK = "evrt: views of an event log"
"""The comment on the schema, by which it is told from another program's."""

UNDEFINED = ("42P01", "3F000")
"""SQLSTATEs of a table and of a schema that is not there."""

MISFIT = ("22", "42883", "42804")
"""Beginnings of SQLSTATEs of a value that a column cannot be compared with."""

_TABLE = re.compile(r'(?<![\w".])(views|log|(?:view|families|marks|snapshots)_\d+)(?![\w"])')
_TEXT = 'text COLLATE "C"'
_NUMBERS = {bool: "bigint", int: "bigint", float: "double precision"}


def views_schema(address: Address) -> Address:
    """Where the views of a log are: the name of its schema and ``_views``, another where that would be too long."""
    name = f"{address.schema}_views"
    if len(name.encode()) > NAME_BYTES_MAX:
        name = f"views_{hashlib.sha256(name.encode()).hexdigest()[:40]}"
    return address._replace(schema=name)


@lru_cache(maxsize=2_048)
def in_postgres(sql: str, schema: str) -> str:
    """A statement of the views as PostgreSQL has it, with the quoted name of the schema."""
    text = sql.replace("%", "%%").replace(" IS ?", " IS NOT DISTINCT FROM ?").replace("?", "%s")
    # There the order of a join is the planner's to choose.
    text = text.replace("CROSS JOIN", "JOIN").replace(" STRICT", "").replace(", WITHOUT ROWID", "")
    if text.lstrip().startswith("CREATE TABLE"):
        text = text.replace("INTEGER", "bigint").replace("TEXT", _TEXT)
    return _TABLE.sub(rf"{schema}.\1", text)


def column_type(projection: AnyProjection, field: str) -> str:
    """The type of the column of an indexed field: a number's where it can hold nothing else, else text."""
    known = projection.document.model_fields.get(field)
    annotation = known.annotation if known is not None else None
    union = typing.get_origin(annotation) in (Union, types.UnionType)
    kinds: set[Any] = set(typing.get_args(annotation)) if union else {annotation}
    kinds.discard(type(None))
    return _NUMBERS.get(kinds.pop(), _TEXT) if len(kinds) == 1 else _TEXT


def as_column(projection: AnyProjection, field: str, value: object) -> object:
    """An indexed value as its column takes it."""
    found = column(value)
    return found if found is None or column_type(projection, field) != _TEXT else str(found)


def _parameters(values: Iterable[object]) -> tuple[object, ...]:
    """Values as PostgreSQL takes them: its texts have no zero character."""
    return tuple([v.replace("\x00", "\u2400") if isinstance(v, str) and "\x00" in v else v for v in values])


class Translated:
    """A connection inside a transaction that takes the statements of ``evrt.projector.transactions``."""

    def __init__(self, connection: psycopg.Connection[Any], schema: str) -> None:
        self._connection = connection
        self._schema = schema

    def execute(self, sql: str, parameters: Iterable[object] = (), /) -> psycopg.Cursor[Any]:
        text: Any = in_postgres(sql, self._schema)
        return self._connection.execute(text, _parameters(parameters), binary=True)

    def executemany(self, sql: str, parameters: Iterable[Iterable[object]], /) -> None:
        rows = [_parameters(row) for row in parameters]
        if rows:
            text: Any = in_postgres(sql, self._schema)
            with self._connection.cursor() as cursor:
                cursor.executemany(text, rows)

    def tables_of(self, view: int, projection: AnyProjection) -> list[str]:
        """The statements that make a generation's tables."""
        made = tables_of(view, projection)
        for field in projection.indexed:
            name = f'"{INDEX_COLUMN}{field}"'
            made[0] = made[0].replace(f"{name} ANY", f"{name} {column_type(projection, field)}")
        return made


class SchemaStore(ViewStore):
    """``open_schema`` gives one. Writers take their turns by a lock of the database, as those of a file do."""

    def __init__(self, address: Address, log: str) -> None:
        self._address = views_schema(address)
        super().__init__(f"{self._address.shown} (schema {self._address.schema})", log)
        self._connection: psycopg.Connection[Any] | None = None

    def as_column(self, projection: AnyProjection, field: str, value: object) -> object:
        return as_column(projection, field, value)

    def _transact(self, work: Callable[[Any], R], writes: bool) -> R:
        try:
            try:
                return self._once(work, writes)
            except psycopg.Error as error:
                # It was lost while it lay idle, or in the middle: then whoever commits again finds the cursor moved, or
                # not. Or somebody has dropped the schema: it is made anew.
                if not is_lost(error) and error.sqlstate not in UNDEFINED:
                    raise
                self._disconnect()
                return self._once(work, writes)
        except psycopg.Error as error:
            self._disconnect()
            raise translate(error, self._address, "The views cannot be written") from error

    def _once(self, work: Callable[[Any], R], writes: bool) -> R:
        connection = self._connected()
        schema = self._address.quoted_schema
        with connection.transaction():
            if writes:
                connection.execute("SET LOCAL synchronous_commit = off")
                _take_turn(connection, self._address)
            else:
                connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            done = work(Translated(connection, schema))
            if writes:
                channel = sql_of.Identifier(self._address.channel)
                connection.execute(sql_of.SQL("NOTIFY {}").format(channel))
        return done

    def _connected(self) -> psycopg.Connection[Any]:
        if self._connection is None or self._connection.closed:
            connection = connect_writing(self._address, lock_timeout_seconds=LOCK_TIMEOUT_SECONDS)
            try:
                _prepare(connection, self._address, self._log)
            except BaseException:
                connection.close()
                raise
            self._connection = connection
        return self._connection

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(psycopg.Error):
                connection.close()


async def open_schema(address: Address, log: str) -> SchemaStore:
    """The views of the log with this id; made where there are none, emptied where they are of another log.

    Raises UnusableLog where the schema is another program's, Denied (this user may not make or change it), Unavailable.
    """
    store = SchemaStore(address, log)
    try:
        await store.generations()
    except BaseException:
        await store.aclose()
        raise
    return store


def _prepare(connection: psycopg.Connection[Any], address: Address, log: str) -> None:
    """Have the schema be there, of this version and this log. Raises UnusableLog, Denied."""
    if _is_prepared(connection, address, log):
        return
    with connection.transaction():
        _take_turn(connection, address)
        if _is_prepared(connection, address, log):
            return
        schema = address.quoted_schema
        first = secrets.randbits(FIRST_ID_BITS) + 1
        # One that is there stays, with its owner and the rights to it: who keeps the views may be unable to make it.
        old = connection.execute(_TABLES, (address.schema,)).fetchall()
        gone = [f"DROP TABLE {schema}.{_quoted(name)} CASCADE;" for (name,) in old]
        made: Any = f"""
            {"".join(gone)}
            {"" if _look(connection, address) else f"CREATE SCHEMA {schema};"}
            CREATE TABLE {schema}.log (
                one integer PRIMARY KEY CHECK (one = 1), id text NOT NULL, version integer NOT NULL
            );
            CREATE TABLE {schema}.views (
                id bigint GENERATED BY DEFAULT AS IDENTITY (START WITH {first}) PRIMARY KEY,
                name text COLLATE "C" NOT NULL,
                version bigint NOT NULL,
                shape text NOT NULL,
                stage text NOT NULL CHECK (stage IN ('live', 'building')),
                cursor bigint NOT NULL,
                leaf bytea,
                owner text,
                error text,
                error_position bigint,
                UNIQUE (name, stage)
            );
            COMMENT ON SCHEMA {schema} IS '{MARK}';
        """
        connection.execute(made)
        filled: Any = f"INSERT INTO {schema}.log VALUES (1, %s, %s)"
        connection.execute(filled, (log, SCHEMA_VERSION))


_LOOK = """
SELECT
    pg_catalog.obj_description(n.oid, 'pg_namespace'),
    EXISTS (SELECT FROM pg_catalog.pg_class AS c WHERE c.relnamespace = n.oid AND c.relname = 'log'),
    pg_catalog.pg_has_role(n.nspowner, 'MEMBER'),
    pg_catalog.pg_get_userbyid(n.nspowner)
FROM pg_catalog.pg_namespace AS n WHERE n.nspname = %s
"""

_TABLES = """
SELECT c.relname FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
WHERE n.nspname = %s AND c.relkind = 'r'
"""

_TURN = """
SELECT pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtextextended(%s, 46)), (
    SELECT pg_catalog.set_config('role', pg_catalog.pg_get_userbyid(n.nspowner), true)
    FROM pg_catalog.pg_namespace AS n WHERE n.nspname = %s
)
"""


def _take_turn(connection: psycopg.Connection[Any], address: Address) -> None:
    """For one transaction: keep the other writers out, and be the schema's owner, where there is one."""
    connection.execute(_TURN, (address.quoted_schema, address.schema))


def _look(connection: psycopg.Connection[Any], address: Address) -> tuple[Any, ...] | None:
    found = connection.execute(_LOOK, (address.schema,)).fetchone()
    return None if found is None else tuple(found)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _is_prepared(connection: psycopg.Connection[Any], address: Address, log: str) -> bool:
    found = _look(connection, address)
    if found is None:
        return False
    mark, inhabited, member, owner = found
    if mark != MARK:
        raise UnusableLog(
            f"The schema {address.schema} of {address.shown} is in the way: views are to be kept there, and it is another "
            "program's. It has been left as it is; rename it, and the views are built from the log."
        )
    if not member:
        raise Denied(
            f"The views in the schema {address.schema} of {address.shown} are kept by members of the role {owner}, and this "
            "user is none. `evrt db roles` writes the statements that make one a member."
        )
    if not inhabited:
        return False
    told: Any = f"SELECT id, version FROM {address.quoted_schema}.log"
    return connection.execute(told).fetchone() == (log, SCHEMA_VERSION)


class SchemaReader(ViewReader):
    """Reads the schema that is there, whoever has made it."""

    def __init__(self, address: Address) -> None:
        super().__init__()
        self._address = views_schema(address)
        self._readers = Readers(self._address)
        self._listener = Listener(self._address, self.bell, None)

    async def changed(self, seen: int, timeout_seconds: float) -> None:
        self._listener.watch()
        await self.bell.wait(seen, timeout_seconds)

    async def _fetch(self, sql: str, *parameters: object) -> list[Any]:
        text = in_postgres(sql, self._address.quoted_schema)
        try:
            return await self._readers.fetch(text, _parameters(parameters))
        except (UnicodeEncodeError, OverflowError) as error:
            raise InvalidInput(
                f"No view can be asked for what is no text or no number in 64 bits: {error}."
            ) from error
        except EvrtError as error:
            if self._is_gone(error) and "FROM views" in sql and "JOIN" not in sql:
                return []  # The schema has been dropped, and whoever keeps the views makes it anew.
            if _state(error).startswith(MISFIT):
                raise InvalidInput(
                    f"No view can be asked for a value of another kind than its fields have: {error.__cause__}."
                ) from error
            raise

    @asynccontextmanager
    async def standing_still(self) -> AsyncIterator[Fetch]:
        schema = self._address.quoted_schema
        try:
            connection = await connect_reading(self._address, "verifier")
        except psycopg.Error as error:
            raise translate(error, self._address, "The views cannot be read") from error

        async def fetch(sql: str, *parameters: object) -> list[Any]:
            text: Any = in_postgres(sql, schema)
            try:
                cursor = await connection.execute(text, _parameters(parameters), binary=True)
                return await cursor.fetchall()
            except psycopg.Error as error:
                raise translate(error, self._address, "The views cannot be read") from error

        try:
            await connection.set_isolation_level(psycopg.IsolationLevel.REPEATABLE_READ)
            async with connection.transaction():
                yield fetch
        finally:
            await connection.close()

    def _is_gone(self, error: EvrtError) -> bool:
        return _state(error) in UNDEFINED

    def _parameter(self, projection: AnyProjection, field: str, value: object) -> object:
        return as_column(projection, field, value)

    async def aclose(self) -> None:
        self.bell.ring()
        await self._listener.close()
        await self._readers.close()


def _state(error: EvrtError) -> str:
    return getattr(error.__cause__, "sqlstate", None) or ""
