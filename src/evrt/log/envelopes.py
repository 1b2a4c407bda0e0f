"""Rows of a log as envelopes with decoded events."""

from __future__ import annotations

from collections.abc import Iterable

import orjson

from evrt.codec import decode
from evrt.errors import UnusableLog
from evrt.events import Envelope, Event, JsonObject
from evrt.log.contract import Recorded


def envelope(row: Recorded) -> Envelope:
    """One row, decoded. Raises UnusableLog when a known type's payload does not fit its shape."""
    meta: JsonObject = orjson.loads(row.meta)
    return _placed(row, meta, decode(row.type, meta, row.payload))


def _placed(row: Recorded, meta: JsonObject, event: Event) -> Envelope:
    return Envelope(
        row.position,
        row.event_id,
        row.time,
        row.stream,
        row.version,
        row.type,
        row.correlation,
        meta,
        event,
    )


def envelopes(rows: Iterable[Recorded]) -> list[Envelope]:
    """Rows, decoded, in their order."""
    return [envelope(row) for row in rows]


class Row:
    """A row whose clear columns can be read at once, and whose payload is decoded when somebody first asks for it.

    A payload that is damaged reads as one that has been erased: `evrt db check` finds it, and the rest goes on.
    """

    __slots__ = (
        "_envelope",
        "_meta",
        "correlation",
        "position",
        "recorded",
        "stream",
        "time",
        "type",
        "version",
    )

    def __init__(self, recorded: Recorded) -> None:
        self.recorded = recorded
        self.position = recorded.position
        self.time = recorded.time
        self.stream = recorded.stream
        self.version = recorded.version
        self.type = recorded.type
        self.correlation = recorded.correlation
        self._meta: JsonObject | None = None
        self._envelope: Envelope | None = None

    @property
    def meta(self) -> JsonObject:
        """Meta, parsed."""
        if self._meta is None:
            self._meta = orjson.loads(self.recorded.meta)
        return self._meta

    @property
    def envelope(self) -> Envelope:
        """The event, decoded once."""
        if self._envelope is None:
            self._envelope = self._decoded()
        return self._envelope

    def _decoded(self) -> Envelope:
        row, meta = self.recorded, self.meta
        try:
            event = decode(row.type, meta, row.payload)
        except UnusableLog:
            event = decode(row.type, meta, None)
        return _placed(row, meta, event)
