"""Every fact that evrt records. The list of names is in docs/events.md; names are never changed."""

from evrt.events import agents, calls, conversation, journey, loop, memory, run  # noqa: F401  (registers the types)
from evrt.events.base import (
    EVENT_TYPES,
    Envelope,
    Erased,
    Event,
    JsonObject,
    JsonValue,
    Unknown,
    register,
)

__all__ = [
    "EVENT_TYPES",
    "Envelope",
    "Erased",
    "Event",
    "JsonObject",
    "JsonValue",
    "Unknown",
    "register",
]
