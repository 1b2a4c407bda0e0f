"""Conversations: one small document per conversation, its header: whose it is, with whom, how lively.

Its key is the conversation's ref, which all events of its runs have as their correlation. What was said is in
``messages``.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from evrt.events import Envelope, JsonValue
from evrt.events.run import TERMINAL
from evrt.folds.clip import clip_text
from evrt.folds.documents import changed, is_aside, meta_text
from evrt.folds.messages import input_messages
from evrt.folds.run import ERASED
from evrt.projection import Columns, Correlation, Projection

PREFIX = "conversation-"
NAME_BYTES_MAX = 2 * 1024
PREVIEW_CHARACTERS_MAX = 200


class Conversation(BaseModel):
    """The header of a conversation. Times are microseconds since 1970, UTC."""

    model_config = ConfigDict(frozen=True)

    owner: str | None = None
    """Ref of the user it belongs to."""
    target: str = ""
    """The agent or workflow that it was begun with."""
    started_at: int = 0
    active_at: int = 0
    """When a run of it was last asked for, waited or ended."""
    runs: int = 0
    ended: dict[str, int] = {}
    """How many runs have ended, by their status."""
    last_run: str | None = None
    last_asked: str | None = None
    """The beginning of the last text that a run of it was given."""
    last_answer: str | None = None
    """The beginning of the last text that a run of it came to."""


NOTHING = Conversation()


def _key(columns: Columns) -> str | None:
    # What a run of the conversation has others do for it is not said in the conversation.
    return (
        columns.correlation if columns.correlation.startswith(PREFIX) and not is_aside(columns.meta) else None
    )


def _evolve(before: Conversation, envelope: Envelope) -> Conversation:
    fields = envelope.event.__dict__
    change: dict[str, object] = {"active_at": envelope.time}
    if not before.started_at:
        change |= {"started_at": envelope.time, "owner": meta_text(envelope.meta, "on_behalf_of")}
    match envelope.type:
        case "conversation.started" | "run.requested":
            if not before.target and "target" in fields:
                change["target"] = clip_text(fields["target"], NAME_BYTES_MAX, envelope.position)
            if envelope.type == "run.requested":
                change |= {"runs": before.runs + 1, "last_run": envelope.stream}
                change["last_asked"] = _preview(_last_text(fields.get("input")))
        case type if type in TERMINAL:
            status = ERASED[type]
            change["ended"] = {**before.ended, status: before.ended.get(status, 0) + 1}
            if isinstance(output := fields.get("output") or fields.get("summary"), str):
                change["last_answer"] = _preview(output)
    return changed(before, change)


def _last_text(given: JsonValue) -> JsonValue:
    """What the last message of an input says."""
    messages = input_messages(given)
    return messages[-1].get("content") if messages and isinstance(messages[-1], dict) else None


def _preview(text: JsonValue) -> str | None:
    if not isinstance(text, str):
        return None
    return text if len(text) <= PREVIEW_CHARACTERS_MAX else f"{text[:PREVIEW_CHARACTERS_MAX]}…"


PROJECTION = Projection[Conversation](
    name="conversations",
    version=1,
    document=Conversation,
    handles=frozenset({"conversation.started", "run.requested", "run.waiting"}) | TERMINAL,
    key=_key,
    source=Correlation,
    initial=lambda key, part: NOTHING,
    evolve=_evolve,
    indexes=("active_at", ("owner", "active_at"), "target"),
)
