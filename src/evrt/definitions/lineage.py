"""Inheritance: an agent's configuration laid over that of its parent, and that over its parent's, up to the first."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import NamedTuple

from pydantic import ValidationError

from evrt.agents.config import AgentConfig, config_of
from evrt.effects.tools import faults_text
from evrt.errors import Conflict, NotFound, UnusableLog
from evrt.events import JsonObject
from evrt.folds.definitions import AgentDefinition, Revision, overlay

Find = Callable[[str], Awaitable[AgentDefinition | None]]
"""An agent by its key, all as of one moment."""


class Ancestor(NamedTuple):
    """One revision of an agent in a line of them."""

    agent: AgentDefinition
    revision: Revision


def revision_of(agent: AgentDefinition, number: int | None) -> Revision:
    """A revision by its number; None for the one that is active. Raises NotFound that lists those there are, Conflict."""
    if number is None and agent.active is None:
        raise Conflict(
            f"Agent {agent.key} has drafts only, {_listed(agent)}: activate one of them, or name the revision to run."
        )
    found = agent.revision(agent.active if number is None and agent.active else number or 0)
    if found is not None:
        return found
    if number is not None and not 1 <= number <= agent.latest:
        raise NotFound(f"Agent {agent.key} has {_listed(agent)}; there is no revision {number}.")
    raise NotFound(f"Revision {number or agent.active} of agent {agent.key} has been erased.")


def _listed(agent: AgentDefinition) -> str:
    numbers = [str(number) for number, one in enumerate(agent.revisions, start=1) if one is not None]
    return f"revision{'' if len(numbers) == 1 else 's'} {', '.join(numbers) or 'none'}"


async def line_of(agent: AgentDefinition, number: int | None, find: Find) -> list[Ancestor]:
    """A revision behind all that it inherits from, the first ancestor first; of parents the active revision counts.

    Raises NotFound, Conflict: a parent that has not been defined, one with drafts only, and a circle, by its names.
    """
    line = [Ancestor(agent, revision_of(agent, number))]
    while (key := line[0].revision.parent) is not None:
        keys = [ancestor.agent.key for ancestor in reversed(line)]
        if key in keys:
            raise Conflict(
                f"Inheritance would go round in a circle: {' → '.join([*keys, key])}. Give one of them another parent, "
                "or none."
            )
        parent = await find(key)
        if parent is None:
            raise NotFound(f"Agent {keys[-1]} is to inherit from {key!r:.80}, which has not been defined.")
        line.insert(0, Ancestor(parent, revision_of(parent, None)))
    return line


def effective_of(line: list[Ancestor]) -> AgentConfig:
    """The configuration that a line of revisions comes to, defaults included. Raises UnusableLog."""
    merged: JsonObject = {}
    for ancestor in line:
        merged = overlay(merged, ancestor.revision.config)
    try:
        return config_of(merged)
    except ValidationError as error:
        last = line[-1]
        raise UnusableLog(
            f"Revision {last.revision.number} of agent {last.agent.key} cannot be read by this version of evrt: "
            f"{faults_text(error, 'config')}. A newer one may have written it."
        ) from error
