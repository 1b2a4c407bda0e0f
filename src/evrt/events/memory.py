"""Scoped memory: facts on memory streams, and what a run wrote and read of them."""

from __future__ import annotations

from typing import ClassVar, Literal

from evrt.events.base import Event, JsonObject, JsonValue, register
from evrt.events.run import Failure

MemoryScope = Literal["conversation", "user", "system"]
Trust = Literal["trusted", "untrusted"]
"""untrusted: whoever set it had read something that anybody may have written, a web page for example."""


@register
class MemorySet(Event):
    """A key of a memory stream has this value from now on, until it expires."""

    type: ClassVar[str] = "memory.set"

    key: str
    value: JsonValue = None
    source: str | None = None
    expires_at: int | None = None
    """From when on nobody sees it any more, microseconds since 1970; null: never."""
    confidence: float = 1.0
    """How sure whoever set it was, from 0 to 1."""
    metadata: JsonObject | None = None
    trust: Trust = "trusted"
    by: str | None = None
    """The person who set it, where it was set from outside of a run."""


@register
class MemoryForgotten(Event):
    """A key of a memory stream has no value from now on."""

    type: ClassVar[str] = "memory.forgotten"

    key: str
    source: str | None = None
    by: str | None = None


@register
class MemoryWritten(Event):
    """Run side of a set or a forget; in conflict, nothing was written to the memory stream."""

    type: ClassVar[str] = "memory.written"
    volatile: ClassVar[frozenset[str]] = frozenset({"event_id"})
    came_later: ClassVar[frozenset[str]] = frozenset({"count"})

    operation: str
    digest: str
    action: Literal["set", "forget", "set_many", "clear"]
    scope: MemoryScope
    key: str
    """The key; of a clear, the beginning of the keys; of several, nothing."""
    event_id: str | None = None
    existed: bool = False
    conflict: str | None = None
    failure: Failure | None = None
    """Why nothing was written: what memory refused, or that the code cut the operation off."""
    count: int = 1
    """How many keys were set or forgotten, with one append."""


@register
class MemoryRecalled(Event):
    """Run side of a read: what was read, and at which version of the memory stream."""

    type: ClassVar[str] = "memory.recalled"
    volatile: ClassVar[frozenset[str]] = frozenset({"version", "places", "streams", "at"})
    came_later: ClassVar[frozenset[str]] = frozenset({"trust", "same_as"})

    operation: str
    digest: str
    scope: MemoryScope | Literal["all"]
    key: str
    """The key, or what the keys that were looked for begin with."""
    found: bool
    value: JsonValue = None
    """The value; where items were asked for, a list of them: key, scope, value, and what is not as usual."""
    version: int = 0
    """Of the value, where one was asked for and found; else of the memory stream."""
    failure: Failure | None = None
    """Why nothing was read: it was too large, or the code cut the operation off."""
    trust: Trust = "trusted"
    """Of the value; items say it themselves."""
    places: tuple[JsonObject, ...] = ()
    """Of each item: version, time, source and run."""
    streams: dict[str, int] | None = None
    """The memory streams that items were read from, and the version of each."""
    at: int | None = None
    """The moment that expiries were compared with, microseconds since 1970; null where nothing expires."""
    same_as: str | None = None
    """The earlier read, in this chapter of the run, that came to the same: then the items are there and not here."""
