"""How code can differ from its history, each found and put into words. Pure: the execution decides what follows."""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import NamedTuple

from evrt.events import Envelope, Event
from evrt.events.run import RunTimedOut
from evrt.folds.journal import Journal, Operation
from evrt.runtime.identity import Scope


class Difference(NamedTuple):
    """Where code and history part: the operation, what differs, the position of the recorded event."""

    identity: str
    what: str
    position: int


def in_request(known: Operation, kind: str, digest: str | None) -> Difference | None:
    """The code asks for an operation of another kind, or with other arguments."""
    place = known.intent or known.outcome
    assert place is not None
    if known.kind != kind:
        what = f"the history has a {known.kind} there (event {place.version}), the code asks for a {kind}"
        return Difference(known.identity, what, place.position)
    if digest is not None and known.digest is not None and known.digest != digest:
        what = f"the history has it with other arguments (event {place.version}, {_shown(place.event)})"
        return Difference(known.identity, what, place.position)
    return None


def in_content(known: Envelope, identity: str) -> Difference:
    """The code records something else than it did then."""
    what = f"the history has it with other content (event {known.version}, {known.type})"
    return Difference(identity, what, known.position)


def after_the_end(journal: Journal, identity: str) -> Difference | None:
    """The code goes on where the history ended; of a run that timed out nobody knows how it would have."""
    terminal = journal.terminal
    if terminal is None or isinstance(terminal.event, RunTimedOut):
        return None
    what = f"the history does not have it and ends with {terminal.type} (event {terminal.version})"
    return Difference(identity, what, terminal.position)


def next_one_missing(journal: Journal, identity: str) -> Difference:
    """All of the code is blocked, and the outcome that comes next is one it did not ask for."""
    place = journal.operations[identity].outcome
    assert place is not None
    what = f"the history has it next (event {place.version}, {place.type}), the code does not ask for it"
    return Difference(identity, what, place.position)


def later_ones_known(journal: Journal, asked: Set[str], scope: Scope, identity: str) -> Difference | None:
    """The history, which does not know this operation, knows later ones of its scope."""
    for later in journal.operations.values():
        place = later.intent or later.outcome
        if place is not None and later.identity not in asked and scope.is_ahead(later.identity):
            what = f"the history goes on with {later.identity} instead (event {place.version}, {place.type})"
            return Difference(identity, what, place.position)
    return None


def never_asked(journal: Journal, asked: Set[str]) -> Difference | None:
    """The code has ended, and the history knows an operation that it never asked for."""
    for identity, known in journal.operations.items():
        place = known.intent or known.outcome
        if identity not in asked and place is not None:
            what = f"the history has it (event {place.version}, {place.type}), the code ended without it"
            return Difference(identity, what, place.position)
    return None


def not_cancelled(outcome: Envelope, identity: str) -> Difference:
    """The code cancelled the operation then, and does not cancel it now."""
    what = f"the code cancelled it then (event {outcome.version}, {outcome.type}), and does not cancel it now"
    return Difference(identity, what, outcome.position)


def cancelled_now(outcome: Envelope, identity: str) -> Difference:
    """The code cancels an operation that had an outcome then."""
    what = f"the history has its outcome (event {outcome.version}, {outcome.type}), the code cancelled it"
    return Difference(identity, what, outcome.position)


def _shown(event: Event) -> str:
    fields: Mapping[str, object] = event.model_dump(exclude_none=True)
    name = (
        fields.get("tool") or fields.get("model") or fields.get("question") or fields.get("key") or event.type
    )
    arguments = fields.get("arguments")
    return f"{name}" if arguments is None else f"{name} {arguments}"
