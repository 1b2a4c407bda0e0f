"""The digest of a history: equal for two runs in which the same operations came to the same outcomes.

SHA-256 over one line per operation, (identity, outcome) as canonical JSON, sorted, and a last line
for how the run ended. A run that continued has such lines for each of its chapters. Left out are claims, attempts, waits and doubts, and the fields that event
types declare volatile: times, ids, positions, versions, attempts, keys, clock and random values.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

from evrt.events import Event, JsonObject
from evrt.events.calls import ToolCallReported, ToolCallSettled
from evrt.events.canonical import canonical
from evrt.folds.journal import Journal

NOT_OUTCOME = frozenset({"operation", "digest", "outcome", "by"})


def history_digest(chapters: Sequence[Journal]) -> str:
    """Hex SHA-256 of the outcomes in a run's journals, one for each of its chapters; open operations count as open."""
    lines = [line for number, journal in enumerate(chapters) for line in _lines(journal, number)]
    return sha256(b"\n".join(lines)).hexdigest()


def _lines(journal: Journal, number: int) -> list[bytes]:
    # Runs of one chapter have the digests that they had before there were several.
    chapter = f"{number}:" if number else ""
    lines = sorted(
        canonical([chapter + operation.identity, *_outcome(operation.outcome.event)])
        if operation.outcome is not None
        else canonical([chapter + operation.identity, "open"])
        for operation in journal.operations.values()
    )
    if journal.terminal is not None:
        lines.append(canonical([chapter, journal.terminal.type, _fields(journal.terminal.event)]))
    return lines


def _outcome(event: Event) -> tuple[str, JsonObject]:
    if isinstance(event, ToolCallSettled | ToolCallReported):
        # A settled or reported outcome counts as the outcome it establishes.
        if event.failure is not None:
            return "tool_call.failed", {"failure": event.failure.model_dump()}
        return "tool_call.completed", {"result": event.result}
    return event.type, _fields(event)


def _fields(event: Event) -> JsonObject:
    left_out = event.volatile | NOT_OUTCOME
    if event.came_later:
        fields = type(event).model_fields
        left_out |= {name for name in event.came_later if getattr(event, name) == fields[name].default}
    return {name: value for name, value in event.model_dump(mode="json").items() if name not in left_out}
