"""The judge itself: a story that is right, falsified in one place, is found out."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from crash.judge import Story, violations
from crash.world import Line

Falsify = Callable[[Story], Story]


def with_facts(**changes: Any) -> Falsify:
    return lambda story: replace(story, facts=story.facts | changes)


def with_events(change: Callable[[list[dict[str, Any]]], object]) -> Falsify:
    def falsify(story: Story) -> Story:
        events = copy.deepcopy(story.events)
        change(events)
        return replace(story, facts=story.facts | {"events": events})

    return falsify


def with_lines(change: Callable[[list[Line]], object]) -> Falsify:
    def falsify(story: Story) -> Story:
        lines = list(story.lines)
        change(lines)
        return replace(story, lines=lines)

    return falsify


def with_cut(tool: str) -> Falsify:
    """Cut off in front of the intent of this tool's first call, with its effect in the ledger already."""

    def falsify(story: Story) -> Story:
        version = next(e["version"] for e in story.events if e.get("tool") == tool)
        count = next(index for index, line in enumerate(story.lines, 1) if line.tool == tool)
        return replace(story, cuts=[(version - 1, count)])

    return falsify


def cut_behind_intent(story: Story) -> Story:
    version = next(e["version"] for e in story.events if e.get("tool") == "pay")
    return replace(story, cuts=[(version, 0)])


def told_too_early(story: Story) -> Story:
    return replace(story, cuts=[(len(story.events) - 1, len(story.lines))])


def first(lines: list[Line], tool: str) -> int:
    return next(index for index, line in enumerate(lines) if line.tool == tool)


def again(lines: list[Line], tool: str, **changes: Any) -> None:
    lines.append(lines[first(lines, tool)]._replace(**changes))


def share_a_key(lines: list[Line]) -> None:
    book = lines[first(lines, "book")]
    lines.append(book._replace(operation="book#2"))


FALSIFIED: dict[str, Falsify] = {
    "came to another digest": with_facts(digest="0" * 64),
    "The replay is not ok": with_facts(replay="it diverges"),
    "There are 2 runs": with_facts(runs=["run-a", "run-b"]),
    "Memory and conversation differ": with_facts(others=[]),
    "facts into memory": with_facts(memory=["an event that no run noted"]),
    "The positions are not": with_facts(positions=[1, 3]),
    "The versions are not": with_events(lambda events: events[3].update(version=99)),
    "The run ended 2 times": with_events(lambda events: events.append(events[-1])),
    "The run ended 0 times": with_events(lambda events: events.pop()),
    "goes on after its end": with_events(lambda events: events.append(events[3])),
    "The epochs fall": with_events(lambda events: events[5]["meta"].update(epoch=2)),
    "The claims do not rise": with_events(lambda events: events.insert(2, events[1])),
    "has 2 outcomes": with_events(
        lambda events: events.insert(-1, next(e for e in events if e["type"] == "tool_call.completed"))
    ),
    "Lost or invented effects": with_lines(lambda lines: lines.pop(first(lines, "look"))),
    "and it never happened": with_lines(lambda lines: lines.pop(first(lines, "look"))),
    "The unkeyed effect": with_lines(lambda lines: again(lines, "pay")),
    "under 2 keys": with_lines(lambda lines: again(lines, "book", key="another")),
    "share a key": with_lines(share_a_key),
    "happened without an intent": with_lines(lambda lines: again(lines, "look", operation="look#99")),
    "and its intent was not durable": with_cut("look"),
    "was never called in doubt": cut_behind_intent,
    "the outside had been told": told_too_early,
}


@pytest.mark.parametrize("symptom", FALSIFIED)
def test_a_story_that_is_not_right_is_found_out(references: dict[str, Story], symptom: str) -> None:
    reference = references["errand"]
    assert violations(reference, reference) == []
    found = violations(FALSIFIED[symptom](reference), reference)
    assert any(symptom in violation for violation in found), found
