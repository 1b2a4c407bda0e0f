"""How code can differ from its history, each found and put into words. Pure: the execution decides what follows."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import NamedTuple

from evrt.events import Envelope, Event
from evrt.folds.journal import Journal, Operation, ended_by_others
from evrt.runtime.identity import Scope


class Difference(NamedTuple):
    """Where code and history part: the operation, what differs, the position of the recorded event."""

    identity: str
    what: str
    position: int


def in_request(known: Operation, kind: str, digest: str | None) -> Difference | None:
    """The code asks for an operation of another kind, or with other arguments."""
    place = _place(known)
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
    """The code goes on where the history ended, and the end was one that it came to by itself."""
    terminal = journal.terminal
    if terminal is None or ended_by_others(terminal.event):
        return None
    what = f"the history does not have it and ends with {terminal.type} (event {terminal.version})"
    return Difference(identity, what, terminal.position)


def next_one_missing(journal: Journal, identity: str) -> Difference:
    """All of the code is blocked, and the outcome that comes next is one it did not ask for."""
    place = journal.operations[identity].outcome
    assert place is not None
    what = f"the history has it next (event {place.version}, {place.type}), the code does not ask for it"
    return Difference(identity, what, place.position)


class Unasked:
    """What the history knows and the code has not asked for yet: in each scope, in the order of the first time."""

    def __init__(self, journal: Journal) -> None:
        self._scopes: dict[str, deque[Operation]] = {}
        for known in journal.operations.values():
            if known.intent is not None or known.outcome is not None:
                self._scopes.setdefault(_path(known.identity), deque()).append(known)

    def __bool__(self) -> bool:
        return bool(self._scopes)

    def take(self, identity: str) -> Difference | None:
        """The code asks for this operation, which is to be the next one of its scope."""
        path = _path(identity)
        expected = self._scopes.get(path)
        if expected is None:
            return None
        if expected[0].identity != identity:
            return _goes_on(identity, expected[0])
        expected.popleft()
        if not expected:
            del self._scopes[path]
        return None

    def has_begun(self, path: str, before: int | None) -> bool:
        """Whether something is left, in this scope or below it, that began before an event of this version, or ever."""
        return any(
            scope.startswith(path) and (before is None or left[0].began < before)
            for scope, left in self._scopes.items()
        )

    def after_lost_one(self, identity: str, scope: Scope) -> Difference | None:
        """The history, which does not know this operation, knows later ones below its scope."""
        for expected in self._scopes.values():
            if scope.is_ahead(expected[0].identity):
                return _goes_on(identity, expected[0])
        return None

    def at_the_end(self) -> Difference | None:
        """The code has ended, and never asked for these."""
        for expected in self._scopes.values():
            known = expected[0]
            place = _place(known)
            what = f"the history has it (event {place.version}, {place.type}), the code ended without it"
            return Difference(known.identity, what, place.position)
        return None


def _path(identity: str) -> str:
    return identity[: identity.rfind("/") + 1]


def _goes_on(identity: str, known: Operation) -> Difference:
    place = _place(known)
    what = f"the history goes on with {known.identity} instead (event {place.version}, {place.type})"
    return Difference(identity, what, place.position)


def _place(known: Operation) -> Envelope:
    place = known.intent or known.outcome or known.reopened
    assert place is not None
    return place


def not_cancelled(outcome: Envelope, identity: str) -> Difference:
    """The code cancelled the operation then, and does not cancel it now."""
    what = f"the code cancelled it then (event {outcome.version}, {outcome.type}), and does not cancel it now"
    return Difference(identity, what, outcome.position)


def in_branches(outcome: Envelope, identity: str, then: int, now: int) -> Difference:
    """A race had so many branches then, and has another number now."""
    what = f"the history has a race of {then} there (event {outcome.version}), the code one of {now}"
    return Difference(identity, what, outcome.position)


def _shown(event: Event) -> str:
    fields: Mapping[str, object] = event.model_dump(exclude_none=True)
    name = (
        fields.get("tool") or fields.get("model") or fields.get("question") or fields.get("key") or event.type
    )
    arguments = fields.get("arguments")
    return f"{name}" if arguments is None else f"{name} {arguments}"
