"""What of a conversation its next run is shown: the newest messages, as many as fit, in a shape that every model takes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import orjson

from evrt.events import JsonObject, JsonValue
from evrt.folds.chats import Turn

Unit = list[JsonObject]
"""Messages that stay together: an assistant's with its tool calls, and the results of these."""


class Chosen(NamedTuple):
    """The messages that are shown, oldest first; how many older ones are not; whether any of them is untrusted."""

    messages: tuple[JsonObject, ...]
    omitted: int
    untrusted: bool


def choose(newest_first: Iterable[Turn], *, messages_max: int, bytes_max: int) -> Chosen:
    """The newest messages of these turns, at most so many and of so many bytes as JSON: the oldest are left out first."""
    taken: list[Unit] = []
    messages, bytes_taken, omitted = 0, 0, 0
    untrusted = full = False
    for turn in newest_first:
        for unit in reversed(units_of(turn.messages)):
            unit_bytes = len(orjson.dumps(unit))
            full = full or messages + len(unit) > messages_max or bytes_taken + unit_bytes > bytes_max
            if full:
                omitted += len(unit)
                continue
            taken.append(unit)
            messages += len(unit)
            bytes_taken += unit_bytes
            untrusted = untrusted or turn.untrusted
    return Chosen(tuple([message for unit in reversed(taken) for message in unit]), omitted, untrusted)


def units_of(messages: Sequence[JsonValue]) -> list[Unit]:
    """The messages of a turn with each result behind the call it answers.

    Models refuse a call without its result, and a result without its call: a call that has none yet, as of a run that
    is still at it, is left out, and so is a result that nobody called for.
    """
    units: list[Unit] = []
    waiting: dict[str, list[tuple[int, int]]] = {}
    results: dict[tuple[int, int], JsonObject] = {}
    for message in messages:
        if not isinstance(message, dict):
            continue
        if message.get("role") == "tool":
            calls = waiting.get(str(message.get("tool_call_id")))
            if calls:
                results[calls.pop(0)] = message
            continue
        for number, call in enumerate(_calls(message)):
            waiting.setdefault(str(call.get("id") or "missing"), []).append((len(units), number))
        units.append([message])
    return [unit for place, [message] in enumerate(units) if (unit := _answered(message, place, results))]


def _answered(message: JsonObject, place: int, results: dict[tuple[int, int], JsonObject]) -> Unit:
    calls = _calls(message)
    if not calls:
        return [message]
    answers = [results.get((place, number)) for number in range(len(calls))]
    if None not in answers:
        return [message, *(answer for answer in answers if answer is not None)]
    left = [call for call, answer in zip(calls, answers, strict=True) if answer is not None]
    shown = {name: value for name, value in message.items() if name != "tool_calls"}
    if left:
        shown["tool_calls"] = left
    elif not shown.get("content"):
        return []
    return [shown, *(answer for answer in answers if answer is not None)]


def _calls(message: JsonObject) -> list[JsonObject]:
    calls = message.get("tool_calls")
    if message.get("role") != "assistant" or not isinstance(calls, list | tuple):
        return []
    return [call for call in calls if isinstance(call, dict)]
