"""Waiting for a run that another process executes."""

from __future__ import annotations

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
    return Result(run, state.status, state.output, state.failure, None, ())
