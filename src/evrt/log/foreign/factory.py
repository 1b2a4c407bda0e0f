"""What the factories of all stores have in common: recorders over a log, made by the library's own settings."""

from __future__ import annotations

from abc import abstractmethod
from functools import cached_property
from typing import Any, TypeVar, cast

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
from eventsourcing.utils import Environment, EnvType, resolve_topic, strtobool

from evrt.log.blocking import BlockingLog
from evrt.log.foreign.errors import translated_opening
from evrt.log.foreign.events import OriginatorIds
from evrt.log.foreign.mapper import Mapper
from evrt.log.foreign.recorders import (
    LogAggregateRecorder,
    LogApplicationRecorder,
    LogProcessRecorder,
    LogRecorder,
    LogSnapshotRecorder,
    LogTrackingRecorder,
)

SINGLE_ROW_TRACKING = "SINGLE_ROW_TRACKING"
ORIGINATOR_ID_TYPE = "ORIGINATOR_ID_TYPE"

EVENTS = "events"
"""The one purpose whose stored events are events of the log."""

R = TypeVar("R", bound=LogRecorder)


class LogFactory(InfrastructureFactory[TrackingRecorder]):
    """Makes recorders over one log, which is opened when the first is made.

    Raises OSError for a setting that cannot be used, InterfaceError for a log that cannot be opened.
    """

    def __init__(self, env: Environment | EnvType | None) -> None:
        super().__init__(env)
        self._originator_ids = self._read_originator_ids()
        if not strtobool(self.env.get(SINGLE_ROW_TRACKING, "t")):
            raise OSError(
                f"A log keeps one row of tracking for each application: leave {SINGLE_ROW_TRACKING} out."
            )

    # ------------------------------------------------------------------------- what a store has to say

    @abstractmethod
    def _open(self) -> BlockingLog[Any]:
        """Open the log. Raises EvrtError."""

    @abstractmethod
    def _view(self, recorder_class: type[TrackingRecorder]) -> TrackingRecorder | None:
        """A view with tables of its own, beside the log; None if it is not written for this store's database."""

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

        A view with tables of its own is written as for the library's module for the same database. It has its place
        beside the log, where its tracking is as well: it can be deleted, and is made anew from the log.
        """
        if tracking_recorder_class is None:
            topic = self.env.get(self.TRACKING_RECORDER_TOPIC)
            tracking_recorder_class = resolve_topic(topic) if topic else LogTrackingRecorder
        assert tracking_recorder_class is not None
        view = self._view(tracking_recorder_class)
        if view is not None:
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
    def _log(self) -> BlockingLog[Any]:
        with translated_opening():
            return self._open()

    def close(self) -> None:
        """Write what is queued, then close. Idempotent."""
        opened = vars(self)
        if "_log" in opened:
            self._log.close()
        if "_views" in opened:
            opened["_views"].close()

    # -------------------------------------------------------------------------------------- settings

    def _read_originator_ids(self) -> OriginatorIds:
        text = self.env.get(ORIGINATOR_ID_TYPE, "uuid").lower()
        if text not in ("uuid", "text"):
            raise OSError(f"{ORIGINATOR_ID_TYPE} takes 'uuid' or 'text'; it is {text!r}.")
        return cast("OriginatorIds", text)


def whole_number(env: Environment, name: str, default: int | None, unit: str = "") -> int | None:
    """What a setting says, or the default if it says nothing. Raises OSError."""
    text = (env.get(name) or "").strip()
    if not text:
        return default
    if text.isascii() and text.isdigit():
        return int(text)
    raise OSError(f"{name} takes a whole number{unit}, or nothing; it is {text!r}.")


def _checked(recorder_class: type[object], base: type[R]) -> type[R]:
    if not issubclass(recorder_class, base):
        raise TypeError(
            f"{recorder_class.__qualname__} cannot record in a log of evrt: derive it from {base.__name__}."
        )
    return recorder_class
