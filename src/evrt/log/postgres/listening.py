"""Hears of what other processes have committed, and rings the bell of one event loop while somebody waits there.

It listens first and rings then, for who waits has read before it listened. A notification that is lost costs a
second, never an event: whoever waits looks by himself after that. So it is where a pooler stands in between.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

import psycopg
from psycopg import sql

from evrt.errors import EvrtError
from evrt.log.postgres.address import Address
from evrt.log.postgres.connect import connect_reading
from evrt.log.subscribe import Bell, call_in

IDLE_SECONDS_MAX = 5.0
"""Without anybody waiting for so long the connection is closed; the next to wait opens it again."""

PAUSE_SECONDS = 1.0
"""Before the next attempt, where it could not be had or was lost."""


class Listener:
    """Listens for one event loop. ``own`` is what this process signs with: of that the writer tells by itself."""

    def __init__(self, address: Address, bell: Bell, own: str | None) -> None:
        self._address = address
        self._bell = bell
        self._own = own
        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[None] | None = None

    def watch(self) -> None:
        """Have the bell rung from now on, as long as somebody waits for it."""
        # A pooler gives the next transaction another session, so there is nobody to be notified.
        if not self._address.pooled and (self._task is None or self._task.done()):
            self._task = self._loop.create_task(self._listen())

    async def _listen(self) -> None:
        while True:
            try:
                await self._listen_once()
            except (psycopg.Error, EvrtError):
                # Whoever waits looks by himself meanwhile.
                await asyncio.sleep(PAUSE_SECONDS)
            if not (self._bell.listeners or self._bell.waited_for):
                return

    async def _listen_once(self) -> None:
        """Ring until the connection is lost, or nobody has waited for a while."""
        connection = await connect_reading(self._address, "listener")
        try:
            channel = sql.Identifier(self._address.channel)
            await connection.execute(sql.SQL("LISTEN {}").format(channel))
            self._bell.ring()
            await self._ring_on(connection)
        finally:
            await connection.close()

    async def _ring_on(self, connection: psycopg.AsyncConnection[tuple[object, ...]]) -> None:
        idle_since: float | None = None
        while idle_since is None or self._loop.time() - idle_since < IDLE_SECONDS_MAX:
            # One at a time, so that whoever is told next may already have been told by it.
            async for notify in connection.notifies(timeout=IDLE_SECONDS_MAX / 5, stop_after=1):
                if notify.payload != self._own:
                    self._bell.ring()
            if self._bell.listeners or self._bell.waited_for:
                idle_since = None
            elif idle_since is None:
                idle_since = self._loop.time()

    async def close(self) -> None:
        """Close, from any loop."""
        task = self._task
        if task is None or task.done():
            return
        if self._loop is asyncio.get_running_loop():
            task.cancel()
            with suppress(asyncio.CancelledError):
                await asyncio.wait([task])
        else:
            call_in(self._loop, task.cancel)
