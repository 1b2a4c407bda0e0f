"""The queue where one process writes through one connection: what SQLite and the log in memory have in common.

``LocalQueue`` is the writing end, used inside a transaction; ``LocalCoordination`` what everybody else sees.
Leases go by this machine's steady clock, which is one for all of its processes; what is due, by its wall clock.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, NamedTuple

from evrt.log.claiming import (
    COUNTS,
    ENTRY,
    LEASES,
    NEWS,
    TICKS,
    carry_out,
    check_claim,
    check_worker,
    claim,
    entries_statement,
    left,
    outlook,
    outlook_statements,
    renewed,
    run_of_statement,
    tell_news,
    to_entry,
    to_lease,
)
from evrt.log.coordinating import Decided, Execute, Facts, Place, check_changes, decide, made
from evrt.log.coordination import LEASE_SECONDS, Change, Claimed, Entry, Key, Lease, Outlook, State


def wall() -> int:
    """Microseconds since 1970."""
    return time.time_ns() // 1_000


def steady() -> int:
    """Microseconds of a clock that never jumps and is the same for all processes of this machine."""
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1_000


class Ready(NamedTuple):
    """Changes that have been decided and wait to be made."""

    decided: Decided
    facts: Facts


class LocalQueue:
    """The queue inside a transaction, over whatever executes SQL there."""

    def __init__(self, execute: Execute) -> None:
        self._execute = execute

    def decide(self, changes: Sequence[Change], now: int) -> Ready:
        """Raises Conflict, Fenced; nothing has been changed then, nor otherwise."""
        facts = Facts()
        facts.ask(changes, self._execute, now)
        return Ready(decide(changes, facts, now), facts)

    def make(self, ready: Ready, place: Place, now: int) -> None:
        for statement in made(ready.decided, ready.facts, place, now):
            self._execute(*statement)

    @property
    def execute(self) -> Execute:
        return self._execute


class Changing(NamedTuple):
    changes: tuple[Change, ...]

    def do(self, queue: LocalQueue, *, now: int, position: int) -> None:
        queue.make(queue.decide(self.changes, now), lambda run: position, now)


class Claiming(NamedTuple):
    worker: str
    targets: Mapping[str, int | None]
    limit: int
    claimed_max: int | None

    def do(self, queue: LocalQueue, *, now: int, position: int) -> list[Claimed]:
        return carry_out(claim(**self._asdict(), now=now, steady=steady()), queue.execute)


class Renewing(NamedTuple):
    worker: str
    seconds: float

    def do(self, queue: LocalQueue, *, now: int, position: int) -> None:
        for statement in renewed(self.worker, self.seconds, steady()):
            queue.execute(*statement)


class Leaving(NamedTuple):
    worker: str

    def do(self, queue: LocalQueue, *, now: int, position: int) -> None:
        for statement in left(self.worker):
            queue.execute(*statement)


class TellingNews(NamedTuple):
    worker: str

    def do(self, queue: LocalQueue, *, now: int, position: int) -> list[str]:
        return carry_out(tell_news(self.worker), queue.execute)


QueueWork = Changing | Claiming | Renewing | Leaving | TellingNews
"""Work on the queue that needs no event. ``position`` is that of the last one. May raise Conflict, Fenced."""

QUEUE_WORK = (Changing, Claiming, Renewing, Leaving, TellingNews)

Submit = Callable[[QueueWork], Awaitable[Any]]
"""Has work done in a transaction, durable when this returns."""

Fetch = Callable[[str, Mapping[str, object]], Awaitable[list[Any]]]
"""The rows of one SELECT."""


class LocalCoordination:
    """See ``evrt.log.coordination.Coordination``."""

    def __init__(self, submit: Submit, fetch: Fetch) -> None:
        self._submit = submit
        self._fetch = fetch

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
        renewed(worker, seconds, 0)  # So that what cannot be is refused here.
        await self._submit(Renewing(worker, seconds))

    async def leave(self, worker: str) -> None:
        check_worker(worker)
        await self._submit(Leaving(worker))

    async def news(self, worker: str) -> list[str]:
        check_worker(worker)
        # Mostly there are none, and to look costs no commit.
        if not await self._fetch(NEWS, {"worker": worker}):
            return []
        told: list[str] = await self._submit(TellingNews(worker))
        return told

    async def outlook(self, targets: Sequence[str]) -> Outlook:
        answers = [await self._fetch(*statement) for statement in outlook_statements(targets)]
        return outlook(answers, now=wall(), steady=steady())

    async def entry(self, run: str) -> Entry | None:
        rows = await self._fetch(ENTRY, {"run": run})
        return to_entry(rows[0]) if rows else None

    async def entries(
        self, *, state: State | None = None, target: str | None = None, after: int = 0, limit: int = 1_000
    ) -> list[Entry]:
        rows = await self._fetch(*entries_statement(state=state, target=target, after=after, limit=limit))
        return [to_entry(row) for row in rows]

    async def counts(self) -> dict[tuple[str, State], int]:
        return {(target, state): count for target, state, count in await self._fetch(COUNTS, {})}

    async def leases(self) -> list[Lease]:
        rows = await self._fetch(LEASES, {})
        now = steady()
        return [to_lease(row, now) for row in rows]

    async def run_of(self, key: Key) -> str | None:
        rows = await self._fetch(*run_of_statement(key))
        return str(rows[0][0]) if rows else None

    async def ticks(self) -> dict[str, int]:
        return dict(await self._fetch(TICKS, {}))

    async def now(self) -> int:
        return wall()
