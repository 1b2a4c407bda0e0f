"""How the queue stands: how many entries are ready or wait, and how long the next one has been ready."""

from __future__ import annotations

from dataclasses import dataclass

from evrt.events.run import RunRequested, RunRetryScheduled, RunWaiting
from evrt.log import Log
from evrt.log.coordination import Entry
from evrt.log.envelopes import envelopes

MICROSECONDS = 1_000_000


@dataclass(frozen=True, slots=True)
class QueueFigures:
    """``queued``: ready, delayed or behind others of their conversation. ``lag_seconds``: since when the first is ready."""

    queued: int
    claimed: int
    waiting: int
    paused: int
    lag_seconds: float


async def queue_figures(log: Log) -> QueueFigures:
    """Count the entries of a log. Raises what reading raises."""
    queue = log.coordination
    states = {"ready": 0, "delayed": 0, "behind": 0, "claimed": 0, "waiting": 0, "paused": 0}
    for (_, state), count in (await queue.counts()).items():
        states[state] += count
    lag = 0.0
    if states["ready"]:
        for entry in await queue.entries(state="ready", limit=1):
            lag = max(0, await queue.now() - await ready_since(log, entry)) / MICROSECONDS
    return QueueFigures(
        queued=states["ready"] + states["delayed"] + states["behind"],
        claimed=states["claimed"],
        waiting=states["waiting"],
        paused=states["paused"],
        lag_seconds=lag,
    )


async def ready_since(log: Log, entry: Entry) -> int:
    """When a ready entry became so, µs since 1970: with the last event of its run, or later where that says so."""
    head = await log.head(entry.run)
    rows = await log.read_stream(entry.run, after=head.version - 1)
    if not rows:
        return entry.due or 0
    [*_, last] = envelopes(rows)
    match last.event:
        case RunRequested() as event:
            return max(last.time, event.not_before or 0)
        case RunWaiting() as event:
            return max(last.time, event.due or 0)
        case RunRetryScheduled() as event:
            return last.time + round(event.delay_ms * 1_000)
        case _:
            return last.time
