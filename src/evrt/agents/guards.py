"""What the loop watches for in a model: tools that do not exist, calls that fail again, going round in circles.

Pure: the loop tells what was called and what came of it, and is told what to say to the model. Every time a guard steps
in it is an event, ``guard.applied``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import orjson

from evrt.events import JsonObject, JsonValue

UNKNOWN_TOOL_NUDGE_AT = 2
"""Calls of the same tool that does not exist, before the model is told in a message of its own."""
CIRCLE_LENGTH_MAX = 3
CIRCLE_TIMES = 3
"""How often the same one to three turns, results included, have to come round to be a circle."""
CUT_OFF = (
    "Your reply was cut off at the limit of its length before the arguments of this call were complete, so it was not "
    "made. Make it again with shorter arguments, or split the work into several calls."
)
STUCK = (
    "You are repeating yourself: the same calls have had the same results {times} times. Do something else: other "
    "arguments, another tool, or answer with what you have."
)


@dataclass(slots=True)
class Guards:
    """What a run of the loop remembers of its model's missteps."""

    unknown: dict[str, int] = field(default_factory=dict)
    """How often a tool that does not exist has been called, by name."""
    turns: list[str] = field(default_factory=list)
    """Digests of the last turns, each with what came of it; oldest first."""

    def unknown_tool(self, name: str, known: Sequence[str]) -> str | None:
        """Note a call of a tool that does not exist; a message for the model the second time it is the same."""
        count = self.unknown[name] = self.unknown.get(name, 0) + 1
        if count != UNKNOWN_TOOL_NUDGE_AT:
            return None
        return (
            f"There is no tool {name!r:.80}, and there will be none. The tools you can call are: "
            f"{', '.join(known) or 'none'}. If none of them helps, answer without."
        )

    def goes_round(self, turn: str) -> bool:
        """Note a turn by its digest; whether the model goes round in circles, which is said anew only after another full one."""
        self.turns.append(turn)
        del self.turns[: -CIRCLE_LENGTH_MAX * CIRCLE_TIMES]
        if not self._goes_round():
            return False
        self.turns.clear()
        return True

    def _goes_round(self) -> bool:
        for length in range(1, CIRCLE_LENGTH_MAX + 1):
            last = self.turns[-length * CIRCLE_TIMES :]
            if len(last) == length * CIRCLE_TIMES and last == last[:length] * CIRCLE_TIMES:
                return True
        return False

    def to_state(self) -> JsonObject:
        return {"unknown": dict(self.unknown), "turns": list(self.turns)}


def normalised(message: JsonObject) -> JsonObject:
    """An assistant's message as it can be sent back: every tool call with an id of its own, a name and arguments as text.

    The message itself where nothing is amiss. A model may write anything: ids twice or none, arguments as an object.
    """
    content = message.get("content")
    if message.get("role") != "assistant" or not (content is None or isinstance(content, str | list)):
        # A content of no form is said as the text of its JSON.
        text = (
            content if content is None or isinstance(content, str | list) else orjson.dumps(content).decode()
        )
        message = {**message, "role": "assistant", "content": text}
    calls = message.get("tool_calls")
    if calls is None:
        return message
    if not isinstance(calls, list) or not calls:
        return {name: value for name, value in message.items() if name != "tool_calls"}
    seen: set[str] = set()
    mended = [_normalised(call, index, seen) for index, call in enumerate(calls)]
    return message if mended == calls else {**message, "tool_calls": mended}


def _normalised(call: JsonValue, index: int, seen: set[str]) -> JsonObject:
    wished = call if isinstance(call, dict) else {}
    function = wished.get("function")
    function = function if isinstance(function, dict) else {}
    name, arguments, identifier = function.get("name"), function.get("arguments"), wished.get("id")
    if not isinstance(identifier, str) or not identifier or identifier in seen:
        identifier = f"call_{index}_{len(seen)}"
        while identifier in seen:
            identifier += "_"
    seen.add(identifier)
    text = (
        arguments
        if isinstance(arguments, str)
        else orjson.dumps(arguments if arguments is not None else {}).decode()
    )
    mended: JsonObject = {"name": name if isinstance(name, str) else "", "arguments": text}
    if wished.get("id") == identifier and function == mended and wished.get("type") == "function":
        return wished
    return {**wished, "id": identifier, "type": "function", "function": mended}
