"""The log in a SQLite file for callers without an event loop."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import Any

from evrt.errors import Denied, NotFound, Unavailable
from evrt.log.blocking import BlockingLog
from evrt.log.coordinating import Statement
from evrt.log.sqlite.connect import check_place, connect_reading, inspect, may_write, shape, translate
from evrt.log.sqlite.places import LogPlace
from evrt.log.sqlite.reader import POLL_SECONDS
from evrt.log.sqlite.writer import Writer
from evrt.log.writing import Answer


class SqliteBlockingLog(BlockingLog[sqlite3.Connection]):
    """Opens the file, and makes the log where there is none yet. It holds on to the place until it is gone itself.

    Raises UsageError, NotFound, Denied, UnusableLog, Unavailable.
    """

    look_seconds = POLL_SECONDS

    def __init__(self, place: LogPlace, *, lock_timeout_seconds: float) -> None:
        self._place = place
        super().__init__(place.path)
        self.shown = self.path = path = check_place(place.path, read_only=False)
        if may_write(path):

            def start_writer(opened: Answer) -> Writer:
                return Writer(path, self._bells, opened, lock_timeout_seconds=lock_timeout_seconds)

            self._begin(start_writer)
            return
        if inspect(path) == "new":
            raise NotFound(f"{path} is empty: no log has been made there yet, and this user cannot make one.")
        self._begin(None)

    def write(self, work: object) -> Any:
        if self._writer is None and not self.closed:
            raise Denied(
                f"The log {self.path} is open for reading only: this user may not write the file and its folder."
            )
        return super().write(work)

    def _fetch(self, statement: Statement) -> list[Any]:
        try:
            if self._writer is None:
                return self._look(statement)
            connection = self._take()
            try:
                return _rows(connection, statement)
            finally:
                self._put_back(connection)
        except sqlite3.Error as error:
            raise translate(error, self.path, "The log cannot be read") from error
        except OSError as error:
            raise Unavailable(f"The log {self.path} cannot be read: {error.strerror}.") from error

    def _look(self, statement: Statement) -> list[Any]:
        """For who may not write: the file may be opened as one that lies still, and such a connection sees no change.

        So it is opened for each look, and looked at again where it had no WAL and did not lie still.
        """
        while True:
            before = shape(self.path)
            with closing(self._connect()) as connection:
                rows = _rows(connection, statement)
            after = shape(self.path)
            if after == before or (before.wal_pages and after.wal_pages):
                return rows

    def _connect(self) -> sqlite3.Connection:
        return connect_reading(self.path)


def _rows(connection: sqlite3.Connection, statement: Statement) -> list[Any]:
    return connection.execute(statement.sql, dict(statement.parameters)).fetchall()
