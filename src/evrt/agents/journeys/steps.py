"""Tools of steps: functions that change a journey's state, each to be called at the steps it is named for."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, get_origin, get_type_hints

from evrt.agents.journeys.results import ToolResult
from evrt.agents.journeys.state import JourneyState
from evrt.effects.tools import Tool
from evrt.errors import UsageError
from evrt.runtime.context import Context

Change = Callable[[JourneyState[Any]], Awaitable[Any]]
Perform = Callable[[Context[Any], str, Change], Awaitable[Any]]
"""Has a change made to a copy of the state, and keeps that if all is well; given the context and the tool's name."""


def state_tool(
    function: Callable[..., Any],
    state: type[JourneyState[Any]],
    perform: Perform,
    *,
    name: str | None,
    description: str | None,
) -> Tool:
    """A tool, executed in the run, of a function that takes the state and perhaps the context beside its arguments.

    Both are found by their annotations. Raises UsageError for a function that takes no state, and what
    ``Tool.from_function`` raises.
    """
    found = name or str(getattr(function, "__name__", "tool"))
    hints = _hints(function, found)
    parameters = inspect.signature(function).parameters
    takes_state = [each for each in parameters if _is(hints.get(each), state)]
    takes_context = [each for each in parameters if _is(hints.get(each), Context)]
    if len(takes_state) != 1 or len(takes_context) > 1:
        raise UsageError(
            f"The tool {found} of a journey takes the journey's state: one parameter annotated {state.__name__}, and one "
            "annotated evrt.Context if it needs that. A function that takes no state is a tool of its own: "
            "journey.tool(step)(evrt.tool(function))."
        )
    hidden = {*takes_state, *takes_context}

    async def call(ctx: Context[Any], **arguments: Any) -> Any:
        async def change(copy: JourneyState[Any]) -> Any:
            given = {**arguments, takes_state[0]: copy, **dict.fromkeys(takes_context, ctx)}
            returned = function(**given)
            result = await returned if inspect.isawaitable(returned) else returned
            return result.unwrap() if isinstance(result, ToolResult) else result

        return await perform(ctx, found, change)

    _dress(call, function, found, hidden, hints)
    return Tool.from_function(call, name=found, description=description, effect="pure")


def _dress(
    call: Any, function: Callable[..., Any], name: str, hidden: set[str], hints: Mapping[str, Any]
) -> None:
    """Have a function look as the one behind it does to the model."""
    context = inspect.Parameter("ctx", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=Context[Any])
    signature = inspect.signature(function)
    shown = [each for each in signature.parameters.values() if each.name not in hidden]
    if any(each.name == "ctx" for each in shown):
        raise UsageError(
            f"The tool {name} has a parameter ctx for the model: give it another name, or annotate it."
        )
    call.__name__ = name
    call.__doc__ = function.__doc__
    call.__signature__ = signature.replace(parameters=[context, *shown])
    call.__annotations__ = {
        "ctx": Context[Any],
        **{each.name: hints[each.name] for each in shown if each.name in hints},
    }


def _is(hint: Any, wanted: type) -> bool:
    found = get_origin(hint) or hint
    return isinstance(found, type) and issubclass(found, wanted)


def _hints(function: Callable[..., Any], name: str) -> dict[str, Any]:
    try:
        return get_type_hints(function, include_extras=True)
    except (NameError, TypeError) as error:
        raise UsageError(
            f"Tool {name}: its type annotations cannot be read ({error}). Import the names they use where the function "
            "is defined, at module level."
        ) from error
