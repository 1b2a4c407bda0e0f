"""Messages: what was said in a conversation, one document per message, and one per run with its input and its end.

Its key is the conversation's ref, for a run without one the run itself. Its part is the run, for the run's own document,
else the run, a slash and the operation. ``evrt.folds.chats`` makes the list of messages of such documents: in order,
without those of failed runs unless asked for.
"""

from __future__ import annotations

from evrt.events import Envelope, JsonObject
from evrt.events.run import TERMINAL, RunRequested
from evrt.folds.chats import OPEN, Said, clip_messages
from evrt.folds.clip import clip_text
from evrt.folds.documents import changed, is_aside
from evrt.folds.messages import input_messages
from evrt.folds.operation import Outcome, change_of, operation_in
from evrt.folds.requests import tool_message, tool_result
from evrt.folds.run import ERASED
from evrt.projection import Columns, Correlation, Projection

PREFIX = "run-"
MESSAGES_BYTES_MAX = 32 * 1024
NAME_BYTES_MAX = 2 * 1024
OF_THE_RUN = TERMINAL | {"run.requested"}

NOTHING = Said()


def _key(columns: Columns) -> str | None:
    # What a run of the conversation has others do for it is not said in the conversation.
    return columns.correlation if columns.stream.startswith(PREFIX) and not is_aside(columns.meta) else None


def _part(envelope: Envelope) -> str | None:
    if envelope.type in OF_THE_RUN:
        return envelope.stream
    operation = operation_in(envelope)
    return None if operation is None else f"{envelope.stream}/{operation}"


def _evolve(before: Said, envelope: Envelope) -> Said | None:
    kind = envelope.type
    if kind in OF_THE_RUN:
        return _run(before, envelope)
    if kind == "model_call.completed":
        return before if before.run else _said(envelope, envelope.event.__dict__["message"])
    if kind == "message.produced":
        fields = envelope.event.__dict__
        message = {"role": fields["role"], "content": fields["content"]}
        return before if before.run else _said(envelope, message)
    if kind == "tool_call.requested" and not before.run:
        return _called(envelope)
    # What belongs to a tool call that no model made, or to an operation of another kind, says nothing.
    return _came(before, envelope) if before.tool_call_id is not None else before if before.run else None


def _run(before: Said, envelope: Envelope) -> Said:
    change: dict[str, object] = {"run": envelope.stream}
    event = envelope.event
    if envelope.type in TERMINAL:
        if before.status in (None, OPEN):
            change["status"] = ERASED[envelope.type]
    elif before.status is None:
        change |= {"status": OPEN, "at": envelope.position}
        if isinstance(event, RunRequested):
            change |= _clipped(input_messages(event.input), envelope.position)
    return changed(before, change)


def _said(envelope: Envelope, message: JsonObject) -> Said:
    position = envelope.position
    change = _clipped([message], position)
    change |= {"run": envelope.stream, "at": position, "operation": _operation(envelope)}
    return changed(NOTHING, change)


def _called(envelope: Envelope) -> Said | None:
    tool_call_id: str | None = envelope.event.__dict__["tool_call_id"]
    if tool_call_id is None:
        return None
    change: dict[str, object] = {
        "run": envelope.stream,
        "intent": envelope.type,
        "operation": _operation(envelope),
        "tool_call_id": clip_text(tool_call_id, NAME_BYTES_MAX, envelope.position),
    }
    return changed(NOTHING, change)


def _came(before: Said, envelope: Envelope) -> Said:
    assert before.tool_call_id is not None
    change = change_of(before, envelope, None)
    if "outcome" in change:
        outcome: Outcome | None = change["outcome"]  # type: ignore[assignment]
        if outcome is None:  # The run is attempted again: this failure was never said.
            change |= {"messages": (), "at": 0, "whole_at": None}
        else:
            change |= _result(outcome, envelope, before.tool_call_id)
            if outcome.position != envelope.position:
                change["outcome"] = changed(outcome, {"value": None, "failure": None})
    return changed(before, change)


def _result(outcome: Outcome, envelope: Envelope, tool_call_id: str) -> dict[str, object]:
    if outcome.position == envelope.position:
        message = tool_message(envelope.event, tool_call_id)
    else:
        message = tool_result(outcome.failure or outcome.value, tool_call_id)
    change = _clipped([message], outcome.position)
    if outcome.clipped:
        change["whole_at"] = outcome.position
    return {**change, "at": outcome.position}


def _clipped(messages: list[JsonObject], position: int) -> dict[str, object]:
    kept, whole_at = clip_messages(messages, MESSAGES_BYTES_MAX, position)
    return {"messages": kept, "whole_at": whole_at}


def _operation(envelope: Envelope) -> str:
    return clip_text(envelope.event.__dict__["operation"], NAME_BYTES_MAX, envelope.position)


PROJECTION = Projection[Said](
    name="messages",
    version=1,
    document=Said,
    handles=frozenset(
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
    | OF_THE_RUN,
    key=_key,
    source=Correlation,
    initial=lambda key, part: NOTHING,
    evolve=_evolve,
    part=_part,
    indexes=(("run", "at"), "at", "status"),
)
