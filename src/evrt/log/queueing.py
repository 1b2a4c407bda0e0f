"""The queue of a store: its writing end, used inside a transaction, and what everybody else sees of it.

A store gives a few functions that carry SQL to its database and back; all else is the same for every store.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from evrt.log.changing import made
from evrt.log.claiming import (
    COUNTS,
    ENTRY,
    LEASES,
    NEWS,
    TICKS,
    TOLD,
    Asking,
    Now,
    check_claim,
    check_seconds,
    check_worker,
    claim,
    entries_statement,
    left,
    outlook,
    outlook_statements,
    renewed,
    run_of_statement,
    to_entry,
    to_lease,
)
from evrt.log.coordinating import (
    Decided,
    Facts,
    Place,
    Question,
    Rows,
    Statement,
    check_changes,
    decide,
)
from evrt.log.coordination import LEASE_SECONDS, Change, Claimed, Entry, Key, Lease, Outlook, State

T = TypeVar("T")

Ask = Callable[[Sequence[Statement]], list[Rows]]
"""Has statements executed in the transaction, in this order, and gives the rows of each."""

Send = Callable[[Statement], None]
"""Has a statement executed after those before it; nobody asks for its rows."""


def local_now() -> Now:
    """By this machine's clocks. Leases go by one that never jumps and is the same for all its processes."""
    return Now(time.time_ns() // 1_000, time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1_000, restarts=True)


class Queue:
    """The queue inside a transaction, which its store begins and commits."""

    def __init__(self, ask: Ask, send: Send) -> None:
        self._ask = ask
        self._send = send
        self._facts = Facts()

    def begin(self) -> None:
        """A transaction begins: what was known may be so no more."""
        self._facts = Facts()

    def questions(self, changes: Iterable[Change]) -> dict[Question, Statement]:
        """What ``decide`` would ask for one request after the other, for a store that asks for all at once."""
        return self._facts.questions(changes)

    def learn(self, question: Question, rows: Rows) -> None:
        self._facts.learn(question, rows)

    def decide(self, changes: Sequence[Change], now: Now) -> Decided:
        """Raises Conflict, Fenced. Nothing has been changed then, nor otherwise."""
        questions = self._facts.questions(changes)
        if questions:
            for question, rows in zip(questions, self._ask(list(questions.values())), strict=True):
                self._facts.learn(question, rows)
        return decide(changes, self._facts, now.wall)

    def make(self, decided: Decided, place: Place, now: Now) -> None:
        self._make(made(decided, self._facts, place, now.wall))

    def claim(self, wanted: Claiming, now: Now) -> list[Claimed]:
        given, changes = self._carry_out(claim(**wanted._asdict(), now=now))
        self.change_entries(changes)
        return given

    def _carry_out(self, asking: Asking[T]) -> T:
        answers: list[Rows] | None = None
        while True:
            try:
                statements = next(asking) if answers is None else asking.send(answers)
            except StopIteration as end:
                return end.value  # type: ignore[no-any-return]  # What the generator returns.
            answers = self._ask(statements)

    def news(self, worker: str) -> list[str]:
        [rows, _] = self._ask([Statement(NEWS, {"worker": worker}), Statement(TOLD, {"worker": worker})])
        return [row[0] for row in rows]

    def change_entries(self, statements: Iterable[Statement]) -> None:
        """Have other entries changed than anybody has named: what was known of them may be so no more."""
        self._facts = Facts()
        self._make(statements)

    def _make(self, statements: Iterable[Statement]) -> None:
        for statement in statements:
            self._send(statement)


# ---------------------------------------------------------------------------- work without an event


class Changing(NamedTuple):
    changes: tuple[Change, ...]

    def do(self, queue: Queue, now: Now, position: int) -> None:
        queue.make(queue.decide(self.changes, now), lambda run: position, now)


class Claiming(NamedTuple):
    worker: str
    targets: Mapping[str, int | None]
    limit: int
    claimed_max: int | None

    def do(self, queue: Queue, now: Now, position: int) -> list[Claimed]:
        return queue.claim(self, now)


class Renewing(NamedTuple):
    worker: str
    seconds: float

    def do(self, queue: Queue, now: Now, position: int) -> None:
        queue.change_entries(renewed(self.worker, self.seconds, now))


class Leaving(NamedTuple):
    worker: str

    def do(self, queue: Queue, now: Now, position: int) -> None:
        queue.change_entries(left(self.worker))


class TellingNews(NamedTuple):
    worker: str

    def do(self, queue: Queue, now: Now, position: int) -> list[str]:
        return queue.news(self.worker)


QueueWork = Changing | Claiming | Renewing | Leaving | TellingNews
"""Work on the queue that needs no event. ``position`` is that of the last one. May raise Conflict, Fenced."""

QUEUE_WORK = (Changing, Claiming, Renewing, Leaving, TellingNews)


def gave_nothing(work: object, result: object) -> bool:
    """Whether this was a claim in vain. Nobody is to hear of those: whoever did would claim in vain in his turn."""
    return isinstance(work, Claiming) and not result


# ---------------------------------------------------------------------------------- from outside

Submit = Callable[[QueueWork], Awaitable[Any]]
"""Has work done in a transaction, durable when this returns."""

Fetch = Callable[[Statement], Awaitable[list[Any]]]
"""The rows of one SELECT."""

Clock = Callable[[], Awaitable[Now]]


class Coordinator:
    """See ``evrt.log.coordination.Coordination``."""

    def __init__(self, submit: Submit, fetch: Fetch, clock: Clock) -> None:
        self._submit = submit
        self._fetch = fetch
        self._clock = clock

    async def change(self, *changes: Change) -> None:
        checked = check_changes(changes)
        if checked:
            await self._submit(Changing(checked))

    async def claim(
        self,
        worker: str,
        *,
        targets: Mapping[str, int | None],
        limit: int,
        claimed_max: int | None = None,
    ) -> list[Claimed]:
        check_claim(worker, targets, limit, claimed_max)
        given: list[Claimed] = await self._submit(Claiming(worker, dict(targets), limit, claimed_max))
        return given

    async def renew(self, worker: str, *, seconds: float = LEASE_SECONDS) -> None:
        check_worker(worker)
        check_seconds(seconds)
        await self._submit(Renewing(worker, seconds))

    async def leave(self, worker: str) -> None:
        check_worker(worker)
        await self._submit(Leaving(worker))

    async def news(self, worker: str) -> list[str]:
        check_worker(worker)
        # Mostly there are none, and to look costs no commit.
        if not await self._fetch(Statement(NEWS, {"worker": worker})):
            return []
        told: list[str] = await self._submit(TellingNews(worker))
        return told

    async def outlook(self, targets: Sequence[str]) -> Outlook:
        rows = [row for statement in outlook_statements(targets) for row in await self._fetch(statement)]
        return outlook(rows, await self._clock())

    async def entry(self, run: str) -> Entry | None:
        rows = await self._fetch(Statement(ENTRY, {"run": run}))
        return to_entry(rows[0]) if rows else None

    async def entries(
        self, *, state: State | None = None, target: str | None = None, after: int = 0, limit: int = 1_000
    ) -> list[Entry]:
        rows = await self._fetch(entries_statement(state=state, target=target, after=after, limit=limit))
        return [to_entry(row) for row in rows]

    async def counts(self) -> dict[tuple[str, State], int]:
        return {(target, state): count for target, state, count in await self._fetch(Statement(COUNTS, {}))}

    async def leases(self) -> list[Lease]:
        rows = await self._fetch(Statement(LEASES, {}))
        now = await self._clock()
        return [to_lease(row, now) for row in rows]

    async def run_of(self, key: Key) -> str | None:
        rows = await self._fetch(run_of_statement(key))
        return str(rows[0][0]) if rows else None

    async def ticks(self) -> dict[str, int]:
        return dict(await self._fetch(Statement(TICKS, {})))

    async def now(self) -> int:
        return (await self._clock()).wall
