"""For tests of agents: a model that says what it is told to, and no network."""

from __future__ import annotations

import asyncio
import copy
import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import orjson

from evrt.effects.contract import ModelError, ModelReply, ModelRequest, OnDelta
from evrt.errors import UsageError
from evrt.events import JsonObject, JsonValue

PIECES_MAX = 3
"""Pieces in which a text streams: enough to have a first, a middle and a last."""


@dataclass(frozen=True, slots=True)
class ToolCalls:
    """A reply that calls tools: each a name and its arguments as JSON. Made by ``call`` and ``calls``."""

    each: tuple[tuple[str, str], ...]
    text: str | None = None


Reply: TypeAlias = str | ToolCalls | Sequence[ToolCalls] | Mapping[str, JsonValue] | ModelReply | Exception
"""A text, tool calls, a whole message, a whole ModelReply, or what to raise."""

Script: TypeAlias = Sequence[Reply] | Callable[[ModelRequest], Reply | Awaitable[Reply]]


def call(name: str, /, **arguments: JsonValue) -> ToolCalls:
    """A reply that calls the tool ``name``."""
    try:
        return ToolCalls(((name, orjson.dumps(arguments).decode()),))
    except orjson.JSONEncodeError as error:
        raise UsageError(f"The arguments of call({name!r}, …) are not JSON: {error}.") from error


def calls(*tool_calls: ToolCalls, text: str | None = None) -> ToolCalls:
    """A reply that calls several tools at once, and says something with it where ``text`` is given."""
    return ToolCalls(tuple(one for tool_call in tool_calls for one in tool_call.each), text)


class ScriptedModel:
    """A model that replies from a script: a list, used up in order, or a function of the request.

    A list is for one run in one process. A function that looks at nothing but its request gives the
    same replies after a crash, in another process, and to many runs at once.

        ScriptedModel([call("weather", city="Turin"), "26 °C and sunny."])
        ScriptedModel(lambda request: f"I have read {len(request.messages)} messages.")

    Ids of tool calls follow from the number of messages in the request, so a run that is made again
    gets the same. ``requests`` holds every request seen.
    """

    def __init__(self, script: Script) -> None:
        if isinstance(script, str | Mapping) or not (callable(script) or isinstance(script, Sequence)):
            raise UsageError(
                "ScriptedModel takes a list of replies, or a function of the request; "
                f"a single reply goes into a list too: [{script!r}]."
            )
        self._script = script
        self.requests: list[ModelRequest] = []

    async def complete(self, request: ModelRequest, on_delta: OnDelta | None = None) -> ModelReply:
        """The next reply of the script. Raises what the script says."""
        # The messages as they are now: the caller may go on using its list.
        self.requests.append(replace(request, messages=tuple(request.messages)))
        reply = _model_reply(await self._next(request), request)
        if on_delta is not None and isinstance(text := reply.message.get("content"), str):
            for piece in _pieces(text):
                on_delta(piece)
                await asyncio.sleep(0)  # A network would let other tasks run here.
        return reply

    async def _next(self, request: ModelRequest) -> Reply:
        if callable(self._script):
            reply = self._script(request)
            return await reply if inspect.isawaitable(reply) else reply
        count = len(self.requests)
        if count > len(self._script):
            raise ModelError(
                "script_exhausted",
                f"The script of this ScriptedModel has {len(self._script)} replies, and this is request number "
                f"{count}. Add a reply to the list, or give a function of the request.",
                retriable=False,
            )
        return self._script[count - 1]


def _model_reply(reply: Reply, request: ModelRequest) -> ModelReply:
    match reply:
        case Exception():
            raise reply
        case ModelReply():
            return reply
        case str():
            message: JsonObject = {"role": "assistant", "content": reply}
        case ToolCalls():
            message = _calling(reply, request)
        case Mapping():
            # A copy: the script has to say the same next time, whatever becomes of this message.
            message = {"role": "assistant", "content": None} | copy.deepcopy(dict(reply))
        case [*each] if each and all(isinstance(one, ToolCalls) for one in each):
            message = _calling(calls(*each), request)
        case _:
            raise UsageError(
                f"A script's reply is a text, call(…) or a list of them, a message, a ModelReply or an exception; "
                f"{reply!r} is none of these."
            )
    finish_reason = "tool_calls" if message.get("tool_calls") else "stop"
    return ModelReply(message, finish_reason=finish_reason, provider="script", model_returned=request.model)


def _calling(reply: ToolCalls, request: ModelRequest) -> JsonObject:
    tool_calls: list[JsonObject] = [
        {
            "id": f"call_{len(request.messages)}_{index}",
            "type": "function",
            "function": {"name": name, "arguments": arguments},
        }
        for index, (name, arguments) in enumerate(reply.each)
    ]
    return {"role": "assistant", "content": reply.text, "tool_calls": tool_calls}


def _pieces(text: str) -> list[str]:
    size = -(-len(text) // PIECES_MAX) or 1
    return [text[start : start + size] for start in range(0, len(text), size)]
