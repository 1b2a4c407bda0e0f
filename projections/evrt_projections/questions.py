"""Questions: what waits for a person, or did: questions, approvals asked for, and writes nobody knows the outcome of.

Its key is the run, its part the operation, as in ``steps``, where the arguments of a write in doubt are. ``open`` is
what somebody has to answer, decide or settle now. A run that has ended waits for nothing any more: it has a document whose part
is the empty text, and ``evrt.folds.waiting`` leaves out what belongs to it.
"""

from __future__ import annotations

from evrt.events import Envelope
from evrt.events.run import TERMINAL
from evrt.folds.clip import clip, clip_text, clip_texts
from evrt.folds.documents import changed
from evrt.folds.operation import change_of, operation_in
from evrt.folds.waiting import Waiting
from evrt.projection import WHOLE, Columns, Projection, Stream

PREFIX = "run-"
VALUE_BYTES_MAX = 12 * 1024
QUESTION_BYTES_MAX = 8 * 1024
OPTIONS_BYTES_MAX = 6 * 1024
DESCRIPTIONS_BYTES_MAX = 6 * 1024
SCHEMA_BYTES_MAX = 6 * 1024
DETAILS_BYTES_MAX = 12 * 1024
NAME_BYTES_MAX = 2 * 1024

BEGINS = frozenset(
    {"question.asked", "approval.requested", "tool_call.in_doubt", "tool_call.settled", "tool_call.reported"}
)
"""What begins a document. A tool call that was never in doubt has none."""

KINDS = {"question": "question", "approval": "approval", "tool_call": "write"}

ENDED_WITHOUT = {"question.expired": "expired", "wait.cancelled": "cancelled"}
"""Ends without an answer."""

NOTHING = Waiting()


def _key(columns: Columns) -> str | None:
    return columns.stream if columns.stream.startswith(PREFIX) else None


def _part(envelope: Envelope) -> str | None:
    return WHOLE if envelope.type in TERMINAL else operation_in(envelope)


def _evolve(before: Waiting, envelope: Envelope) -> Waiting | None:
    if envelope.type in TERMINAL:
        return before if before.kind else Waiting(kind="run", status="ended", since=envelope.time)
    if not before.kind and envelope.type not in BEGINS:
        return None
    change = change_of(before, envelope, VALUE_BYTES_MAX)
    if not before.kind:
        change["kind"] = KINDS[envelope.type.partition(".")[0]]
        change["since"] = envelope.time
    if envelope.type == "question.asked" and before.intent is None:
        change |= _asked(envelope)
    elif envelope.type == "approval.requested" and before.intent is None:
        change |= _requested(envelope)
    elif envelope.type == "tool_call.in_doubt":
        cause = envelope.event.__dict__["cause"]
        change |= {
            "since": envelope.time,
            "question": clip_text(cause, NAME_BYTES_MAX, envelope.position),
        }
    elif envelope.type in ("question.answered", "approval.decided", "tool_call.settled"):
        by = envelope.event.__dict__["by"]
        change["by"] = by and clip_text(by, NAME_BYTES_MAX, envelope.position)
    after = changed(before, change)
    return changed(after, {"status": _status(after)})


def _asked(envelope: Envelope) -> dict[str, object]:
    fields = envelope.event.__dict__
    position = envelope.position
    options = fields["options"]
    described = fields["descriptions"]
    asked: dict[str, object] = {
        "question": clip_text(fields["question"], QUESTION_BYTES_MAX, position),
        "options": options and clip_texts(options, OPTIONS_BYTES_MAX, position),
        "descriptions": described and clip_texts(described, DESCRIPTIONS_BYTES_MAX, position),
        "allow_free_form": fields["allow_free_form"],
        "answer_schema": clip(fields["answer_schema"], SCHEMA_BYTES_MAX, position),
        "due": fields["due"],
    }
    if fields["tool"] is not None:
        call = {name: fields[name] for name in ("tool", "arguments", "tool_call_id")}
        asked["details"] = clip(call, DETAILS_BYTES_MAX, position)
    return asked


def _requested(envelope: Envelope) -> dict[str, object]:
    fields = envelope.event.__dict__
    position = envelope.position
    shown = fields["shown_digest"]
    return {
        "question": clip_text(fields["action"], QUESTION_BYTES_MAX, position),
        "details": clip(fields["details"], DETAILS_BYTES_MAX, position),
        "shown_digest": shown and clip_text(shown, NAME_BYTES_MAX, position),
        "due": fields["due"],
    }


def _status(known: Waiting) -> str:
    if known.outcome is not None and known.outcome.type in ENDED_WITHOUT:
        return ENDED_WITHOUT[known.outcome.type]
    came = known.outcome is not None or bool(known.outside)
    if known.kind == "approval":
        decided = known.outcome or (known.outside[0] if known.outside else None)
        return "open" if decided is None else "approved" if decided.value is True else "denied"
    if known.kind == "question":
        return "answered" if came else "open"
    return "open" if known.in_doubt and not came else "settled"


PROJECTION = Projection[Waiting](
    name="questions",
    version=3,
    document=Waiting,
    handles=frozenset(
        {"question.*", "approval.*", "tool_call.in_doubt", "tool_call.settled", "tool_call.reported"}
    )
    | {"tool_call.completed", "tool_call.failed", "input.received", "run.retry_scheduled", "wait.cancelled"}
    | TERMINAL,
    key=_key,
    source=Stream,
    initial=lambda key, part: NOTHING,
    evolve=_evolve,
    part=_part,
    indexes=("status", ("status", "kind"), "since"),
)
