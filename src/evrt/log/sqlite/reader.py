"""Reading: connections that cannot write, one set for each event loop that reads, opened at first use."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import aiosqlite

from evrt.errors import EvrtError, UsageError
from evrt.log.sqlite.connect import BUSY_TIMEOUT_SECONDS, reading_uri, translate

if TYPE_CHECKING:
    from evrt.log.subscribe import Bell

POLL_SECONDS = 0.02
"""How often a waiting subscription looks for what other processes have committed."""

IDLE_POLLS_MAX = 50
"""Polls without anybody waiting before the poller ends; the next to wait starts it again."""


class Reader:
    """One read-only connection, used from one event loop."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._connection: aiosqlite.Connection | None = None
        self._opening = asyncio.Lock()
        self._closed = False

    async def fetch(self, sql: str, parameters: Iterable[Any] = ()) -> list[Any]:
        """All rows of one SELECT, which sees one committed state of the log."""
        try:
            connection = self._connection or await self._open()
            return list(await connection.execute_fetchall(sql, parameters))
        except sqlite3.Error as error:
            raise translate(error, self._path, "The log cannot be read") from error
        except ValueError:
            # What aiosqlite raises for a connection that has been closed meanwhile.
            if self._closed:
                raise closed_error() from None
            raise

    async def _open(self) -> aiosqlite.Connection:
        async with self._opening:
            if self._closed:
                raise closed_error()
            if self._connection is None:
                connection = aiosqlite.connect(
                    reading_uri(self._path), uri=True, timeout=BUSY_TIMEOUT_SECONDS, isolation_level=None
                )
                # A log that nobody closed must not keep the interpreter from ending.
                connection._thread.daemon = True
                self._connection = await connection
                await connection.execute("PRAGMA query_only = ON")
            return self._connection

    async def close(self) -> None:
        self._closed = True
        async with self._opening:
            if self._connection is not None:
                await self._connection.close()


class LoopReaders:
    """What one event loop reads with: a connection for rows, and a poller while somebody waits."""

    def __init__(self, path: str, bell: Bell) -> None:
        self._path = path
        self._bell = bell
        self._poller: asyncio.Task[None] | None = None
        self.rows = Reader(path)

    def watch(self) -> None:
        """Have the bell rung when another connection commits, as long as somebody waits for it."""
        if self._poller is None or self._poller.done():
            self._poller = asyncio.get_running_loop().create_task(self._poll())

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
        if self._poller is not None:
            self._poller.cancel()
            await asyncio.wait([self._poller])
        await self.rows.close()


def closed_error() -> EvrtError:
    return UsageError("This log has been closed; open it again.")
