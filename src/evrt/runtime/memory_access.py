"""Reads and writes of memory streams as operations of a run: where they go, what is recorded of them, what is refused.

A write and the run's note of it are one append. A read is recorded with what was found, so a replay finds the same,
whatever has been set or has expired since. What memory refuses once it has looked is recorded too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

import orjson

from evrt.errors import Conflict, InvalidInput, PayloadTooLarge, UsageError, WrongVersion
from evrt.events import Event, JsonValue
from evrt.events.memory import MemoryForgotten, MemoryRecalled, MemoryScope, MemoryWritten, Trust
from evrt.events.run import CANCELLED
from evrt.folds.memory import SCOPES, Memory, MemoryItem, own_memory, read_back, recorded, shared_memory
from evrt.principal import is_anonymous
from evrt.remembering import Setting, facts_of, setting
from evrt.runtime.execution import Execution
from evrt.runtime.facts import Facts
from evrt.runtime.identity import digest_of
from evrt.runtime.journal import payload_of

CONFLICT_TRIES_MAX = 100
GLANCE_CHARACTERS_MAX = 1_000
"""What a glance shows of a value."""
REFUSALS: dict[str, type[UsageError]] = {
    kind.__name__: kind for kind in (UsageError, InvalidInput, PayloadTooLarge)
}
LATEST = 2**53
"""No expiry takes more room: what is too large with it is refused before anything is read."""
Fields = dict[str, Any]
Decision = Callable[[Memory, int | None], tuple[Sequence[Event], bool]]
"""From a memory and the moment to the facts to write, and whether what they are about had a value."""


class MemoryAccess:
    """The memory streams of one run."""

    def __init__(self, execution: Execution) -> None:
        self._execution = execution
        self._policy = execution.world.memory
        self.facts = Facts(execution, Memory)
        self.read: dict[str, None] | None = None
        """Told of every untrusted value that is read, where code wants to know what it has read itself."""

    # Whose memory

    def one(self, scope: MemoryScope | None) -> tuple[MemoryScope, str]:
        """The scope that is meant, and its stream. Raises UsageError for one that this run does not have."""
        chosen = scope or self._policy.scope
        stream = self.streams().get(chosen)
        if stream is None:
            raise UsageError(self._without(chosen))
        return chosen, stream

    def streams(self) -> dict[MemoryScope, str]:
        """The scopes that this run has, in the order in which they are searched, and their streams."""
        execution = self._execution
        user, conversation, system = execution.owner, execution.conversation, execution.system
        found: dict[MemoryScope, str] = {}
        if user is not None and not is_anonymous(user):
            found["user"] = own_memory(user)
            if system is not None:
                found["system"] = shared_memory(system, user)
        if conversation is not None:
            found["conversation"] = own_memory(conversation)
        return found

    def _without(self, scope: object) -> str:
        execution = self._execution
        if scope not in SCOPES or (scope == "system" and execution.system is None):
            known = ", ".join(self.streams()) or "none"
            return f"Invalid scope: {scope}. The scopes that this run has: {known}."
        if scope != "conversation" and execution.owner is not None:
            return (
                f"The user of this run has not logged in, so there is no {scope} memory for them. What is remembered in "
                "their conversation has scope='conversation'."
            )
        missing = "conversation" if scope == "conversation" else "user"
        return f"This run has no {missing}, so it has no {scope} memory. Start it with {missing}=..., or use another scope."

    # Reading

    async def items(
        self,
        name: str,
        scope: MemoryScope | Literal["all"],
        key: str,
        streams: Sequence[str],
        asked: JsonValue,
        choose: Callable[[Memory, int | None], Iterable[MemoryItem]],
    ) -> list[MemoryItem]:
        """Read items of these streams, each in its turn, and record them."""

        async def look() -> Fields:
            memories = [await self.facts.fold(stream) for stream in streams]
            moment = await self.moment(*memories)
            found = [item for memory in memories for item in choose(memory, moment)]
            value, places = recorded(found)
            versions = {stream: memory.version for stream, memory in zip(streams, memories, strict=True)}
            return {"found": bool(found), "value": value, "places": places, "streams": versions, "at": moment}

        recalled = await self.recall(name, scope, key, asked, look)
        return self.seen(read_back(MemoryItem, recalled.value, recalled.places))

    async def recall(
        self,
        name: str,
        scope: MemoryScope | Literal["all"],
        key: str,
        asked: JsonValue,
        look: Callable[[], Awaitable[Fields]],
    ) -> MemoryRecalled:
        """What was read, now or once; ``look`` gives the fields of the event. Raises what was refused."""
        execution = self._execution
        identity = execution.bind(f"memory.{name}")
        digest = digest_of(asked)
        known = await execution.recorded(identity, "memory", digest)
        if known is not None and known.outcome is not None:
            recalled = known.outcome.event
            assert isinstance(recalled, MemoryRecalled)
        else:
            nothing = MemoryRecalled(operation=identity, digest=digest, scope=scope, key=key, found=False)
            try:
                fields = await execution.outside(_awaited(look))
            except asyncio.CancelledError:
                self._cut_off(nothing)
                raise
            recalled = self._noted(nothing, fields)
        _raise_refused(recalled)
        return recalled

    def _noted(self, nothing: MemoryRecalled, fields: Fields) -> MemoryRecalled:
        execution = self._execution
        recalled = nothing.model_copy(update=fields)
        try:
            drafted = execution.draft(recalled)
        except InvalidInput as error:  # More than one event can hold.
            recalled = nothing.model_copy(
                update={"failure": execution.failure(type(error).__name__, str(error))}
            )
            drafted = execution.draft(recalled)
        execution.record(recalled, drafted)
        return recalled

    def seen(self, items: list[MemoryItem]) -> list[MemoryItem]:
        """Items on their way to the code: the run has read what is untrusted among them."""
        for item in items:
            if item.trust == "untrusted":
                self.distrust(item.scope, item.key)
        return items

    def distrust(self, scope: MemoryScope, key: str) -> None:
        """The run has read an untrusted value."""
        source = f"memory:{scope}:{key}"
        self._execution.untrusted.setdefault(source)
        if self.read is not None:
            self.read.setdefault(source)

    # Writing

    def settings(self, values: Mapping[str, object], more: Mapping[str, Any]) -> list[Setting]:
        """Values to be set, as they will be recorded. Raises InvalidInput, on the first execution as on replay."""
        execution = self._execution
        said = {"source": f"run:{execution.run}", "trust": self._trust(), **more}
        if said.get("metadata") is not None:
            said["metadata"] = execution.admit(said["metadata"])
        several = [setting(key, execution.admit(value), **said) for key, value in values.items()]
        for one in several:
            payload_of(one.event(LATEST))
        return several

    def _trust(self) -> Trust:
        return "untrusted" if self._execution.untrusted else "trusted"

    def forgotten(self, keys: Iterable[str], source: str | None = None) -> list[Event]:
        """The facts that forget these keys."""
        said = source or f"run:{self._execution.run}"
        return [MemoryForgotten(key=key, source=said) for key in keys]

    async def set(
        self, new: MemoryWritten, stream: str, several: Sequence[Setting], if_version: int | None = None
    ) -> None:
        """Set these values, all of them or none."""
        policy = self._policy

        def decide(memory: Memory, moment: int | None) -> tuple[Sequence[Event], bool]:
            facts = facts_of(several, memory, moment, policy, new.scope)
            return facts, any(memory.get(one.key, moment) is not None for one in several)

        timed = policy.retention_seconds(new.scope) is not None or any(one.timed for one in several)
        await self.write(new, stream, decide, if_version, timed=timed, alone=policy.memories_max is not None)

    async def write(
        self,
        new: MemoryWritten,
        stream: str,
        decide: Decision,
        if_version: int | None = None,
        *,
        timed: bool = False,
        alone: bool = False,
    ) -> MemoryWritten:
        """Write what is decided, and the run's note of it. Raises what was refused, and Conflict.

        ``timed`` says that the moment matters, ``alone`` that nothing may be written to the stream in between.
        """
        execution = self._execution
        identity = execution.bind(f"memory.{new.action}")
        known = await execution.recorded(identity, "memory", new.digest)
        if known is not None and known.outcome is not None:
            written = known.outcome.event
            assert isinstance(written, MemoryWritten)
        else:
            new = new.model_copy(update={"operation": identity})

            async def look() -> tuple[Memory, int | None]:
                memory = await self.facts.fold(stream)
                return memory, await execution.now() if timed else await self.moment(memory)

            try:
                memory, moment = await execution.outside(look())
                written = await self._append(stream, memory, moment, new, decide, if_version, alone)
            except asyncio.CancelledError:
                self._cut_off(new)
                raise
        _raise_refused(written)
        if written.conflict is not None:
            raise Conflict(written.conflict)
        return written

    async def _append(
        self,
        stream: str,
        memory: Memory,
        moment: int | None,
        new: MemoryWritten,
        decide: Decision,
        if_version: int | None,
        alone: bool,
    ) -> MemoryWritten:
        """Write the facts and the note of them, or the note of why nothing was written."""
        for _ in range(CONFLICT_TRIES_MAX):
            if if_version is not None:
                item = memory.get(new.key, moment)
                version = item.version if item is not None else 0
                if version != if_version:
                    return self._conflict(
                        new, f"is at version {version}, not at {if_version}: read it again", item is not None
                    )
            try:
                facts, existed = decide(memory, moment)
            except UsageError as error:
                return self._refused(new, error)
            drafts = [self.facts.draft(stream, fact) for fact in facts]
            event_id = drafts[0].event_id if len(drafts) == 1 and new.key else None
            written = new.model_copy(update={"event_id": event_id, "existed": existed, "count": len(facts)})
            if if_version is None and not alone:
                self.facts.record(drafts, written)
                return written
            try:
                await self.facts.append(stream, memory.version, drafts, written)
                return written
            except WrongVersion:
                memory = await self.facts.fold(stream)  # Another key may have changed, or this one.
        return self._conflict(new, "is being written too fast to set it now")

    def _conflict(self, new: MemoryWritten, what: str, existed: bool = False) -> MemoryWritten:
        text = f"Memory {new.key!r} ({new.scope}) {what}."
        written = new.model_copy(update={"conflict": text, "existed": existed, "count": 0})
        self._execution.record(written)
        return written

    def _refused(self, new: MemoryWritten, error: UsageError) -> MemoryWritten:
        failure = self._execution.failure(type(error).__name__, str(error))
        written = new.model_copy(update={"failure": failure, "count": 0})
        self._execution.record(written)
        return written

    def _cut_off(self, event: MemoryRecalled | MemoryWritten) -> None:
        execution = self._execution
        if execution.stopped is None:
            failure = execution.failure(CANCELLED, "The code that awaited this cancelled it.")
            nothing = {"count": 0} if isinstance(event, MemoryWritten) else {}
            execution.record(event.model_copy(update={"failure": failure, **nothing}))

    # The clock

    async def moment(self, *memories: Memory) -> int | None:
        """The log's clock, if anything in these memories was ever to expire."""
        return await self._execution.now() if any(memory.expires for memory in memories) else None


async def _awaited(look: Callable[[], Awaitable[Fields]]) -> Fields:
    return await look()


def _raise_refused(event: MemoryRecalled | MemoryWritten) -> None:
    failure = event.failure
    if failure is not None and failure.error_type in REFUSALS:
        raise REFUSALS[failure.error_type](failure.message)


def glance(item: MemoryItem) -> MemoryItem:
    """An item to be put before a model: its value as text, or its JSON, and not all of a long one."""
    value = item.value
    text = value if isinstance(value, str) else orjson.dumps(value).decode()
    if len(text) > GLANCE_CHARACTERS_MAX:
        text = f"{text[:GLANCE_CHARACTERS_MAX]}…"
    return item if text is value else item._replace(value=text)
