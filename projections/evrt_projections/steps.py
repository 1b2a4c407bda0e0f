"""Steps: one document per operation of a run, from its intent through its attempts to what it came to.

Its key is the run, its part the operation's identity. Steps, model calls, tool calls, questions, approvals and timers
are here, and what has no intent too: signals received, values of the clock, checkpoints, memory, messages.
"""

from __future__ import annotations

from typing import Literal

from evrt.events import Envelope, JsonValue
from evrt.events.run import CANCELLED
from evrt.folds.clip import clip, clip_text
from evrt.folds.documents import changed
from evrt.folds.journal import INTENTS, kind_of
from evrt.folds.operation import Known, Outcome, change_of, operation_in
from evrt.projection import Columns, Projection, Stream

PREFIX = "run-"
VALUE_BYTES_MAX = 12 * 1024
NAME_BYTES_MAX = 2 * 1024


class Step(Known):
    """An operation. Times are microseconds since 1970, UTC; ``began`` is the position of its first event."""

    kind: str = ""
    """``step``, ``model_call``, ``tool_call``, ``question``, ``timer``, ``value``, ``memory`` …: the family of its first
    event; or ``signal``."""
    name: str = ""
    """The tool's or the model's name, else that part of its identity that the code gave it."""
    effect: Literal["pure", "read", "write"] | None = None
    status: Literal["open", "in_doubt", "completed", "failed", "cancelled"] = "open"
    began: int = 0
    began_at: int = 0
    arguments: JsonValue = None
    """A tool's arguments, a model's parameters, the text of a question or of what is to be approved, when a timer is due."""
    tool_call_id: str | None = None


def _key(columns: Columns) -> str | None:
    return columns.stream if columns.stream.startswith(PREFIX) else None


NOTHING = Step()


def _evolve(step: Step, envelope: Envelope) -> Step | None:
    change = change_of(step, envelope, VALUE_BYTES_MAX)
    if step.intent is None and envelope.type in INTENTS:
        change |= _intent(envelope)
    elif "outcome" in change or "in_doubt" in change:
        outcome: Outcome | None = change.get("outcome", step.outcome)  # type: ignore[assignment]
        change["status"] = _status(step.kind, outcome, bool(change.get("in_doubt", step.in_doubt)))
    if not step.kind:
        if envelope.type == "run.retry_scheduled":
            return None
        change["kind"] = kind_of(envelope)
        change["began"] = envelope.position
        change["began_at"] = envelope.time
        if "name" not in change:
            change["name"] = _name(envelope)
    return changed(step, change)


def _name(envelope: Envelope) -> str:
    """What the code called its operation: without the scopes it stands in, and how often it was called there."""
    name = envelope.event.__dict__["operation"].rpartition("/")[2].partition("#")[0]
    return clip_text(name, NAME_BYTES_MAX, envelope.position)


def _intent(envelope: Envelope) -> dict[str, object]:
    fields = envelope.event.__dict__
    position = envelope.position
    match envelope.type:
        case "tool_call.requested":
            tool_call_id = fields["tool_call_id"]
            return {
                "name": clip_text(fields["tool"], NAME_BYTES_MAX, position),
                "effect": fields["effect"],
                "arguments": clip(fields["arguments"], VALUE_BYTES_MAX, position),
                "tool_call_id": tool_call_id and clip_text(tool_call_id, NAME_BYTES_MAX, position),
            }
        case "model_call.requested":
            return {
                "name": clip_text(fields["model"], NAME_BYTES_MAX, position),
                "arguments": clip(fields["parameters"], VALUE_BYTES_MAX, position),
            }
        case "question.asked":
            return {"arguments": clip(fields["question"], VALUE_BYTES_MAX, position)}
        case "approval.requested":
            return {"arguments": clip(fields["action"], VALUE_BYTES_MAX, position)}
        case "child.started":
            return {"name": clip_text(fields["target"], NAME_BYTES_MAX, position)}
        case "timer.set":
            return {"arguments": fields["due"]}
        case _:
            return {}


def _status(kind: str, outcome: Outcome | None, in_doubt: bool) -> str:
    if outcome is None:
        return "in_doubt" if in_doubt else "open"
    if outcome.failure is None:
        if outcome.type in ("question.expired", "wait.cancelled"):
            return "cancelled"
        return "failed" if kind == "signal" and outcome.type == "timer.fired" else "completed"
    # That a child was cancelled was somebody else's doing: to its parent it has failed.
    cut_off = outcome.failure.error_type == CANCELLED and kind != "child"
    return "cancelled" if cut_off else "failed"


PROJECTION = Projection[Step](
    name="steps",
    version=2,
    document=Step,
    handles=frozenset(
        {
            "step.*",
            "model_call.*",
            "tool_call.*",
            "question.*",
            "approval.*",
            "timer.*",
            "child.*",
            "wait.cancelled",
            "value.recorded",
            "race.won",
            "memory.written",
            "memory.recalled",
            "journey.written",
            "journey.recalled",
            "conversation.recalled",
            "message.produced",
            "error.reported",
            "guard.applied",
            "tier.selected",
            "shield.evaluated",
            "context.compacted",
            "checkpoint.saved",
            "input.received",
            "run.emitted",
            "run.retry_scheduled",
        }
    ),
    key=_key,
    source=Stream,
    initial=lambda key, part: NOTHING,
    evolve=_evolve,
    part=operation_in,
    indexes=("status", ("kind", "name"), "began_at"),
)
