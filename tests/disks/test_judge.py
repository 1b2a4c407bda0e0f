"""The judge itself: a log that is right, falsified in one place, is found out."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from disks.judge import Found, Promises, violations
from evrt.log.contract import Append, Draft, Head, Recorded
from evrt.log.ids import new_event_id
from evrt.log.memory import MemoryLog

EVENTS = 3


def draft(request: str, number: int) -> Draft:
    meta = json.dumps({"request": request, "number": number, "events": EVENTS}, separators=(",", ":"))
    return Draft("run-a", "note.written", new_event_id(), "run-a", meta.encode(), b"words")


async def a_log() -> tuple[Found, Promises]:
    """Two requests of three events each, both answered."""
    log = MemoryLog()
    promises = Promises()
    promises.hear(json.dumps({"opened": log.id}))
    for request in ("a-1", "a-2"):
        made = await log.append(Append([draft(request, number) for number in range(EVENTS)], {}))
        promises.hear(
            json.dumps({"recorded": request, "first": made.positions.start, "events": len(made.positions)})
        )
    events = await log.read()
    return Found(log.id, events, {"run-a": Head(events[-1].version, events[-1].leaf, 0)}), promises


Falsify = Callable[[Found], Found]


def events(change: Callable[[list[Recorded]], Sequence[Recorded]], *, heads: bool = False) -> Falsify:
    def falsify(found: Found) -> Found:
        changed = change(list(found.events))
        last = {event.stream: Head(event.version, event.leaf, 0) for event in changed}
        return replace(found, events=changed, heads=last if heads else found.heads)

    return falsify


def one(position: int, **changes: Any) -> Falsify:
    return events(lambda rows: [row._replace(**changes) if row.position == position else row for row in rows])


FALSIFIED: dict[str, Falsify] = {
    "Lost: a-2": events(lambda rows: rows[:3], heads=True),
    "Torn: 2 of the 3 events of a-2": events(lambda rows: rows[:5], heads=True),
    "Lost: the log": lambda found: Found("another", [], {}),
    "Lost: the payload of event 2": one(2, payload=None, salt=None),
    "Damaged: event 2 has only one": one(2, salt=None),
    "Damaged: the payload of event 4": one(4, payload=b"other"),
    "Damaged: the leaf of event 4": one(4, type="other"),
    "Damaged: event 4 is older": one(4, time=1),
    "Damaged: at place 3 is position 4": events(lambda rows: rows[:2] + rows[3:]),
    "Damaged: event 3 is version 9": one(3, version=9),
    "Damaged: the heads": lambda found: replace(found, heads={}),
}


@pytest.mark.parametrize("symptom", FALSIFIED)
async def test_a_log_that_is_not_right_is_found_out(symptom: str) -> None:
    found, promises = await a_log()
    assert violations(found, promises, found.events) == []
    wrong = violations(FALSIFIED[symptom](found), promises, found.events)
    assert any(text.startswith(symptom) for text in wrong), wrong


async def test_what_had_been_erased_and_is_there_again_is_found_out() -> None:
    found, promises = await a_log()
    promises.hear('{"erasing": 2, "payload": ""}')
    assert violations(found, promises, found.events) == []
    promises.hear('{"erased": 2}')
    assert violations(found, promises, found.events) == [
        "Back again: the payload of event 2, which had been erased."
    ]


async def test_what_was_never_written_is_found_out() -> None:
    found, promises = await a_log()
    other, _ = await a_log()
    assert violations(found, Promises(), other.events) == [
        "Changed: what is there is not a beginning of what was written."
    ]
    assert violations(found, promises, None) == []
