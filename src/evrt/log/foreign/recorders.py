"""Recorders of the eventsourcing library over a log, whatever its store.

Events are events of the log, in its one order, beside those of evrt. Tracking is recorded in the same
transaction as the events that follow from what is tracked. Whatever is kept for another purpose than as
events, as snapshots are, stays outside of the log's order.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from eventsourcing import persistence
from eventsourcing.persistence import Notification, Recorder, StoredEvent, Subscription, Tracking

from evrt.log.blocking import BlockingLog
from evrt.log.contract import PAYLOAD_BYTES_MAX, Appended
from evrt.log.coordinating import Statement
from evrt.log.foreign.errors import translated
from evrt.log.foreign.events import (
    OriginatorIds,
    StoredRow,
    stream_of,
    to_append,
    to_notification,
    to_originator_id,
    to_stored_event,
)
from evrt.log.foreign.kept import (
    FIND_PLACE,
    NUMBER_MAX,
    Snapshots,
    Tracked,
    checked_place,
    checked_snapshot,
    is_storable,
)
from evrt.log.plan import check_request
from evrt.log.subscribe import PAGE_EVENTS

# The name is looked up for each event that is found, so no database thinks of beginning with the streams.
SELECT_STORED = """
SELECT e.position, (SELECT name FROM streams WHERE id = e.stream), e.version, e.type, e.meta, e.payload
FROM events AS e
"""

SELECT_STREAM = f"""
{SELECT_STORED} WHERE e.stream = (SELECT id FROM streams WHERE name = :stream)
AND e.version > :gt AND e.version <= :lte ORDER BY e.version
"""

SELECT_SNAPSHOTS = """
SELECT originator, version, topic, state FROM snapshots
WHERE purpose = :purpose AND originator = :originator AND version > :gt AND version <= :lte ORDER BY version
"""


class LogRecorder(Recorder):
    """What every recorder stands on: an open log, and how it is to read ids."""

    def __init__(self, log: BlockingLog[Any], originator_ids: OriginatorIds = "uuid") -> None:
        self._log = log
        self._ids = originator_ids

    def _fetch(self, sql: str, **parameters: object) -> list[Any]:
        # What no log takes is in none.
        if not all(is_storable(value) for value in parameters.values() if isinstance(value, str)):
            return []
        with translated():
            return self._log.fetch(Statement(sql, parameters))

    def _append(
        self, stored_events: Sequence[StoredEvent], tracking: Tracking | None = None
    ) -> Appended | None:
        """Record all of the events and the tracking, or nothing. None where there are no events."""
        with translated():
            place = (
                None
                if tracking is None
                else checked_place(tracking.application_name, tracking.notification_id)
            )
            if not stored_events:
                if place is not None:
                    self._log.write(place)
                return None
            checked = check_request(to_append(stored_events), PAYLOAD_BYTES_MAX)
            appended: Appended = self._log.write(checked if place is None else Tracked(checked, place))
            return appended


class LogAggregateRecorder(LogRecorder, persistence.AggregateRecorder):
    """Events by their originator. Each stream begins at version 0 or 1 and has no gaps."""

    def insert_events(self, stored_events: Sequence[StoredEvent], **kwargs: Any) -> Sequence[int] | None:
        """Raises IntegrityError, DataError, ProgrammingError, OperationalError; then nothing is recorded."""
        self._append(stored_events)
        return None

    def select_events(
        self,
        originator_id: UUID | str,
        *,
        gt: int | None = None,
        lte: int | None = None,
        desc: bool = False,
        limit: int | None = None,
    ) -> Sequence[StoredEvent]:
        rows: list[StoredRow] = self._fetch(
            f"{SELECT_STREAM} {_END[desc]}", stream=stream_of(originator_id), **_range(gt, lte, limit)
        )
        return [to_stored_event(row, self._ids) for row in rows]


class LogApplicationRecorder(LogAggregateRecorder, persistence.ApplicationRecorder):
    """Every event of the log in order, those of evrt too; a notification's id is the event's position."""

    def insert_events(self, stored_events: Sequence[StoredEvent], **kwargs: Any) -> Sequence[int] | None:
        """The positions of the events. Raises what ``LogAggregateRecorder.insert_events`` raises."""
        return _positions(self._append(stored_events))

    def select_notifications(
        self,
        start: int | None,
        limit: int,
        stop: int | None = None,
        topics: Sequence[str] = (),
        *,
        inclusive_of_start: bool = True,
    ) -> Sequence[Notification]:
        wanted = {f"topic{number}": topic for number, topic in enumerate(topics) if is_storable(topic)}
        if topics and not wanted:
            return []
        among = f"AND e.type IN ({', '.join([f':{name}' for name in wanted])})" if wanted else ""
        rows: list[StoredRow] = self._fetch(
            f"{SELECT_STORED} WHERE e.position > :gt AND e.position <= :lte {among} "
            "ORDER BY e.position LIMIT :limit",
            **_range(0 if start is None else start - inclusive_of_start, stop, limit),
            **wanted,
        )
        return [to_notification(row, self._ids) for row in rows]

    def max_notification_id(self) -> int | None:
        [(position,)] = self._fetch("SELECT max(position) FROM events")
        return None if position is None else int(position)

    def subscribe(
        self, gt: int | None = None, topics: Sequence[str] = ()
    ) -> Subscription[persistence.ApplicationRecorder]:
        """Past then future, whoever writes it; it ends when it is stopped or the log is closed."""
        return LogSubscription(self, self._log, gt=gt, topics=topics)


class LogSubscription(Subscription[LogApplicationRecorder]):
    """Reads page after page and waits at the end of the log, in the thread that asks for the next event."""

    def __init__(
        self,
        recorder: LogApplicationRecorder,
        log: BlockingLog[Any],
        *,
        gt: int | None,
        topics: Sequence[str],
    ) -> None:
        super().__init__(recorder=recorder, gt=gt, topics=topics)
        self._log = log
        self._bell = log.bell()
        self._after = gt or 0
        self._page: deque[Notification] = deque()

    def stop(self) -> None:
        super().stop()
        self._bell.set()

    def __next__(self) -> Notification:
        while not self._has_been_stopped and not self._log.closed:
            if self._page:
                return self._page.popleft()
            # Before the read, so no commit falls between them; other processes ring no bell here.
            self._bell.clear()
            self._next_page()
            if not self._page and not self._has_been_stopped:
                self._bell.wait(self._log.look_seconds)
        raise StopIteration

    def _next_page(self) -> None:
        head = self._recorder.max_notification_id() or 0
        if head <= self._after:
            return
        page = self._recorder.select_notifications(
            self._after, PAGE_EVENTS, head, self._topics, inclusive_of_start=False
        )
        self._page.extend(page)
        # Also past what has other topics, so it is not searched through again.
        self._after = page[-1].id if len(page) == PAGE_EVENTS else head


class LogTrackingRecorder(LogRecorder, persistence.TrackingRecorder):
    """How far each application has come in the events of another: one row for each, which only grows."""

    def insert_tracking(self, tracking: Tracking) -> None:
        """Raises IntegrityError unless it is beyond what is recorded."""
        self._append((), tracking)

    def max_tracking_id(self, application_name: str) -> int | None:
        rows = self._fetch(FIND_PLACE, application=application_name)
        return int(rows[0][0]) if rows else None


class LogProcessRecorder(LogTrackingRecorder, LogApplicationRecorder, persistence.ProcessRecorder):
    """Events together with the place of the event that they follow from."""

    def insert_events(self, stored_events: Sequence[StoredEvent], **kwargs: Any) -> Sequence[int] | None:
        """``tracking`` is recorded with the events, or neither is. Raises as the recorders it is made of."""
        return _positions(self._append(stored_events, kwargs.get("tracking")))


class LogSnapshotRecorder(LogRecorder, persistence.AggregateRecorder):
    """Stored events for another purpose than as events. They may have gaps and are no part of the log's order."""

    def __init__(
        self, log: BlockingLog[Any], originator_ids: OriginatorIds = "uuid", *, purpose: str
    ) -> None:
        super().__init__(log, originator_ids)
        self._purpose = purpose

    def insert_events(self, stored_events: Sequence[StoredEvent], **kwargs: Any) -> Sequence[int] | None:
        """Raises IntegrityError where one of that version is there already; then none is kept."""
        if stored_events:
            with translated():
                rows = [
                    checked_snapshot(
                        self._purpose,
                        stream_of(event.originator_id),
                        event.originator_version,
                        event.topic,
                        event.state,
                    )
                    for event in stored_events
                ]
                self._log.write(Snapshots(rows))
        return None

    def select_events(
        self,
        originator_id: UUID | str,
        *,
        gt: int | None = None,
        lte: int | None = None,
        desc: bool = False,
        limit: int | None = None,
    ) -> Sequence[StoredEvent]:
        rows = self._fetch(
            f"{SELECT_SNAPSHOTS} {_END[desc]}",
            purpose=self._purpose,
            originator=stream_of(originator_id),
            **_range(gt, lte, limit),
        )
        return [
            StoredEvent(to_originator_id(originator, self._ids), version, topic, state)
            for originator, version, topic, state in rows
        ]


_END = {False: "ASC LIMIT :limit", True: "DESC LIMIT :limit"}
"""Of a statement that goes forward, or backward."""


def _range(gt: int | None, lte: int | None, limit: int | None) -> dict[str, int]:
    """What to read, in numbers that every database can compare with."""
    return {
        "gt": _nearest(-1 if gt is None else gt),
        "lte": _nearest(NUMBER_MAX if lte is None else lte),
        "limit": _nearest(NUMBER_MAX if limit is None else max(limit, 0)),
    }


def _nearest(number: int) -> int:
    return min(max(number, -1), NUMBER_MAX)


def _positions(appended: Appended | None) -> list[int]:
    return [] if appended is None else list(appended.positions)
