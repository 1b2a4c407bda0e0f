"""Frames in unlogged tables of PostgreSQL, in a schema beside that of their log: a crash of the server empties them."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import lru_cache
from typing import Any, TypeVar

import psycopg
from psycopg import sql as sql_of

from evrt.errors import EvrtError, UnusableLog
from evrt.live import store
from evrt.live.store import SCHEMA_VERSION, TABLES, Batch, Executes, LiveReader, LiveStore
from evrt.log.postgres.address import NAME_BYTES_MAX, Address
from evrt.log.postgres.connect import Timed, connect_writing, is_lost, translate
from evrt.log.postgres.listening import Listener
from evrt.log.postgres.reader import Readers
from evrt.log.subscribe import Bell

T = TypeVar("T")

MARK = "evrt: streaming text of an event log"
"""The comment on the schema, by which it is told from another program's."""

LOCK_TIMEOUT_SECONDS = 2.0
WRITE_SECONDS_MAX = 5.0
"""A server that does not answer for so long is taken for lost."""

UNDEFINED = ("42P01", "3F000")


def live_schema(address: Address) -> Address:
    """Where a log's frames are: the name of its schema and ``_live``, another where that would be too long."""
    name = f"{address.schema}_live"
    if len(name.encode()) > NAME_BYTES_MAX:
        name = f"live_{hashlib.sha256(name.encode()).hexdigest()[:40]}"
    return address._replace(schema=name)


@lru_cache(maxsize=64)
def _in_postgres(sql: str) -> str:
    """A statement with PostgreSQL's parameters; the schema is named in it later, or by ``_named``."""
    return sql.replace("?", "%s")


class _Connection:
    def __init__(self, connection: psycopg.Connection[Any], schema: str) -> None:
        self._connection = connection
        self._schema = schema

    def execute(self, sql: str, parameters: Sequence[object] = (), /) -> Any:
        text: Any = _in_postgres(sql).replace("@.", f"{self._schema}.")
        return self._connection.execute(text, parameters)


class SchemaStore(LiveStore):
    """Where the schema has been dropped, or emptied by a crash of the server, it is made anew."""

    def __init__(self, address: Address, log: str) -> None:
        self._address = live_schema(address)
        self._log = log
        self._connection: Timed | None = None

    def write(self, batch: Batch) -> None:
        self._transact(lambda connection: store.write_batch(connection, batch), pipelined=True)

    def sweep(self, kept_seconds: float, quiet_seconds: float, runs_max: int) -> list[str]:
        return self._transact(
            lambda connection: store.sweep(connection, kept_seconds, quiet_seconds, runs_max), pipelined=False
        )

    def _transact(self, work: Callable[[Executes], T], *, pipelined: bool) -> T:
        try:
            try:
                return self._once(work, pipelined)
            except psycopg.Error as error:
                if not is_lost(error) and error.sqlstate not in UNDEFINED:
                    raise
                self.close()  # It may have been lost while it lay idle.
                return self._once(work, pipelined)
        except psycopg.Error as error:
            self.close()
            raise translate(error, self._address, "Streaming text cannot be written") from error

    def _once(self, work: Callable[[Executes], T], pipelined: bool) -> T:
        connection = self._connected()
        connection.deadline = time.monotonic() + WRITE_SECONDS_MAX
        schema = self._address.quoted_schema
        notify = sql_of.SQL("NOTIFY {}").format(sql_of.Identifier(self._address.channel))
        if pipelined:
            with connection.pipeline(), connection.transaction():
                done = work(_Connection(connection, schema))
                connection.execute(notify)
            return done
        with connection.transaction():
            return work(_Connection(connection, schema))

    def _connected(self) -> Timed:
        if self._connection is None or self._connection.closed:
            connection = connect_writing(
                self._address, lock_timeout_seconds=LOCK_TIMEOUT_SECONDS, purpose="live writer"
            )
            try:
                _prepare(connection, self._address, self._log)
            except BaseException:
                connection.close()
                raise
            self._connection = connection
        return self._connection

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(psycopg.Error):
                connection.close()


def _prepare(connection: psycopg.Connection[Any], address: Address, log: str) -> None:
    """Have the schema be there, of this version and this log. Raises UnusableLog."""
    if _is_prepared(connection, address, log):
        return
    schema = address.quoted_schema
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 46))", (schema,))
        if _is_prepared(connection, address, log):
            return
        made: Any = f"DROP SCHEMA IF EXISTS {schema} CASCADE; CREATE SCHEMA {schema}"
        connection.execute(made)
        for statement in TABLES:
            text: Any = statement.format(unlogged="UNLOGGED", clustered="").replace("@.", f"{schema}.")
            connection.execute(text)
        # Logged: a crash of the server empties the others, and this one says whose they are.
        text = f"""
            CREATE TABLE {schema}.log (id text NOT NULL, version integer NOT NULL);
            COMMENT ON SCHEMA {schema} IS '{MARK}'
        """
        connection.execute(text)
        text = f"INSERT INTO {schema}.log VALUES (%s, %s)"
        connection.execute(text, (log, SCHEMA_VERSION))


def _is_prepared(connection: psycopg.Connection[Any], address: Address, log: str) -> bool:
    found = connection.execute(
        "SELECT pg_catalog.obj_description(oid, 'pg_namespace') FROM pg_catalog.pg_namespace WHERE nspname = %s",
        (address.schema,),
    ).fetchone()
    if found is None:
        return False
    if found[0] != MARK:
        raise UnusableLog(
            f"The schema {address.schema} of {address.shown} is in the way: text that streams is to be kept there, and it "
            "is another program's. It has been left as it is; rename it."
        )
    told: Any = f"SELECT id, version FROM {address.quoted_schema}.log"
    return connection.execute(told).fetchone() == (log, SCHEMA_VERSION)


class SchemaReader(LiveReader):
    """Reads the schema that is there, whoever has made it."""

    def __init__(self, address: Address) -> None:
        super().__init__(Bell())
        self._address = live_schema(address)
        self._readers = Readers(self._address)
        self._listener = Listener(self._address, self.bell, None)

    async def _fetch(self, sql: str, parameters: Sequence[object]) -> list[Any]:
        try:
            return await self._readers.fetch(_in_postgres(sql), parameters)
        except EvrtError as error:
            if getattr(error.__cause__, "sqlstate", None) in UNDEFINED:
                return []
            raise

    async def changed(self, seen: int, timeout_seconds: float) -> None:
        self._listener.watch()
        await self.bell.wait(seen, timeout_seconds)

    async def aclose(self) -> None:
        self.bell.ring()
        await self._listener.close()
        await self._readers.close()
