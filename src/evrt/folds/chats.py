"""What was said in a conversation, as documents of one message each, and those documents as messages again.

A run's own document has its input and how the run ended; a model's reply, a word to the user and a tool's result have
one each. Of a message that is too large for a document a beginning is kept, and the position of the event it can be
read whole from: ``whole`` makes it of that event.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import orjson

from evrt.events import Envelope, JsonObject, JsonValue
from evrt.events.calls import ModelCallCompleted
from evrt.events.run import MessageProduced, RunRequested
from evrt.folds.clip import clip, clip_text, is_deep
from evrt.folds.messages import input_messages
from evrt.folds.operation import Known
from evrt.folds.requests import tool_message

OPEN = "open"
LISTENED_TO = frozenset({OPEN, "succeeded", "step_limit"})
"""Runs whose messages belong to the conversation; one that failed, was cut off or given up left it."""


class Said(Known):
    """Messages in the neutral chat shape that one operation made, or a run's input."""

    run: str = ""
    at: int = 0
    """Position at which the messages came to be, by which they are in order; 0 while there are none."""
    messages: tuple[JsonValue, ...] = ()
    operation: str | None = None
    tool_call_id: str | None = None
    status: str | None = None
    """Of a run's own document: ``open``, or how the run ended."""
    whole_at: int | None = None
    """Position of the event that has the messages whole, where they are cut here."""


def messages_of(
    documents: Iterable[Said],
    *,
    include_failed_runs: bool = False,
    events: Mapping[int, Envelope] | None = None,
) -> list[JsonValue]:
    """The messages of a conversation: run after run in the order in which they were asked for.

    ``events`` are those whose positions ``to_be_read`` names, by position; without them long messages stay cut.
    """
    known = list(documents)
    runs = {document.run: document for document in known if document.status is not None}
    found = [document for document in known if document.messages]
    if not include_failed_runs:
        found = [one for one in found if one.run not in runs or runs[one.run].status in LISTENED_TO]
    found.sort(key=lambda one: (runs[one.run].at if one.run in runs else 0, one.run, one.at))
    said: list[JsonValue] = []
    for one in found:
        event = None if one.whole_at is None or events is None else events.get(one.whole_at)
        said += one.messages if event is None else whole(one, event)
    return said


def last_assistant_message(messages: Iterable[JsonValue]) -> JsonObject | None:
    """The last message of an assistant that says something in words, or None."""
    last: JsonObject | None = None
    for message in messages:
        if isinstance(message, dict) and message.get("role") == "assistant":
            content = message.get("content")
            if isinstance(content, str) and content.strip():
                last = message
    return last


def to_be_read(documents: Iterable[Said]) -> list[int]:
    """Positions of the events that hold what is cut in these documents."""
    return sorted(document.whole_at for document in documents if document.whole_at is not None)


def whole(document: Said, envelope: Envelope) -> list[JsonValue]:
    """The messages of a document again, from the event that has them whole."""
    event = envelope.event
    if isinstance(event, RunRequested):
        return list(input_messages(event.input))
    if isinstance(event, ModelCallCompleted):
        return [event.message]
    if isinstance(event, MessageProduced):
        return [{"role": event.role, "content": event.content}]
    if document.tool_call_id is None:
        return list(document.messages)  # Erased in the meantime: what is here is all there is.
    return [tool_message(event, document.tool_call_id)]


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
