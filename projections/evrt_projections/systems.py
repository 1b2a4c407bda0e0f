"""Systems: one document per system, and beside it one per member and one per text that its members know.

Its key is the system's stream. The system's own document has the empty text as its part, a member's the agent's ref
behind ``member/``, a text's its name behind ``knowledge/``. Members that have left and texts that are known no more have
no document.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

from evrt.events import Envelope, JsonValue
from evrt.events.agents import SystemDefined, SystemKnowledgeSet, SystemMemberAdded, SystemRevised
from evrt.folds.clip import clip, clip_text
from evrt.folds.documents import changed
from evrt.projection import WHOLE, Columns, Projection, Stream

PREFIX = "system-"
MEMBER = "member/"
KNOWLEDGE = "knowledge/"
PREFIX_BYTES_MAX = 32 * 1024
KNOWLEDGE_BYTES_MAX = 48 * 1024
TEXT_BYTES_MAX = 2 * 1024


class Part(BaseModel):
    """A system, a member of it, or a text that all its members know. Times are microseconds since 1970, UTC."""

    model_config = ConfigDict(frozen=True)

    kind: Literal["system", "member", "knowledge"] = "system"
    key: str = ""
    """Of the system, or of the member."""
    name: str = ""
    """Of the system, or of the text."""
    description: str = ""
    prefix: str = ""
    """What stands before the prompts of its members."""
    agent: str | None = None
    """Ref of the member."""
    knowledge: JsonValue = None
    since: int = 0
    changed_at: int = 0


def _key(columns: Columns) -> str | None:
    return columns.stream if columns.stream.startswith(PREFIX) else None


def _part(envelope: Envelope) -> str | None:
    match envelope.type:
        case "system.defined" | "system.revised":
            return WHOLE
        case "system.member_added" | "system.member_removed":
            return f"{MEMBER}{envelope.correlation}"
        case _:
            event = envelope.event
            return f"{KNOWLEDGE}{event.name}" if isinstance(event, SystemKnowledgeSet) else None


def _initial(key: str, part: str) -> Part:
    if part.startswith(MEMBER):
        return Part(kind="member", agent=part.removeprefix(MEMBER))
    return Part(kind="knowledge" if part.startswith(KNOWLEDGE) else "system")


def _evolve(before: Part, envelope: Envelope) -> Part | None:
    event, position = envelope.event, envelope.position
    change: dict[str, object] = {"changed_at": envelope.time, "since": before.since or envelope.time}
    match event:
        case SystemDefined() | SystemRevised():
            change["name"] = clip_text(event.name, TEXT_BYTES_MAX, position)
            change["description"] = clip_text(event.description, TEXT_BYTES_MAX, position)
            change["prefix"] = clip_text(event.prefix, PREFIX_BYTES_MAX, position)
            if isinstance(event, SystemDefined):
                change["key"] = clip_text(event.key, TEXT_BYTES_MAX, position)
        case SystemMemberAdded():
            change["key"] = clip_text(event.key, TEXT_BYTES_MAX, position)
        case SystemKnowledgeSet():
            if event.knowledge is None:
                return None
            change["name"] = clip_text(event.name, TEXT_BYTES_MAX, position)
            change["knowledge"] = clip(event.knowledge, KNOWLEDGE_BYTES_MAX, position)
        case _ if envelope.type == "system.member_removed":
            return None
    return changed(before, change)


PROJECTION = Projection[Part](
    name="systems",
    version=1,
    document=Part,
    handles=frozenset({"system.*"}),
    key=_key,
    source=Stream,
    initial=_initial,
    evolve=_evolve,
    part=_part,
    indexes=("kind", ("kind", "key"), "agent"),
)
