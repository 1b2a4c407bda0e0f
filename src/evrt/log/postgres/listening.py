"""Hears of what other processes have committed, and rings for who waits: in an event loop, or in a thread.

It listens first and rings then, for who waits has read before it listened. A notification that is lost costs a
second, never an event: whoever waits looks by himself after that. So it is where a pooler stands in between.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from contextlib import closing, suppress
from selectors import EVENT_READ, DefaultSelector

import psycopg
from psycopg import sql

from evrt.errors import EvrtError
from evrt.log.postgres.address import Address
from evrt.log.postgres.connect import connect_looking, connect_reading
from evrt.log.subscribe import Bell, Bells, call_in

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
            await connection.execute(listen_to(self._address))
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


def listen_to(address: Address) -> sql.Composed:
    """The statement by which a session is told of commits to a log."""
    return sql.SQL("LISTEN {}").format(sql.Identifier(address.channel))


class ThreadListener:
    """The same for threads without an event loop: it listens in a thread of its own, once somebody waits.

    The thread holds nothing of the log but its bells, so a log that nobody uses any more is not kept by it.
    """

    def __init__(self, address: Address, bells: Bells, own: str) -> None:
        self._address = address
        self._bells = bells
        self._own = own
        self._starting = threading.Lock()
        self._wake: socket.socket | None = None
        """What wakes the thread when it is closed; there is one as soon as there is a thread."""
        self._closed = threading.Event()

    def watch(self) -> None:
        """Have the bells rung from now on, until this is closed."""
        # A pooler gives the next transaction another session, so there is nobody to be notified.
        if self._address.pooled:
            return
        with self._starting:
            if self._wake is None and not self._closed.is_set():
                self._wake, woken = socket.socketpair()
                name = f"evrt listener {self._address.shown}"
                threading.Thread(target=self._run, args=(woken,), name=name, daemon=True).start()

    def _run(self, woken: socket.socket) -> None:
        with woken:
            while not self._closed.is_set():
                with suppress(psycopg.Error, EvrtError):
                    self._listen(woken)
                # Whoever waits meanwhile looks by himself.
                self._closed.wait(PAUSE_SECONDS)

    def _listen(self, woken: socket.socket) -> None:
        with closing(connect_looking(self._address, "listener")) as connection, DefaultSelector() as ready:
            ready.register(connection, EVENT_READ)
            ready.register(woken, EVENT_READ)
            connection.execute(listen_to(self._address))
            self._bells.ring_threads()
            while not self._closed.is_set():
                ready.select()
                if any(notify.payload != self._own for notify in connection.notifies(timeout=0)):
                    self._bells.ring_threads()

    def close(self) -> None:
        """End it, without waiting for that."""
        with self._starting:
            if self._closed.is_set():
                return
            self._closed.set()
            if self._wake is not None:
                self._wake.close()
