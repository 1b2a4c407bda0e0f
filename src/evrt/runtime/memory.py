"""Scoped memory as a run sees it: gets, sets and forgets on memory streams, each noted in the run.

Memory is a fold of its stream. A set goes into the memory stream and the run's stream in one
append. The last one wins, unless ``if_version`` is given: then a conflict is a recorded outcome.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Literal

from evrt.errors import Conflict, InvalidInput, UsageError, WrongVersion
from evrt.events import Event, JsonValue
from evrt.events.memory import MemoryForgotten, MemoryRecalled, MemoryScope, MemorySet, MemoryWritten
from evrt.events.run import CANCELLED
from evrt.folds.memory import Memory
from evrt.log.contract import Draft
from evrt.runtime.execution import Execution
from evrt.runtime.facts import Facts
from evrt.runtime.identity import digest_of
from evrt.runtime.journal import payload_of

CONFLICT_TRIES_MAX = 100
KEY_CHARACTERS_MAX = 512


@dataclass(slots=True, eq=False)
class RunMemory:
    """``ctx.memory``: values by key, in the scope of the conversation or of the user.

    Keys are text such as ``user.preferences.theme``. A scope that the run has none of (no ``user=``
    at its start, say) is an error, never somebody else's memory.
    """

    _execution: Execution
    _facts: Facts[Memory] = field(init=False)

    def __post_init__(self) -> None:
        self._facts = Facts(self._execution, Memory)

    async def get(self, key: str, *, scope: MemoryScope = "user", default: JsonValue = None) -> JsonValue:
        """The value of a key, or ``default``. Recorded with the version that was read.

        Raises UsageError for a scope that this run does not have, InvalidInput for a bad key.
        """
        execution = self._execution
        stream = self._stream(scope)
        identity = execution.bind("memory.get")
        digest = digest_of([scope, _checked(key)])
        known = await execution.recorded(identity, "memory", digest)
        if known is not None and known.outcome is not None:
            recalled = known.outcome.event
        else:
            try:
                memory = await execution.outside(self._facts.fold(stream))
            except asyncio.CancelledError:
                self._cut_off(
                    MemoryRecalled(operation=identity, digest=digest, scope=scope, key=key, found=False)
                )
                raise
            item = memory.items.get(key)
            recalled = MemoryRecalled(
                operation=identity,
                digest=digest,
                scope=scope,
                key=key,
                found=item is not None,
                value=item.value if item is not None else None,
                version=item.version if item is not None else memory.version,
            )
            execution.record(recalled)
        assert isinstance(recalled, MemoryRecalled)
        return recalled.value if recalled.found else default

    async def set(
        self, key: str, value: JsonValue, *, scope: MemoryScope = "user", if_version: int | None = None
    ) -> None:
        """Set a key; with ``if_version`` only if that is still the version of its value (0: no value).

        Raises Conflict when it is not, UsageError for a scope that this run does not have, InvalidInput
        for a bad key or value.
        """
        admitted = self._execution.admit(value)
        event = MemorySet(key=_checked(key), value=admitted, source=f"run:{self._execution.run}")
        payload_of(event)  # Too large a value is refused here, on the first execution as on replay.
        await self._write("set", scope, key, event, digest_of([scope, key, admitted]), if_version)

    async def forget(self, key: str, *, scope: MemoryScope = "user", if_version: int | None = None) -> bool:
        """Forget a key; tells whether it had a value. Errors as for ``set``."""
        event = MemoryForgotten(key=_checked(key), source=f"run:{self._execution.run}")
        written = await self._write("forget", scope, key, event, digest_of([scope, key]), if_version)
        return written.existed

    async def _write(
        self,
        action: Literal["set", "forget"],
        scope: MemoryScope,
        key: str,
        event: Event,
        digest: str,
        if_version: int | None,
    ) -> MemoryWritten:
        execution = self._execution
        stream = self._stream(scope)
        identity = execution.bind(f"memory.{action}")
        known = await execution.recorded(identity, "memory", digest)
        if known is not None and known.outcome is not None:
            written = known.outcome.event
            assert isinstance(written, MemoryWritten)
        else:
            fact = self._facts.draft(stream, event)
            new = MemoryWritten(
                operation=identity, digest=digest, action=action, scope=scope, key=key, event_id=fact.event_id
            )
            try:
                memory = await execution.outside(self._facts.fold(stream))
                written = await self._append(stream, memory, fact, new, if_version)
            except asyncio.CancelledError:
                self._cut_off(new.model_copy(update={"event_id": None}))
                raise
        if written.conflict is not None:
            raise Conflict(written.conflict)
        return written

    async def _append(
        self, stream: str, memory: Memory, fact: Draft, new: MemoryWritten, if_version: int | None
    ) -> MemoryWritten:
        """Write the fact and the note of it, or the note of a conflict."""
        for _ in range(CONFLICT_TRIES_MAX):
            item = memory.items.get(new.key)
            written = new.model_copy(update={"existed": item is not None})
            if if_version is None:
                self._facts.record([fact], written)
                return written
            version = item.version if item is not None else 0
            if version != if_version:
                return self._conflict(written, f"is at version {version}, not at {if_version}: read it again")
            try:
                await self._facts.append(stream, memory.version, [fact], written)
                return written
            except WrongVersion:
                memory = await self._facts.fold(stream)  # Another key may have changed, or this one.
        return self._conflict(new, "is being written too fast to set it with if_version")

    def _conflict(self, new: MemoryWritten, what: str) -> MemoryWritten:
        text = f"Memory {new.key!r} ({new.scope}) {what}."
        written = new.model_copy(update={"event_id": None, "conflict": text})
        self._execution.record(written)
        return written

    def _cut_off(self, event: MemoryRecalled | MemoryWritten) -> None:
        execution = self._execution
        if execution.stopped is None:
            failure = execution.failure(CANCELLED, "The code that awaited this cancelled it.")
            execution.record(event.model_copy(update={"failure": failure}))

    def _stream(self, scope: MemoryScope) -> str:
        execution = self._execution
        if scope == "user" and execution.owner is not None:
            return f"memory-{execution.owner}"
        if scope == "conversation" and execution.conversation is not None:
            return f"memory-{execution.conversation}"
        if scope in ("user", "conversation"):
            raise UsageError(
                f"This run has no {scope}, so it has no {scope} memory. Start it with {scope}=..., or use another scope."
            )
        raise UsageError(f"Invalid scope: {scope}. This run has the scopes of its user and its conversation.")


def _checked(key: str) -> str:
    if not key.strip() or len(key) > KEY_CHARACTERS_MAX or not _is_unicode(key):
        raise InvalidInput(f"A memory key is text of 1 to {KEY_CHARACTERS_MAX} characters, not {key!r:.80}.")
    return key


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # A lone surrogate.
        return False
    return True
