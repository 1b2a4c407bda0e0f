"""Calls that the client of a run executes: asked of it as a question with a tool's name and arguments, and waited for.

The answer is ``{"result": …}``, or ``{"error": text}`` where the client could not do it; anything else is the result itself.
"""

from __future__ import annotations

from evrt.events import JsonValue
from evrt.events.calls import QuestionAsked
from evrt.events.canonical import canonical
from evrt.runtime import questions
from evrt.runtime.execution import Execution
from evrt.runtime.identity import digest_of

NAME = "client"
"""The operation of the question, below that of the tool call."""
TEXT_CHARACTERS_MAX = 500
"""How much of the arguments stands in the question's text; all of them stand beside it."""


class ClientToolFailed(Exception):
    """The client says that it could not do what was asked; what the model is told."""


async def ask(execution: Execution, tool: str, arguments: JsonValue, tool_call_id: str | None) -> JsonValue:
    """Ask the client and wait; returns the result as JSON. Raises ClientToolFailed."""
    identity = execution.bind(NAME)
    shown = canonical(arguments).decode()
    text = f"{shown[:TEXT_CHARACTERS_MAX]}…" if len(shown) > TEXT_CHARACTERS_MAX else shown
    asked = QuestionAsked(
        operation=identity,
        digest=digest_of([tool, arguments, tool_call_id]),
        question=f"The client is to execute {tool} with {text}",
        tool=tool,
        arguments=arguments,
        tool_call_id=tool_call_id,
    )
    answer = await questions.ask_as(execution, asked, None)
    if isinstance(answer, dict) and answer.keys() == {"result"}:
        result: JsonValue = answer["result"]
        return result
    if isinstance(answer, dict) and answer.keys() == {"error"}:
        raise ClientToolFailed(str(answer["error"]))
    return answer
