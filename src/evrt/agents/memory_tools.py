"""The tools by which a model remembers, recalls and forgets: part of the run's code, so that all they do is recorded.

They answer, and never raise: what memory refuses is an answer that the model can act on.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import cache
from typing import Any, Literal, cast

from evrt.effects.json_schema import JsonSchema
from evrt.effects.tools import Tool
from evrt.events import JsonObject, JsonValue
from evrt.events.memory import MemoryScope
from evrt.principal import is_anonymous
from evrt.runtime.context import Context

SCOPES = ("conversation", "user", "system")
RECALL_SCOPES = (*SCOPES, "all")
NOT_AVAILABLE: JsonObject = {
    "error": "Memory not available",
    "hint": "Memory requires a logged-in user",
}
KEY = "What it is remembered under: words joined by dots, from the general to the particular, such as user.preferences.theme."
SCOPE = (
    "Where it belongs: conversation is this conversation only; user is the user, in all conversations; system is the user, "
    "and known to the other agents of this system."
)


@cache
def memory_tools() -> tuple[Tool, Tool, Tool]:
    """remember, recall and forget. Made when they are first asked for: JSON schemas take a while to import."""
    return (
        _tool(
            remember,
            "Keep something for later, beyond what is said here: a fact about the user, a preference, a decision. What was "
            "kept under the same key and scope before is replaced.",
            {"key": _text(KEY), "value": _text("What is to be kept."), "scope": _scope(SCOPES, "user")},
            ["key", "value"],
        ),
        _tool(
            recall,
            "Look up what was kept earlier, under a key or under all keys that begin with it.",
            {
                "key": _text(
                    "The key, or its beginning: user.preferences finds user.preferences.theme as well."
                ),
                "scope": _scope(RECALL_SCOPES, "all", " all looks in each of them."),
            },
            ["key"],
        ),
        _tool(
            forget,
            "Remove what was kept under a key, for instance where the user asks for that, or it is no longer so.",
            {"key": _text("The key, all of it."), "scope": _scope(SCOPES, "user")},
            ["key"],
        ),
    )


async def remember(ctx: Context[Any], **arguments: JsonValue) -> JsonObject:
    """Set a value of the user, of the conversation, or of the system."""

    async def do() -> JsonObject:
        key, value = _required(arguments, "key"), _required(arguments, "value")
        scope = cast(MemoryScope, _chosen(ctx, arguments, SCOPES, "user"))
        await ctx.memory.set(key, value, scope=scope, source=f"agent:{ctx.target}")
        ctx.log(f"Remembered {key!r} (scope: {scope})", key=key, scope=scope)
        return {"success": True, "message": f"Remembered: {key} (scope: {scope})"}

    return await _answer(ctx, do)


async def recall(ctx: Context[Any], **arguments: JsonValue) -> JsonObject:
    """Find values by a key or by how keys begin, in one scope or in all."""

    async def do() -> JsonObject:
        key = _required(arguments, "key")
        scope = cast(MemoryScope | Literal["all"], _chosen(ctx, arguments, RECALL_SCOPES, "all"))
        found = await ctx.memory.recall(key, scope=scope)
        ctx.log(
            f"Recalled {len(found)} memories for {key!r} (scope: {scope})",
            key=key,
            scope=scope,
            count=len(found),
        )
        if not found:
            return {"memories": [], "message": f"No memories found for key: {key}"}
        fields = ("key", "value", "scope", "source")
        return {"memories": [{name: getattr(item, name) for name in fields} for item in found]}

    return await _answer(ctx, do)


async def forget(ctx: Context[Any], **arguments: JsonValue) -> JsonObject:
    """Forget the value of a key."""

    async def do() -> JsonObject:
        key = _required(arguments, "key")
        scope = cast(MemoryScope, _chosen(ctx, arguments, SCOPES, "user"))
        existed = await ctx.memory.forget(key, scope=scope, source=f"agent:{ctx.target}")
        if not existed:
            return {"success": False, "message": f"No memory found with key: {key}"}
        ctx.log(f"Forgot {key!r} (scope: {scope})", key=key, scope=scope)
        return {"success": True, "message": f"Forgot: {key}"}

    return await _answer(ctx, do)


class _Refused(Exception):
    """What the model is answered in the place of a result."""

    def __init__(self, answer: JsonObject) -> None:
        super().__init__()
        self.answer = answer


async def _answer(ctx: Context[Any], do: Callable[[], Awaitable[JsonObject]]) -> JsonObject:
    if ctx.user is None:
        return NOT_AVAILABLE
    try:
        return await do()
    except _Refused as refused:
        return refused.answer
    except Exception as error:  # noqa: BLE001  (whatever memory refuses the model is told, and the run goes on)
        return {"error": str(error) or type(error).__name__}


def _required(arguments: JsonObject, name: str) -> str:
    value = arguments.get(name)
    text = value.strip() if isinstance(value, str) else value
    if text is None or text == "":
        raise _Refused({"error": f"Missing required parameter: {name}"})
    if not isinstance(text, str):
        raise _Refused({"error": f"Invalid parameter: {name} must be a string"})
    return text


def _chosen(ctx: Context[Any], arguments: JsonObject, known: tuple[str, ...], default: str) -> str:
    """The scope that is asked for, if this run can have it."""
    given = arguments.get("scope")
    scope = default if given is None else given.strip() if isinstance(given, str) else given
    if scope not in known or (scope == "system" and ctx.system is None):
        raise _Refused({"error": f"Invalid scope: {scope}"})
    assert isinstance(scope, str)
    if ctx.user is not None and is_anonymous(ctx.user):
        only = "conversation" if scope == "all" and ctx.conversation is not None else scope
        if only != "conversation":
            raise _Refused(NOT_AVAILABLE)
    return scope


def _tool(
    function: Callable[..., Any], description: str, properties: JsonObject, required: list[str]
) -> Tool:
    """A tool that shows the model this schema, and says itself what is wrong with arguments that do not fit it."""
    name = function.__name__
    tool = Tool.from_schema(
        function,
        name=name,
        description=description,
        parameters={"type": "object", "properties": properties, "required": list(required)},
        trusted=True,
    )
    return replace(tool, json_schema=JsonSchema({"type": "object"}, of=f"tool {name}"))


def _text(description: str) -> JsonObject:
    return {"type": "string", "description": description}


def _scope(known: tuple[str, ...], default: str, more: str = "") -> JsonObject:
    description = f"{SCOPE}{more} Without one it is {default}."
    return {"type": "string", "enum": list(known), "default": default, "description": description}
