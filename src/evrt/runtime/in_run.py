"""Tools that are part of the run's code: they work through the context, and what they do there is recorded by itself.

The call stands around that, as an intent and an outcome. A resume executes the tool again, whose operations come from
the history, and so does its outcome.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from evrt.effects.tools import Tool
from evrt.errors import InvalidInput, PayloadTooLarge
from evrt.events import Event, JsonValue
from evrt.events.calls import ToolCallCompleted, ToolCallFailed, ToolCallRequested
from evrt.runtime import client_calls
from evrt.runtime.execution import Execution
from evrt.runtime.gather import below
from evrt.runtime.identity import digest_of


async def perform(
    execution: Execution,
    context: object,
    tool: Tool,
    arguments: Mapping[str, object],
    tool_call_id: str | None,
) -> Event:
    """Execute such a tool in a scope of its own; returns the outcome's event, a failure included."""
    identity = execution.bind(tool.name)
    shown = execution.admit_arguments(arguments)
    digest = digest_of(shown)
    known = await execution.begun(identity, "tool_call", digest)
    if known is None:
        requested = ToolCallRequested(
            operation=identity,
            digest=digest,
            tool=tool.name,
            effect=tool.effect,
            arguments=shown,
            tool_call_id=tool_call_id,
            trusted=True,
        )
        try:
            execution.record(requested)
        except PayloadTooLarge as error:
            execution.record(requested.model_copy(update={"arguments": None}))
            refused = _failed(execution, identity, error)
            execution.record(refused)
            return refused
    outcome = await _outcome(execution, context, tool, identity, arguments, tool_call_id)
    known = execution.journal.operations.get(identity)
    if known is not None:
        recorded = await execution.outcome_of(known)
        if recorded is not None:
            return recorded.event
    execution.record(outcome)
    return outcome


async def _outcome(
    execution: Execution,
    context: object,
    tool: Tool,
    identity: str,
    arguments: Mapping[str, object],
    tool_call_id: str | None,
) -> ToolCallCompleted | ToolCallFailed:
    try:
        checked = tool.validate(arguments)
        with below(execution, identity):
            returned: Any = (
                await _result_of_client(execution, tool, arguments, tool_call_id)
                if tool.client
                else await tool(checked, context)
            )
        result: JsonValue = execution.admit(tool.result_to_json(returned))
        tool.result_from(result)
        outcome = ToolCallCompleted(operation=identity, result=result)
        if execution.writer is not None:
            execution.draft(outcome)  # What cannot be recorded is a failure, and this is when it shows.
        return outcome
    except Exception as error:  # noqa: BLE001  (whatever it raises is its outcome, for the model to read)
        return _failed(execution, identity, error)


async def _result_of_client(
    execution: Execution, tool: Tool, arguments: Mapping[str, object], tool_call_id: str | None
) -> JsonValue:
    try:
        return await client_calls.ask(
            execution, tool.name, execution.admit_arguments(arguments), tool_call_id
        )
    finally:
        if not tool.trusted:
            execution.untrusted.setdefault(f"tool:{tool.name}")


def _failed(execution: Execution, identity: str, error: Exception) -> ToolCallFailed:
    kind = "invalid_arguments" if type(error) is InvalidInput else type(error).__name__
    failure = execution.failure(kind, str(error) or repr(error))
    return ToolCallFailed(operation=identity, failure=failure, retriable=False)
