"""Views in a file beside the log: where they are kept for a log in SQLite, or for this process alone."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar

import aiosqlite

from evrt.errors import EvrtError, InvalidInput, Unavailable, UnusableLog, UsageError
from evrt.log.sqlite.connect import BUSY_TIMEOUT_SECONDS, Identity, file_identity
from evrt.log.sqlite.reader import LoopReaders
from evrt.projector import transactions
from evrt.projector.opening import connect, in_the_way, is_of_log, trouble
from evrt.projector.reading import Fetch, ViewReader
from evrt.projector.records import Change
from evrt.projector.store import ViewStore

R = TypeVar("R")

WHAT = "The file of the views"


class FileStore(ViewStore):
    """``open_file`` gives one. Where the file has been removed or replaced since, another connection is opened, and the
    views are those that are there now."""

    def __init__(self, path: str, log: str) -> None:
        super().__init__(path, log)
        self._connection: sqlite3.Connection | None = None
        self._identity: Identity | None = None

    async def commit(self, changes: Sequence[Change], owner: str) -> bool:
        if not any(change.forgotten for change in changes):
            return await super().commit(changes, owner)

        def forget(connection: transactions.Connection) -> bool:
            # What is thrown away is overwritten, in pages that hold nothing else by now too.
            connection.execute("PRAGMA secure_delete = ON")
            try:
                return transactions.commit(connection, changes, owner)
            finally:
                connection.execute("PRAGMA secure_delete = FAST")

        switched = await self._do(forget)
        # And leaves the WAL as well, unless somebody reads an older state just now: then when it is next begun anew.
        await asyncio.get_running_loop().run_in_executor(self._thread, self._empty_wal)
        return switched

    def _empty_wal(self) -> None:
        if self._connection is not None:
            with suppress(sqlite3.Error):
                self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def _transact(self, work: Callable[[sqlite3.Connection], R], writes: bool) -> R:
        try:
            connection = self._connected()
            connection.execute("BEGIN IMMEDIATE" if writes else "BEGIN")
            try:
                if not is_of_log(connection, self._log):
                    raise UnusableLog(
                        f"{self.place} holds views of another log by now, so the log that is open here has been replaced "
                        "by another. Start this program again."
                    )
                done = work(connection)
                connection.execute("COMMIT")
            except BaseException:
                self._take_back(connection)
                raise
            return done
        except sqlite3.Error as error:
            raise trouble(error, self.place, "The views cannot be written") from error
        except MemoryError:
            raise Unavailable(
                f"The views {self.place} cannot be written: this process has run out of memory."
            ) from None

    def _connected(self) -> sqlite3.Connection:
        if self._connection is not None and self._identity == identity(self.place):
            return self._connection
        self._disconnect()
        self._connection = connect(self.place, self._log)
        self._identity = identity(self.place)
        return self._connection

    def _take_back(self, connection: sqlite3.Connection) -> None:
        try:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        except sqlite3.Error:
            # Closing it rolls back as well.
            self._disconnect()

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(sqlite3.Error):
                connection.close()


async def open_file(path: str, log: str) -> FileStore:
    """The views of the log with this id, at this path; made where there are none, emptied where they are of another log.

    Raises UnusableLog where the file is something else, or of a newer evrt; Denied; Unavailable.
    """
    store = FileStore(path, log)
    try:
        await store.generations()
    except BaseException:
        await store.aclose()
        raise
    return store


def identity(path: str) -> Identity | None:
    """Which file is there, if any."""
    try:
        return file_identity(path)
    except OSError:
        return None


class FileReader(ViewReader):
    """Reads the file that is there, whoever has put it there."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self._path = path
        self._identity: Identity | None = None
        self._readers = LoopReaders(path, self.bell, WHAT)

    async def changed(self, seen: int, timeout_seconds: float) -> None:
        self._readers.watch()
        await self.bell.wait(seen, timeout_seconds)

    async def _fetch(self, sql: str, *parameters: object) -> list[Any]:
        await self._look_for_another_file()
        readers = self._readers
        try:
            return await readers.rows.fetch(sql, parameters)
        except UsageError:
            if readers is self._readers:
                raise
            # Somebody else has just turned to another file.
            return await self._readers.rows.fetch(sql, parameters)
        except UnusableLog as error:
            if getattr(error.__cause__, "sqlite_errorname", "") == "SQLITE_NOTADB":
                raise in_the_way(self._path, "it is no database, or its beginning is damaged") from error
            raise UnusableLog(
                f"The file of the views {self._path} is damaged ({error.__cause__}). Nothing of the log is lost: remove "
                "the file and its -wal and -shm while no program uses it, and the views are built again from the log."
            ) from error
        except Unavailable as error:
            if "no such table: views" in str(error.__cause__):
                return []  # The file has just been made.
            raise
        except (UnicodeEncodeError, OverflowError) as error:
            raise InvalidInput(
                f"No view can be asked for what is no text or no number in 64 bits: {error}."
            ) from error

    @asynccontextmanager
    async def standing_still(self) -> AsyncIterator[Fetch]:
        try:
            connection = await aiosqlite.connect(
                self._path, timeout=BUSY_TIMEOUT_SECONDS, isolation_level=None
            )
        except sqlite3.Error as error:
            raise trouble(error, self._path, "The views cannot be read") from error

        async def fetch(sql: str, *parameters: object) -> list[Any]:
            try:
                return list(await connection.execute_fetchall(sql, parameters))
            except sqlite3.Error as error:
                raise trouble(error, self._path, "The views cannot be read") from error

        try:
            await fetch("BEGIN")
            yield fetch
        finally:
            await connection.close()

    def _is_gone(self, error: EvrtError) -> bool:
        return "no such table" in str(error.__cause__)

    async def _look_for_another_file(self) -> None:
        """Read the file that is there now, where the one that was open has been removed and made anew."""
        there = identity(self._path)
        if there is None or there == self._identity:
            return
        before, self._identity = self._identity, there
        if before is not None:
            readers, self._readers = self._readers, LoopReaders(self._path, self.bell, WHAT)
            await readers.close()

    async def aclose(self) -> None:
        self.bell.ring()
        await self._readers.close()
