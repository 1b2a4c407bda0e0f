"""The persistence module for the eventsourcing library: ``PERSISTENCE_MODULE=evrt.log.sqlite``.

It takes the library's own settings for SQLite. The one class here that the library may find is ``Factory``.
"""

from __future__ import annotations

from functools import cached_property

from eventsourcing.persistence import TrackingRecorder
from eventsourcing.sqlite import SQLiteDatastore, SQLiteTrackingRecorder
from eventsourcing.utils import Environment, EnvType

from evrt.errors import UsageError
from evrt.log import LOCK_TIMEOUT_SECONDS
from evrt.log.foreign import factory as shared
from evrt.log.sqlite.blocking import SqliteBlockingLog
from evrt.log.sqlite.places import find_place

DBNAME = "SQLITE_DBNAME"
LOCK_TIMEOUT = "SQLITE_LOCK_TIMEOUT"

VIEWS_SUFFIX = "-eventsourcing"


class Factory(shared.LogFactory):
    """Makes recorders over the log that ``SQLITE_DBNAME`` names, which is opened when the first is made.

    Raises OSError for a setting that cannot be used, InterfaceError for a log that cannot be opened.
    """

    def __init__(self, env: Environment | EnvType | None) -> None:
        super().__init__(env)
        name = self.env.get(DBNAME)
        if not name:
            raise OSError(
                f"No log is named: set {' or '.join(self.env.create_keys(DBNAME))} to the path of its file."
            )
        try:
            self._place = find_place(name)
        except UsageError as error:
            raise OSError(str(error)) from error
        given = shared.whole_number(self.env, LOCK_TIMEOUT, None, " of seconds")
        self._lock_timeout_seconds = LOCK_TIMEOUT_SECONDS if given is None else float(given)

    def _open(self) -> SqliteBlockingLog:
        return SqliteBlockingLog(self._place, lock_timeout_seconds=self._lock_timeout_seconds)

    def _view(self, recorder_class: type[TrackingRecorder]) -> TrackingRecorder | None:
        if not issubclass(recorder_class, SQLiteTrackingRecorder):
            return None
        view = recorder_class(self._views)
        view.create_table()
        return view

    @cached_property
    def _views(self) -> SQLiteDatastore:
        """In a file of its own beside the log."""
        return SQLiteDatastore(
            f"{self._place.path}{VIEWS_SUFFIX}", lock_timeout=round(self._lock_timeout_seconds)
        )
