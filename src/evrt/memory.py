"""Memory from outside of runs (``app.memory``): what an application tells its agents, looks up, corrects and removes.

Whose memory it is, one's own ids say: ``user="ann"``, ``conversation="c1"``, or ``user="ann", system="support"`` for what
the agents of a system share about a user. Everything written is a fact on a memory stream, with who wrote it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple, Protocol, TypedDict, Unpack

import orjson

from evrt.codec import encode, meta_for
from evrt.errors import Conflict, UsageError, WrongVersion
from evrt.events import Envelope, Event, JsonObject, JsonValue
from evrt.events.memory import MemoryForgotten, MemoryScope, Trust
from evrt.folds.memory import (
    Memory,
    MemoryChange,
    MemoryItem,
    begins_with,
    changes_of,
    fold_memory,
    own_memory,
    scope_of,
    shared_memory,
)
from evrt.history import is_ref
from evrt.log import Append, Draft, Log
from evrt.log.contract import Exact
from evrt.log.envelopes import envelopes
from evrt.log.ids import new_event_id
from evrt.principal import Anonymous
from evrt.remembering import (
    FORGOTTEN_MAX,
    MANY_MAX,
    Expires,
    MemoryPolicy,
    Setting,
    check_key,
    check_number,
    check_prefix,
    facts_of,
    setting,
)
from evrt.seal import Redact, admit

TRIES_MAX = 100
HISTORY_MAX = 100
PAGE_EVENTS = 1_000


class Whose(TypedDict, total=False):
    """Whose memory is meant, by ids of one's own or by refs: a user, a conversation, or a user in a system."""

    user: str | None
    conversation: str | None
    system: str | None


class Remembers(Protocol):
    """What this needs of an app."""

    redact: Redact
    memory_policy: MemoryPolicy

    async def log(self) -> Log: ...


class Owned(NamedTuple):
    """A memory stream, and what its events say of whose it is."""

    stream: str
    user: str | None
    correlation: str


Decision = Callable[[Memory, int, MemoryScope], Sequence[Event]]
"""From a memory and the moment to the facts to write."""


@dataclass(frozen=True, slots=True)
class AppMemory:
    """``app.memory``. What nobody has ever set reads as nothing; only writing makes an id known to the log.

    Methods raise UsageError where it is not clear whose memory is meant, InvalidInput for a bad key or value, and what
    reading and writing the log raises.
    """

    _app: Remembers

    # Reading

    async def get(self, key: str, *, default: JsonValue = None, **whose: Unpack[Whose]) -> JsonValue:
        """The value of a key, or ``default``."""
        item = await self.item(key, **whose)
        return default if item is None else item.value

    async def item(self, key: str, **whose: Unpack[Whose]) -> MemoryItem | None:
        """The value of a key with its version, its source and the like; None where there is none."""
        check_key(key)
        memory, moment = await self._held(whose)
        return memory.get(key, moment)

    async def get_many(self, keys: Sequence[str], **whose: Unpack[Whose]) -> dict[str, JsonValue]:
        """The values of those of these keys that have one."""
        asked = [check_key(key) for key in keys]
        memory, moment = await self._held(whose)
        found = (memory.get(key, moment) for key in asked)
        return {item.key: item.value for item in found if item is not None}

    async def list(
        self,
        prefix: str = "",
        *,
        plain: bool = False,
        source: str | None = None,
        min_confidence: float = 0.0,
        limit: int | None = None,
        **whose: Unpack[Whose],
    ) -> Sequence[MemoryItem]:
        """Items whose keys begin with the segments of ``prefix``, those set last first. See ``ctx.memory.list``."""
        check_prefix(prefix)
        memory, moment = await self._held(whose)
        found = (
            item
            for item in memory.begin_with(prefix, moment, plain=plain)
            if item.confidence >= min_confidence and source in (None, item.source)
        )
        return tuple(islice(found, limit))

    async def history(
        self, key: str, *, limit: int = HISTORY_MAX, **whose: Unpack[Whose]
    ) -> Sequence[MemoryChange]:
        """The last ``limit`` things that happened to a key, the first first: set to what, when, by whom, in which run."""
        check_key(key)
        log = await self._app.log()
        owned = await _owned(log, whose, create=False)
        return [] if owned is None else changes_of(key, await _read(log, owned.stream))[-limit:]

    # Writing

    async def set(
        self,
        key: str,
        value: object,
        *,
        by: str | None = None,
        expires: Expires = None,
        source: str | None = None,
        confidence: float = 1.0,
        metadata: Mapping[str, object] | None = None,
        trust: Trust = "trusted",
        if_version: int | None = None,
        **whose: Unpack[Whose],
    ) -> int:
        """Set a key; returns the version of its value. ``by`` says who does it.

        ``expires``: for how long it is seen ("30d", or seconds), or until when (a time with its zone). With ``if_version``
        only if that is still the version of its value (0: no value); else Conflict. Raises UsageError where it is full.
        """
        more = {"expires": expires, "source": source, "confidence": confidence, "trust": trust, "by": by}
        several = self._settings({key: value}, metadata, more)
        [version] = await self._write(whose, self._set(several), key=key, if_version=if_version)
        return version

    async def set_many(
        self,
        values: Mapping[str, object],
        *,
        by: str | None = None,
        expires: Expires = None,
        source: str | None = None,
        confidence: float = 1.0,
        metadata: Mapping[str, object] | None = None,
        trust: Trust = "trusted",
        **whose: Unpack[Whose],
    ) -> None:
        """Set several keys, all of them or none. Otherwise as ``set``."""
        check_number(len(values), MANY_MAX)
        more = {"expires": expires, "source": source, "confidence": confidence, "trust": trust, "by": by}
        await self._write(whose, self._set(self._settings(values, metadata, more)))

    async def forget(
        self, key: str, *, by: str | None = None, if_version: int | None = None, **whose: Unpack[Whose]
    ) -> bool:
        """Forget a key; tells whether it had a value. ``by`` and ``if_version`` as for ``set``."""
        check_key(key)
        existed = False

        def decide(memory: Memory, moment: int, scope: MemoryScope) -> Sequence[Event]:
            nonlocal existed
            existed = memory.get(key, moment) is not None
            return [MemoryForgotten(key=key, by=by)] if key in memory.items else []

        await self._write(whose, decide, key=key, if_version=if_version)
        return existed

    async def clear(self, prefix: str = "", *, by: str | None = None, **whose: Unpack[Whose]) -> int:
        """Forget every key that begins with the segments of ``prefix``, at once; with nothing all of them. Tells how many."""
        check_prefix(prefix)

        def decide(memory: Memory, moment: int, scope: MemoryScope) -> Sequence[Event]:
            keys = [key for key in memory.items if begins_with(key, prefix)]
            check_number(len(keys), FORGOTTEN_MAX)
            return [MemoryForgotten(key=key, by=by) for key in keys]

        return len(await self._write(whose, decide))

    # How

    async def _held(self, whose: Whose) -> tuple[Memory, int]:
        log = await self._app.log()
        owned = await _owned(log, whose, create=False)
        memory = Memory() if owned is None else fold_memory(await _read(log, owned.stream))
        return memory, await log.coordination.now()

    def _settings(
        self, values: Mapping[str, object], metadata: object, more: Mapping[str, Any]
    ) -> Sequence[Setting]:
        redact = self._app.redact
        said = None if metadata is None else admit(metadata, redact)
        return [
            setting(key, admit(value, redact), metadata=said, **more)  # type: ignore[arg-type]  # checked there
            for key, value in values.items()
        ]

    def _set(self, several: Sequence[Setting]) -> Decision:
        policy = self._app.memory_policy
        return lambda memory, moment, scope: facts_of(several, memory, moment, policy, scope)

    async def _write(
        self, whose: Whose, decide: Decision, *, key: str = "", if_version: int | None = None
    ) -> Sequence[int]:
        """Append what is decided, all or nothing; the versions of the facts. Raises Conflict."""
        log = await self._app.log()
        owned = await _owned(log, whose, create=True)
        assert owned is not None
        scope = scope_of(owned.stream)
        for _ in range(TRIES_MAX):
            memory = fold_memory(await _read(log, owned.stream))
            moment = await log.coordination.now()
            item = memory.get(key, moment)
            version = 0 if item is None else item.version
            if if_version not in (None, version):
                raise Conflict(
                    f"Memory {key!r} ({scope}) is at version {version}, not at {if_version}: read it again."
                )
            facts = decide(memory, moment, scope)
            if not facts:
                return ()
            drafts = [_draft(owned, fact) for fact in facts]
            try:
                appended = await log.append(Append(drafts, {owned.stream: Exact(memory.version)}))
                return appended.versions
            except WrongVersion:
                continue  # Somebody was faster; with a condition, the next look tells whether it was this key.
        raise Conflict(f"Memory {key!r} ({scope}) is being written too fast to set it now.")


async def _owned(log: Log, whose: Whose, *, create: bool) -> Owned | None:
    """The stream of whose memory is meant; None where nobody has come to be known by these ids. Raises UsageError."""
    user, conversation, system = whose.get("user"), whose.get("conversation"), whose.get("system")
    if isinstance(user, Anonymous):
        raise UsageError(
            "Of somebody who has not logged in nothing is remembered beyond the conversation: name that."
        )
    if conversation is not None and user is None and system is None:
        ref = await _ref(log, "conversation", conversation, create=create)
        return None if ref is None else Owned(own_memory(ref), None, ref)
    if user is None or conversation is not None:
        raise UsageError(
            "Whose memory? Name one: user=..., conversation=..., or user=... and system=... for what the agents of a "
            "system share about a user."
        )
    owner = await _ref(log, "user", user, create=create)
    if owner is None:
        return None
    if system is None:
        return Owned(own_memory(owner), owner, own_memory(owner))
    shared = await _ref(log, "system", system, create=create)
    if shared is None:
        return None
    stream = shared_memory(shared, owner)
    return Owned(stream, owner, stream)


async def _ref(log: Log, kind: str, name: str, *, create: bool) -> str | None:
    known = await log.ref(kind, name, create=False)
    if known is None and is_ref(kind, name):
        return name  # As it is printed.
    return await log.ref(kind, name) if known is None and create else known


async def _read(log: Log, stream: str) -> list[Envelope]:
    found: list[Envelope] = []
    while rows := await log.read_stream(stream, after=len(found), limit=PAGE_EVENTS):
        found += envelopes(rows)
    return found


def _draft(owned: Owned, event: Event) -> Draft:
    by = event.__dict__.get("by")
    meta: JsonObject = {"actor": "outside" if by is None else "person"}
    if owned.user is not None:
        meta["on_behalf_of"] = owned.user
    written = meta_for(event, orjson.dumps(meta))
    return Draft(owned.stream, event.type, new_event_id(), owned.correlation, written, encode(event))
