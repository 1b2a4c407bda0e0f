"""Rows of a log as envelopes with decoded events."""

from __future__ import annotations

from collections.abc import Iterable

import orjson

from evrt.codec import decode
from evrt.events import Envelope, JsonObject
from evrt.log.contract import Recorded


def envelope(row: Recorded) -> Envelope:
    """One row, decoded. Raises UnusableLog when a known type's payload does not fit its shape."""
    meta: JsonObject = orjson.loads(row.meta)
    return Envelope(
        row.position,
        row.event_id,
        row.time,
        row.stream,
        row.version,
        row.type,
        row.correlation,
        meta,
        decode(row.type, meta, row.payload),
    )


def envelopes(rows: Iterable[Recorded]) -> list[Envelope]:
    """Rows, decoded, in their order."""
    return [envelope(row) for row in rows]
