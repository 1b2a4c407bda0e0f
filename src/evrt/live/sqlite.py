"""Frames in a file beside a log in SQLite: ``<db>-live``, never synced, emptied where it is another log's."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, TypeVar

from evrt.errors import EvrtError, UnusableLog, UsageError
from evrt.live import store
from evrt.live.memory import in_sqlite
from evrt.live.store import SCHEMA_VERSION, TABLES, Batch, Executes, LiveReader, LiveStore
from evrt.log.sqlite.connect import Identity, file_identity, translate
from evrt.log.sqlite.reader import LoopReaders
from evrt.log.subscribe import Bell

T = TypeVar("T")

APPLICATION_ID = 0x65766C76
"""``evlv``: by which the file is told from another program's."""

BUSY_SECONDS = 2.0
MISSING_LOOK_SECONDS = 0.1
"""How often it is looked for a file that is not there yet, while somebody waits for frames."""


class _Connection:
    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def execute(self, sql: str, parameters: Sequence[object] = (), /) -> Any:
        return self._connection.execute(in_sqlite(sql), parameters)


class FileStore(LiveStore):
    """Where the file has been removed or replaced since, another connection is opened."""

    def __init__(self, path: str, log: str) -> None:
        self._path = path
        self._log = log
        self._connection: sqlite3.Connection | None = None
        self._identity: Identity | None = None

    def write(self, batch: Batch) -> None:
        self._transact(lambda connection: store.write_batch(connection, batch))

    def sweep(self, kept_seconds: float, quiet_seconds: float, runs_max: int) -> list[str]:
        return self._transact(
            lambda connection: store.sweep(connection, kept_seconds, quiet_seconds, runs_max)
        )

    def _transact(self, work: Callable[[Executes], T]) -> T:
        try:
            connection = self._connected()
            connection.execute("BEGIN IMMEDIATE")
            done = work(_Connection(connection))
            connection.execute("COMMIT")
            return done
        except sqlite3.Error as error:
            self.close()  # Which rolls back as well.
            raise translate(error, self._path, "Streaming text cannot be written") from error

    def _connected(self) -> sqlite3.Connection:
        if self._connection is not None and self._identity == _identity(self._path):
            return self._connection
        self.close()
        self._connection = _connect(self._path, self._log)
        self._identity = _identity(self._path)
        return self._connection

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(sqlite3.Error):
                connection.close()


def _identity(path: str) -> Identity | None:
    try:
        return file_identity(path)
    except OSError:
        return None


def _connect(path: str, log: str) -> sqlite3.Connection:
    if os.path.lexists(path) and not os.path.isfile(path):
        # Opening a named pipe would wait for ever.
        raise _in_the_way(path)
    connection = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    try:
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        if application != APPLICATION_ID and (application or tables):
            raise _in_the_way(path)
        for pragma in ("journal_mode = WAL", "synchronous = OFF", "secure_delete = FAST"):
            connection.execute(f"PRAGMA {pragma}").fetchall()
        if not _is_of(connection, log):
            _make(connection, log)
    except BaseException as error:
        connection.close()
        if getattr(error, "sqlite_errorname", "") in ("SQLITE_NOTADB", "SQLITE_CORRUPT"):
            raise _in_the_way(path) from error
        raise
    return connection


def _make(connection: sqlite3.Connection, log: str) -> None:
    connection.execute("BEGIN IMMEDIATE")
    if not _is_of(connection, log):
        for table in ("calls", "frames", "log"):
            connection.execute(f"DROP TABLE IF EXISTS {table}")
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        for statement in TABLES:
            connection.execute(in_sqlite(statement))
        connection.execute("CREATE TABLE log (id text NOT NULL)")
        connection.execute("INSERT INTO log VALUES (?)", (log,))
    connection.execute("COMMIT")


def _is_of(connection: sqlite3.Connection, log: str) -> bool:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return version == SCHEMA_VERSION and connection.execute("SELECT id FROM log").fetchall() == [(log,)]


def _in_the_way(path: str) -> UnusableLog:
    return UnusableLog(
        f"{path} is in the way: text that streams is to be kept there, and it is damaged or another program's. It has "
        "been left as it is; move it to another name, and others see again what models say while they say it."
    )


class FileReader(LiveReader):
    """Reads the file that is there, whoever has put it there."""

    def __init__(self, path: str) -> None:
        super().__init__(Bell())
        self._path = path
        self._identity: Identity | None = None
        self._readers = LoopReaders(path, self.bell, "The file of streaming text")

    async def _fetch(self, sql: str, parameters: Sequence[object]) -> list[Any]:
        there = _identity(self._path)
        if there is None:
            return []
        if there != self._identity:
            before, self._identity = self._identity, there
            if before is not None:
                readers, self._readers = (
                    self._readers,
                    LoopReaders(self._path, self.bell, "The file of streaming text"),
                )
                await readers.close()
        readers = self._readers
        try:
            return await readers.rows.fetch(in_sqlite(sql), parameters)
        except UsageError:
            if readers is self._readers:
                raise
            return []  # Somebody else has just turned to another file.
        except EvrtError as error:
            if "no such table" in str(error.__cause__) or _identity(self._path) is None:
                return []  # The file has just been made, or removed.
            raise

    async def changed(self, seen: int, timeout_seconds: float) -> None:
        if _identity(self._path) is None:
            await self.bell.wait(seen, min(timeout_seconds, MISSING_LOOK_SECONDS))
            return
        self._readers.watch()
        await self.bell.wait(seen, timeout_seconds)

    async def aclose(self) -> None:
        self.bell.ring()
        await self._readers.close()
