"""The queue made from the log: entries, idempotency keys and ticks as the events say that they are.

For a log whose queue was lost or is in doubt: after a restore of the events alone, after a bug. It may be done while
the log is in use, and as often as one likes: entries that a worker has claimed stay with it, and events that come in
meanwhile are read until there are none. In between an entry may be older than the log; whoever takes it executes the
run from its history all the same. What is not history is not made: claims, and which runs a rate has delayed.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple

from evrt.errors import Conflict
from evrt.events.run import TERMINAL, RunRequested
from evrt.folds.queued import CAUSES, Queued, evolve_queued
from evrt.history import PREFIX
from evrt.log import Log, Recorded
from evrt.log.coordination import Change, Keep, Key, Remove, Restore, Tick
from evrt.log.envelopes import envelope

PAGE_EVENTS = 1_000
CHANGES_AT_ONCE_MAX = 500

READ = (
    TERMINAL
    | CAUSES
    | {
        "run.requested",
        "run.claimed",
        "run.waiting",
        "run.retry_scheduled",
        "run.paused",
        "run.unpaused",
    }
)
"""The other events do not change how a run stands in the queue."""


async def requeue(log: Log) -> int:
    """Make the queue again from the log; how many runs stand in it then. Raises Denied, Unavailable."""
    reading = _Reading(log)
    await reading.go_on()
    there = await _runs_in_queue(log)
    changes = [_change_of(one) for one in reading.by_place() if one.state is not None or one.run in there]
    changes += [Remove(run) for run in sorted(there - reading.runs.keys())]
    changes += [Keep(key, run) for key, run in reading.keys.items()]
    await _change(log, changes)
    while changed := await reading.go_on():
        await _change(log, [_change_of(one) for one in reading.by_place() if one.run in changed])
    known = await log.coordination.ticks()
    for schedule, tick in reading.ticks.items():
        if schedule not in known or tick > known[schedule]:
            with suppress(Conflict):  # A worker was first, and further.
                await log.coordination.change(Tick(schedule, tick))
    return sum(one.state is not None for one in reading.runs.values())


class Astray(NamedTuple):
    """A run that stands otherwise in the queue than the log says: ``missing`` or, having ended, still in it."""

    run: str
    missing: bool


async def astray(log: Log) -> list[Astray]:
    """Runs that have no entry though they are to be executed, and entries of runs that have ended or never were.

    The log may be in use: a run that something was recorded of meanwhile is left out. Raises Unavailable.
    """
    reading = _Reading(log)
    await reading.go_on()
    there = await _runs_in_queue(log)
    changed = await reading.go_on()
    found = [
        Astray(one.run, missing=True)
        for one in reading.by_place()
        if one.state is not None and one.run not in there
    ]
    for run in sorted(there):
        one = reading.runs.get(run)
        if one is None or one.requested is None:
            found.append(Astray(run, missing=False))
    return [one for one in found if one.run not in changed]


class _Reading:
    """The log, folded as far as it has been read."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._position = 0
        self.runs: dict[str, Queued] = {}
        self.keys: dict[Key, str] = {}
        self.ticks: dict[str, int] = {}

    async def go_on(self) -> set[str]:
        """Read what has been recorded since; the runs that it is about."""
        changed: set[str] = set()
        while rows := await self._log.read(after=self._position, limit=PAGE_EVENTS):
            for row in rows:
                if row.type in READ and row.stream.startswith(PREFIX):
                    self._take(row)
                    changed.add(row.stream)
            self._position = rows[-1].position
        return changed

    def _take(self, row: Recorded) -> None:
        event = envelope(row)
        self.runs[row.stream] = evolve_queued(self.runs.get(row.stream, Queued(row.stream)), event)
        asked = event.event
        if isinstance(asked, RunRequested):
            if (key := _key_of(asked)) is not None:
                self.keys[key] = row.stream
            if asked.schedule is not None and asked.tick is not None:
                self.ticks[asked.schedule] = max(asked.tick, self.ticks.get(asked.schedule, asked.tick))

    def by_place(self) -> list[Queued]:
        """Each then finds who is before it in its lane."""
        return sorted(self.runs.values(), key=lambda one: one.place)


async def _runs_in_queue(log: Log) -> set[str]:
    found: set[str] = set()
    after = -1
    while page := await log.coordination.entries(after=after, limit=PAGE_EVENTS):
        found.update(entry.run for entry in page)
        after = page[-1].place
    return found


def _change_of(one: Queued) -> Change:
    asked = one.requested
    if one.state is None or asked is None:
        return Remove(one.run)
    return Restore(one.run, asked.target, one.state, asked.priority, one.place, one.lane, one.due)


def _key_of(asked: RunRequested) -> Key | None:
    return None if asked.idempotency_key is None else Key(asked.user or "", asked.idempotency_key)


async def _change(log: Log, changes: Sequence[Change]) -> None:
    for start in range(0, len(changes), CHANGES_AT_ONCE_MAX):
        await log.coordination.change(*changes[start : start + CHANGES_AT_ONCE_MAX])
