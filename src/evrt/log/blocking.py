"""An open log for callers without an event loop: every call blocks until it is answered.

It writes through the writer that async appends go through as well, and reads on connections of its own. Any number of
threads may use it at once.
"""

from __future__ import annotations

import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, Generic, Protocol, TypeVar

from evrt.log.coordinating import Statement
from evrt.log.subscribe import Bells
from evrt.log.writing import Answer, Stop, WritingThread, closed_error, forked_error, in_writing_thread

SPARE_CONNECTIONS_MAX = 8
"""Reading connections that are kept for the next reader."""


class Closing(Protocol):
    def close(self) -> None: ...


C = TypeVar("C", bound=Closing)


class BlockingLog(ABC, Generic[C]):
    """What is the same in every store. It reads with connections of the type ``C``.

    A store opens it when it is made, and says ``_begin`` at the end of that; until then it counts as closed.
    """

    look_seconds: float
    """Whoever waits for a commit looks by himself after this time, for a bell may be missed."""

    def __init__(self, shown: str) -> None:
        """``shown`` says in messages where the log is."""
        self.shown = shown
        self._closed = True
        self._process = os.getpid()
        self._bells = Bells()
        self._spare: list[C] = []
        # Garbage is collected in any thread and at any time, and what is collected may close the log it used.
        self._lock = threading.RLock()
        self._writer: WritingThread | None = None

    def _begin(self, start_writer: Callable[[Answer], WritingThread] | None) -> None:
        """Open it, for reading only where there is no writer to start. Raises what opening raises."""
        if start_writer is not None:
            opened: Future[str] = Future()
            self._writer = start_writer(opened)
            try:
                opened.result()
            except BaseException:
                self._writer.abandon()
                raise
        self._closed = False

    @property
    def closed(self) -> bool:
        return self._closed

    def write(self, work: object) -> Any:
        """Hand work to the writer and wait until it is durable."""
        self._check_usable()
        assert self._writer is not None
        return self._writer.submit_from_thread(work).result()

    def fetch(self, statement: Statement) -> list[Any]:
        """All rows of one SELECT, which sees one committed state of the log."""
        self._check_usable()
        return self._fetch(statement)

    def bell(self) -> threading.Event:
        """Is set after a commit. Not every one of other processes is heard: wait for it with a time-out."""
        return self._bells.for_thread()

    # ------------------------------------------------------------------------- what a store has to say

    @abstractmethod
    def _fetch(self, statement: Statement) -> list[Any]: ...

    @abstractmethod
    def _connect(self) -> C:
        """A connection to read with."""

    # --------------------------------------------------------------------------------------- closing

    def close(self) -> None:
        """Write what is queued, then close. Idempotent."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        if self._process != os.getpid():
            return
        if in_writing_thread():
            # It may be that the one waited for waits for the lock that this one holds.
            self._abandon()
            return
        self._bells.close()
        self._let_go()
        if self._writer is not None:
            self._writer.submit_from_thread(Stop()).result()

    def _abandon(self) -> None:
        if self._writer is not None:
            self._writer.abandon()
        self._let_go()

    def _let_go(self) -> None:
        """Close what this reads and listens with, without waiting for anybody."""
        self._close_spare()

    def _close_spare(self) -> None:
        with suppress(IndexError):
            while True:
                self._spare.pop().close()

    def __del__(self) -> None:
        if not self._closed and self._process == os.getpid():
            self._closed = True
            self._abandon()

    # ----------------------------------------------------------------------------------- connections

    def _take(self) -> C:
        try:
            return self._spare.pop()
        except IndexError:
            return self._connect()

    def _put_back(self, connection: C) -> None:
        with self._lock:
            if not self._closed and len(self._spare) < SPARE_CONNECTIONS_MAX:
                self._spare.append(connection)
                return
        connection.close()

    def _check_usable(self) -> None:
        if self._closed:
            raise closed_error()
        if self._process != os.getpid():
            raise forked_error(self.shown)
