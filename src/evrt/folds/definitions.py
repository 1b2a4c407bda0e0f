"""Agents and systems as data: the streams of their definitions folded into what they are, event by event.

A definition after one more event is another value, so that it can be had as of any position of the log.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

from evrt.events import Envelope, Erased, JsonObject, JsonValue
from evrt.events import agents as a

AGENT_PREFIX = "agent-"
SYSTEM_PREFIX = "system-"


class Revision(NamedTuple):
    """What an agent is by one of its revisions. ``time`` is microseconds since 1970, UTC.

    ``config`` is as it was given, defaults and what the parent has left out. ``position`` is that of its event.
    """

    number: int
    name: str
    description: str
    config: JsonObject
    parent: str | None
    draft: bool
    position: int
    time: int
    by: str | None = None
    restored_from: int | None = None
    given: JsonValue = None
    given_format: a.GivenFormat | None = None


class Spec(NamedTuple):
    """A revision of the text that says what an agent is meant to do."""

    number: int
    text: str
    position: int
    time: int
    by: str | None = None


@dataclass(frozen=True, slots=True)
class AgentDefinition:
    """An agent as data, after some of its events.

    ``ref`` is its stream; ``version`` and ``position`` are those of its last event. A revision whose event has been
    erased is None. ``systems`` are the refs of those it belongs to, in the order in which it came to them.
    """

    ref: str
    key: str = ""
    version: int = 0
    position: int = 0
    revisions: tuple[Revision | None, ...] = ()
    active: int | None = None
    retired: bool = False
    forked_from: str | None = None
    forked_revision: int | None = None
    specs: tuple[Spec | None, ...] = ()
    systems: tuple[str, ...] = ()

    @property
    def latest(self) -> int:
        """Number of the newest revision."""
        return len(self.revisions)

    def revision(self, number: int) -> Revision | None:
        """A revision by its number, from 1 on; None where there is none, or it has been erased."""
        return self.revisions[number - 1] if 1 <= number <= len(self.revisions) else None


def evolve_agent(before: AgentDefinition, envelope: Envelope) -> AgentDefinition:
    """An agent after one more event of its stream, or of a system that takes it in or lets it go."""
    event = envelope.event
    after = replace(before, position=envelope.position)
    if envelope.stream != before.ref:
        return replace(after, systems=_systems(before.systems, envelope))
    after = replace(after, version=envelope.version)
    match event:
        case a.AgentDefined() | a.AgentRevised():
            return _revised(after, event, envelope)
        case a.AgentActivated():
            return replace(after, active=event.revision, retired=False)
        case a.AgentRetired():
            return replace(after, retired=True)
        case a.AgentSpecSet():
            spec = Spec(len(after.specs) + 1, event.text, envelope.position, envelope.time, event.by)
            return replace(after, specs=(*after.specs, spec))
        case Erased(logical_type="agent.defined" | "agent.revised"):
            return replace(after, revisions=(*after.revisions, None))
        case Erased(logical_type="agent.spec_set"):
            return replace(after, specs=(*after.specs, None))
        case Erased(logical_type="agent.retired"):
            return replace(after, retired=True)
        case _:
            return after


def _revised(
    after: AgentDefinition, event: a.AgentDefined | a.AgentRevised, envelope: Envelope
) -> AgentDefinition:
    number = len(after.revisions) + 1
    revision = Revision(
        number,
        event.name,
        event.description,
        event.config,
        event.parent,
        event.draft,
        envelope.position,
        envelope.time,
        event.by,
        event.restored_from if isinstance(event, a.AgentRevised) else None,
        event.given,
        event.given_format,
    )
    after = replace(
        after,
        revisions=(*after.revisions, revision),
        active=after.active if event.draft else number,
    )
    if isinstance(event, a.AgentDefined):
        return replace(
            after, key=event.key, forked_from=event.forked_from, forked_revision=event.forked_revision
        )
    return after


def _systems(before: tuple[str, ...], envelope: Envelope) -> tuple[str, ...]:
    """The systems of an agent; that it came or went can be told from the type alone."""
    others = tuple(system for system in before if system != envelope.stream)
    match envelope.type:
        case "system.member_added":
            return before if envelope.stream in before else (*before, envelope.stream)
        case "system.member_removed":
            return others
        case _:
            return before


@dataclass(frozen=True, slots=True)
class SystemDefinition:
    """A group of agents, after some of its events. ``members`` are pairs of ref and key, in the order in which they came.

    ``knowledge`` are pairs of a name and what is known under it, in the order in which they were first set.
    ``unreadable`` is true once what it is has been erased.
    """

    ref: str
    key: str = ""
    name: str = ""
    description: str = ""
    prefix: str = ""
    version: int = 0
    position: int = 0
    members: tuple[tuple[str, str], ...] = ()
    knowledge: tuple[tuple[str, JsonObject], ...] = ()
    unreadable: bool = False


def evolve_system(before: SystemDefinition, envelope: Envelope) -> SystemDefinition:
    """A system after one more event of its stream."""
    event = envelope.event
    after = replace(before, version=envelope.version, position=envelope.position)
    match event:
        case a.SystemDefined() | a.SystemRevised():
            key = event.key if isinstance(event, a.SystemDefined) else before.key
            return replace(
                after,
                key=key,
                name=event.name,
                description=event.description,
                prefix=event.prefix,
                unreadable=False,
            )
        case a.SystemMemberAdded():
            others = tuple(member for member in before.members if member[0] != event.agent)
            return replace(after, members=(*others, (event.agent, event.key)))
        case a.SystemMemberRemoved():
            return replace(after, members=tuple(one for one in before.members if one[0] != event.agent))
        case a.SystemKnowledgeSet():
            return replace(after, knowledge=_knowledge(before.knowledge, event.name, event.knowledge))
        case Erased(logical_type="system.defined" | "system.revised"):
            return replace(after, unreadable=True)
        case _:
            return after


def _knowledge(
    before: tuple[tuple[str, JsonObject], ...], name: str, knowledge: JsonObject | None
) -> tuple[tuple[str, JsonObject], ...]:
    known = dict(before)
    if knowledge is None:
        known.pop(name, None)
    else:
        known[name] = knowledge
    return tuple(known.items())


def overlay(parent: JsonObject, own: JsonObject) -> JsonObject:
    """A configuration laid over its parent's: objects are merged field by field, everything else is replaced."""
    merged = dict(parent)
    for field, value in own.items():
        below = merged.get(field)
        merged[field] = (
            overlay(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
        )
    return merged
