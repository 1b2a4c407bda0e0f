"""A memory stream folded into the items it holds now."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from evrt.events import Envelope, JsonValue
from evrt.events.memory import MemoryForgotten, MemorySet


class MemoryItem(NamedTuple):
    """A remembered value. ``version`` is that of its event in the memory stream."""

    value: JsonValue
    version: int
    source: str | None
    time: int


@dataclass(slots=True)
class Memory:
    """The items of one memory stream, by key, and how far the stream has been folded."""

    version: int = 0
    items: dict[str, MemoryItem] = field(default_factory=dict)

    def apply(self, envelope: Envelope) -> None:
        """Take in the next event of the stream."""
        self.version = envelope.version
        event = envelope.event
        if isinstance(event, MemorySet):
            self.items[event.key] = MemoryItem(event.value, envelope.version, event.source, envelope.time)
        elif isinstance(event, MemoryForgotten):
            self.items.pop(event.key, None)
