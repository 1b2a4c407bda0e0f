"""Agents: one document per agent that is defined as data: which revision counts, what the newest is, the systems it is in.

Its key is the agent's stream, which is the correlation of all that happens to it, in systems as well. Every revision
whole is where its event is: ``revisions`` has the positions of the last ones.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from evrt.events import Envelope, JsonValue
from evrt.events.agents import AgentActivated, AgentDefined, AgentRevised
from evrt.folds.clip import clip, clip_text, clip_texts
from evrt.folds.documents import changed
from evrt.projection import Columns, Correlation, Projection

PREFIX = "agent-"
CONFIG_BYTES_MAX = 24 * 1024
TEXT_BYTES_MAX = 2 * 1024
SYSTEMS_BYTES_MAX = 8 * 1024
BY_BYTES_MAX = 1_300
REVISIONS_MAX = 10


class Revised(BaseModel):
    """One revision. ``at`` is the position of its event, ``time`` microseconds since 1970, UTC."""

    model_config = ConfigDict(frozen=True)

    number: int
    at: int
    time: int
    by: str | None = None
    draft: bool = False
    restored_from: int | None = None


class Defined(BaseModel):
    """An agent. Times are microseconds since 1970, UTC."""

    model_config = ConfigDict(frozen=True)

    key: str = ""
    name: str = ""
    """Name, description, parent and configuration are those of the newest revision."""
    description: str = ""
    parent: str | None = None
    config: JsonValue = None
    given_format: str | None = None
    latest: int = 0
    """How many revisions there are."""
    active: int | None = None
    """The one that new runs execute."""
    retired: bool = False
    forked_from: str | None = None
    forked_revision: int | None = None
    spec: int = 0
    """How many revisions its spec has."""
    systems: tuple[str, ...] = ()
    """Refs of the systems that it is in."""
    revisions: tuple[Revised, ...] = ()
    """The last ones."""
    defined_at: int = 0
    changed_at: int = 0


NOTHING = Defined()


def _key(columns: Columns) -> str | None:
    return columns.correlation if columns.correlation.startswith(PREFIX) else None


def _evolve(before: Defined, envelope: Envelope) -> Defined:
    change: dict[str, object] = {"changed_at": envelope.time}
    if not before.defined_at:
        change["defined_at"] = envelope.time
    match envelope.type:
        case "agent.defined" | "agent.revised":
            change |= _revised(before, envelope)
        case "agent.activated":
            change["retired"] = False
            if isinstance(envelope.event, AgentActivated):
                change["active"] = envelope.event.revision
        case "agent.retired":
            change["retired"] = True
        case "agent.spec_set":
            change["spec"] = before.spec + 1
        case "system.member_added":
            systems = tuple(dict.fromkeys((*before.systems, envelope.stream)))
            change["systems"] = clip_texts(systems, SYSTEMS_BYTES_MAX, envelope.position)
        case "system.member_removed":
            change["systems"] = tuple(system for system in before.systems if system != envelope.stream)
    return changed(before, change)


def _revised(before: Defined, envelope: Envelope) -> dict[str, object]:
    """What a revision changes. Of one that has been erased only its number is known."""
    event, position = envelope.event, envelope.position
    number = before.latest + 1
    if not isinstance(event, AgentDefined | AgentRevised):
        return {"latest": number}
    line = Revised(
        number=number,
        at=position,
        time=envelope.time,
        by=event.by and clip_text(event.by, BY_BYTES_MAX, position),
        draft=event.draft,
        restored_from=event.restored_from if isinstance(event, AgentRevised) else None,
    )
    change: dict[str, object] = {
        "name": clip_text(event.name, TEXT_BYTES_MAX, position),
        "description": clip_text(event.description, TEXT_BYTES_MAX, position),
        "parent": event.parent and clip_text(event.parent, TEXT_BYTES_MAX, position),
        "config": clip(event.config, CONFIG_BYTES_MAX, position),
        "given_format": event.given_format,
        "latest": number,
        "active": before.active if event.draft else number,
        "revisions": (*before.revisions, line)[-REVISIONS_MAX:],
    }
    if isinstance(event, AgentDefined):
        change["key"] = clip_text(event.key, TEXT_BYTES_MAX, position)
        change["forked_from"] = event.forked_from and clip_text(event.forked_from, TEXT_BYTES_MAX, position)
        change["forked_revision"] = event.forked_revision
    return change


PROJECTION = Projection[Defined](
    name="agents",
    version=1,
    document=Defined,
    handles=frozenset({"agent.*", "system.member_added", "system.member_removed"}),
    key=_key,
    source=Correlation,
    initial=lambda key, part: NOTHING,
    evolve=_evolve,
    indexes=("key", "parent", "changed_at"),
)
