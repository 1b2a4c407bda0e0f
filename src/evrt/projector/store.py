"""The file of the views, as its writer sees it: generations, documents to fold on from, and what a batch changes.

Documents and cursor change in one transaction, and only where the cursor is still the one that the batch began at.
So of two projectors that work on one view, dead, frozen or alive, one is always refused and looks again, and a view
is at every moment the fold of the events up to its cursor.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TypeVar

from pydantic import BaseModel

from evrt.errors import Unavailable, UnusableLog, UsageError
from evrt.log.sqlite.connect import Identity, file_identity
from evrt.projection import AnyProjection, Document, Place, Projection
from evrt.projector import transactions
from evrt.projector.opening import connect, is_of_log, trouble
from evrt.projector.records import (
    Change,
    Family,
    Generation,
    Kept,
    Misfit,
)

D = TypeVar("D", bound=BaseModel)
R = TypeVar("R")


class ViewStore:
    """The connection that writes, of one event loop. ``open_store`` gives one.

    Each transaction is one call in a thread of its own, from BEGIN to COMMIT: nobody who is cancelled meanwhile
    leaves one open, and another's work never gets into it. Where the file has been removed or replaced since, another
    connection is opened, and the views are those that are there now.
    """

    def __init__(self, path: str, log: str) -> None:
        self.path = path
        self._log = log
        self._process = os.getpid()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="evrt views")
        self._connection: sqlite3.Connection | None = None
        self._identity: Identity | None = None
        self._closed = False

    # ------------------------------------------------------------------------------- generations

    async def generations(self) -> list[Generation]:
        """Every generation of every view."""
        return await self._do(transactions.generations, begin="BEGIN")

    async def ensure(self, projection: AnyProjection) -> Generation | None:
        """The generation that a program with this projection has to keep; made where there is none.

        It is the live one, or where that is of an older version or has other indexes, one that is built beside it.
        None where the live one is of a newer version.
        """
        return await self._do(lambda connection: transactions.ensure(connection, projection))

    async def build(self, projection: AnyProjection, *, anew: bool = False) -> Generation:
        """A generation beside the live one, to take its place when it has been built; ``anew`` drops one begun before.

        Raises UsageError where the live one, or the one that is being built, is of a newer version.
        """
        return await self._do(lambda connection: transactions.build(connection, projection, anew))

    async def remove(self, generation: Generation) -> None:
        """Throw a generation and its documents away, unless somebody has moved it meanwhile."""
        await self._do(lambda connection: transactions.remove_unmoved(connection, generation))

    async def release(self, owner: str) -> None:
        """Let others go on at once with what this owner has kept."""
        await self._do(
            lambda connection: connection.execute("UPDATE views SET owner = NULL WHERE owner = ?", (owner,))
        )

    # --------------------------------------------------------------------------------- documents

    async def load(
        self, generation: Generation, projection: Projection[D], places: Sequence[Place]
    ) -> tuple[dict[Place, Document[D] | Misfit], int]:
        """Those of the documents in these places that there are, and how many bytes their JSON has."""
        return await self._do(
            lambda connection: transactions.load(connection, generation, projection, places), begin="BEGIN"
        )

    async def families(self, generation: Generation, keys: Sequence[str]) -> dict[str, Family]:
        """What is known of these keys."""
        return await self._do(
            lambda connection: transactions.load_families(connection, generation, keys), begin="BEGIN"
        )

    async def changed_since(self, generation: Generation, key: str, position: int) -> list[Kept]:
        """The documents of a key that an event after this position has changed, as they are now."""
        return await self._do(
            lambda connection: transactions.changed_since(connection, generation, key, position),
            begin="BEGIN",
        )

    async def commit(self, changes: Sequence[Change], owner: str) -> bool:
        """Write batches of several generations, all or none. Returns whether a built one has taken its view's place.

        Raises Overtaken, and then nothing is written; Unavailable.
        """
        return await self._do(lambda connection: transactions.commit(connection, changes, owner))

    # ------------------------------------------------------------------------------------- SQLite

    async def _do(self, work: Callable[[sqlite3.Connection], R], begin: str = "BEGIN IMMEDIATE") -> R:
        """Do something in one transaction. Raises Unavailable, UnusableLog, and what the work raises.

        Somebody who is cancelled meanwhile does not know whether it was done: look again.
        """
        if self._process != os.getpid():
            raise forked(self.path)
        if self._closed:
            raise UsageError(f"The views {self.path} have been closed; open them again.")
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._transact, work, begin)

    def _transact(self, work: Callable[[sqlite3.Connection], R], begin: str) -> R:
        try:
            connection = self._connected()
            connection.execute(begin)
            try:
                if not is_of_log(connection, self._log):
                    raise UnusableLog(
                        f"{self.path} holds views of another log by now, so the log that is open here has been replaced "
                        "by another. Start this program again."
                    )
                done = work(connection)
                connection.execute("COMMIT")
            except BaseException:
                self._take_back(connection)
                raise
            return done
        except sqlite3.Error as error:
            raise trouble(error, self.path, "The views cannot be written") from error
        except MemoryError:
            raise Unavailable(
                f"The views {self.path} cannot be written: this process has run out of memory."
            ) from None

    def _connected(self) -> sqlite3.Connection:
        if self._connection is not None and self._identity == _identity(self.path):
            return self._connection
        self._disconnect()
        self._connection = connect(self.path, self._log)
        self._identity = _identity(self.path)
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

    async def aclose(self) -> None:
        """Close the connection, when what is under way has been done. Idempotent."""
        if self._closed or self._process != os.getpid():
            return
        self._closed = True
        closing = asyncio.get_running_loop().run_in_executor(self._thread, self._disconnect)
        self._thread.shutdown(wait=False)
        await asyncio.shield(closing)


async def open_store(path: str, log: str) -> ViewStore:
    """The views of the log with this id, at this path; made where there are none, emptied where they are of another log.

    Raises UnusableLog where the file is something else, or of a newer evrt; Denied; Unavailable.
    """
    store = ViewStore(path, log)
    try:
        await store.generations()
    except BaseException:
        await store.aclose()
        raise
    return store


def forked(path: str) -> UsageError:
    """What a child process is told that goes on with its parent's views."""
    return UsageError(
        f"The views {path} were opened before this process was forked and their thread stayed behind. Open them again "
        "here, or start workers by spawning them."
    )


def _identity(path: str) -> Identity | None:
    try:
        return file_identity(path)
    except OSError:
        return None
