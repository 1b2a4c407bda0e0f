"""One append of definitions in the making: what has been read must still be so, what is decided is written all or not at all.

Later decisions of an edit see the earlier ones, so that a file of agents that inherit from one another is one append.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import TypeVar

import orjson

from evrt.codec import encode, meta_for
from evrt.definitions.catalogue import Catalogue
from evrt.errors import Conflict, InvalidInput, WrongVersion
from evrt.events import Envelope, Event
from evrt.events.agents import SystemMemberAdded, SystemMemberRemoved
from evrt.folds.definitions import (
    AgentDefinition,
    SystemDefinition,
    evolve_agent,
    evolve_system,
)
from evrt.log import NAME_BYTES_MAX, Append, Draft, Exact
from evrt.log.ids import new_event_id

T = TypeVar("T")

TRIES_MAX = 20
"""How often to decide again when somebody else defined something between reading and writing."""

META = b'{"actor":"person"}'


@dataclass(slots=True)
class Edit:
    """What has been read and decided. ``by`` says who decides, as it is to be recorded; a ``dry`` one writes nothing."""

    catalogue: Catalogue
    by: str | None = None
    dry: bool = False
    _agents: dict[str, AgentDefinition] = field(default_factory=dict)
    _systems: dict[str, SystemDefinition] = field(default_factory=dict)
    _refs: set[str] = field(default_factory=set)
    _drafts: list[Draft] = field(default_factory=list)

    async def agent(self, key: str, *, new: bool = False) -> AgentDefinition:
        """An agent as it will be; one of version 0 where there is none. ``new``: it is going to be defined."""
        ref = await self._ref("agent", key, new=new)
        if ref not in self._agents:
            self._agents[ref] = replace(await self.catalogue.agent(ref), key=key)
        return self._agents[ref]

    async def system(self, key: str, *, new: bool = False) -> SystemDefinition:
        """A system as it will be; one of version 0 where there is none. ``new``: it is going to be defined."""
        ref = await self._ref("system", key, new=new)
        if ref not in self._systems:
            self._systems[ref] = await self.catalogue.system(ref)
        return self._systems[ref]

    def of_agent(self, agent: AgentDefinition, event: Event) -> AgentDefinition:
        """Decide an event of an agent; returns what the agent is after it."""
        envelope = self._record(agent.ref, agent.version + 1, agent.ref, event)
        after = self._agents[agent.ref] = evolve_agent(agent, envelope)
        return after

    def of_system(self, system: SystemDefinition, event: Event) -> SystemDefinition:
        """Decide an event of a system; returns what the system is after it."""
        member = isinstance(event, SystemMemberAdded | SystemMemberRemoved)
        correlation = event.agent if member else system.ref  # type: ignore[attr-defined]  # Told by the line before.
        envelope = self._record(system.ref, system.version + 1, correlation, event)
        after = self._systems[system.ref] = evolve_system(system, envelope)
        return after

    async def commit(self) -> None:
        """Write what was decided, if anything. Raises WrongVersion where something that was read has changed."""
        if self._drafts and not self.dry:
            log = await self.catalogue.log()
            read: dict[str, AgentDefinition | SystemDefinition] = {**self._agents, **self._systems}
            counted = Counter(draft.stream for draft in self._drafts)
            expected = {
                ref: Exact(known.version - counted[ref]) for ref, known in read.items() if ref in self._refs
            }
            await log.append(Append(self._drafts, expected))

    def _record(self, stream: str, version: int, correlation: str, event: Event) -> Envelope:
        draft = Draft(stream, event.type, new_event_id(), correlation, meta_for(event, META), encode(event))
        self._drafts.append(draft)
        # Its position and time are the log's to give; nothing is decided by them.
        return Envelope(
            0, draft.event_id, 0, stream, version, event.type, correlation, orjson.loads(META), event
        )

    async def _ref(self, kind: str, key: str, *, new: bool) -> str:
        """The ref of a key. What is only looked for is given none; a stand-in of this edit's own takes its place."""
        check_key(kind, key)
        ref = await (await self.catalogue.log()).ref(kind, key, create=new and not self.dry)
        if ref is None:
            return f"{kind}-{key}"
        self._refs.add(ref)
        return ref


def check_key(kind: str, key: str) -> None:
    """Raises InvalidInput for what cannot be the key of an agent or a system."""
    if (
        not isinstance(key, str)
        or not key.strip()
        or not key.isprintable()
        or len(key.encode("utf-8", "replace")) > NAME_BYTES_MAX
    ):
        raise InvalidInput(
            f"The key of an {kind} is a text of 1 to {NAME_BYTES_MAX} bytes without control characters; not {key!r:.80}."
            if kind == "agent"
            else f"The key of a {kind} is a text of 1 to {NAME_BYTES_MAX} bytes without control characters; not {key!r:.80}."
        )


async def edited(
    catalogue: Catalogue, by: str | None, decide: Callable[[Edit], Awaitable[T]], *, dry: bool = False
) -> T:
    """Decide and write, anew where somebody else was quicker. Raises what ``decide`` raises, Conflict."""
    for _ in range(TRIES_MAX):
        edit = Edit(catalogue, by, dry)
        decided = await decide(edit)
        try:
            await edit.commit()
        except WrongVersion:
            continue
        return decided
    raise Conflict("Definitions are being written too fast to add to them: try again.")
