"""The persistence module for the eventsourcing library: ``PERSISTENCE_MODULE=evrt.log.sqlite``.

It takes the library's own settings for SQLite. The one class here that the library may find is ``Factory``.
"""

from __future__ import annotations

from functools import cached_property
from typing import TypeVar, cast

from eventsourcing.domain import TAggregateID
from eventsourcing.persistence import (
    AggregateRecorder,
    ApplicationRecorder,
    InfrastructureFactory,
    ProcessRecorder,
    TrackingRecorder,
    Transcoder,
)
from eventsourcing.persistence import Mapper as PlainMapper
from eventsourcing.sqlite import SQLiteDatastore, SQLiteTrackingRecorder
from eventsourcing.utils import Environment, EnvType, resolve_topic, strtobool

from evrt.errors import UsageError
from evrt.log import LOCK_TIMEOUT_SECONDS
from evrt.log.foreign.errors import translated_opening
from evrt.log.foreign.events import OriginatorIds
from evrt.log.foreign.mapper import Mapper
from evrt.log.sqlite.blocking import BlockingLog
from evrt.log.sqlite.places import find_place
from evrt.log.sqlite.recorders import (
    LogAggregateRecorder,
    LogApplicationRecorder,
    LogProcessRecorder,
    LogRecorder,
    LogSnapshotRecorder,
    LogTrackingRecorder,
)

DBNAME = "SQLITE_DBNAME"
LOCK_TIMEOUT = "SQLITE_LOCK_TIMEOUT"
SINGLE_ROW_TRACKING = "SINGLE_ROW_TRACKING"
ORIGINATOR_ID_TYPE = "ORIGINATOR_ID_TYPE"

EVENTS = "events"
"""The one purpose whose stored events are events of the log."""

VIEWS_SUFFIX = "-eventsourcing"

R = TypeVar("R", bound=LogRecorder)


class Factory(InfrastructureFactory[TrackingRecorder]):
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
        self._lock_timeout_seconds = self._read_lock_timeout()
        self._originator_ids = self._read_originator_ids()
        if not strtobool(self.env.get(SINGLE_ROW_TRACKING, "t")):
            raise OSError(
                f"A log keeps one row of tracking for each application: leave {SINGLE_ROW_TRACKING} out."
            )

    # ------------------------------------------------------------------------------------- recorders

    def aggregate_recorder(self, purpose: str = EVENTS) -> AggregateRecorder:
        if purpose == EVENTS:
            return LogAggregateRecorder(self._log, self._originator_ids)
        return LogSnapshotRecorder(self._log, self._originator_ids, purpose=purpose)

    def application_recorder(self) -> ApplicationRecorder:
        return self._recorder(LogApplicationRecorder, self.APPLICATION_RECORDER_TOPIC)

    def process_recorder(self) -> ProcessRecorder:
        return self._recorder(LogProcessRecorder, self.PROCESS_RECORDER_TOPIC)

    def tracking_recorder(
        self, tracking_recorder_class: type[TrackingRecorder] | None = None
    ) -> TrackingRecorder:
        """A recorder of that class, or of the one that ``TRACKING_RECORDER_TOPIC`` names.

        A view with tables of its own is written as for the library's SQLite module and has a file of its own
        beside the log, where its tracking is as well: it can be deleted, and is made anew from the log.
        """
        if tracking_recorder_class is None:
            topic = self.env.get(self.TRACKING_RECORDER_TOPIC)
            tracking_recorder_class = resolve_topic(topic) if topic else LogTrackingRecorder
        assert tracking_recorder_class is not None
        if issubclass(tracking_recorder_class, SQLiteTrackingRecorder):
            view = cast("type[SQLiteTrackingRecorder]", tracking_recorder_class)(self._views)
            view.create_table()
            return view
        return _checked(tracking_recorder_class, LogTrackingRecorder)(self._log, self._originator_ids)

    def _recorder(self, recorder_class: type[R], topic_setting: str) -> R:
        topic = self.env.get(topic_setting)
        if topic:
            recorder_class = _checked(resolve_topic(topic), recorder_class)
        return recorder_class(self._log, self._originator_ids)

    # ---------------------------------------------------------------------------------------- mapper

    def mapper(
        self,
        transcoder: Transcoder | None = None,
        mapper_class: type[PlainMapper[TAggregateID]] | None = None,
    ) -> PlainMapper[TAggregateID]:
        """Unless told otherwise, the mapper that validates what it reads and knows the events of evrt."""
        if mapper_class is None and not self.env.get(self.MAPPER_TOPIC):
            mapper_class = Mapper
        return super().mapper(transcoder, mapper_class)

    # -------------------------------------------------------------------------- what is opened, closed

    @cached_property
    def _log(self) -> BlockingLog:
        with translated_opening():
            return BlockingLog(self._place, lock_timeout_seconds=self._lock_timeout_seconds)

    @cached_property
    def _views(self) -> SQLiteDatastore:
        return SQLiteDatastore(
            f"{self._place.path}{VIEWS_SUFFIX}", lock_timeout=round(self._lock_timeout_seconds)
        )

    def close(self) -> None:
        """Write what is queued, then close. Idempotent."""
        opened = vars(self)
        if "_log" in opened:
            self._log.close()
        if "_views" in opened:
            self._views.close()

    # -------------------------------------------------------------------------------------- settings

    def _read_lock_timeout(self) -> float:
        text = (self.env.get(LOCK_TIMEOUT) or "").strip()
        try:
            return float(int(text)) if text else LOCK_TIMEOUT_SECONDS
        except ValueError:
            raise OSError(
                f"{LOCK_TIMEOUT} takes a whole number of seconds, or nothing; it is {text!r}."
            ) from None

    def _read_originator_ids(self) -> OriginatorIds:
        text = self.env.get(ORIGINATOR_ID_TYPE, "uuid").lower()
        if text not in ("uuid", "text"):
            raise OSError(f"{ORIGINATOR_ID_TYPE} takes 'uuid' or 'text'; it is {text!r}.")
        return cast("OriginatorIds", text)


def _checked(recorder_class: type[object], base: type[R]) -> type[R]:
    if not issubclass(recorder_class, base):
        raise TypeError(
            f"{recorder_class.__qualname__} cannot record in a log of evrt: derive it from {base.__name__}."
        )
    return recorder_class
