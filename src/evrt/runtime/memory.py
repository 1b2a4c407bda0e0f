"""Scoped memory as a run sees it: gets, sets and forgets on memory streams, each noted in the run.

Memory is a fold of its stream. A set goes into the memory stream and the run's stream in one
append. The last one wins, unless ``if_version`` is given: then a conflict is a recorded outcome.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import orjson

from evrt.codec import encode
from evrt.errors import Conflict, InvalidInput, UsageError, WrongVersion
from evrt.events import Event, JsonObject, JsonValue
from evrt.events.memory import MemoryForgotten, MemoryRecalled, MemoryScope, MemorySet, MemoryWritten
from evrt.folds.memory import Memory
from evrt.log.contract import Draft, Exact
from evrt.log.envelopes import envelopes
from evrt.log.ids import new_event_id
from evrt.runtime.execution import Execution
from evrt.runtime.identity import digest_of

CONFLICT_TRIES_MAX = 100
KEY_CHARACTERS_MAX = 512


@dataclass(slots=True, eq=False)
class RunMemory:
    """``ctx.memory``: values by key, in the scope of the conversation or of the user.

    Keys are text such as ``user.preferences.theme``. A scope that the run has none of (no ``user=``
    at its start, say) is an error, never somebody else's memory.
    """

    _execution: Execution
    _folds: dict[str, Memory] = field(default_factory=dict)

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
            memory = await self._fold(stream)
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
        await self._write("set", scope, key, event, digest_of([scope, key, admitted]), if_version)

    async def forget(self, key: str, *, scope: MemoryScope = "user", if_version: int | None = None) -> bool:
        """Forget a key; tells whether it had a value. Errors as for ``set``."""
        event = MemoryForgotten(key=_checked(key), source=f"run:{self._execution.run}")
        written = await self._write("forget", scope, key, event, digest_of([scope, key]), if_version)
        return written.existed

    async def _write(
        self,
        action: str,
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
            written = await self._append(stream, identity, action, scope, key, event, digest, if_version)
        if written.conflict is not None:
            raise Conflict(written.conflict)
        return written

    async def _append(
        self,
        stream: str,
        identity: str,
        action: str,
        scope: MemoryScope,
        key: str,
        event: Event,
        digest: str,
        if_version: int | None,
    ) -> MemoryWritten:
        writer = self._execution.writer
        assert writer is not None
        fact = self._draft(stream, event)
        for _ in range(CONFLICT_TRIES_MAX):
            memory = await self._fold(stream)
            item = memory.items.get(key)
            version = item.version if item is not None else 0
            conflict = None
            if if_version is not None and version != if_version:
                conflict = (
                    f"Memory {key!r} ({scope}) is at version {version}, not at {if_version}: read it again."
                )
            written = MemoryWritten.model_validate(
                {
                    "operation": identity,
                    "digest": digest,
                    "action": action,
                    "scope": scope,
                    "key": key,
                    "event_id": None if conflict is not None else fact.event_id,
                    "existed": item is not None,
                    "conflict": conflict,
                }
            )
            noted = writer.draft(written)
            if conflict is not None:
                writer.record(noted)
                return written
            if if_version is None:
                writer.record(fact, noted)
                return written
            try:
                await writer.append_now([fact, noted], {stream: Exact(memory.version)})
                return written
            except WrongVersion:
                continue  # Another key of this memory changed in between: look again.
        raise Conflict(f"Memory {key!r} ({scope}) is being written too fast to set it with if_version.")

    def _draft(self, stream: str, event: Event) -> Draft:
        meta: JsonObject = {"run": self._execution.run}
        return Draft(
            stream, event.type, new_event_id(), self._execution.correlation, orjson.dumps(meta), encode(event)
        )

    async def _fold(self, stream: str) -> Memory:
        """The memory as it is now, this run's own writes included; folds only what is new."""
        await self._execution.barrier()
        memory = self._folds.setdefault(stream, Memory())
        with self._execution.effect():
            rows = await self._execution.world.log.read_stream(stream, after=memory.version)
        for envelope in envelopes(rows):
            if envelope.version > memory.version:
                memory.apply(envelope)
        return memory

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
    if not key.strip() or len(key) > KEY_CHARACTERS_MAX:
        raise InvalidInput(f"A memory key is text of 1 to {KEY_CHARACTERS_MAX} characters, not {key!r:.80}.")
    return key
