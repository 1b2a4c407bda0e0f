"""The digest of a history: equal for two runs in which the same operations came to the same outcomes.

SHA-256 over one line per operation, (identity, outcome) as canonical JSON, sorted, and a last line
for how the run ended. Left out are claims, attempts, waits and doubts, and the fields that event
types declare volatile: times, ids, positions, versions, attempts, keys, clock and random values.
"""

from __future__ import annotations

from hashlib import sha256

from evrt.events import Event, JsonObject
from evrt.events.calls import ToolCallReported, ToolCallSettled
from evrt.events.canonical import canonical
from evrt.folds.journal import Journal

NOT_OUTCOME = frozenset({"operation", "digest", "outcome", "by"})


def history_digest(journal: Journal) -> str:
    """Hex SHA-256 of the outcomes in a journal; open operations count as open."""
    lines = sorted(
        canonical([operation.identity, *_outcome(operation.outcome.event)])
        if operation.outcome is not None
        else canonical([operation.identity, "open"])
        for operation in journal.operations.values()
    )
    if journal.terminal is not None:
        lines.append(canonical(["", journal.terminal.type, _fields(journal.terminal.event)]))
    return sha256(b"\n".join(lines)).hexdigest()


def _outcome(event: Event) -> tuple[str, JsonObject]:
    if isinstance(event, ToolCallSettled | ToolCallReported):
        # A settled or reported outcome counts as the outcome it establishes.
        if event.failure is not None:
            return "tool_call.failed", {"failure": event.failure.model_dump()}
        return "tool_call.completed", {"result": event.result}
    return event.type, _fields(event)


def _fields(event: Event) -> JsonObject:
    left_out = event.volatile | NOT_OUTCOME
    return {name: value for name, value in event.model_dump(mode="json").items() if name not in left_out}
