"""Scoped memory: facts on memory streams, and what a run wrote and read of them."""

from __future__ import annotations

from typing import ClassVar, Literal

from evrt.events.base import Event, JsonValue, register
from evrt.events.run import Failure

MemoryScope = Literal["conversation", "user", "system"]


@register
class MemorySet(Event):
    """A key of a memory stream has this value from now on."""

    type: ClassVar[str] = "memory.set"

    key: str
    value: JsonValue = None
    source: str | None = None


@register
class MemoryForgotten(Event):
    """A key of a memory stream has no value from now on."""

    type: ClassVar[str] = "memory.forgotten"

    key: str
    source: str | None = None


@register
class MemoryWritten(Event):
    """Run side of a set or a forget; in conflict, nothing was written to the memory stream."""

    type: ClassVar[str] = "memory.written"
    volatile: ClassVar[frozenset[str]] = frozenset({"event_id"})

    operation: str
    digest: str
    action: Literal["set", "forget"]
    scope: MemoryScope
    key: str
    event_id: str | None = None
    existed: bool = False
    conflict: str | None = None
    failure: Failure | None = None
    """Set where the code cut the operation off; then nothing was written."""


@register
class MemoryRecalled(Event):
    """Run side of a read: what was read, and at which version of the memory stream."""

    type: ClassVar[str] = "memory.recalled"
    volatile: ClassVar[frozenset[str]] = frozenset({"version"})

    operation: str
    digest: str
    scope: MemoryScope
    key: str
    found: bool
    value: JsonValue = None
    version: int = 0
    failure: Failure | None = None
    """Set where the code cut the operation off; then nothing was read."""
