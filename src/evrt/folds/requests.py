"""Model requests by reference: how messages chain, and how an exact request is rebuilt.

A request is its predecessor plus what is new. The digest of its messages is a chain,
``d(0)`` = 32 zero bytes, ``d(i)`` = SHA-256(d(i-1) ‖ canonical message i), so that extending
a request costs what is new, and rebuilding it proves that nothing is missing or changed.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Any, cast

from evrt.errors import NotFound, UnusableLog
from evrt.events import Event, JsonObject, JsonValue
from evrt.events.calls import ModelCallCompleted, ModelCallRequested
from evrt.events.canonical import canonical
from evrt.events.conversation import ConversationRecalled
from evrt.events.run import Failure
from evrt.folds.journal import Journal, established

CHAIN_START = bytes(32)


def chain(previous: bytes, message: JsonObject) -> bytes:
    """The digest after one more message."""
    return sha256(previous + canonical(message)).digest()


def tool_message(outcome: Event, tool_call_id: str) -> JsonObject:
    """What the model reads of a tool call: the result as text, or an object with ``error``."""
    return tool_result(established(outcome)[1], tool_call_id)


def tool_result(value: object, tool_call_id: str) -> JsonObject:
    """The same of a value, or of a failure."""
    if isinstance(value, Failure):
        content = canonical({"error": value.message, "error_type": value.error_type}).decode()
    elif isinstance(value, str):
        content = value
    else:
        content = canonical(cast(JsonValue, value)).decode()
    return {"role": "tool", "tool_call_id": tool_call_id, "content": content}


def rebuild_request(journal: Journal, operation: str) -> JsonObject:
    """The request of a model call as the provider was given it: model, messages, tools, parameters.

    Raises NotFound when the run has no such model call, UnusableLog when what is rebuilt
    does not give the recorded digest.
    """
    intent = _intent(journal, operation)
    messages = _messages(journal, operation)
    digest = CHAIN_START
    for message in messages:
        digest = chain(digest, message)
    if digest.hex() != intent.messages_digest or len(messages) != intent.messages_count:
        raise UnusableLog(
            f"The messages of {operation} in {journal.run} do not give the digest that was recorded. "
            "An event they refer to is missing, erased or changed; run `evrt db check`."
        )
    request: JsonObject = {"model": intent.model, "messages": messages}
    if intent.tools_digest is not None:
        request["tools"] = list(_tools(journal, intent.tools_digest))
    return {**request, **intent.parameters}


def _intent(journal: Journal, operation: str) -> ModelCallRequested:
    found = journal.operations.get(operation)
    if found is None or found.intent is None or not isinstance(found.intent.event, ModelCallRequested):
        raise NotFound(f"Run {journal.run} has no model call {operation}.")
    return found.intent.event


def _messages(journal: Journal, operation: str) -> list[JsonObject]:
    # Walks back to the first request of the chain, then builds forward: depth is not limited.
    chain_back: list[ModelCallRequested] = []
    step: str | None = operation
    while step is not None:
        intent = _intent(journal, step)
        chain_back.append(intent)
        step = intent.previous
    messages: list[JsonObject] = []
    for intent in reversed(chain_back):
        del messages[intent.kept :]
        for item in intent.added:
            messages += _in_state(journal, item) if "state" in item else [_resolve(journal, item)]
    return messages


def _resolve(journal: Journal, item: JsonObject) -> JsonObject:
    if "role" in item:
        return item
    if "recalled_by" in item:
        return _recalled(journal, cast(str, item["recalled_by"]), cast(int, item["index"]))
    identity = cast(str, item.get("result_of") or item.get("reply_of"))
    operation = journal.operations.get(identity)
    if operation is None or operation.outcome is None:
        raise UnusableLog(f"A request of {journal.run} refers to {identity}, which has no outcome.")
    outcome = operation.outcome.event
    if isinstance(outcome, ModelCallCompleted):
        return outcome.message
    return tool_message(outcome, cast(str, item["tool_call_id"]))


def _in_state(journal: Journal, item: JsonObject) -> list[JsonObject]:
    """Messages that stand in the state which the code continued as."""
    path, first, count = cast(tuple[Any, int, int], (item["state"], item["first"], item["count"]))
    found: Any = journal.state
    for part in path:
        found = found.get(part) if isinstance(found, dict) else None
    messages: list[JsonObject] = found[first : first + count] if isinstance(found, list) else []
    if len(messages) != count:
        raise UnusableLog(
            f"A request of {journal.run} refers to messages of the state that it continued as, which are not there."
        )
    return messages


def _recalled(journal: Journal, identity: str, index: int) -> JsonObject:
    operation = journal.operations.get(identity)
    event = None if operation is None or operation.outcome is None else operation.outcome.event
    if not isinstance(event, ConversationRecalled) or not 0 <= index < len(event.messages):
        raise UnusableLog(
            f"A request of {journal.run} refers to message {index} of {identity}, which is not there: it is missing, or "
            "has been erased."
        )
    return cast(JsonObject, event.messages[index])


def _tools(journal: Journal, digest: str) -> tuple[JsonObject, ...]:
    for operation in journal.operations.values():
        intent = operation.intent.event if operation.intent is not None else None
        if (
            isinstance(intent, ModelCallRequested)
            and intent.tools_digest == digest
            and intent.tools is not None
        ):
            return intent.tools
    raise UnusableLog(f"The tools with digest {digest} are not recorded in {journal.run}.")
