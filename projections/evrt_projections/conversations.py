"""Conversations: one small document per conversation, its header: whose it is, what it is called, with whom, how lively.

Its key is the conversation's ref, which all events of its runs have as their correlation. What was said is in
``messages``. One that was deleted keeps a header: who deleted it, and when.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from evrt.events import Envelope, JsonObject, JsonValue
from evrt.events.canonical import canonical
from evrt.events.run import TERMINAL
from evrt.folds.clip import clip_text, is_deep
from evrt.folds.documents import changed, is_aside, meta_text
from evrt.folds.messages import input_messages
from evrt.folds.run import ERASED
from evrt.projection import Columns, Correlation, Projection

PREFIX = "conversation-"
NAME_BYTES_MAX = 2 * 1024
METADATA_BYTES_MAX = 16 * 1024
PREVIEW_CHARACTERS_MAX = 200
RESOURCES_MAX = 50


class Resource(BaseModel):
    """Something that is attached to a conversation. ``size`` is in bytes."""

    model_config = ConfigDict(frozen=True)

    name: str
    kind: str
    media_type: str | None = None
    size: int | None = None
    sha256: str | None = None
    reference: str | None = None


class Conversation(BaseModel):
    """The header of a conversation. Times are microseconds since 1970, UTC."""

    model_config = ConfigDict(frozen=True)

    owner: str | None = None
    """Ref of the user it belongs to."""
    target: str = ""
    """The agent or workflow that it was begun with."""
    title: str | None = None
    metadata: JsonObject = {}
    resources: tuple[Resource, ...] = ()
    """What is attached to it."""
    files: int = 0
    """How many of these are files."""
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
    source: str | None = None
    """The conversation that it is a fork of, as of ``source_position``: of its first ``source_messages`` messages."""
    source_position: int | None = None
    source_messages: int | None = None
    deleted: bool = False
    deleted_at: int | None = None
    deleted_by: str | None = None
    erased: bool = False
    """Whether everything in it is gone by now."""


NOTHING = Conversation()


def _key(columns: Columns) -> str | None:
    # What a run of the conversation has others do for it is not said in the conversation.
    return (
        columns.correlation if columns.correlation.startswith(PREFIX) and not is_aside(columns.meta) else None
    )


def _evolve(before: Conversation, envelope: Envelope) -> Conversation:
    if envelope.type in ("conversation.deleted", "conversation.erased"):
        return _deleted(before, envelope)
    change: dict[str, object] = {"active_at": envelope.time}
    if not before.started_at:
        change |= {"started_at": envelope.time, "owner": meta_text(envelope.meta, "on_behalf_of")}
    if envelope.stream.startswith(PREFIX):
        return changed(before, change | _of_the_conversation(before, envelope))
    fields = envelope.event.__dict__
    match envelope.type:
        case "run.requested":
            if not before.target and "target" in fields:
                change["target"] = clip_text(fields["target"], NAME_BYTES_MAX, envelope.position)
            change |= {"runs": before.runs + 1, "last_run": envelope.stream}
            change["last_asked"] = _preview(_last_text(fields.get("input")))
        case type if type in TERMINAL:
            status = ERASED[type]
            change["ended"] = {**before.ended, status: before.ended.get(status, 0) + 1}
            if isinstance(output := fields.get("output") or fields.get("summary"), str):
                change["last_answer"] = _preview(output)
    return changed(before, change)


def _of_the_conversation(before: Conversation, envelope: Envelope) -> dict[str, object]:
    """What an event of the conversation's own stream changes; one that was erased changes nothing."""
    fields = envelope.event.__dict__
    if "logical_type" in fields:
        return {}
    match envelope.type:
        case "conversation.started":
            return {
                "target": clip_text(fields["target"], NAME_BYTES_MAX, envelope.position),
                "title": _title(fields["title"], envelope.position),
                "metadata": _metadata(fields["metadata"]),
            }
        case "conversation.titled":
            return {"title": _title(fields["title"], envelope.position)}
        case "conversation.described":
            return {"metadata": _metadata(fields["metadata"])}
        case "conversation.resource_attached":
            return _resources((*_others(before, fields["name"]), _resource(fields, envelope.position)))
        case "conversation.resource_detached":
            return _resources(_others(before, fields["name"]))
        case _:
            return {
                "source": fields["source"],
                "source_position": fields["position"],
                "source_messages": fields["upto"],
            }


def _deleted(before: Conversation, envelope: Envelope) -> Conversation:
    if envelope.type == "conversation.erased":
        return changed(before, {"erased": True})
    # What it was about is not shown any more, even while it is being erased.
    kept = {"owner", "started_at", "active_at", "runs", "ended", "last_run"}
    left = {name: value for name, value in before.__dict__.items() if name in kept}
    by = envelope.event.__dict__.get("by")
    return changed(
        NOTHING,
        {
            **left,
            "deleted": True,
            "deleted_at": before.deleted_at or envelope.time,
            "deleted_by": before.deleted_by or (by and clip_text(by, NAME_BYTES_MAX, envelope.position)),
        },
    )


def _others(before: Conversation, name: str) -> tuple[Resource, ...]:
    return tuple(one for one in before.resources if one.name != name)


def _resource(fields: dict[str, str | int | None], position: int) -> Resource:
    texts = {
        name: value if not isinstance(value, str) else clip_text(value, NAME_BYTES_MAX // 4, position)
        for name, value in fields.items()
        if name in Resource.model_fields
    }
    return Resource.model_validate(texts)


def _resources(found: tuple[Resource, ...]) -> dict[str, object]:
    kept = found[-RESOURCES_MAX:]
    return {"resources": kept, "files": sum(one.kind == "file" for one in kept)}


def _title(title: str | None, position: int) -> str | None:
    return None if title is None else clip_text(title, NAME_BYTES_MAX, position)


def _metadata(metadata: JsonObject | None) -> JsonObject:
    """Of another program, which keeps to no limit, only what fits."""
    encoded = canonical(metadata)
    if metadata is None or len(encoded) > METADATA_BYTES_MAX or is_deep(metadata, encoded):
        return {}
    return metadata


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
    version=2,
    document=Conversation,
    handles=frozenset(
        {
            "conversation.started",
            "conversation.titled",
            "conversation.described",
            "conversation.resource_attached",
            "conversation.resource_detached",
            "conversation.forked",
            "conversation.deleted",
            "conversation.erased",
            "run.requested",
            "run.waiting",
        }
    )
    | TERMINAL,
    key=_key,
    source=Correlation,
    initial=lambda key, part: NOTHING,
    evolve=_evolve,
    indexes=("active_at", ("owner", "active_at"), "target", "deleted", "files"),
)
