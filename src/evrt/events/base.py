"""What an event is: a frozen model with a logical type name, and its place in the log.

A class of event is registered under its logical name by ``@register``. Stored bytes are
never rewritten: when a class changes shape, its ``class_version`` goes up and a static
method ``upcast_v1_v2(state) -> state`` (and so on) turns the older shape into the newer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, TypeAlias, TypeVar

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    JsonValue: TypeAlias = None | bool | int | float | str | Sequence["JsonValue"] | Mapping[str, "JsonValue"]
else:
    # Values are made JSON-able where they enter; validating them again at every event would cost
    # time that grows with their size.
    JsonValue = Any

JsonObject: TypeAlias = dict[str, JsonValue]


class Event(BaseModel):
    """A fact, in the past tense. Subclasses say what; where and when is the envelope's."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    type: ClassVar[str]
    TOPIC: ClassVar[str]
    """The type once more, under the name that the eventsourcing library asks for."""
    class_version: ClassVar[int] = 1
    volatile: ClassVar[frozenset[str]] = frozenset()
    """Fields left out of a history's digest: times, ids, positions, attempts, clock and random values."""

    came_later: ClassVar[frozenset[str]] = frozenset()
    """Fields that came with a later version: left out of the digest while they are at their default, as they once were."""

    @classmethod
    def __pydantic_init_subclass__(cls, **_: Any) -> None:
        cls.TOPIC = cls.type


class Unknown(Event):
    """An event of a type, or of a version of its type, that this program does not know. Kept and shown."""

    type: ClassVar[str] = "unknown"
    logical_type: str
    schema_version: JsonValue
    state: JsonValue = None


class Erased(Event):
    """An event whose payload has been erased; its envelope and its proofs remain."""

    type: ClassVar[str] = "erased"
    logical_type: str


class Envelope(NamedTuple):
    """A decoded event with its place in the log. ``time`` is microseconds since 1970, UTC."""

    position: int
    event_id: str
    time: int
    stream: str
    version: int
    type: str
    correlation: str
    meta: JsonObject
    event: Event


EVENT_TYPES: dict[str, type[Event]] = {}
"""Every registered type by its logical name: all that decoding can ever build."""

E = TypeVar("E", bound=type[Event])


def register(cls: E) -> E:
    """Make a class known under its logical type name; a name can be taken once."""
    if cls.type in EVENT_TYPES:
        raise ValueError(f"The event type {cls.type} is registered twice.")
    EVENT_TYPES[cls.type] = cls
    return cls
