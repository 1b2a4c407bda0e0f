"""Parking: a run that only waits is put away. Its code is stopped, and executed again when what it waits for has come.

The append that parks expects the version that the run is known to have, so no cause can slip in between: where one
has, nothing is written, and the run takes it in and goes on. Beside it stands the change of the queue.
"""

from __future__ import annotations

import asyncio

from evrt.errors import WrongVersion
from evrt.events.run import RunRequested, RunWaiting
from evrt.folds.journal import foremost
from evrt.folds.queued import lane_of
from evrt.log.contract import Exact
from evrt.log.coordination import Park
from evrt.runtime.execution import Execution
from evrt.runtime.stop import RunStopped, Stop

PARK_AFTER_SECONDS = 1.0
"""A worker keeps a run whose next timer is due sooner than this: to give it back and take it again costs more."""


class Parking:
    """Parks one run when nothing is left to do in it but wait."""

    def __init__(self, execution: Execution, requested: RunRequested) -> None:
        self._execution = execution
        self._requested = requested
        self.task: asyncio.Task[None] | None = None
        self.parked: RunWaiting | None = None
        """What the run was parked with."""

    def on_idle(self) -> None:
        """All that is left is waiting for the outside."""
        if self._execution.stopped is None and self._execution.parking is None:
            self._execution.parking = asyncio.Event()
            self.task = asyncio.get_running_loop().create_task(self._park())

    async def _park(self) -> None:
        """Say that the run waits, unless what it waits for came in the meantime."""
        execution = self._execution
        decided = execution.parking
        assert decided is not None
        try:
            while await self._only_waits():
                if await self._is_worth_staying():
                    if execution.limit is not None:
                        execution.limit.stand_still()
                    return
                waiting = self._waiting()
                if await self._append(waiting):
                    self.parked = waiting
                    execution.stop(Stop("parked"))
                    return
                await execution.look_outside()
        except RunStopped:
            return
        finally:
            execution.parking = None
            decided.set()

    async def _only_waits(self) -> bool:
        execution = self._execution
        await execution.barrier()
        # If events from outside stand before ours, that has been noticed by now.
        await execution.caught_up()
        return (
            execution.stopped is None
            and execution.progress.idle
            and not any(wait.woken.done() for wait in execution.waits.values())
        )

    async def _is_worth_staying(self) -> bool:
        """Whether what comes next is so near, or so certain, that it is waited for here."""
        execution = self._execution
        if execution.world.worker is None:
            return all(wait.reason == "timer" for wait in execution.waits.values())
        now = await execution.now()
        near = False
        for wait in execution.waits.values():
            left_seconds = (wait.due - now) / 1_000_000 if wait.due is not None else PARK_AFTER_SECONDS
            if left_seconds < PARK_AFTER_SECONDS:
                near = True
                # The log's clock may have been set on since it began to wait.
                asyncio.get_running_loop().call_later(max(0.0, left_seconds), wait.wake)
        return near

    def _due(self) -> int | None:
        return min(
            (wait.due for wait in self._execution.waits.values() if wait.due is not None), default=None
        )

    def _waiting(self) -> RunWaiting:
        waits = self._execution.waits
        return RunWaiting(
            reason=foremost(wait.reason for wait in waits.values()),
            operations=tuple(sorted(waits)),
            due=self._due(),
        )

    async def _append(self, waiting: RunWaiting) -> bool:
        """Append what parks the run, if nothing has been written that is not known here. Whether it was."""
        execution = self._execution
        writer = execution.writer
        assert writer is not None
        park = Park(
            execution.run,
            self._requested.target,
            waiting.due,
            lane=lane_of(self._requested, execution.journal.kin),
            priority=self._requested.priority,
        )
        try:
            await writer.append_now(
                [writer.draft(waiting)],
                {execution.run: Exact(execution.version)},
                too_late=lambda: None,
                beside=(park,),
            )
        except WrongVersion:
            return False
        return True
