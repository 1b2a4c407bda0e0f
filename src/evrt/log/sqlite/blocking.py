"""The log in a SQLite file for callers without an event loop: every call blocks until it is answered.

It writes through the same writer as ``SqliteLog``, and reads on connections of its own. Any number of
threads may use it at once.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterable
from concurrent.futures import Future
from contextlib import closing, suppress
from typing import Any

from evrt.errors import Denied, NotFound, Unavailable
from evrt.log.sqlite.connect import check_place, connect_reading, inspect, may_write, shape, translate
from evrt.log.sqlite.jobs import Stop, Work
from evrt.log.sqlite.places import LogPlace
from evrt.log.sqlite.reader import closed_error, forked_error
from evrt.log.sqlite.writer import Writer
from evrt.log.subscribe import Bells
from evrt.log.writing import in_writing_thread

SPARE_CONNECTIONS_MAX = 8
"""Reading connections that are kept for the next reader."""


class BlockingLog:
    """Opens the file, and makes the log where there is none yet. It holds on to the place until it is gone itself.

    Raises UsageError, NotFound, Denied, UnusableLog, Unavailable.
    """

    def __init__(self, place: LogPlace, *, lock_timeout_seconds: float) -> None:
        self._closed = True
        self._process = os.getpid()
        self._place = place
        self.path = check_place(place.path, read_only=False)
        self._bells = Bells()
        self._spare: list[sqlite3.Connection] = []
        # Garbage is collected in any thread and at any time, and what is collected may close the log it used.
        self._lock = threading.RLock()
        self._writer: Writer | None = None
        if may_write(self.path):
            opened: Future[str] = Future()
            self._writer = Writer(self.path, self._bells, opened, lock_timeout_seconds=lock_timeout_seconds)
            try:
                opened.result()
            except BaseException:
                self._writer.abandon()
                raise
        elif inspect(self.path) == "new":
            raise NotFound(
                f"{self.path} is empty: no log has been made there yet, and this user cannot make one."
            )
        self._closed = False

    @property
    def closed(self) -> bool:
        return self._closed

    def write(self, work: Work) -> Any:
        """Hand work to the writer and wait until it is durable."""
        self._check_usable()
        if self._writer is None:
            raise Denied(
                f"The log {self.path} is open for reading only: this user may not write the file and its folder."
            )
        return self._writer.submit_from_thread(work).result()

    def fetch(self, sql: str, parameters: Iterable[Any] = ()) -> list[Any]:
        """All rows of one SELECT, which sees one committed state of the log."""
        self._check_usable()
        try:
            if self._writer is None:
                return self._look(sql, tuple(parameters))
            connection = self._take()
            try:
                return connection.execute(sql, tuple(parameters)).fetchall()
            finally:
                self._put_back(connection)
        except sqlite3.Error as error:
            raise translate(error, self.path, "The log cannot be read") from error
        except OSError as error:
            raise Unavailable(f"The log {self.path} cannot be read: {error.strerror}.") from error

    def _look(self, sql: str, parameters: tuple[Any, ...]) -> list[Any]:
        """For who may not write: the file may be opened as one that lies still, and such a connection sees no change.

        So it is opened for each look, and looked at again where it had no WAL and did not lie still.
        """
        while True:
            before = shape(self.path)
            with closing(connect_reading(self.path)) as connection:
                rows = connection.execute(sql, parameters).fetchall()
            after = shape(self.path)
            if after == before or (before.wal_pages and after.wal_pages):
                return rows

    def bell(self) -> threading.Event:
        """Is set after what this log has committed. Others write too: wait for it with a time-out."""
        return self._bells.for_thread()

    def close(self) -> None:
        """Write what is queued, then close. Idempotent."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        if self._process != os.getpid():
            return
        if in_writing_thread():
            # It may be that the one waited for waits for the file lock that this one holds.
            self._abandon()
            return
        self._bells.close()
        self._close_spare()
        if self._writer is not None:
            self._writer.submit_from_thread(Stop()).result()

    def _abandon(self) -> None:
        if self._writer is not None:
            self._writer.abandon()
        self._close_spare()

    def __del__(self) -> None:
        if not self._closed and self._process == os.getpid():
            self._closed = True
            self._abandon()

    def _take(self) -> sqlite3.Connection:
        try:
            return self._spare.pop()
        except IndexError:
            return connect_reading(self.path)

    def _put_back(self, connection: sqlite3.Connection) -> None:
        with self._lock:
            if not self._closed and len(self._spare) < SPARE_CONNECTIONS_MAX:
                self._spare.append(connection)
                return
        connection.close()

    def _close_spare(self) -> None:
        with suppress(IndexError):
            while True:
                self._spare.pop().close()

    def _check_usable(self) -> None:
        if self._closed:
            raise closed_error()
        if self._process != os.getpid():
            raise forked_error(self.path)
