"""Reading: a few connections for each event loop that reads, opened at first use and again when they were lost."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import psycopg
from psycopg.rows import TupleRow

from evrt.log.postgres.address import Address
from evrt.log.postgres.connect import connect_reading, is_lost, translate
from evrt.log.postgres.schema import named
from evrt.log.writing import closed_error

CONNECTIONS_MAX = 4
"""That one event loop reads with at once; further reads wait their turn."""

Connection = psycopg.AsyncConnection[TupleRow]


class Readers:
    """What one event loop reads with."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._loop = asyncio.get_running_loop()
        self._idle: list[Connection] = []
        self._turns = asyncio.Semaphore(CONNECTIONS_MAX)
        self._closed = False

    async def fetch(
        self, sql: str, parameters: Sequence[object] | Mapping[str, object] = ()
    ) -> list[TupleRow]:
        """All rows of one SELECT, which sees one committed state of the log. ``@`` stands for the schema."""
        async with self._turns:
            try:
                try:
                    return await self._fetch(sql, parameters)
                except psycopg.OperationalError as error:
                    if self._closed or not is_lost(error):
                        raise
                    # It may have been cut while it lay idle, and others with it.
                    await self._let_idle_go()
                    return await self._fetch(sql, parameters)
            except psycopg.Error as error:
                if self._closed:
                    raise closed_error() from None
                raise translate(error, self._address, "The log cannot be read") from error

    async def _fetch(self, sql: str, parameters: Sequence[object] | Mapping[str, object]) -> list[TupleRow]:
        text: Any = named(sql, self._address.quoted_schema)
        if self._closed:
            raise closed_error()
        connection = self._idle.pop() if self._idle else await connect_reading(self._address)
        try:
            cursor = await connection.execute(text, parameters or None, binary=True)
            rows = await cursor.fetchall()
        except BaseException:
            # A reader that was cancelled leaves an answer under way; the next one needs none of it.
            await connection.close()
            raise
        self._idle.append(connection)
        await self._close_if_closed()
        return rows

    async def _close_if_closed(self) -> None:
        """The log may have been closed while a read was under way."""
        if self._closed:
            await self._let_idle_go()

    async def _let_idle_go(self) -> None:
        idle, self._idle = self._idle, []
        for connection in idle:
            await connection.close()

    async def close(self) -> None:
        """Close, from any loop."""
        self._closed = True
        if self._loop is asyncio.get_running_loop():
            await self._let_idle_go()
        elif not self._loop.is_closed():
            with suppress(RuntimeError):
                asyncio.run_coroutine_threadsafe(self._let_idle_go(), self._loop)
        else:
            for connection in self._idle:
                connection.pgconn.finish()
