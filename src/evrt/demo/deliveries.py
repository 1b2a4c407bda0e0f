"""What a run's log says of its writes, and whether ledger and tray hold just that: each decision once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from evrt.demo.ledger import Entry
from evrt.demo.tools import answer_for
from evrt.events import Event, JsonObject
from evrt.events.calls import ToolCallCompleted, ToolCallRequested
from evrt.folds.journal import Operation
from evrt.history import Run


@dataclass(frozen=True, slots=True)
class Write:
    """One call of a tool that writes. ``result`` is None where no completion is recorded."""

    operation: str
    tool: str
    key: str
    arguments: JsonObject
    result: JsonObject | None

    @property
    def place(self) -> tuple[str, str]:
        """Where it goes: a key is known to ledger and tray separately."""
        return self.tool, self.key


def write_of(event: Event) -> Write | None:
    """The write that an intent announces, if it announces one."""
    if not isinstance(event, ToolCallRequested) or event.effect != "write" or event.key is None:
        return None
    arguments = event.arguments if isinstance(event.arguments, dict) else {}
    return Write(event.operation, event.tool, event.key, arguments, None)


def completed_writes(run: Run) -> list[Write]:
    """The writes whose completion is recorded: the decisions that the run knows of."""
    found = []
    for operation in run.journal.operations.values():
        write = _announced(operation)
        outcome = operation.outcome.event if operation.outcome is not None else None
        if write is not None and isinstance(outcome, ToolCallCompleted) and isinstance(outcome.result, dict):
            found.append(Write(write.operation, write.tool, write.key, write.arguments, outcome.result))
    return found


def open_writes(run: Run) -> list[Write]:
    """The writes that have begun and of which the log does not say what they came to."""
    announced = (_announced(operation) for operation in run.journal.operations.values() if operation.open)
    return [write for write in announced if write is not None]


def _announced(operation: Operation) -> Write | None:
    return write_of(operation.intent.event) if operation.intent is not None else None


def discrepancies(run: Run, entries: Sequence[Entry], arrived: Iterable[Write]) -> list[str]:
    """One sentence for each entry that the log does not account for, and each decision without an entry.

    ``arrived``: writes that had reached ledger or tray when they were cut off, and so are delivered again.
    """
    completed = {write.place: write for write in completed_writes(run)}
    deliveries = Counter(write.place for write in [*completed_writes(run), *arrived])
    held = Counter(entry.claim for entry in entries)
    places = {place_of(entry) for entry in entries}
    told = [f"{claim} is there {count} times." for claim, count in held.items() if count > 1]
    told += [f"{place[1]} was decided, and is not there." for place in completed if place not in places]
    for entry in entries:
        write = completed.get(place_of(entry))
        if write is None:
            told.append(f"{entry.claim} is there under the key {entry.key}, which the log does not know.")
        elif write.result != (held_as := answer_for(entry)):
            told.append(
                f"{entry.claim} is there as {_words(held_as)}; the log recorded {_words(write.result)}."
            )
        elif entry.deliveries != (known := deliveries[place_of(entry)]):
            told.append(
                f"{entry.claim} was delivered {entry.deliveries} times; the log accounts for {known}."
            )
    return told


def place_of(entry: Entry) -> tuple[str, str]:
    """The place of the write that an entry comes from."""
    return "put_in_tray" if entry.decision == "doubtful" else "record_decision", entry.key


def _words(told: Mapping[str, object] | None) -> str:
    told = told or {}
    amount = "no amount" if told.get("amount_eur") is None else f"{told['amount_eur']} EUR"
    return f"{told.get('decision')}, {amount}, {told.get('reason')}"
