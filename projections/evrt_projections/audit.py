"""Audit trail: one document per fact that an auditor asks for: who, what, when, for whom, and where it stands in the log.

Its key is the stream, its part the event's version, so that parts in order are the order of events. A call of a tool
that writes has one document for all of its events, whose part is the operation's identity: it begins with the request,
and its attempts and its outcome follow. Position and event id lead to the event itself, and from there to a proof.
Values of memory are not repeated here.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from evrt.events import Envelope, Erased, JsonValue
from evrt.events.run import TERMINAL
from evrt.folds.clip import clip, clip_text
from evrt.folds.documents import changed, meta_text
from evrt.folds.operation import operation_in
from evrt.projection import Columns, Projection, Stream

PREFIXES = ("run-", "memory-", "conversation-", "journey-", "agent-", "system-")
DETAIL_BYTES_MAX = 4 * 1024
NAME_BYTES_MAX = 1_300
FOLLOWED_MAX = 20
VERSION_DIGITS = 12

DETAILS: dict[str, tuple[str, ...]] = {
    "conversation.started": ("target", "owner"),
    "run.requested": ("target", "kind", "input", "conversation", "user"),
    "run.claimed": ("worker", "reason", "epoch"),
    "run.continued": (),
    "run.retry_scheduled": ("reopens", "attempt", "failure"),
    "run.diverged": ("operation", "message", "recorded_position"),
    "run.succeeded": ("output",),
    "run.failed": ("failure", "operation"),
    "run.timed_out": ("timeout_seconds",),
    "run.step_limit_reached": ("model_turns_max", "summary"),
    "run.cancel_requested": ("reason",),
    "run.cancelled": ("reason",),
    "run.paused": (),
    "run.unpaused": (),
    "run.signalled": ("name", "payload"),
    "run.superseded": ("run",),
    "child.started": ("operation", "child", "target"),
    "child.ended": ("operation", "child", "status", "failure"),
    "approval.requested": ("operation", "action", "details", "due"),
    "approval.decided": ("operation", "approved", "reason"),
    "question.asked": ("operation", "question", "options"),
    "question.answered": ("operation", "answer"),
    "question.expired": ("operation", "cause"),
    "tool_call.requested": ("operation", "tool", "arguments", "key"),
    "tool_call.completed": ("result",),
    "tool_call.failed": ("failure",),
    "tool_call.in_doubt": ("operation", "attempt", "cause", "refused"),
    "tool_call.reported": ("operation", "epoch", "result", "failure"),
    "tool_call.settled": ("operation", "outcome", "result", "failure"),
    "tool_call.unreconciled": ("operation", "failure"),
    "memory.set": ("key", "source"),
    "memory.forgotten": ("key", "source"),
    "journey.started": ("journey", "step"),
    "journey.step_changed": ("from_step", "to_step", "tool"),
    "journey.routed": ("router", "journey", "by", "confidence"),
    "journey.ended": ("reason", "step"),
    "agent.defined": ("key", "name", "parent", "config", "draft", "forked_from", "forked_revision"),
    "agent.revised": ("revision", "name", "parent", "config", "draft", "restored_from"),
    "agent.activated": ("revision",),
    "agent.retired": ("reason",),
    "agent.spec_set": ("revision",),
    "system.defined": ("key", "name", "prefix"),
    "system.revised": ("name", "prefix"),
    "system.member_added": ("agent", "key"),
    "system.member_removed": ("agent", "key"),
    "system.knowledge_set": ("name", "knowledge"),
    "error.reported": ("operation", "message", "details"),
    "guard.applied": ("operation", "guard", "message"),
    "shield.evaluated": ("operation", "direction", "shield", "verdict", "message"),
}
"""What is a fact for an auditor, and which fields of it are repeated, each clipped."""

OF_A_WRITE = frozenset({"tool_call.requested", "tool_call.completed", "tool_call.failed"})


class Followed(BaseModel):
    """What a write came to, or one attempt of it."""

    model_config = ConfigDict(frozen=True)

    what: str
    when: int
    at: int
    event_id: str
    details: dict[str, JsonValue] = {}


class Fact(BaseModel):
    """A fact. ``when`` is microseconds since 1970, UTC; ``at`` the event's position."""

    model_config = ConfigDict(frozen=True)

    what: str = ""
    """The event's type."""
    when: int = 0
    at: int = 0
    event_id: str = ""
    run: str | None = None
    who: str | None = None
    """Who did it: ``agent:NAME``, ``workflow:NAME``, ``person``, or the name of whoever answered, decided or settled."""
    on_behalf_of: str | None = None
    """Ref of the user it was done for."""
    worker: str | None = None
    """The process that claimed the run; only of a claim."""
    details: dict[str, JsonValue] = {}
    followed: tuple[Followed, ...] = ()
    """Of a write: its failed attempts and its outcome; the first ones where there are very many."""
    followed_count: int = 0


NOTHING = Fact()


def _key(columns: Columns) -> str | None:
    return columns.stream if columns.stream.startswith(PREFIXES) else None


def _part(envelope: Envelope) -> str | None:
    if envelope.type in OF_A_WRITE and not isinstance(envelope.event, Erased):
        return operation_in(envelope)
    return f"{envelope.version:0{VERSION_DIGITS}d}"


def _evolve(before: Fact, envelope: Envelope) -> Fact | None:
    fields = envelope.event.__dict__
    if envelope.type in OF_A_WRITE:
        if before.what:
            return _following(before, envelope)
        # Of what was erased nobody knows whether it was a write; that it happened stays in the trail.
        if fields.get("effect") != "write" and not isinstance(envelope.event, Erased):
            return None
    meta = envelope.meta
    by = fields.get("by")
    stream = envelope.stream
    return Fact(
        what=envelope.type,
        when=envelope.time,
        at=envelope.position,
        event_id=envelope.event_id,
        run=stream if stream.startswith("run-") else meta_text(meta, "run"),
        who=clip_text(by, NAME_BYTES_MAX, envelope.position) if by else meta_text(meta, "actor"),
        on_behalf_of=meta_text(meta, "on_behalf_of"),
        worker=clip_text(fields["worker"], NAME_BYTES_MAX, envelope.position) if "worker" in fields else None,
        details=_details(envelope, DETAIL_BYTES_MAX),
    )


def _following(before: Fact, envelope: Envelope) -> Fact:
    change: dict[str, object] = {"followed_count": before.followed_count + 1}
    if len(before.followed) < FOLLOWED_MAX:
        details = _details(envelope, NAME_BYTES_MAX)
        one = Followed(
            what=envelope.type,
            when=envelope.time,
            at=envelope.position,
            event_id=envelope.event_id,
            details=details,
        )
        change["followed"] = (*before.followed, one)
    return changed(before, change)


def _details(envelope: Envelope, bytes_max: int) -> dict[str, JsonValue]:
    fields = envelope.event.__dict__
    position = envelope.position
    details: dict[str, JsonValue] = {}
    for name in DETAILS.get(envelope.type, ()):
        value = fields.get(name)
        if isinstance(value, BaseModel):
            value = value.__dict__
        elif isinstance(value, tuple):
            value = list(value)
        if value is not None:
            details[name] = clip(value, bytes_max, position)
    return details


PROJECTION = Projection[Fact](
    name="audit",
    version=1,
    document=Fact,
    handles=frozenset(DETAILS) | TERMINAL,
    key=_key,
    source=Stream,
    initial=lambda key, part: NOTHING,
    evolve=_evolve,
    part=_part,
    indexes=("at", ("what", "at"), ("run", "at"), ("on_behalf_of", "at"), ("who", "at")),
)
