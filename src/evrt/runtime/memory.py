"""Scoped memory as a run sees it (``ctx.memory``): values by key, read, set and forgotten.

Memory is a fold of its stream. The last set wins, unless ``if_version`` is given: then a conflict is a recorded
outcome. How reads and writes are noted in the run is said in ``evrt.runtime.memory_access``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from itertools import islice
from typing import Literal

from evrt.events import Event, JsonValue
from evrt.events.memory import MemoryRecalled, MemoryScope, MemoryWritten, Trust
from evrt.folds.memory import (
    RECALLED_MAX,
    Memory,
    MemoryChange,
    MemoryItem,
    begins_with,
    changes_of,
    read_back,
    recorded,
)
from evrt.remembering import (
    FORGOTTEN_MAX,
    MANY_MAX,
    Expires,
    check_key,
    check_limit,
    check_number,
    check_prefix,
)
from evrt.runtime.execution import Execution
from evrt.runtime.identity import digest_of
from evrt.runtime.memory_access import Fields, MemoryAccess, glance

Scope = MemoryScope | None
HISTORY_MAX = 100
"""Most changes of a key that are read at once, unless more are asked for."""


class RunMemory:
    """``ctx.memory``: values by key, of the run's user, of its conversation, or shared by the agents of its system.

    Keys are text such as ``user.preferences.theme``. A ``scope`` is ``user``, ``conversation`` or ``system``; without
    one it is the app's (``MemoryPolicy.scope``, which is ``user``). A scope that the run has none of (no ``user=`` at
    its start, say) is an error, never somebody else's memory.

    Every method raises UsageError for such a scope, and InvalidInput for a bad key or value.
    """

    def __init__(self, execution: Execution) -> None:
        self._execution = execution
        self._access = MemoryAccess(execution)
        self._glances: dict[int, MemoryRecalled] = {}
        """The last read of the newest items that recorded them, by how many were asked for."""
        self._glanced: dict[str, list[MemoryItem]] = {}
        """What each of those read, by its operation."""

    def told_to(self, read: dict[str, None]) -> RunMemory:
        """The same memory, which notes in ``read`` where the untrusted values come from that are read through it."""
        mine = copy(self)
        mine._access = copy(self._access)
        mine._access.read = read
        return mine

    # Reading

    async def get(self, key: str, *, scope: Scope = None, default: JsonValue = None) -> JsonValue:
        """The value of a key, or ``default``. Recorded with the version that was read."""
        chosen, stream = self._access.one(scope)

        async def look() -> Fields:
            memory = await self._access.facts.fold(stream)
            moment = await self._access.moment(memory)
            item = memory.get(key, moment)
            if item is None:
                return {"version": memory.version, "at": moment}
            return {
                "found": True,
                "value": item.value,
                "version": item.version,
                "trust": item.trust,
                "at": moment,
            }

        recalled = await self._access.recall("get", chosen, key, [chosen, check_key(key)], look)
        if recalled.trust == "untrusted":
            self._access.distrust(chosen, key)
        return recalled.value if recalled.found else default

    async def item(self, key: str, *, scope: Scope = None) -> MemoryItem | None:
        """The value of a key with its version, its source and the like; None where there is none."""
        chosen, stream = self._access.one(scope)
        check_key(key)

        def choose(memory: Memory, moment: int | None) -> Iterable[MemoryItem]:
            found = memory.get(key, moment)
            return [] if found is None else [found]

        items = await self._access.items("item", chosen, key, [stream], [chosen, key], choose)
        return items[0] if items else None

    async def get_many(self, keys: Sequence[str], *, scope: Scope = None) -> dict[str, JsonValue]:
        """The values of those of these keys that have one."""
        chosen, stream = self._access.one(scope)
        asked = [check_key(key) for key in keys]

        def choose(memory: Memory, moment: int | None) -> Iterable[MemoryItem]:
            found = (memory.get(key, moment) for key in asked)
            return [item for item in found if item is not None]

        items = await self._access.items("get_many", chosen, "", [stream], [chosen, asked], choose)
        return {item.key: item.value for item in items}

    async def list(
        self,
        prefix: str = "",
        *,
        scope: Scope = None,
        plain: bool = False,
        source: str | None = None,
        min_confidence: float = 0.0,
        limit: int | None = None,
    ) -> Sequence[MemoryItem]:
        """Items whose keys begin with the segments of ``prefix``, those set last first.

        ``user.name`` finds ``user.name.first`` and not ``user.nameplate``, unless ``plain`` takes it letter by letter.
        ``source`` and ``min_confidence`` keep those that are so.
        """
        chosen, stream = self._access.one(scope)
        check_prefix(prefix)
        if limit is not None:
            check_limit(limit)

        def choose(memory: Memory, moment: int | None) -> Iterable[MemoryItem]:
            found = (
                item
                for item in memory.begin_with(prefix, moment, plain=plain)
                if item.confidence >= min_confidence and source in (None, item.source)
            )
            return islice(found, limit)

        asked: JsonValue = [chosen, prefix, plain, source, min_confidence, limit]
        return await self._access.items("list", chosen, prefix, [stream], asked, choose)

    async def recall(
        self, key: str, *, scope: MemoryScope | Literal["all"] = "all", limit: int = RECALLED_MAX
    ) -> Sequence[MemoryItem]:
        """What is remembered under a key: in each scope its item, or where there is none, what its segments begin.

        Of ``all`` scopes those that the run has are searched: user, system, conversation. ``limit`` is for each.
        """
        check_limit(limit)
        streams = list(self._access.streams().values()) if scope == "all" else [self._access.one(scope)[1]]
        asked: JsonValue = [scope, check_key(key), limit]
        return await self._access.items(
            "recall", scope, key, streams, asked, lambda memory, moment: memory.recall(key, moment, limit)
        )

    async def newest(self, limit: int = 50) -> Sequence[MemoryItem]:
        """What was set last in each scope that the run has, to be put before a model: user, system, conversation.

        Values are text here, or their JSON, cut after GLANCE_CHARACTERS_MAX characters. Where nothing has changed
        since the code last asked, no more than that is recorded.
        """
        check_limit(limit)
        streams = list(self._access.streams().values())
        before = self._glances.get(limit)

        async def look() -> Fields:
            memories = [await self._access.facts.fold(stream) for stream in streams]
            versions = {stream: memory.version for stream, memory in zip(streams, memories, strict=True)}
            moment = await self._access.moment(*memories)
            same = before is not None and moment is None and before.streams == versions
            found: Fields = {"streams": versions, "at": moment}
            if not same:
                items = [
                    glance(item) for memory in memories for item in islice(memory.newest_first(moment), limit)
                ]
                value, places = recorded(items)
                found |= {"found": bool(items), "value": value, "places": places}
                same = before is not None and (before.value, before.places) == (value, places)
            if same and before is not None:
                return found | {
                    "found": before.found,
                    "value": None,
                    "places": (),
                    "same_as": before.operation,
                }
            return found

        recalled = await self._access.recall("newest", "all", "", ["all", limit], look)
        if recalled.same_as is None:
            items = read_back(MemoryItem, recalled.value, recalled.places)
            self._glances[limit] = recalled
            self._glanced[recalled.operation] = items
        return self._access.seen(self._glanced[recalled.same_as or recalled.operation])

    async def history(
        self, key: str, *, scope: Scope = None, limit: int = HISTORY_MAX
    ) -> Sequence[MemoryChange]:
        """The last ``limit`` things that happened to a key, the first first: set to what, when, by whom, in which run."""
        check_limit(limit)
        chosen, stream = self._access.one(scope)

        async def look() -> Fields:
            events = await self._access.facts.read(stream)
            value, places = recorded(changes_of(key, events)[-limit:])
            version = events[-1].version if events else 0
            return {"found": bool(value), "value": value, "places": places, "streams": {stream: version}}

        recalled = await self._access.recall("history", chosen, key, [chosen, check_key(key), limit], look)
        found = read_back(MemoryChange, recalled.value, recalled.places)
        if any(change.trust == "untrusted" for change in found):
            self._access.distrust(chosen, key)
        return found

    # Writing

    async def set(
        self,
        key: str,
        value: object,
        *,
        scope: Scope = None,
        expires: Expires = None,
        source: str | None = None,
        confidence: float = 1.0,
        metadata: Mapping[str, object] | None = None,
        trust: Trust | None = None,
        if_version: int | None = None,
    ) -> None:
        """Set a key; with ``if_version`` only if that is still the version of its value (0: no value).

        expires
            for how long it is seen ("30d", or seconds), or until when (a time with its zone).
        source
            where the value comes from, ``run:…`` unless said otherwise; ``confidence`` how sure that is, from 0 to 1.
        trust
            ``untrusted`` where this run has read anything untrusted, unless the code knows better.

        Raises Conflict where ``if_version`` is not the version any more, UsageError where the memory is full.
        """
        more = _more(expires, source, confidence, metadata, trust)
        chosen, stream = self._access.one(scope)
        [one] = self._access.settings({key: value}, more)
        asked: list[JsonValue] = [chosen, key, one.value]
        if more:
            asked.append(self._execution.admit(more))
        new = MemoryWritten(operation="", digest=digest_of(asked), action="set", scope=chosen, key=key)
        await self._access.set(new, stream, [one], if_version)

    async def set_many(
        self,
        values: Mapping[str, object],
        *,
        scope: Scope = None,
        expires: Expires = None,
        source: str | None = None,
        confidence: float = 1.0,
        metadata: Mapping[str, object] | None = None,
        trust: Trust | None = None,
    ) -> None:
        """Set several keys, all of them or none. Otherwise as ``set``."""
        more = _more(expires, source, confidence, metadata, trust)
        chosen, stream = self._access.one(scope)
        check_number(len(values), MANY_MAX)
        several = self._access.settings(values, more)
        if not several:
            return
        asked: JsonValue = [chosen, [[one.key, one.value] for one in several], self._execution.admit(more)]
        new = MemoryWritten(operation="", digest=digest_of(asked), action="set_many", scope=chosen, key="")
        await self._access.set(new, stream, several)

    async def forget(
        self, key: str, *, scope: Scope = None, source: str | None = None, if_version: int | None = None
    ) -> bool:
        """Forget a key; tells whether it had a value. ``source`` and ``if_version`` as for ``set``."""
        chosen, stream = self._access.one(scope)
        check_key(key)
        new = MemoryWritten(
            operation="", digest=digest_of([chosen, key]), action="forget", scope=chosen, key=key
        )

        def decide(memory: Memory, moment: int | None) -> tuple[Sequence[Event], bool]:
            held = [key] if key in memory.items else []
            return self._access.forgotten(held, source), memory.get(key, moment) is not None

        return (await self._access.write(new, stream, decide, if_version)).existed

    async def clear(self, prefix: str = "", *, scope: Scope = None) -> int:
        """Forget every key that begins with the segments of ``prefix``, at once; with nothing all of them. Tells how many."""
        chosen, stream = self._access.one(scope)
        check_prefix(prefix)
        new = MemoryWritten(
            operation="", digest=digest_of([chosen, prefix]), action="clear", scope=chosen, key=prefix
        )

        def decide(memory: Memory, moment: int | None) -> tuple[Sequence[Event], bool]:
            keys = [key for key in memory.items if begins_with(key, prefix)]
            check_number(len(keys), FORGOTTEN_MAX)
            return self._access.forgotten(keys), bool(keys)

        return (await self._access.write(new, stream, decide)).count


def _more(
    expires: Expires,
    source: str | None,
    confidence: float,
    metadata: Mapping[str, object] | None,
    trust: Trust | None,
) -> dict[str, object]:
    """What is said of a value beside itself, as far as it is not as usual."""
    given = {"expires": expires, "source": source, "metadata": metadata, "trust": trust}
    said: dict[str, object] = {name: value for name, value in given.items() if value is not None}
    return said if confidence == 1.0 else {**said, "confidence": confidence}
