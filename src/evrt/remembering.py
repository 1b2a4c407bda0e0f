"""What may be remembered, for how long, and how much of it: checked before anything is written. Pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import get_args

from evrt.errors import InvalidInput, UsageError
from evrt.events import JsonObject, JsonValue
from evrt.events.memory import MemoryScope, MemorySet, Trust
from evrt.folds.memory import Memory
from evrt.retry import Length, parse_length

KEY_CHARACTERS_MAX = 512
MANY_MAX = 1_000
"""Most keys that are set at once."""
FORGOTTEN_MAX = 9_000
"""Most keys that are forgotten at once; one append takes not many more events."""
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECONDS = 1_000_000
TRUSTS = get_args(Trust)

Expires = Length | datetime | None
"""Until when a value is seen: for a length of time from now ("30d", or seconds), or until a moment with its zone."""


@dataclass(frozen=True, slots=True)
class MemoryPolicy:
    """What holds for all that an app remembers.

    scope
        the one that ``ctx.memory`` means where none is named.
    retention
        the longest that anything is seen after it was set ("365d", or seconds); None for as long as nobody forgets it.
    conversation_retention
        the same for the scope of conversations, in the place of ``retention``.
    memories_max
        how many keys one memory may hold: that of a user, of a user in a system, or of a conversation. More are refused.

    Raises UsageError, InvalidInput (no length of time).
    """

    scope: MemoryScope = "user"
    retention: Length | None = None
    conversation_retention: Length | None = None
    memories_max: int | None = None

    def __post_init__(self) -> None:
        if self.scope not in get_args(MemoryScope):
            raise UsageError(
                f"MemoryPolicy: scope is {self.scope!r}; it can be {', '.join(map(repr, get_args(MemoryScope)))}."
            )
        for length in (self.retention, self.conversation_retention):
            if length is not None:
                parse_length(length)
        if self.memories_max is not None and (type(self.memories_max) is not int or self.memories_max < 1):
            raise UsageError(
                f"MemoryPolicy: memories_max is {self.memories_max!r}; it has to be a whole number of at least 1, or None "
                "for no limit."
            )

    def retention_seconds(self, scope: MemoryScope) -> float | None:
        """How long anything of a scope is seen at most."""
        length = self.retention
        if scope == "conversation" and self.conversation_retention is not None:
            length = self.conversation_retention
        return None if length is None else parse_length(length)


KEPT = MemoryPolicy()


@dataclass(frozen=True, slots=True)
class Setting:
    """A value that is to be set, checked as far as that takes no clock."""

    key: str
    value: JsonValue
    source: str | None = None
    lasts_seconds: float | None = None
    until: int | None = None
    """Microseconds since 1970."""
    confidence: float = 1.0
    metadata: JsonObject | None = None
    trust: Trust = "trusted"
    by: str | None = None

    @property
    def timed(self) -> bool:
        """Whether it is to expire."""
        return self.lasts_seconds is not None or self.until is not None

    def event(self, expires_at: int | None) -> MemorySet:
        """The fact, with the moment at which it expires."""
        return MemorySet(
            key=self.key,
            value=self.value,
            source=self.source,
            expires_at=expires_at,
            confidence=self.confidence,
            metadata=self.metadata,
            trust=self.trust,
            by=self.by,
        )

    def expires_at(self, moment: int | None, retention_seconds: float | None) -> int | None:
        """When it expires, if it is set at this moment. Raises InvalidInput where that has passed."""
        lengths = [seconds for seconds in (self.lasts_seconds, retention_seconds) if seconds is not None]
        if not lengths and self.until is None:
            return None
        assert moment is not None
        if self.until is not None and self.until <= moment:
            past = (EPOCH + timedelta(microseconds=self.until)).isoformat()
            raise InvalidInput(
                f"Memory {self.key!r} cannot expire at {past}: that is past, so nobody would ever see it."
            )
        ends = [moment + int(seconds * MICROSECONDS) for seconds in lengths]
        return min(ends if self.until is None else [*ends, self.until])


def setting(
    key: object,
    value: JsonValue,
    *,
    source: str | None = None,
    expires: Expires = None,
    confidence: float = 1.0,
    metadata: JsonObject | None = None,
    trust: Trust = "trusted",
    by: str | None = None,
) -> Setting:
    """A value that is to be set. Value and metadata are JSON already. Raises InvalidInput."""
    checked = check_key(key)
    lasts_seconds, until = None, None
    if isinstance(expires, datetime):
        if expires.tzinfo is None:
            raise InvalidInput(
                f"Memory {checked!r} expires at {expires.isoformat()}, which has no zone, so that it could be any of many "
                "moments. Give it one: datetime(…, tzinfo=UTC)."
            )
        until = (expires - EPOCH) // EPOCH.resolution
    elif expires is not None:
        lasts_seconds = parse_length(expires)
    if isinstance(confidence, bool) or not isinstance(confidence, int | float) or not 0 <= confidence <= 1:
        raise InvalidInput(
            f"The confidence of memory {checked!r} is a number from 0 to 1, not {confidence!r:.40}."
        )
    if metadata is not None and not isinstance(metadata, dict):
        raise InvalidInput(f"The metadata of memory {checked!r} is a JSON object, not {metadata!r:.40}.")
    if trust not in TRUSTS:
        raise InvalidInput(f"The trust of memory {checked!r} is 'trusted' or 'untrusted', not {trust!r:.40}.")
    for name, text in (("source", source), ("by", by)):
        if text is not None and not (isinstance(text, str) and is_unicode(text)):
            raise InvalidInput(f"{name}= of memory {checked!r} is text, not {text!r:.40}.")
    return Setting(checked, value, source, lasts_seconds, until, float(confidence), metadata, trust, by)


def check_key(key: object) -> str:
    """A key, as it was given. Raises InvalidInput."""
    if not isinstance(key, str) or not key.strip() or len(key) > KEY_CHARACTERS_MAX or not is_unicode(key):
        raise InvalidInput(f"A memory key is text of 1 to {KEY_CHARACTERS_MAX} characters, not {key!r:.80}.")
    return key


def check_limit(limit: object) -> None:
    """Raises InvalidInput for a number of items that is none, before anything is read or recorded."""
    if type(limit) is not int or limit < 1:
        raise InvalidInput(
            f"limit is how many items there may be, a whole number of at least 1; not {limit!r:.80}."
        )


def check_prefix(prefix: object) -> str:
    """What keys are to begin with: nothing, or as a key. Raises InvalidInput."""
    return prefix if isinstance(prefix, str) and not prefix else check_key(prefix)


def check_room(memory: Memory, keys: Collection[str], moment: int | None, memories_max: int | None) -> None:
    """Raises UsageError where these keys are more than a memory may hold with those that it holds."""
    if memories_max is None or len(memory.items) + len(keys) <= memories_max:
        return
    held = {item.key for item in memory.newest_first(moment)}
    new = set(keys) - held
    if new and len(held) + len(new) > memories_max:
        raise UsageError(
            f"This memory holds {len(held):,} of the {memories_max:,} keys that it may hold, so {min(new)!r} cannot be set. "
            "Forget some first, or raise memories_max."
        )


def facts_of(
    several: Sequence[Setting], memory: Memory, moment: int | None, policy: MemoryPolicy, scope: MemoryScope
) -> list[MemorySet]:
    """The facts that set these values at a moment. Raises InvalidInput (past expiry), UsageError (no room)."""
    check_room(memory, {one.key for one in several}, moment, policy.memories_max)
    retention_seconds = policy.retention_seconds(scope)
    return [one.event(one.expires_at(moment, retention_seconds)) for one in several]


def check_number(count: int, most: int) -> None:
    """Raises UsageError where so many keys are too many for one append."""
    if count > most:
        raise UsageError(f"{count:,} keys are too many at once: {most:,} is the most. Do it in parts.")


def is_unicode(text: str) -> bool:
    """Whether a text can be written down: a lone surrogate cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
