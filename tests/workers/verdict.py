"""What must hold of runs and their effects whatever became of their workers, told from the log's rows and the ledger alone.

Pure: rows and lines in, violations out. It folds the events by itself, so that a mistake in evrt's own folds cannot hide
itself.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from crash.apps import KEYED
from crash.world import Line
from evrt.events.run import TERMINAL
from evrt.log import Recorded
from workers.labour import WRITES

FROM_OUTSIDE = frozenset(
    {"run.requested", "run.signalled", "tool_call.settled", "tool_call.reported", "run.superseded"}
)
CLOSING = frozenset({"tool_call.completed", "tool_call.failed", "step.completed", "step.failed"})


def violations(rows: Sequence[Recorded], lines: Sequence[Line], expected: Mapping[str, Any]) -> list[str]:
    """What is wrong with the histories of these runs, given what each has to come to."""
    streams: dict[str, list[Recorded]] = defaultdict(list)
    found = [] if [row.position for row in rows] == list(range(1, len(rows) + 1)) else ["positions have gaps"]
    for row in rows:
        streams[row.stream].append(row)
    runs = {stream for stream in streams if stream.startswith("run-")}
    if runs != set(expected):
        found.append(f"{len(runs ^ set(expected))} runs too many or too few")
    by_run: dict[str, list[Line]] = defaultdict(list)
    for line in lines:
        by_run[line.run].append(line)
    for run in sorted(runs & set(expected)):
        story = _Story(run, streams[run], by_run[run])
        found += [f"{run}: {wrong}" for wrong in story.violations(expected[run])]
    return found


class _Story:
    """One run: its events, and the effects that really happened."""

    def __init__(self, run: str, rows: Sequence[Recorded], lines: Sequence[Line]) -> None:
        self._rows = rows
        self._lines = lines
        self._events = [(row.type, json.loads(row.payload or b"{}"), json.loads(row.meta)) for row in rows]

    def violations(self, expected: Any) -> list[str]:
        return [
            *self._versions(),
            *self._end(expected),
            *self._claims(),
            *self._outcomes(),
            *self._effects(),
        ]

    def _versions(self) -> list[str]:
        versions = [row.version for row in self._rows]
        return [] if versions == list(range(1, len(versions) + 1)) else [f"versions {versions}"]

    def _end(self, expected: Any) -> list[str]:
        ends = [number for number, (kind, _, _) in enumerate(self._events) if kind in TERMINAL]
        if len(ends) != 1:
            return [f"{len(ends)} ends"]
        kind, end, _ = self._events[ends[0]]
        after = {kind for kind, _, _ in self._events[ends[0] + 1 :]} - {"tool_call.reported", "run.signalled"}
        wrong = [f"{sorted(after)} after its end"] if after else []
        if kind != "run.succeeded" or end["output"] != expected:
            wrong.append(f"it came to {kind} {end}")
        return wrong

    def _claims(self) -> list[str]:
        """Epochs rise by one, and what a worker wrote it wrote under the one there was."""
        epoch = 0
        found = []
        for kind, event, meta in self._events:
            if kind == "run.claimed":
                if event["epoch"] != epoch + 1:
                    found.append(f"epoch {event['epoch']} after {epoch}")
                epoch = event["epoch"]
            elif kind not in FROM_OUTSIDE and meta.get("epoch") != epoch:
                found.append(f"{kind} of epoch {meta.get('epoch')} under epoch {epoch}")
        return found

    def _outcomes(self) -> list[str]:
        """Every operation is closed once: by an outcome, or by seeing what came from outside that is no new attempt."""
        again = {
            row.event_id
            for row, (kind, event, _) in zip(self._rows, self._events, strict=True)
            if kind == "tool_call.settled" and event["outcome"] == "again"
        }
        closed: Counter[str] = Counter()
        for kind, event, _ in self._events:
            closes = kind in CLOSING and event.get("final", True)
            if closes or (kind == "input.received" and event["event_id"] not in again):
                closed[event["operation"]] += 1
        return [f"{operation} has {count} outcomes" for operation, count in closed.items() if count > 1]

    def _effects(self) -> list[str]:
        """Attempts add up; a write without a key happened at most once for each, and at all where it is said to have."""
        intents: dict[str, set[int]] = defaultdict(set)
        for kind, event, _ in self._events:
            if kind == "tool_call.requested":
                intents[event["operation"]].add(event["attempt"])
            elif kind == "tool_call.failed" and not event["final"]:
                intents[event["operation"]].add(event["attempt"] + 1)
        happened = Counter((line.tool, line.operation, line.attempt) for line in self._lines)
        found = [
            f"{operation}, attempt {attempt}, had no intent"
            for _, operation, attempt in happened
            if attempt not in intents[operation]
        ]
        found += [
            f"{operation}, attempt {attempt}, a write without a key, happened {count} times"
            for (tool, operation, attempt), count in happened.items()
            if tool in WRITES and count > 1
        ]
        keys: dict[str, set[str | None]] = defaultdict(set)
        for line in self._lines:
            if line.tool in KEYED:
                keys[line.operation].add(line.key)
        found += [f"{operation} had the keys {used}" for operation, used in keys.items() if len(used) != 1]
        missing = intents.keys() - {line.operation for line in self._lines}
        return found + [f"{operation} never happened" for operation in missing]
