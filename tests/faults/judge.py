"""What must hold after any fault, going by what a worker was told and what the log holds once the disk is well."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from evrt.log.check import check
from faults.life import Story, Told

NOTHING = "Nothing was recorded"
UNKNOWN = "Whether this was recorded is not known; a repeat of the append will tell"
OPENING = (
    "could not be made ready",
    "cannot be opened",
    "cannot be read",
    "cannot be looked at",
    "is damaged",
)

Rows = dict[int, str]
"""Position and event id of everything in a log."""


def rows_of(path: Path) -> Rows:
    with closing(sqlite3.connect(path)) as connection:
        found = connection.execute("SELECT position, lower(hex(event_id)) FROM events").fetchall()
    return dict(found)


def violations(story: Story, path: Path) -> list[str]:
    """Everything that is wrong with what a worker was told, and with the log it left."""
    found: list[str] = []
    rows = Rows()
    if story["opened"]:
        rows = rows_of(path)
        found += [f"The check finds: {finding.text}" for finding in check(f"sqlite:///{path}").findings]
    positions = {event_id: position for position, event_id in rows.items()}
    if len(positions) < len(rows):
        found.append("An event is recorded twice.")
    for told in story["told"]:
        found += _wrong_answer(told, positions)
    known = {_bare(event_id) for told in story["told"] for event_id in told["ids"]}
    if positions.keys() - known:
        found.append("The log holds what nobody appended.")
    for text in story["failures"]:
        if text.count("\n") or not (str(path.parent) in text or text == "There is no event at position 1."):
            found.append(f"Not one paragraph that names the file: {text}")
    if not story["opened"] and not any(words in story["failures"][0] for words in OPENING):
        found.append(f"That the log could not be opened was said in the wrong words: {story['failures'][0]}")
    unknown = {
        _bare(event_id) for told in story["told"] if UNKNOWN in told["text"] for event_id in told["ids"]
    }
    if isinstance(story["read"], list) and (positions.keys() ^ {*map(_bare, story["read"])}) - unknown:
        found.append("What was read before the end is not what is there after it.")
    return found


class Presence(NamedTuple):
    whole: bool
    absent: bool


def _wrong_answer(told: Told, positions: dict[str, int]) -> list[str]:
    """What is wrong with one answer."""
    ids = [_bare(event_id) for event_id in told["ids"]]
    there = [positions.get(event_id) for event_id in ids]
    presence = Presence(whole=None not in there, absent=all(position is None for position in there))
    if told["positions"] is not None:
        return (
            [] if there == told["positions"] else [f"Acknowledged at {told['positions']}, found at {there}."]
        )
    found: list[str] = []
    if told["text"].count("\n"):
        found.append(f"Not one paragraph: {told['text']}")
    if not (presence.whole or presence.absent):
        found.append(f"Half of an append is recorded: {there}.")
    match told["error"]:
        case "WrongVersion" | "Fenced":  # Where the claim before it was refused.
            nothing = True
        case "Unavailable" if told["text"].startswith((NOTHING, UNKNOWN)):
            nothing = told["text"].startswith(NOTHING)
        case _:
            return [*found, f"An append was refused with {told['error']}: {told['text']}"]
    if nothing and not presence.absent:
        found.append(f"It was said that nothing was recorded, and it was at {there}: {told['text']}")
    return found


def _bare(event_id: str) -> str:
    return event_id.replace("-", "")
