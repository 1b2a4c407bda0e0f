"""Memory: one document per key that a memory stream holds a value of, with who set it and when.

Its key is the memory stream, its part the key in it. A forgotten key has no document. One that has expired has: a
document changes with events, not with time, so whoever reads it looks at ``expires_at``.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from evrt.events import Envelope, JsonValue
from evrt.events.memory import MemorySet, Trust
from evrt.folds.clip import clip, clip_text
from evrt.folds.documents import meta_text
from evrt.projection import Columns, Projection, Stream

PREFIX = "memory-"
VALUE_BYTES_MAX = 48 * 1024
METADATA_BYTES_MAX = 4 * 1024
SOURCE_BYTES_MAX = 2 * 1024


class Remembered(BaseModel):
    """A value. ``version`` is that of its event in the memory stream; ``set_at`` microseconds since 1970, UTC."""

    model_config = ConfigDict(frozen=True)

    value: JsonValue = None
    version: int = 0
    set_at: int = 0
    source: str | None = None
    """Where the value comes from, as whoever set it said."""
    expires_at: int | None = None
    """From when on nobody is to see it any more."""
    confidence: float = 1.0
    metadata: JsonValue = None
    trust: Trust = "trusted"
    """untrusted: the run that set it had read something that anybody may have written."""
    run: str | None = None
    """The run that set it."""
    actor: str | None = None
    on_behalf_of: str | None = None
    by: str | None = None
    """The person who set it, where it was set from outside of a run."""


NOTHING = Remembered()


def _key(columns: Columns) -> str | None:
    return columns.stream if columns.stream.startswith(PREFIX) else None


def _part(envelope: Envelope) -> str | None:
    return envelope.event.__dict__.get("key")


def _evolve(before: Remembered, envelope: Envelope) -> Remembered | None:
    event = envelope.event
    if not isinstance(event, MemorySet):
        return None
    meta = envelope.meta
    source = event.source
    return Remembered(
        value=clip(event.value, VALUE_BYTES_MAX, envelope.position),
        version=envelope.version,
        set_at=envelope.time,
        source=source and clip_text(source, SOURCE_BYTES_MAX, envelope.position),
        run=meta_text(meta, "run"),
        actor=meta_text(meta, "actor"),
        on_behalf_of=meta_text(meta, "on_behalf_of"),
        expires_at=event.expires_at,
        confidence=event.confidence,
        metadata=clip(event.metadata, METADATA_BYTES_MAX, envelope.position),
        trust=event.trust,
        by=event.by and clip_text(event.by, SOURCE_BYTES_MAX, envelope.position),
    )


PROJECTION = Projection[Remembered](
    name="memory",
    version=2,
    document=Remembered,
    handles=frozenset({"memory.set", "memory.forgotten"}),
    key=_key,
    source=Stream,
    initial=lambda key, part: NOTHING,
    evolve=_evolve,
    part=_part,
    indexes=("run", "set_at", "on_behalf_of"),
)
