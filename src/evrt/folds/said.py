"""What was said in a conversation, as documents of one message each, evolved event by event.

A run's own document has its input and how the run ended; a model's reply, a word to the user and a tool's result have
one each. What happened to the conversation itself (it was rewound, it is a fork) is a document too, without messages.
Of a message that is too large for a document a beginning is kept, and the position of the event it can be read whole
from; without a limit messages are kept whole.
"""

from __future__ import annotations

import orjson

from evrt.events import Envelope, JsonObject, JsonValue
from evrt.events.conversation import ConversationForked, ConversationRewound
from evrt.events.run import TERMINAL, RunRequested
from evrt.folds.clip import clip, clip_text, is_deep
from evrt.folds.documents import changed, is_aside
from evrt.folds.messages import input_messages, is_call_aside
from evrt.folds.operation import Known, Outcome, change_of, operation_in
from evrt.folds.requests import tool_message, tool_result
from evrt.folds.run import ERASED
from evrt.projection import Columns

OPEN = "open"

RUNS = "run-"
CONVERSATIONS = "conversation-"

OF_THE_RUN = TERMINAL | {"run.requested", "run.superseded"}
OF_THE_CONVERSATION = frozenset({"conversation.forked", "conversation.rewound"})
HANDLES = (
    frozenset(
        {
            "model_call.completed",
            "message.produced",
            "tool_call.requested",
            "tool_call.completed",
            "tool_call.failed",
            "tool_call.in_doubt",
            "tool_call.settled",
            "tool_call.reported",
            "input.received",
            "run.retry_scheduled",
        }
    )
    | OF_THE_RUN
    | OF_THE_CONVERSATION
)
"""Types of events that say something, or change what counts of it."""

NAME_BYTES_MAX = 2 * 1024


class Said(Known):
    """Messages in the neutral chat shape that one operation made, or a run's input; or what a conversation came to."""

    run: str = ""
    at: int = 0
    """Position at which the messages came to be, by which they are in order; 0 while there are none."""
    messages: tuple[JsonValue, ...] = ()
    operation: str | None = None
    tool_call_id: str | None = None
    status: str | None = None
    """Of a run's own document: ``open``, or how the run ended."""
    superseded: bool = False
    """Of a run's own document: whether another run has taken its place."""
    whole_at: int | None = None
    """Position of the event that has the messages whole, where they are cut here."""
    since: int | None = None
    """The conversation was rewound at ``at``: runs requested from this position on, and before, do not count."""
    source: str | None = None
    """It is a fork of this conversation, as of ``source_position``: of the runs that were requested before position
    ``last_at``, and of the first ``last_messages`` messages of the one that was requested there."""
    source_position: int | None = None
    last_at: int = 0
    last_messages: int = 0


NOTHING = Said()


def key_of(columns: Columns) -> str | None:
    """The conversation that an event belongs to, for a run without one the run itself; None where it says nothing there."""
    if columns.stream.startswith(RUNS):
        # What a run of the conversation has others do for it is not said in the conversation.
        return None if is_aside(columns.meta) else columns.correlation
    return columns.correlation if columns.stream.startswith(CONVERSATIONS) else None


def part_of(envelope: Envelope) -> str | None:
    """Which document an event belongs to."""
    if envelope.type in OF_THE_RUN:
        return envelope.stream
    if envelope.type in OF_THE_CONVERSATION:
        return f"{envelope.stream}/{envelope.version}"
    operation = operation_in(envelope)
    return None if operation is None else f"{envelope.stream}/{operation}"


def evolve_said(before: Said, envelope: Envelope, bytes_max: int | None = None) -> Said | None:
    """The document after one more event; its messages have at most ``bytes_max`` bytes of JSON."""
    kind = envelope.type
    if kind in OF_THE_RUN:
        return _run(before, envelope, bytes_max)
    if kind in OF_THE_CONVERSATION:
        return _conversation(before, envelope)
    if kind == "model_call.completed":
        if is_call_aside(envelope.event.__dict__["operation"]):
            return before if before.run else None
        return before if before.run else _said(envelope, envelope.event.__dict__["message"], bytes_max)
    if kind == "message.produced":
        fields = envelope.event.__dict__
        message = {"role": fields["role"], "content": fields["content"]}
        return before if before.run else _said(envelope, message, bytes_max)
    if kind == "tool_call.requested" and not before.run:
        return _called(envelope, bytes_max)
    # What belongs to a tool call that no model made, or to an operation of another kind, says nothing.
    if before.tool_call_id is not None:
        return _came(before, envelope, bytes_max)
    return before if before.run else None


def _run(before: Said, envelope: Envelope, bytes_max: int | None) -> Said:
    change: dict[str, object] = {"run": envelope.stream}
    event = envelope.event
    if envelope.type == "run.superseded":
        change["superseded"] = True
    elif envelope.type in TERMINAL:
        if before.status in (None, OPEN):
            change["status"] = ERASED[envelope.type]
    elif before.status is None:
        change |= {"status": OPEN, "at": envelope.position}
        if isinstance(event, RunRequested):
            change |= _clipped(input_messages(event.input), envelope.position, bytes_max)
    return changed(before, change)


def _conversation(before: Said, envelope: Envelope) -> Said | None:
    match envelope.event:
        case ConversationRewound() as event:
            return changed(before, {"at": envelope.position, "since": event.since})
        case ConversationForked() as event:
            change: dict[str, object] = {"at": envelope.position, "source": event.source}
            change |= {"source_position": event.position}
            return changed(before, {**change, "last_at": event.last_at, "last_messages": event.last_messages})
        case _:  # Erased: with what it was about.
            return None


def _said(envelope: Envelope, message: JsonObject, bytes_max: int | None) -> Said:
    position = envelope.position
    change = _clipped([message], position, bytes_max)
    change |= {"run": envelope.stream, "at": position, "operation": _operation(envelope)}
    return changed(NOTHING, change)


def _called(envelope: Envelope, bytes_max: int | None) -> Said | None:
    tool_call_id: str | None = envelope.event.__dict__["tool_call_id"]
    if tool_call_id is None:
        return None
    if bytes_max is not None:
        tool_call_id = clip_text(tool_call_id, NAME_BYTES_MAX, envelope.position)
    change: dict[str, object] = {
        "run": envelope.stream,
        "intent": envelope.type,
        "operation": _operation(envelope),
        "tool_call_id": tool_call_id,
    }
    return changed(NOTHING, change)


def _came(before: Said, envelope: Envelope, bytes_max: int | None) -> Said:
    assert before.tool_call_id is not None
    change = change_of(before, envelope, None)
    if "outcome" in change:
        outcome: Outcome | None = change["outcome"]  # type: ignore[assignment]
        if outcome is None:  # The run is attempted again: this failure was never said.
            change |= {"messages": (), "at": 0, "whole_at": None}
        else:
            change |= _result(outcome, envelope, before.tool_call_id, bytes_max)
            if outcome.position != envelope.position:
                change["outcome"] = changed(outcome, {"value": None, "failure": None})
    return changed(before, change)


def _result(
    outcome: Outcome, envelope: Envelope, tool_call_id: str, bytes_max: int | None
) -> dict[str, object]:
    if outcome.position == envelope.position:
        message = tool_message(envelope.event, tool_call_id)
    else:
        message = tool_result(outcome.failure or outcome.value, tool_call_id)
    change = _clipped([message], outcome.position, bytes_max)
    if outcome.clipped:
        change["whole_at"] = outcome.position
    return {**change, "at": outcome.position}


def _operation(envelope: Envelope) -> str:
    return clip_text(envelope.event.__dict__["operation"], NAME_BYTES_MAX, envelope.position)


def _clipped(messages: list[JsonObject], position: int, bytes_max: int | None) -> dict[str, object]:
    if bytes_max is None:
        return {"messages": tuple(messages), "whole_at": None}
    kept, whole_at = clip_messages(messages, bytes_max, position)
    return {"messages": kept, "whole_at": whole_at}


def clip_messages(
    messages: list[JsonObject], bytes_max: int, position: int
) -> tuple[tuple[JsonValue, ...], int | None]:
    """These messages, as many as there is room for and each with a share of it; and where they are whole, if cut."""
    encoded = orjson.dumps(messages)
    if len(encoded) <= bytes_max and not is_deep(messages, encoded):
        return tuple(messages), None
    kept: list[JsonValue] = []
    room = bytes_max
    for message in messages:
        cut = clip_message(message, max(room, bytes_max // 8), position)
        room -= len(orjson.dumps(cut)) + 1
        if room < 0:
            break
        kept.append(cut)
    return tuple(kept), position


def clip_message(message: JsonValue, bytes_max: int, position: int) -> JsonValue:
    """A message in its shape, each of its long fields cut; only role, text and id of the tool call if that is too long."""
    if not isinstance(message, dict):
        return clip(message, bytes_max, position)
    shares = {"content": bytes_max // 2, "tool_call_id": bytes_max // 8, "role": bytes_max // 8}
    cut: JsonObject = {
        name: clip_text(value, shares.get(name, bytes_max // 4), position)
        if isinstance(value, str)
        else clip(value, shares.get(name, bytes_max // 4), position)
        for name, value in message.items()
    }
    if len(orjson.dumps(cut)) <= bytes_max:
        return cut
    return {name: value for name, value in cut.items() if name in shares}
