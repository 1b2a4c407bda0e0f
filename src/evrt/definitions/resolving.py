"""From a name, or from what a run was asked for with, to the agent that is executed.

Which revision that is, is decided once, when the run is asked for, and recorded with the position of the log as of which
it was: everything that a definition depends on (what it inherits from, the system it works in) is read as of that
position again, so a resume, another worker and a replay have the same agent, whatever has been defined since.
"""

from __future__ import annotations

from copy import copy
from dataclasses import replace

from evrt.agents.agent import Agent
from evrt.definitions.building import Code, agent_of, system_of
from evrt.definitions.catalogue import Catalogue
from evrt.definitions.lineage import effective_of, line_of
from evrt.errors import Conflict, NotFound, UsageError
from evrt.events.run import RunRequested
from evrt.folds.definitions import AgentDefinition, SystemDefinition
from evrt.registry import Target
from evrt.requesting import Pin


class Resolving:
    """Finds agents that are defined as data, with the tools of the app."""

    def __init__(self, catalogue: Catalogue, code: Code) -> None:
        self._catalogue = catalogue
        self._code = code

    async def newest(
        self, key: str, *, revision: int | None = None, system: str | None = None, within: str | None = None
    ) -> Agent | None:
        """The agent of a key for a new run, or None where none is defined.

        ``system`` is the key of the one it is to work in; ``within`` is the ref of that of the run which asks, and counts
        where the agent is in it. Raises Conflict (retired, drafts only), NotFound (no such revision, system, tool),
        UsageError (in several systems, and none was named; not in the one that was).
        """
        # Taken before anything is read, so that what is read as of it is what it was.
        as_of = await (await self._catalogue.log()).position()
        agent = await self._catalogue.find_agent(key, as_of=as_of)
        if agent is None:
            return None
        if agent.retired and revision is None:
            raise Conflict(
                f"Agent {key} has been retired and takes no new runs. Activate one of its revisions to bring it back."
            )
        chosen = await self._choose(agent, system, within, as_of)
        return await self._build(agent, revision, chosen, as_of)

    async def in_system(self, target: Target, system: str) -> Target:
        """An agent or workflow in code, to work in this system. Raises NotFound."""
        as_of = await (await self._catalogue.log()).position()
        found = await self._catalogue.find_system(system, as_of=as_of)
        if found is None:
            raise await self._no_system(system)
        return _put(target, found, Pin(as_of, system=found.ref, system_revision=found.version))

    async def pinned(self, requested: RunRequested) -> Agent:
        """The agent that a run was asked for with. Raises NotFound: a tool that the app does not have, what was erased."""
        assert requested.agent is not None
        assert requested.defined_at is not None
        agent = await self._catalogue.agent(requested.agent, as_of=requested.defined_at)
        agent = replace(agent, key=requested.target)
        system = None
        if requested.system is not None:
            system = await self._catalogue.system(requested.system, as_of=requested.defined_at)
        return await self._build(agent, requested.revision, system, requested.defined_at)

    async def pinned_in_system(self, target: Target, requested: RunRequested) -> Target:
        """An agent or workflow in code, in the system that a run was asked for in."""
        assert requested.system is not None
        found = await self._catalogue.system(requested.system, as_of=requested.defined_at)
        pin = Pin(
            requested.defined_at or 0, system=requested.system, system_revision=requested.system_revision
        )
        return _put(target, found, pin)

    async def _build(
        self, agent: AgentDefinition, revision: int | None, system: SystemDefinition | None, as_of: int
    ) -> Agent:
        async def find(key: str) -> AgentDefinition | None:
            return await self._catalogue.find_agent(key, as_of=as_of)

        line = await line_of(agent, revision, find)
        pin = Pin(
            as_of,
            agent.ref,
            line[-1].revision.number,
            None if system is None else system.ref,
            None if system is None else system.version,
        )
        return agent_of(
            agent.key, effective_of(line), None if system is None else system_of(system), pin, self._code
        )

    async def _choose(
        self, agent: AgentDefinition, system: str | None, within: str | None, as_of: int
    ) -> SystemDefinition | None:
        """The system that a run works in: the one that was named, that of the run which asks, or the only one."""
        if system is not None:
            found = await self._catalogue.find_system(system, as_of=as_of)
            if found is None:
                raise await self._no_system(system)
            if found.ref not in agent.systems:
                raise UsageError(
                    f"Agent {agent.key} is not in system {found.key}: {await self._listed(agent, as_of)}"
                )
            return found
        if within is not None and within in agent.systems:
            return await self._catalogue.system(within, as_of=as_of)
        if not agent.systems:
            return None
        if len(agent.systems) > 1:
            raise UsageError(
                f"Agent {agent.key} is in several systems, and the run can be in one: say which with system=. "
                f"{await self._listed(agent, as_of)}"
            )
        return await self._catalogue.system(agent.systems[0], as_of=as_of)

    async def _listed(self, agent: AgentDefinition, as_of: int) -> str:
        systems = [await self._catalogue.system(ref, as_of=as_of) for ref in agent.systems]
        return f"it is in {', '.join(system.key for system in systems) or 'none'}."

    async def _no_system(self, key: str) -> NotFound:
        known = ", ".join(sorted(one.key for one in await self._catalogue.systems())) or "none"
        return NotFound(f"No system {key!r:.80} has been defined in this log. Defined are: {known}.")


def _put(target: Target, system: SystemDefinition, pin: Pin) -> Target:
    """What is in code, working in a system."""
    if isinstance(target, Agent):
        return replace(target, system=system_of(system), pin=pin)
    workflow = copy(target)
    workflow.pin = pin
    return workflow
