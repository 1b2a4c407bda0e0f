"""Reading: connections that cannot write, one set for each event loop that reads, opened at first use."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterable
from typing import Any

import aiosqlite

from evrt.errors import EvrtError, Unavailable
from evrt.log.sqlite.connect import (
    BUSY_TIMEOUT_SECONDS,
    LYING_STILL,
    Shape,
    cannot_read,
    lacks_index,
    reading_uris,
    shape,
)
from evrt.log.subscribe import Bell, call_in
from evrt.log.writing import closed_error

POLL_SECONDS = 0.02
"""How often a waiting subscription looks for what other processes have committed."""

IDLE_POLLS_MAX = 50
"""Polls without anybody waiting before the poller ends; the next to wait starts it again."""


class Reader:
    """One read-only connection. Rows come back to whichever loop asks. ``what`` is at the path, for errors."""

    def __init__(self, path: str, what: str = "The log") -> None:
        self._path = path
        self._what = what
        self._opening: asyncio.Task[aiosqlite.Connection] | None = None
        self._connection: aiosqlite.Connection | None = None
        self._still: Shape | None = None
        """The files as they were when they were opened as ones that lie still."""
        self._closed = False

    async def fetch(self, sql: str, parameters: Iterable[Any] = ()) -> list[Any]:
        """All rows of one SELECT, which sees one committed state of the log."""
        while True:
            connection = None
            try:
                connection = self._connection or await self._open()
                rows = list(await connection.execute_fetchall(sql, parameters))
                if self._still is None or self._still == shape(self._path):
                    return rows
                # It did not lie still: what has been read may be out of date, or torn.
                await self._leave(connection)
            except (sqlite3.Error, ValueError) as error:
                # A ValueError is what aiosqlite raises for a connection that has been closed meanwhile.
                if self._closed:
                    raise closed_error() from None
                if isinstance(error, sqlite3.Error):
                    raise cannot_read(error, self._path, f"{self._what} cannot be read") from error
                if connection is self._connection:
                    raise
            except MemoryError:
                raise Unavailable(
                    f"{self._what} {self._path} cannot be read: this process has run out of memory."
                ) from None
            except OSError as error:
                raise Unavailable(f"{self._what} {self._path} cannot be read: {error.strerror}.") from error

    async def _open(self) -> aiosqlite.Connection:
        if self._closed:
            raise closed_error()
        opening = self._opening
        if opening is None or opening.done():
            opening = self._opening = asyncio.get_running_loop().create_task(self._connect())
        # Shielded: a reader that is cancelled does not take the connection from the others.
        return await asyncio.shield(opening)

    async def _connect(self) -> aiosqlite.Connection:
        still = shape(self._path)
        uris = reading_uris(self._path)
        for number, uri in enumerate(uris, start=1):
            connection = aiosqlite.connect(uri, uri=True, timeout=BUSY_TIMEOUT_SECONDS, isolation_level=None)
            # A log that nobody closed must not keep the interpreter from ending.
            connection._thread.daemon = True
            await connection
            try:
                await connection.execute_fetchall("PRAGMA data_version")
            except BaseException as error:
                await connection.close()
                if number < len(uris) and isinstance(error, sqlite3.OperationalError) and lacks_index(error):
                    continue
                raise
            self._still = still if uri.endswith(LYING_STILL) else None
            self._connection = connection
            return connection
        raise AssertionError("There is always one URI to try.")

    async def _leave(self, connection: aiosqlite.Connection) -> None:
        """Have the next to read open another connection."""
        if self._connection is connection:
            self._connection = self._opening = None
            await connection.close()

    async def close(self) -> None:
        self._closed = True
        if self._opening is not None and not self._opening.done():
            await asyncio.wait([self._opening])
        if self._connection is not None:
            await self._connection.close()


class LoopReaders:
    """What one event loop reads with: a connection for rows, and a poller while somebody waits."""

    def __init__(self, path: str, bell: Bell, what: str = "The log") -> None:
        self._path = path
        self._bell = bell
        self._loop = asyncio.get_running_loop()
        self._poller: asyncio.Task[None] | None = None
        self.rows = Reader(path, what)

    def watch(self) -> None:
        """Have the bell rung when another connection commits, as long as somebody waits for it."""
        if self._poller is None or self._poller.done():
            self._poller = self._loop.create_task(self._poll())

    async def _poll(self) -> None:
        reader = Reader(self._path)
        seen: list[Any] | None = None
        idle = 0
        try:
            while idle < IDLE_POLLS_MAX:
                version = await reader.fetch("PRAGMA data_version")
                # The first look counts as a change: who waits has read before it.
                if version != seen:
                    seen = version
                    self._bell.ring()
                await asyncio.sleep(POLL_SECONDS)
                idle = 0 if self._bell.waited_for else idle + 1
        except EvrtError:
            # Whoever waits reads again after a second, and meets the same trouble there.
            return
        finally:
            await reader.close()

    async def close(self) -> None:
        """Close, from any loop."""
        poller = self._poller
        if poller is not None and not poller.done():
            if self._loop is asyncio.get_running_loop():
                poller.cancel()
                await asyncio.wait([poller])
            else:
                call_in(self._loop, poller.cancel)
        await self.rows.close()
