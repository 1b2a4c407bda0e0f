"""Stored events of the eventsourcing library as events of a log, and back.

A stored event's originator is its stream, its topic the type, its state the payload as it is. Its meta says
in whose format the payload is, so nobody takes it for an event of evrt whatever its topic. Read the other
way, every event of the log is a stored event; those of evrt carry their meta with them, for decoding.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal
from uuid import UUID

from eventsourcing.persistence import IntegrityError, Notification, ProgrammingError, StoredEvent

from evrt.codec import FORMAT
from evrt.events import EVENT_TYPES
from evrt.log.contract import Append, Draft, Expectation, Next
from evrt.log.ids import new_event_id

META = b'{"%s":"eventsourcing"}' % FORMAT.encode()
"""What the meta of every stored event says."""

OWN_PREFIXES = ("run-", "memory-", "conversation-", "agent-", "system-", "journey-")
OWN_STREAM = "log"
"""Streams of evrt, which nobody else may write."""

OriginatorIds = Literal["uuid", "text"]
"""Whether a stream that is named by a UUID is read as one, or as a text as all others are."""

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")

StoredRow = tuple[int, str, int, str, bytes, bytes | None]
"""Position, stream, version, type, meta and payload of an event."""


@dataclass(frozen=True)
class OwnEvent(StoredEvent):
    """An event that evrt wrote, or one that has been erased; ``payload`` is None only then."""

    meta: bytes
    payload: bytes | None


@dataclass(frozen=True)
class OwnNotification(Notification):
    """The same in the order of the log."""

    meta: bytes
    payload: bytes | None


# ------------------------------------------------------------------------------------------ writing


def to_append(stored_events: Sequence[StoredEvent]) -> Append:
    """The append that records these events. Raises IntegrityError, ProgrammingError."""
    last: dict[str, int] = {}
    expect: dict[str, Expectation] = {}
    drafts: list[Draft] = []
    for event in stored_events:
        stream = stream_of(event.originator_id)
        version = event.originator_version
        if stream not in last:
            _check_name(stream)
            if version < 0:
                raise IntegrityError(
                    f"The first event of {stream} has version 0 or 1, and none has {version}."
                )
            expect[stream] = Next(version)
        elif version != last[stream] + 1:
            raise IntegrityError(
                f"Events of {stream} are recorded one version after the other; after {last[stream]} cannot "
                f"come {version}."
            )
        last[stream] = version
        if event.topic in EVENT_TYPES:
            raise ProgrammingError(f"The topic {event.topic} is a type of evrt's own events; choose another.")
        drafts.append(Draft(stream, event.topic, new_event_id(), stream, META, event.state))
    return Append(drafts, expect)


def stream_of(originator_id: UUID | str) -> str:
    """The name of the stream that holds an originator's events."""
    return str(originator_id)


def _check_name(stream: str) -> None:
    if stream.startswith(OWN_PREFIXES) or stream == OWN_STREAM:
        raise ProgrammingError(
            f"{stream} is a stream of evrt, and only evrt writes to it: ids that begin with "
            f"{', '.join(OWN_PREFIXES)} and the id {OWN_STREAM} are its own. Choose another id."
        )


# ------------------------------------------------------------------------------------------ reading


def to_stored_event(row: StoredRow, ids: OriginatorIds) -> StoredEvent:
    """A row of the log as a stored event."""
    _, stream, version, topic, meta, payload = row
    originator_id = to_originator_id(stream, ids)
    if payload is not None and meta == META:
        return StoredEvent(originator_id, version, topic, payload)
    return OwnEvent(originator_id, version, topic, payload or b"", meta, payload)


def to_notification(row: StoredRow, ids: OriginatorIds) -> Notification:
    """A row of the log as a notification; its id is the event's position."""
    position, stream, version, topic, meta, payload = row
    originator_id = to_originator_id(stream, ids)
    if payload is not None and meta == META:
        return Notification(originator_id, version, topic, payload, position)
    return OwnNotification(originator_id, version, topic, payload or b"", position, meta, payload)


def to_originator_id(stream: str, ids: OriginatorIds) -> UUID | str:
    """The id of the originator whose events a stream holds."""
    return UUID(stream) if ids == "uuid" and _UUID.fullmatch(stream) else stream
