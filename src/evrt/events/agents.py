"""Agents and systems defined as data: their revisions, which one counts, who belongs where, what they know."""

from __future__ import annotations

from typing import ClassVar, Literal

from evrt.events.base import Event, JsonObject, JsonValue, register

GivenFormat = Literal["llama-stack"]
"""Whose format a definition was given in, where that is not evrt's own."""


@register
class AgentDefined(Event):
    """There is an agent of this key from now on; this is its revision 1."""

    type: ClassVar[str] = "agent.defined"

    key: str
    name: str
    config: JsonObject
    description: str = ""
    parent: str | None = None
    """Key of the agent whose configuration this one's is laid over."""
    forked_from: str | None = None
    """Key of the agent, and its revision, that this one began as a copy of."""
    forked_revision: int | None = None
    given: JsonValue = None
    """The definition verbatim, where it was given in another format."""
    given_format: GivenFormat | None = None
    draft: bool = False
    """Whether it counts only once it is activated."""
    by: str | None = None


@register
class AgentRevised(Event):
    """An agent has one revision more; those before it stay as they are."""

    type: ClassVar[str] = "agent.revised"

    revision: int
    name: str
    config: JsonObject
    description: str = ""
    parent: str | None = None
    restored_from: int | None = None
    """The earlier revision that this one is again."""
    given: JsonValue = None
    given_format: GivenFormat | None = None
    draft: bool = False
    by: str | None = None


@register
class AgentActivated(Event):
    """This revision is the one that new runs execute."""

    type: ClassVar[str] = "agent.activated"

    revision: int
    by: str | None = None


@register
class AgentRetired(Event):
    """No new runs of this agent are taken on; those that there are go on."""

    type: ClassVar[str] = "agent.retired"

    reason: str | None = None
    by: str | None = None


@register
class AgentSpecSet(Event):
    """The text that says what the agent is meant to do, for people; this is its revision of that number."""

    type: ClassVar[str] = "agent.spec_set"

    revision: int
    text: str
    by: str | None = None


@register
class SystemDefined(Event):
    """There is a group of agents of this key from now on. ``prefix`` stands before the prompts of its members."""

    type: ClassVar[str] = "system.defined"

    key: str
    name: str
    description: str = ""
    prefix: str = ""
    by: str | None = None


@register
class SystemRevised(Event):
    """A system has another name, description or prefix; all three are given."""

    type: ClassVar[str] = "system.revised"

    name: str
    description: str = ""
    prefix: str = ""
    by: str | None = None


@register
class SystemMemberAdded(Event):
    """An agent belongs to the system. Its correlation is the agent's stream, so that the agent's own past has it."""

    type: ClassVar[str] = "system.member_added"

    agent: str
    """Ref of the agent, and its key."""
    key: str
    by: str | None = None


@register
class SystemMemberRemoved(Event):
    """An agent belongs to the system no more. Its correlation is the agent's stream."""

    type: ClassVar[str] = "system.member_removed"

    agent: str
    key: str
    by: str | None = None


@register
class SystemKnowledgeSet(Event):
    """What all members of a system know under this name; null where it is known no more."""

    type: ClassVar[str] = "system.knowledge_set"

    name: str
    knowledge: JsonObject | None = None
    by: str | None = None
