"""A memory stream folded into the items it holds now, and how items are found in it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import islice
from typing import Any, Literal, NamedTuple, TypeVar, cast

from evrt.events import Envelope, JsonObject, JsonValue
from evrt.events.memory import MemoryForgotten, MemoryScope, MemorySet, Trust
from evrt.folds.documents import meta_text

PREFIX = "memory-"
SCOPES: tuple[MemoryScope, ...] = ("user", "system", "conversation")
"""In the order in which they are searched, and shown."""
RECALLED_MAX = 20
"""Most items of one scope that a recall finds by the beginning of their keys."""
DIGEST_CHARACTERS = 32
"""128 bits: no two pairs of a system and a user ever meet in one stream."""


class MemoryItem(NamedTuple):
    """A remembered value. ``version`` is that of its event in the memory stream; times are microseconds since 1970.

    ``source`` is where the value comes from, as whoever set it said; ``run`` and ``actor`` the run that set it and what
    it is a run of; ``by`` the person, where it was set from outside of a run.
    """

    key: str
    value: JsonValue
    version: int
    time: int
    scope: MemoryScope = "user"
    source: str | None = None
    expires_at: int | None = None
    confidence: float = 1.0
    metadata: JsonObject | None = None
    trust: Trust = "trusted"
    run: str | None = None
    actor: str | None = None
    by: str | None = None

    def lives_at(self, moment: int | None) -> bool:
        """Whether it has not expired; None: at no moment has anything."""
        return self.expires_at is None or moment is None or moment < self.expires_at


class MemoryChange(NamedTuple):
    """What once happened to a key: it was set to a value, or forgotten. Fields are those of ``MemoryItem``."""

    action: Literal["set", "forgotten"]
    value: JsonValue
    version: int
    time: int
    source: str | None = None
    expires_at: int | None = None
    confidence: float = 1.0
    trust: Trust = "trusted"
    run: str | None = None
    actor: str | None = None
    by: str | None = None


@dataclass(slots=True)
class Memory:
    """The items of one memory stream, by key, those set last at the end; and how far the stream has been folded."""

    version: int = 0
    items: dict[str, MemoryItem] = field(default_factory=dict)
    expires: bool = False
    """Whether anything in it was ever to expire: else no clock has to be looked at."""

    def apply(self, envelope: Envelope) -> None:
        """Take in the next event of the stream."""
        self.version = envelope.version
        event = envelope.event
        if isinstance(event, MemorySet):
            self.items.pop(event.key, None)
            self.items[event.key] = _item(envelope, event)
            self.expires = self.expires or event.expires_at is not None
        elif isinstance(event, MemoryForgotten):
            self.items.pop(event.key, None)

    def get(self, key: str, moment: int | None) -> MemoryItem | None:
        """The item of a key, unless it has expired at the moment."""
        item = self.items.get(key)
        return item if item is not None and item.lives_at(moment) else None

    def newest_first(self, moment: int | None) -> Iterator[MemoryItem]:
        """The items that have not expired at the moment, those set last first."""
        return (item for item in reversed(self.items.values()) if item.lives_at(moment))

    def begin_with(self, prefix: str, moment: int | None, *, plain: bool = False) -> Iterator[MemoryItem]:
        """The items whose keys begin with these segments, those set last first. See ``begins_with``."""
        return (item for item in self.newest_first(moment) if begins_with(item.key, prefix, plain=plain))

    def recall(self, key: str, moment: int | None, limit: int = RECALLED_MAX) -> list[MemoryItem]:
        """The item of this key; only where there is none, those whose keys begin with it, at most so many."""
        exact = self.get(key, moment)
        return [exact] if exact is not None else list(islice(self.begin_with(key, moment), limit))


def begins_with(key: str, prefix: str, *, plain: bool = False) -> bool:
    """Whether a key begins with the segments of a prefix: ``user.name`` leads to ``user.name.first``, not to ``user.nameplate``.

    ``plain`` takes it letter by letter. With nothing every key begins.
    """
    if plain or not prefix or prefix.endswith("."):
        return key.startswith(prefix)
    return key.startswith(prefix) and key[len(prefix) : len(prefix) + 1] in ("", ".")


def fold_memory(events: Iterable[Envelope]) -> Memory:
    """The memory that the events of one stream come to."""
    memory = Memory()
    for envelope in events:
        memory.apply(envelope)
    return memory


def changes_of(key: str, events: Iterable[Envelope]) -> list[MemoryChange]:
    """What happened to a key, the first first."""
    return [change for envelope in events if (change := _change(key, envelope)) is not None]


def _change(key: str, envelope: Envelope) -> MemoryChange | None:
    event = envelope.event
    if isinstance(event, MemorySet) and event.key == key:
        item = _item(envelope, event)
        kept: Any = {name: getattr(item, name) for name in MemoryChange._fields if name != "action"}
        return MemoryChange("set", **kept)
    if isinstance(event, MemoryForgotten) and event.key == key:
        meta = envelope.meta
        who: Any = {"run": meta_text(meta, "run"), "actor": meta_text(meta, "actor"), "by": event.by}
        return MemoryChange("forgotten", None, envelope.version, envelope.time, source=event.source, **who)
    return None


# --------------------------------------------------------------------------------------------- streams


def shared_memory(system: str, user: str) -> str:
    """The stream of what the agents of a system share about one user, by the refs of both.

    It is worked out, not looked up, so that reading leaves nothing behind; and out of the user's ref, which is random,
    so that the name tells nothing.
    """
    digest = sha256(f"{system}\n{user}".encode()).hexdigest()
    return f"{PREFIX}system-{digest[:DIGEST_CHARACTERS]}"


def own_memory(ref: str) -> str:
    """The stream of what is remembered of a user or in a conversation, by its ref."""
    return f"{PREFIX}{ref}"


def scope_of(stream: str) -> MemoryScope:
    """The scope that a memory stream is of, by its name."""
    kind = stream.split("-", 2)[1]
    return cast(MemoryScope, kind) if kind in ("conversation", "system") else "user"


def _item(envelope: Envelope, event: MemorySet) -> MemoryItem:
    meta = envelope.meta
    return MemoryItem(
        event.key,
        event.value,
        envelope.version,
        envelope.time,
        scope_of(envelope.stream),
        event.source,
        event.expires_at,
        event.confidence,
        event.metadata,
        event.trust,
        meta_text(meta, "run"),
        meta_text(meta, "actor"),
        event.by,
    )


# ------------------------------------------------------------------------------ items inside of events

PLACE = ("version", "time", "source", "expires_at", "run", "actor", "by")
"""What differs where the same happens again."""
F = TypeVar("F", MemoryItem, MemoryChange)


def recorded(
    found: Sequence[MemoryItem] | Sequence[MemoryChange],
) -> tuple[list[JsonValue], tuple[JsonObject, ...]]:
    """Items or changes as ``memory.recalled`` holds them: what they say, and beside it their places."""
    values: list[JsonValue] = []
    places: list[JsonObject] = []
    for one in found:
        usual = one._field_defaults
        fields = {n: v for n, v in one._asdict().items() if n == "scope" or n not in usual or v != usual[n]}
        places.append({name: fields.pop(name) for name in PLACE if name in fields})
        values.append(fields)
    return values, tuple(places)


def read_back(kind: type[F], value: JsonValue, places: Sequence[JsonObject]) -> list[F]:
    """The items or changes that a ``memory.recalled`` holds; what a later version has added to them is passed over."""
    values = cast(Sequence[JsonObject], value or ())
    known = kind._fields
    found: list[Any] = [{**one, **place} for one, place in zip(values, places, strict=True)]
    return [kind(**{name: fields[name] for name in known if name in fields}) for fields in found]
