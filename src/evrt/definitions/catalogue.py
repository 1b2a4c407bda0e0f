"""Definitions as the log has them, now or as of a position: what has been read is kept, and only what is new is read.

Nothing that is kept can be out of date: every look asks the log whether there is more. An agent's past is read by its
correlation, which is in its own stream's events and in those by which systems take it in or let it go.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Generic, TypeVar

from evrt.errors import NotFound
from evrt.events import Envelope
from evrt.folds.definitions import (
    AGENT_PREFIX,
    SYSTEM_PREFIX,
    AgentDefinition,
    SystemDefinition,
    evolve_agent,
    evolve_system,
)
from evrt.log import Log
from evrt.log.envelopes import Row

S = TypeVar("S")

PASTS_MAX = 1_000
"""Definitions whose past is kept; of more, the one that was looked at longest ago is read anew."""

PAGE_EVENTS = 1_000


class Past(Generic[S]):
    """What one definition was after each of its events."""

    def __init__(self, nothing: S, evolve: Callable[[S, Envelope], S]) -> None:
        self._nothing = nothing
        self._evolve = evolve
        self._positions: list[int] = []
        self._states: list[S] = []
        self.complete_to = 0
        """Position up to which nothing of it can be missing here."""

    @property
    def position(self) -> int:
        """Of the last event that has been read."""
        return self._positions[-1] if self._positions else 0

    def add(self, envelopes: Sequence[Envelope]) -> None:
        """Take in events that may be new. Two looks at the same time bring the same ones."""
        for envelope in envelopes:
            if envelope.position > self.position:
                self._states.append(
                    self._evolve(self._states[-1] if self._states else self._nothing, envelope)
                )
                self._positions.append(envelope.position)

    def at(self, position: int | None) -> S:
        """What it was as of a position; None for now."""
        if position is None:
            return self._states[-1] if self._states else self._nothing
        known = bisect_right(self._positions, position)
        return self._states[known - 1] if known else self._nothing


class Catalogue:
    """The definitions of one log. ``opened`` gives it."""

    def __init__(self, opened: Callable[[], Awaitable[Log]]) -> None:
        self._opened = opened
        self._log: Log | None = None
        self._agents: dict[str, Past[AgentDefinition]] = {}
        self._systems: dict[str, Past[SystemDefinition]] = {}
        self._keys: dict[str, str] = {}

    async def log(self) -> Log:
        """The log. What is kept of another, which the app had before, is dropped."""
        log = await self._opened()
        if log is not self._log:
            self.forget()
            self._log = log
        return log

    def forget(self) -> None:
        """Drop what is kept: the next look reads everything again."""
        self._agents.clear()
        self._systems.clear()
        self._keys.clear()

    async def agent(self, ref: str, *, as_of: int | None = None) -> AgentDefinition:
        """An agent by its ref; one without revisions where there is none."""
        log = await self.log()
        past = _kept(self._agents, ref, lambda: Past(AgentDefinition(ref), evolve_agent))
        if as_of is None or past.complete_to < as_of:
            while rows := await log.read(after=past.position, correlation=ref, limit=PAGE_EVENTS):
                past.add([Row(row).envelope for row in rows])
            past.complete_to = max(past.complete_to, as_of or 0)
        return past.at(as_of)

    async def system(self, ref: str, *, as_of: int | None = None) -> SystemDefinition:
        """A system by its ref; one without a version where there is none."""
        log = await self.log()
        past = _kept(self._systems, ref, lambda: Past(SystemDefinition(ref), evolve_system))
        if as_of is None or past.complete_to < as_of:
            rows = await log.read_stream(ref, after=past.at(None).version)
            past.add([Row(row).envelope for row in rows])
            past.complete_to = max(past.complete_to, as_of or 0)
        return past.at(as_of)

    async def find_agent(self, key: str, *, as_of: int | None = None) -> AgentDefinition | None:
        """An agent by its key, or None."""
        ref = await (await self.log()).ref("agent", key, create=False)
        found = None if ref is None else await self.agent(ref, as_of=as_of)
        # The event that says its key may have been erased.
        return replace(found, key=key) if found is not None and found.version else None

    async def find_system(self, key: str, *, as_of: int | None = None) -> SystemDefinition | None:
        """A system by its key, or by its ref; None where there is none."""
        ref = await (await self.log()).ref("system", key, create=False)
        if ref is None and key.startswith(SYSTEM_PREFIX):
            ref = key
        found = None if ref is None else await self.system(ref, as_of=as_of)
        return replace(found, key=found.key or key) if found is not None and found.version else None

    async def get_agent(self, key: str) -> AgentDefinition:
        """An agent by its key. Raises NotFound that lists those that there are."""
        found = await self.find_agent(key)
        if found is None:
            known = ", ".join(sorted(one.key for one in await self.agents())) or "none"
            raise NotFound(f"No agent {key!r:.80} has been defined in this log. Defined are: {known}.")
        return found

    async def get_system(self, key: str) -> SystemDefinition:
        """A system by its key. Raises NotFound that lists those that there are."""
        found = await self.find_system(key)
        if found is None:
            known = ", ".join(sorted(one.key for one in await self.systems())) or "none"
            raise NotFound(f"No system {key!r:.80} has been defined in this log. Defined are: {known}.")
        return found

    async def agents(self) -> list[AgentDefinition]:
        """All agents, the oldest first."""
        refs = await (await self.log()).streams(AGENT_PREFIX)
        return [replace(await self.agent(ref), key=await self._key(ref)) for ref in refs]

    async def agent_keys(self) -> frozenset[str]:
        """Keys of all agents; only those that are new since the last look are read."""
        log = await self.log()
        for ref in await log.streams(AGENT_PREFIX):
            await self._key(ref)
        return frozenset(key for ref, key in self._keys.items() if ref.startswith(AGENT_PREFIX))

    async def systems(self) -> list[SystemDefinition]:
        """All systems, the oldest first."""
        refs = await (await self.log()).streams(SYSTEM_PREFIX)
        return [replace(await self.system(ref), key=await self._key(ref)) for ref in refs]

    async def _key(self, ref: str) -> str:
        """The key that a ref stands for; the ref itself where that is not known any more."""
        if ref not in self._keys:
            self._keys[ref] = await (await self.log()).external(ref) or ref
        return self._keys[ref]


def _kept(pasts: dict[str, Past[S]], ref: str, make: Callable[[], Past[S]]) -> Past[S]:
    """A past that is kept, or a new one; it is the last now that will be dropped."""
    past = pasts.pop(ref, None) or make()
    pasts[ref] = past
    if len(pasts) > PASTS_MAX:
        del pasts[next(iter(pasts))]
    return past
