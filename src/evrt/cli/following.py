"""Runs that workers execute, as seen from here: whose they are now, and how they go on."""

from __future__ import annotations

from evrt.errors import Conflict
from evrt.history import load_run
from evrt.log import Log
from evrt.result import Result
from evrt.waiting import LOOK_SECONDS

NEEDS_SOMEBODY = frozenset({"question", "approval", "in_doubt", "diverged"})
"""Reasons to wait that do not pass by themselves."""


async def refuse_claimed(log: Log, run: str) -> None:
    """Raises Conflict where a worker that is alive has the run: nobody is to take it away unasked."""
    entry = await log.coordination.entry(run)
    if entry is None or entry.state != "claimed":
        return
    left = {lease.worker: lease.left_seconds for lease in await log.coordination.leases()}
    if (seconds := left.get(entry.worker or "", 0.0)) > 0:
        raise Conflict(
            f"{entry.worker} is executing {run}, and goes on with it. Should it be gone, others may take the run in "
            f"{seconds:.0f} s, when its lease has run out."
        )


async def was_taken(log: Log, run: str) -> bool:
    """Whether a worker has the run, or has had it to its end."""
    entry = await log.coordination.entry(run)
    return (await load_run(log, run)).state.ended if entry is None else entry.state == "claimed"


async def follow_run(log: Log, run: str) -> Result:
    """Wait until a run has ended, or waits for somebody. Raises NotFound."""
    watch = log.watch()
    while True:
        journal = (history := await load_run(log, run)).journal
        state = history.state
        if state.ended:
            return Result(run, state.status, state.output, state.failure)
        if state.status == "waiting" and state.reason in NEEDS_SOMEBODY and not journal.paused:
            return Result(run, "waiting", waiting_for=state.waiting_for)
        await watch.wait(LOOK_SECONDS)
