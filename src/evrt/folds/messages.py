"""The messages of a run in the neutral chat shape: what was said, by whom, with tool calls and results."""

from __future__ import annotations

from collections.abc import Iterable

from evrt.events import Envelope, JsonObject, JsonValue
from evrt.events.calls import ModelCallCompleted, ToolCallRequested
from evrt.events.canonical import canonical
from evrt.events.run import MessageProduced, RunRequested
from evrt.folds.journal import Operation, fold_journal, operation_of
from evrt.folds.requests import tool_message

CALLS_ASIDE = frozenset({"compaction", "summary_for_sub_agent"})
"""Names of model calls that a loop makes for itself: what they come to is said to nobody."""


def is_call_aside(operation: str) -> bool:
    """Whether a model call, by its operation, is one that a loop made for itself."""
    return operation.rpartition("/")[2].partition("#")[0] in CALLS_ASIDE


def input_messages(value: JsonValue) -> list[JsonObject]:
    """A run's input as messages: text is one user message, a list of messages is taken as it is."""
    if isinstance(value, list) and value and all(isinstance(m, dict) and "role" in m for m in value):
        return list(value)
    if isinstance(value, dict) and isinstance(value.get("messages"), list):
        return list(value["messages"])
    if isinstance(value, str):
        return [{"role": "user", "content": value}]
    return [{"role": "user", "content": canonical(value).decode()}]


def fold_messages(run: str, envelopes: Iterable[Envelope]) -> list[JsonObject]:
    """Messages in the order in which they came to be: input, replies, tool results, words to the user."""
    kept = list(envelopes)
    journal = fold_journal(run, kept)
    messages: list[JsonObject] = []
    for envelope in kept:
        event = envelope.event
        if isinstance(event, RunRequested):
            messages.extend(input_messages(event.input))
        elif isinstance(event, ModelCallCompleted):
            if not is_call_aside(event.operation):
                messages.append(event.message)
        elif isinstance(event, MessageProduced):
            messages.append({"role": event.role, "content": event.content})
        else:
            messages.extend(_tool_result(journal.operations.get(operation_of(event)), envelope))
    return messages


def _tool_result(operation: Operation | None, envelope: Envelope) -> list[JsonObject]:
    if operation is None or operation.intent is None:
        return []
    intent = operation.intent.event
    if (
        operation.outcome is not envelope
        or operation.intent.version > envelope.version
        or not isinstance(intent, ToolCallRequested)
        or intent.tool_call_id is None
    ):
        return []
    return [tool_message(envelope.event, intent.tool_call_id)]
