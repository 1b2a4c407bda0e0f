"""Looks for runs that nobody will go on with unless somebody does something. A part of ``evrt doctor``.

What is looked at changes while workers work. So an entry counts as stuck only when it has stood still for
longer than any worker would let it.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing

from evrt.errors import EvrtError
from evrt.folds.run import ERASED, GOES_ON
from evrt.log import Log, open_log
from evrt.log.coordination import Entry, Lease, State
from evrt.log.diagnosis import CHECKED_EVENTS_MAX, Diagnosis
from evrt.worker.queue import MICROSECONDS, ready_since

READY_SECONDS_MAX = 60.0
"""Whoever is ready for longer finds no worker, or none with room."""

PAUSED_SECONDS_MAX = 86_400.0
SILENT_SECONDS_MAX = 900.0
"""A run that says nothing for so long, the default time-out of a run, is hardly being executed."""

LOOKED_AT_MAX = 1_000
NAMED_MAX = 3


async def examine_queue(url: str) -> list[Diagnosis]:
    """Examine the queue of a log that is there. Changes nothing."""
    try:
        async with aclosing(await open_log(url, read_only=True)) as log:
            leases = await log.coordination.leases()
            alive = [lease for lease in leases if lease.left_seconds > 0]
            found = [
                *_lost_claims(leases, len(alive), await _entries(log, "claimed")),
                *await _ready_for_long(log, len(alive)),
                *await _paused_for_long(log),
                *await _nobodys(log),
            ]
            counts = await log.coordination.counts()
    except EvrtError as error:
        return [Diagnosis("queue", "bad", str(error).removesuffix("."))]
    if found:
        return found
    entries = sum(counts.values())
    return [Diagnosis("queue", "ok", f"entries: {entries}, workers alive: {len(alive)}")]


def _lost_claims(leases: Sequence[Lease], alive: int, claimed: Sequence[Entry]) -> list[Diagnosis]:
    """Entries of workers that are gone, which only a worker can take over."""
    gone = {lease.worker for lease in leases if lease.left_seconds <= 0}
    lost = [entry for entry in claimed if entry.worker in gone]
    if not lost:
        return []
    targets = _named(sorted({entry.target for entry in lost}))
    whose = _named(sorted({str(entry.worker) for entry in lost}))
    text = f"{len(lost)} are claimed by workers that are gone ({whose}): {_runs(lost)}"
    if alive:
        remedy = f"If this does not pass in seconds, none of the {alive} workers serves {targets}: start one that does."
    else:
        remedy = f"`evrt worker` with the app of {targets} takes them over."
    return [Diagnosis("queue", "mind", text, remedy)]


async def _ready_for_long(log: Log, alive: int) -> list[Diagnosis]:
    ready = await _entries(log, "ready")
    now = await log.coordination.now()
    # Looked up for the first of each target alone: the others came later.
    first: dict[str, Entry] = {}
    for entry in ready:
        first.setdefault(entry.target, entry)
    waited = {target: (now - await ready_since(log, entry)) / MICROSECONDS for target, entry in first.items()}
    late = {target: seconds for target, seconds in waited.items() if seconds > READY_SECONDS_MAX}
    if not late:
        return []
    stuck = [entry for entry in ready if entry.target in late]
    longest = max(late.values()) / 60
    text = (
        f"{len(stuck)} of {_named(sorted(late))} are ready, the first for {longest:,.0f} min: {_runs(stuck)}"
    )
    if alive:
        remedy = (
            f"The {alive} workers have no room for them or do not serve them: start more, or one that does."
        )
    else:
        remedy = "No worker is alive: `evrt worker` starts one."
    return [Diagnosis("queue", "mind", text, remedy)]


async def _paused_for_long(log: Log) -> list[Diagnosis]:
    now = await log.coordination.now()
    paused = [
        entry
        for entry in await _entries(log, "paused")
        if now - await ready_since(log, entry) > PAUSED_SECONDS_MAX * MICROSECONDS
    ]
    if not paused:
        return []
    return [
        Diagnosis(
            "queue",
            "mind",
            f"{len(paused)} have been paused for more than a day: {_runs(paused)}",
            f"`evrt runs resume {paused[0].run} --detach` lets one go on, `evrt runs cancel` ends it.",
        )
    ]


async def _nobodys(log: Log) -> list[Diagnosis]:
    """Runs that are running by their history, and that are in no queue and have said nothing for long."""
    if await log.position() > CHECKED_EVENTS_MAX:
        return []
    running: dict[str, int] = {}
    after = 0
    while page := await log.read(after=after):
        for row in page:
            if row.type in GOES_ON or ERASED.get(row.type) == "running":
                running[row.stream] = row.time
            elif row.type in ERASED:
                running.pop(row.stream, None)
            elif row.stream in running:
                running[row.stream] = row.time
        after = page[-1].position
    now = await log.coordination.now()
    silent = [run for run, time in running.items() if now - time > SILENT_SECONDS_MAX * MICROSECONDS]
    left = [run for run in silent if await log.coordination.entry(run) is None]
    if not left:
        return []
    return [
        Diagnosis(
            "runs",
            "mind",
            f"{len(left)} have been interrupted, it seems, and are in no queue: {_named(left)}",
            f"`evrt runs resume {left[0]}` goes on here, with --detach in a worker.",
        )
    ]


async def _entries(log: Log, state: State) -> list[Entry]:
    return await log.coordination.entries(state=state, limit=LOOKED_AT_MAX)


def _runs(entries: Sequence[Entry]) -> str:
    return _named([entry.run for entry in entries])


def _named(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED_MAX} more" if len(names) > NAMED_MAX else ""
    return ", ".join(names[:NAMED_MAX]) + more
