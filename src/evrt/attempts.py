"""Executing a run attempt by attempt, until it ends or waits for somebody.

An attempt that fails with the error of an operation which may be made again is followed by another one,
after a wait, in this process. The run itself waits meanwhile, so that any process can go on with it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from evrt.errors import Fenced
from evrt.events.run import ClaimReason, RunRequested
from evrt.folds.journal import Journal
from evrt.history import executable, load_last_chapter
from evrt.runtime.context import Callee
from evrt.runtime.execution import World
from evrt.runtime.runner import Ending, Runner

run_logger = logging.getLogger("evrt.run")


async def execute_run(
    world: World,
    callee: Callee,
    journal: Journal,
    requested: RunRequested,
    reason: ClaimReason,
    begins: Callable[[Runner], None] = lambda runner: None,
) -> Ending:
    """Claim a run and execute it, again after attempts that failed. Raises what ``Runner.run`` raises.

    ``begins`` is told of the runner of each attempt before it runs.
    """
    run = journal.run

    async def attempt(reason: ClaimReason) -> Ending:
        runner = Runner(world, callee, journal, requested=requested)
        begins(runner)
        return await runner.run(reason)

    ending = await attempt(reason)
    while ending.reason == "retry":
        assert ending.failure is not None
        where = f" in {ending.waiting_for[0]}" if ending.waiting_for else ""
        failure = f"{ending.failure.error_type}: {ending.failure.message}"
        what = f"{run} failed{where} ({failure}): trying again in {ending.delay_seconds:.1f} s."
        run_logger.info(what, extra={"run": run})
        await asyncio.sleep(ending.delay_seconds)
        history = await load_last_chapter(world.log, run)
        if history.journal.epoch != journal.epoch:
            raise Fenced(f"{run} was claimed by another process while it waited for its next attempt here.")
        requested, journal = executable(history), history.journal
        ending = await attempt("retry")
    return ending
