"""Who is given which entry: claims, leases, news and every look at the queue, as SQL that every store runs.

A worker is given the first ready entries of its targets, by priority and then by place, as far as caps leave room.
Each target's first few are looked up by themselves and then merged, so that the backlog of a target that has no
room is never walked over. One in OLDEST_FIRST_EVERY goes to the smallest place instead, whatever its priority.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Generator, Iterable, Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple, TypeVar

from evrt.errors import InvalidInput
from evrt.log.coordinating import Rows, Statement, check_text
from evrt.log.coordination import OLDEST_FIRST_EVERY, Claimed, Entry, Key, Lease, Outlook, State

T = TypeVar("T")

DUE_AT_ONCE_MAX = 1_000
"""Entries of one target that a claim makes ready because they are due; the rest is left to the next."""

NAMED_MAX = 100
"""Targets, or runs, that one statement names."""

_GOLDEN = 0x9E3779B97F4A7C15
"""2 ** 64 divided by the golden ratio."""

_ALIVE = "(leases.begun <= :leases AND leases.ends > :leases)"

SECONDS_MAX = 1e9
"""A lease is shorter."""


class Now(NamedTuple):
    """A moment: what is due goes by the wall clock, leases by one of their own. In microseconds.

    restarts
        whether the leases' clock begins again with the machine: a lease that begins later than now is then of
        another life of it, and has run out.
    """

    wall: int
    leases: int
    restarts: bool


# ------------------------------------------------------------------------------------- statements

_LEASES = "SELECT worker, begun, ends FROM leases"

_MAKE_DUE = (
    "UPDATE queue SET state = 'ready', due = NULL WHERE run IN ("
    "SELECT run FROM queue WHERE target = :target AND state IN ('delayed', 'waiting') AND due <= :now "
    "ORDER BY due LIMIT :most)"
)
_COUNT_CLAIMED = "SELECT worker, target, count(*) FROM queue WHERE state = 'claimed' GROUP BY worker, target"
_LEFT_BEHIND = (
    "SELECT run, target, priority, place, worker FROM queue "
    "WHERE state = 'claimed' AND worker = :worker AND target = :target ORDER BY {order} LIMIT :most"
)
_CANDIDATES = (
    "SELECT * FROM (SELECT run, target, priority, place, worker FROM queue "
    "WHERE state = 'ready' AND target = :t{number} ORDER BY {order} LIMIT :most) AS of{number}"
)
_BY_PRIORITY = "priority DESC, place, run"
_BY_PLACE = "place, run"

_CLAIM = "UPDATE queue SET state = 'claimed', due = NULL, worker = :worker, news = 0 WHERE run IN ({runs})"
_CLAIMS = "SELECT coalesce(max(claims), 0) FROM turns"
_COUNT_CLAIMS = (
    "INSERT INTO turns (one, claims, changes) VALUES (1, :given, 0) "
    "ON CONFLICT (one) DO UPDATE SET claims = turns.claims + :given"
)

_RENEW = (
    "INSERT INTO leases (worker, begun, ends) VALUES (:worker, :begun, :ends) "
    "ON CONFLICT (worker) DO UPDATE SET begun = excluded.begun, ends = excluded.ends"
)
_FORGET_LEASES = (
    f"DELETE FROM leases WHERE NOT {_ALIVE} AND NOT EXISTS "
    "(SELECT 1 FROM queue WHERE queue.worker = leases.worker AND queue.state = 'claimed')"
)
_RELEASE = (
    "UPDATE queue SET state = 'ready', worker = NULL, news = 0 WHERE worker = :worker AND state = 'claimed'"
)
_LEAVE = "DELETE FROM leases WHERE worker = :worker"

NEWS = "SELECT run FROM queue WHERE worker = :worker AND news = 1 ORDER BY place, run"
TOLD = "UPDATE queue SET news = 0 WHERE worker = :worker AND news = 1"

_ENTRY = "SELECT run, state, target, priority, place, lane, due, worker FROM queue"
ENTRY = f"{_ENTRY} WHERE run = :run"
COUNTS = "SELECT target, state, count(*) FROM queue GROUP BY target, state"
LEASES = (
    "SELECT leases.worker, leases.begun, leases.ends, count(queue.run) FROM leases "
    "LEFT JOIN queue ON queue.worker = leases.worker AND queue.state = 'claimed' "
    "GROUP BY leases.worker, leases.begun, leases.ends ORDER BY leases.worker"
)
RUN_OF = "SELECT run FROM keys WHERE owner = :owner AND key = :key"
TICKS = "SELECT schedule, tick FROM ticks"

_NONE = "CAST(NULL AS BIGINT)"
_READY = "SELECT CASE WHEN {ready} THEN 1 ELSE 0 END AS ready, {none} AS due, {none} AS begun, {none} AS ends"
_READY_ONE = "EXISTS (SELECT 1 FROM queue WHERE state = 'ready' AND target = :t{number})"
# Not min(due): without statistics PostgreSQL reads all that is due some time to find it.
_FIRST_DUE = (
    "SELECT 0, (SELECT due FROM queue WHERE state IN ('delayed', 'waiting') AND target = :t{number} "
    "AND due IS NOT NULL ORDER BY due LIMIT 1), {none}, {none}"
)
_LAPSES = (
    "SELECT 0, {none}, leases.begun, leases.ends FROM leases WHERE EXISTS (SELECT 1 FROM queue "
    "WHERE queue.worker = leases.worker AND queue.state = 'claimed' AND queue.target IN ({targets}))"
)


# ----------------------------------------------------------------------------------------- claims


class Candidate(NamedTuple):
    """An entry that may be given. ``worker`` is who has it still, with a lease that has run out."""

    run: str
    target: str
    priority: int
    place: int
    worker: str | None


def check_claim(worker: str, targets: Mapping[str, int | None], limit: int, claimed_max: int | None) -> None:
    """Raises InvalidInput."""
    check_worker(worker)
    for target in targets:
        check_text("target", target)
    for what, number in [("limit", limit), ("claimed_max", claimed_max), *targets.items()]:
        if number is not None and (type(number) is not int or number < 0):
            raise InvalidInput(f"The most that may be claimed must be a whole number; {what} is {number!r}.")


def check_worker(worker: str) -> None:
    """Raises InvalidInput."""
    check_text("worker", worker)


Asking = Generator[list[Statement], list[Rows], T]
"""Yields statements that may be sent at once, is sent the rows of each, and returns what comes of it."""


def claim(
    worker: str,
    *,
    targets: Mapping[str, int | None],
    limit: int,
    claimed_max: int | None,
    now: Now,
) -> Asking[tuple[list[Claimed], list[Statement]]]:
    """Give entries to a worker; see ``Coordination.claim``. Returns what is given, and the statements that make it so."""
    if not targets or limit == 0:
        return [], []
    make_due = [
        Statement(_MAKE_DUE, {"target": target, "now": now.wall, "most": DUE_AT_ONCE_MAX})
        for target in targets
    ]
    capped = claimed_max is not None or any(cap is not None for cap in targets.values())
    leases, [[claims]], *more = yield [
        Statement(_LEASES, {}),
        Statement(_CLAIMS, {}),
        *([Statement(_COUNT_CLAIMED, {})] if capped else []),
    ]
    lapsed = [name for name, begun, ends in leases if not begun <= now.leases < ends]
    if worker in lapsed or all(name != worker for name, *_ in leases):
        return [], []
    rooms = dict(targets)
    if capped:
        counts: Counter[str] = Counter()
        for name, target, count in more[0]:
            counts[target] += 0 if name in lapsed else count
        for target, cap in targets.items():
            rooms[target] = None if cap is None else max(cap - counts[target], 0)
        if claimed_max is not None:
            limit = min(limit, max(claimed_max - counts.total(), 0))
    oldest = [is_oldest_first(claims + number) for number in range(1, limit + 1)]
    orders = [_BY_PRIORITY, _BY_PLACE] if any(oldest) else [_BY_PRIORITY]
    wanted = [target for target, room in rooms.items() if room != 0]
    looks = [look for order in orders for look in _looks(wanted, lapsed, order, limit)]
    answers = yield [*make_due, *looks]
    found = [[Candidate(*row) for row in rows] for rows in answers[len(make_due) :]]
    half = len(found) // len(orders)
    chosen = choose(chain(*found[:half]), chain(*found[half:]), rooms, oldest)
    if not chosen:
        return [], []
    given = [Claimed(candidate.run, candidate.target, candidate.worker) for candidate in chosen]
    return given, [*_given(chosen, worker), Statement(_COUNT_CLAIMS, {"given": len(chosen)})]


def _looks(targets: Sequence[str], lapsed: Sequence[str], order: str, most: int) -> list[Statement]:
    """For the first few of each target: those that are ready, and those left behind."""
    statements: list[Statement] = []
    for start in range(0, len(targets), NAMED_MAX):
        some = targets[start : start + NAMED_MAX]
        sql = " UNION ALL ".join(
            _CANDIDATES.format(number=number, order=order) for number in range(len(some))
        )
        statements.append(Statement(sql, {**_named(some), "most": most}))
    return statements + [
        Statement(_LEFT_BEHIND.format(order=order), {"worker": worker, "target": target, "most": most})
        for worker in lapsed
        for target in targets
    ]


def _given(chosen: Sequence[Candidate], worker: str) -> list[Statement]:
    statements: list[Statement] = []
    for start in range(0, len(chosen), NAMED_MAX):
        some = [candidate.run for candidate in chosen[start : start + NAMED_MAX]]
        sql = _CLAIM.format(runs=", ".join(f":t{number}" for number in range(len(some))))
        statements.append(Statement(sql, {**_named(some), "worker": worker}))
    return statements


def choose(
    by_priority: Iterable[Candidate],
    by_place: Iterable[Candidate],
    rooms: Mapping[str, int | None],
    oldest: Sequence[bool],
) -> list[Candidate]:
    """Who is given, one after the other: by priority and place, or by place alone where ``oldest`` says so.

    ``rooms`` says how many more each target may have, None for any number. Pure.
    """
    urgent = [(-candidate.priority, candidate.place, candidate.run, candidate) for candidate in by_priority]
    first = [(candidate.place, candidate.run, candidate) for candidate in by_place]
    heapq.heapify(urgent)
    heapq.heapify(first)
    given: dict[str, Candidate] = {}
    per_target: Counter[str] = Counter()
    for turn in oldest:
        heap: list[Any] = first if turn else urgent
        while heap:
            candidate = heapq.heappop(heap)[-1]
            room = rooms[candidate.target]
            if candidate.run not in given and (room is None or per_target[candidate.target] < room):
                given[candidate.run] = candidate
                per_target[candidate.target] += 1
                break
        else:
            break
    return list(given.values())


def is_oldest_first(number: int) -> bool:
    """Whether the claim of this number goes to who has waited longest: one in OLDEST_FIRST_EVERY, spread evenly.

    The multiples of an irrational number are spread evenly, and so are every second, third … of them. With every
    tenth it could be that of two workers who take turns one is never given the oldest.
    """
    return (number * _GOLDEN) % 2**64 < 2**64 // OLDEST_FIRST_EVERY


# ----------------------------------------------------------------------------------- leases, news


def check_seconds(seconds: float) -> None:
    """Raises InvalidInput."""
    if not 0 < seconds < SECONDS_MAX:
        raise InvalidInput(f"A lease takes a number of seconds above 0; this one takes {seconds!r}.")


def renewed(worker: str, seconds: float, now: Now) -> list[Statement]:
    """What begins or prolongs a lease."""
    ends = now.leases + max(round(seconds * 1_000_000), 1)
    begun = now.leases if now.restarts else 0
    return [
        Statement(_RENEW, {"worker": worker, "begun": begun, "ends": ends}),
        Statement(_FORGET_LEASES, {"leases": now.leases}),
    ]


def left(worker: str) -> list[Statement]:
    """What ends a lease, and makes ready what its worker has claimed."""
    return [Statement(_RELEASE, {"worker": worker}), Statement(_LEAVE, {"worker": worker})]


# ------------------------------------------------------------------------------------------ looks


def outlook_statements(targets: Sequence[str]) -> list[Statement]:
    """The questions of an outlook, one for so many targets; see ``outlook``."""
    statements: list[Statement] = []
    for start in range(0, len(targets), NAMED_MAX):
        some = targets[start : start + NAMED_MAX]
        ready = " OR ".join(_READY_ONE.format(number=number) for number in range(len(some)))
        parts = [_READY.format(ready=ready, none=_NONE)]
        parts += [_FIRST_DUE.format(number=number, none=_NONE) for number in range(len(some))]
        listed = ", ".join(f":t{number}" for number in range(len(some)))
        parts.append(_LAPSES.format(targets=listed, none=_NONE))
        statements.append(Statement(" UNION ALL ".join(parts), _named(some)))
    return statements


def outlook(rows: Iterable[Sequence[Any]], now: Now) -> Outlook:
    """What there is, by the answers to ``outlook_statements``."""
    ready = False
    waits: list[int] = []
    for is_ready, due, begun, ends in rows:
        ready = ready or bool(is_ready)
        if due is not None:
            waits.append(due - now.wall)
        if ends is not None:
            waits.append(ends - now.leases if begun <= now.leases else 0)
    wait = min(waits, default=None)
    seconds = None if wait is None else max(wait, 0) / 1_000_000
    return Outlook(ready or (wait is not None and wait <= 0), seconds)


def entries_statement(*, state: State | None, target: str | None, after: int, limit: int) -> Statement:
    wanted = {"state": state, "target": target}
    asked = {name: value for name, value in wanted.items() if value is not None}
    where = "".join(f" AND {name} = :{name}" for name in asked)
    return Statement(
        f"{_ENTRY} WHERE place > :after{where} ORDER BY place, run LIMIT :limit",
        {**asked, "after": after, "limit": max(limit, 0)},
    )


def to_entry(row: Sequence[Any]) -> Entry:
    return Entry(*row)


def to_lease(row: Sequence[Any], now: Now) -> Lease:
    worker, begun, ends, claimed = row
    left_microseconds = ends - now.leases if begun <= now.leases else -1
    return Lease(worker, left_microseconds / 1_000_000, claimed)


def run_of_statement(key: Key) -> Statement:
    return Statement(RUN_OF, key._asdict())


def _named(texts: Sequence[str]) -> dict[str, object]:
    return {f"t{number}": text for number, text in enumerate(texts)}
