"""Changes of the queue, as SQL that every store runs: what is asked first, what is decided, what is then written.

A store asks the ``questions`` of a request and puts the answers into ``Facts``; ``decide`` refuses the request
or says when its runs may begin; after its events have been planned, ``evrt.log.changing`` gives the statements,
which need no answer. Only the questions read, so a store may send all statements of a batch at once.

How a change changes the state of an entry. Rows are states, ``-`` is no entry; ``=`` leaves it as it is:

                ready     delayed   behind    claimed   waiting   paused    -
    Enqueue     Conflict  Conflict  Conflict  Conflict  Conflict  Conflict  ready¹
    Hold        Fenced    Fenced    Fenced    =²        Fenced    Fenced    Fenced
    Park        waiting³  waiting³  behind    waiting³  waiting³  paused    waiting³
    Yield       ready¹    ready¹    behind    ready¹    ready¹    paused    ready¹
    Wake        =         ready     =⁴        =, news   ready     =⁴        =
    Pause       paused    paused    paused    =, news   paused    =         =
    Unpause     =         =         =         =         =         ready⁵    =
    Remove      -         -         -         -         -         -         =
    Restore     waiting³  waiting³  behind    =         waiting³  waiting³  waiting³
    (claimed)   claimed                       claimed⁶                      given to a worker
    (is due)              ready                         ready               when a worker asks for its target
    (moves up)                      ready⁵                                  when it has become first of its lane

    ¹ delayed where it is to begin later, or behind where it is not the first of its lane
    ² where that worker has claimed it, else Fenced: even with a lease that ran out, if nobody took it
    ³ of Restore: what it says; of Park: paused where Park says so; else behind where it is not the first of its lane
    ⁴ but what it was to wait for until it is due has come: then it will be ready, and not delayed
    ⁵ delayed where it is not due yet; an unpaused one that is not the first of its lane is behind
    ⁶ where the lease of the worker that has it has run out

A lane goes by places: its first entry may be in any state but behind, and the others are behind (or paused). So
what waits, is paused or is not due yet keeps its lane.

Park, Yield and Remove take an entry from whoever has it. They come with an append that is fenced by the epoch of
the run's stream, which is refused once another worker has claimed the run there. One that has been given the
entry but has not come so far is refused by the Hold beside its claim, and leaves the run alone.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from evrt.errors import Conflict, Fenced, InvalidInput
from evrt.log.coordination import (
    Change,
    Enqueue,
    Hold,
    Keep,
    Key,
    Park,
    Rate,
    Restore,
    Tick,
    Yield,
)

INTEGER_MAX = 2**63 - 1

TEXT_BYTES_MAX = 1_024
"""Two such texts and more fit into an entry of an index, in every database."""


class Statement(NamedTuple):
    """SQL with named parameters (``:name``)."""

    sql: str
    parameters: Mapping[str, object]


Rows = Sequence[Sequence[Any]]

Place = Callable[[str], int]
"""The position that an entry made for this run takes its place by."""

Question = tuple[str, ...]
"""What has to be known: its kind, and of what."""

_QUESTIONS = {
    "entry": "SELECT state, worker FROM queue WHERE run = :q1",
    "key": "SELECT run FROM keys WHERE owner = :q1 AND key = :q2",
    "tick": "SELECT tick FROM ticks WHERE schedule = :q1",
    # From as far back as can matter to a run that comes now: it begins no earlier than those that came before it.
    "rate": (
        "SELECT begins, later FROM rates WHERE key = :q1 AND begins > "
        "coalesce((SELECT max(begins) FROM rates WHERE key = :q1 AND later = 0), 0) - :span ORDER BY begins"
    ),
}

# ------------------------------------------------------------------------------ without the database


def check_changes(changes: Sequence[Change]) -> tuple[Change, ...]:
    """Refuse what no queue could accept. Raises InvalidInput."""
    for change in changes:
        if isinstance(change, Tick):
            check_text("schedule", change.schedule)
            _check_number("tick", change.tick)
            continue
        check_text("run", change.run)
        if isinstance(change, Keep):
            _check_key(change.key)
            continue
        if isinstance(change, Enqueue | Park | Yield | Restore):
            check_text("target", change.target)
            if change.lane is not None:
                check_text("lane", change.lane)
        if isinstance(change, Park | Yield | Restore):
            _check_number("priority", change.priority)
            if change.due is not None:
                _check_number("due", change.due)
        if isinstance(change, Restore):
            _check_number("place", change.place)
        if isinstance(change, Enqueue):
            _check_enqueue(change)
    return tuple(changes)


def _check_enqueue(change: Enqueue) -> None:
    _check_number("priority", change.priority)
    if change.not_before is not None:
        _check_number("not_before", change.not_before)
    if change.key is not None:
        _check_key(change.key)
    rate = change.rate
    if rate is None:
        return
    check_text("rate's key", rate.key)
    if type(rate.count) is not int or rate.count < 1 or not 0 < rate.per_seconds < INTEGER_MAX // 1_000_000:
        raise InvalidInput(
            f"A rate lets at least one run begin in a time longer than none; this one lets {rate.count!r} begin "
            f"in {rate.per_seconds!r} seconds."
        )


def _check_key(key: Key) -> None:
    check_text("key", key.key)
    if key.owner:
        check_text("key's owner", key.owner)


def check_text(what: str, value: object) -> None:
    """Refuse what is no text for the queue. Raises InvalidInput."""
    # PostgreSQL takes no NUL in a text.
    if not isinstance(value, str) or not value or "\0" in value:
        raise InvalidInput(
            f"A {what} in the queue must be a text that is not empty; this one is {value!r:.80}."
        )
    try:
        length = len(value.encode())
    except UnicodeEncodeError:
        raise InvalidInput(
            f"A {what} in the queue must be valid Unicode; this one is {value!r:.80}."
        ) from None
    if length > TEXT_BYTES_MAX:
        raise InvalidInput(
            f"A {what} in the queue may have {TEXT_BYTES_MAX} bytes; this one has {length}: {value!r:.80}. "
            "Use a digest of it."
        )


def _check_number(what: str, value: object) -> None:
    if type(value) is not int or not -INTEGER_MAX <= value <= INTEGER_MAX:
        raise InvalidInput(f"{what} in the queue must be a whole number of 64 bits; this one is {value!r}.")


# ----------------------------------------------------------------------------------- asked and decided


class Facts:
    """What is known of the tables in this transaction: what was asked, and what has been made since."""

    def __init__(self) -> None:
        self._known: dict[Question, list[Any]] = {}

    def questions(self, changes: Iterable[Change]) -> dict[Question, Statement]:
        """What must be known before these changes are decided, and is not."""
        wanted: dict[Question, Statement] = {}
        for change in changes:
            for question, parameters in _asked(change):
                if question not in self._known:
                    wanted[question] = Statement(_QUESTIONS[question[0]], parameters)
        return wanted

    def learn(self, question: Question, rows: Rows) -> None:
        self._known[question] = [tuple(row) for row in rows]

    def of(self, *question: str) -> list[Any]:
        return self._known[question]

    def make(self, question: Question, rows: list[Any]) -> None:
        """Something has been made: what was known of it is known anew."""
        if question in self._known:
            self._known[question] = rows

    def forget(self, question: Question) -> None:
        self._known.pop(question, None)

    def add_slot(self, key: str, begins: int, later: int) -> None:
        for question, rows in self._known.items():
            if question[:2] == ("rate", key):
                insort(rows, (begins, later))


def _asked(change: Change) -> list[tuple[Question, dict[str, object]]]:
    if isinstance(change, Hold):
        return [(("entry", change.run), {"q1": change.run})]
    if isinstance(change, Tick):
        return [(("tick", change.schedule), {"q1": change.schedule})]
    if not isinstance(change, Enqueue):
        return []
    asked: list[tuple[Question, dict[str, object]]] = [(("entry", change.run), {"q1": change.run})]
    if change.key is not None:
        owner, key = change.key
        asked.append((("key", owner, key), {"q1": owner, "q2": key}))
    if change.rate is not None:
        key, span = change.rate.key, span_of(change.rate)
        asked.append((("rate", key, str(span)), {"q1": key, "span": span}))
    return asked


class Decided(NamedTuple):
    """Changes that nothing forbids, each with the time from which its run may begin (Enqueue alone)."""

    changes: Sequence[Change]
    begins: Sequence[int | None]


def decide(changes: Sequence[Change], facts: Facts, now: int) -> Decided:
    """Whether all of these may be made, going by what stood there before the first. Raises Conflict, Fenced."""
    begins: list[int | None] = []
    taken: set[tuple[str, ...]] = set()
    ticks: dict[str, int] = {}
    for change in changes:
        begin = None
        if isinstance(change, Hold):
            _decide_hold(change, facts)
        elif isinstance(change, Tick):
            rows = facts.of("tick", change.schedule)
            last = max([row[0] for row in rows] + [ticks.get(change.schedule, -INTEGER_MAX - 1)])
            if change.tick <= last:
                raise Conflict(
                    f"The schedule {change.schedule} has come to the tick {last} already: {change.tick} is no "
                    "later one. Another process was first."
                )
            ticks[change.schedule] = change.tick
        elif isinstance(change, Enqueue):
            _decide_enqueue(change, facts, taken)
            begin = _begin(change, facts, now)
        elif isinstance(change, Park | Yield):
            taken.add(("entry", change.run))
        begins.append(begin)
    return Decided(changes, begins)


def _decide_hold(change: Hold, facts: Facts) -> None:
    rows = facts.of("entry", change.run)
    if rows and rows[0] == ("claimed", change.worker):
        return
    now = f"is {rows[0][0]}" if rows else "is not in the queue"
    if rows and rows[0][0] == "claimed":
        now = f"is claimed by {rows[0][1]}"
    raise Fenced(f"{change.worker} has not claimed {change.run}, which {now}: leave it alone here.")


def _decide_enqueue(change: Enqueue, facts: Facts, taken: set[tuple[str, ...]]) -> None:
    if change.key is not None:
        rows = facts.of("key", *change.key)
        if rows or ("key", *change.key) in taken:
            by = rows[0][0] if rows else "another run of the same append"
            raise Conflict(f"The idempotency key {change.key.key!r} has been used already, by {by}.")
        taken.add(("key", *change.key))
    if facts.of("entry", change.run) or ("entry", change.run) in taken:
        raise Conflict(f"{change.run} is in the queue already.")
    taken.add(("entry", change.run))


def _begin(change: Enqueue, facts: Facts, now: int) -> int | None:
    """From when the run may begin; None for at once."""
    begin = now if change.not_before is None else max(change.not_before, now)
    if change.rate is not None:
        span = span_of(change.rate)
        slots = facts.of("rate", change.rate.key, str(span))
        begin = next_slot(slots, begin, change.rate.count, span)
    return None if begin <= now else begin


def next_slot(slots: Sequence[tuple[int, int]], earliest: int, count: int, span: int) -> int:
    """The first time from ``earliest`` on at which one more leaves at most ``count`` in every time so long.

    ``slots`` are (begins, later), in order. First come, first served: nobody begins before those that came before
    and did not ask to begin later.
    """
    begins = [slot[0] for slot in slots]
    begin = max([earliest] + [slot[0] for slot in slots if not slot[1]])
    while True:
        first = bisect_right(begins, begin - span)
        if bisect_left(begins, begin + span) - first < count:
            return begin
        begin = begins[first] + span


def span_of(rate: Rate) -> int:
    return max(round(rate.per_seconds * 1_000_000), 1)
