"""Waiting for a run that another process executes."""

from __future__ import annotations

from dataclasses import dataclass

from evrt.events.run import RunStepLimitReached
from evrt.folds.run import RunState, evolve_run
from evrt.history import load_run
from evrt.log import Log
from evrt.log.envelopes import envelopes
from evrt.result import Result

LOOK_SECONDS = 1.0
"""It is looked at again after this time even if nobody says that anything was written."""


async def wait_for_end(log: Log, run: str) -> Result:
    """Follow a run until it has ended. Raises NotFound."""
    watch = log.watch()
    state: RunState = (await load_run(log, run)).state
    while not state.ended:
        await watch.wait(LOOK_SECONDS)
        for envelope in envelopes(await log.read_stream(run, after=state.events)):
            state = evolve_run(state, envelope)
    terminal = (await load_run(log, run)).journal.terminal if state.status == "step_limit" else None
    ended = None if terminal is None else terminal.event
    limit = ended if isinstance(ended, RunStepLimitReached) else None
    return Result(run, state.status, state.output, state.failure, None, (), limit)


@dataclass(frozen=True, slots=True)
class Queued:
    """A run that a worker executes. ``new`` is False where an idempotency key had been used for it before."""

    run_id: str
    new: bool
    _log: Log

    async def result(self) -> Result:
        """Wait until it has ended, however long that takes."""
        return await wait_for_end(self._log, self.run_id)
