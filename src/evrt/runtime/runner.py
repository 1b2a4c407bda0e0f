"""Running a run: claim it, execute its code against its journal, record how it ended.

Only the runner writes terminal events. A run that waits is parked: its code is stopped and will be
executed again, from the journal, when somebody resumes it.
"""

from __future__ import annotations

import asyncio
import os
import socket
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import orjson

from evrt.errors import EvrtError, Fenced, OperationFailed, ReplayDivergence, StepLimitReached
from evrt.events import Event, JsonObject, JsonValue
from evrt.events.calls import ToolCallInDoubt
from evrt.events.run import (
    ClaimReason,
    Failure,
    RunClaimed,
    RunDiverged,
    RunFailed,
    RunRequested,
    RunStarted,
    RunStepLimitReached,
    RunSucceeded,
    RunTimedOut,
    RunWaiting,
    WaitReason,
)
from evrt.folds.journal import Journal
from evrt.folds.run import Status
from evrt.runtime.context import Callee, Context
from evrt.runtime.execution import Execution, World
from evrt.runtime.identity import Scope, current_scope
from evrt.runtime.journal import JournalWriter
from evrt.runtime.progress import Progress
from evrt.runtime.stop import RunStopped, Stop

TIMEOUT_SECONDS = 900.0
"""Default limit on the execution of a run, waits not counted."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How an execution ended: the run's status, and what goes with it."""

    status: Status
    output: JsonValue = None
    failure: Failure | None = None
    reason: WaitReason | None = None
    waiting_for: tuple[str, ...] = ()
    divergence: ReplayDivergence | None = None


class Runner:
    """Executes one run, once, in this process."""

    def __init__(self, world: World, callee: Callee, journal: Journal, *, requested: RunRequested) -> None:
        self._world = world
        self._callee = callee
        self._journal = journal
        self._requested = requested
        self._parking = False
        self._park_task: asyncio.Task[None] | None = None
        self._waiting: RunWaiting | None = None
        self._execution: Execution

    async def run(self, reason: ClaimReason) -> Ending:
        """Claim with a new epoch, execute, record the end.

        Raises Fenced when another process holds or takes the claim, Unavailable when the log fails.
        """
        writer = self._claim(reason)
        ending = await self._execute(writer)
        try:
            await writer.barrier()
        except RunStopped as stopped:
            raise await self._log_error(stopped.stop) from None
        return ending

    async def replay(self) -> Ending:
        """Execute against the history alone: no model, no tool, no write. A divergence is in the ending."""
        return await self._execute(None)

    def _claim(self, reason: ClaimReason) -> JournalWriter:
        journal = self._journal
        epoch = journal.epoch + 1
        meta: JsonObject = {"epoch": epoch, "actor": f"{self._requested.kind}:{self._requested.target}"}
        if self._requested.user is not None:
            meta["on_behalf_of"] = self._requested.user
        writer = JournalWriter(
            self._world.log,
            run=journal.run,
            correlation=journal.correlation or journal.run,
            meta=orjson.dumps(meta),
            epoch=epoch,
            version=journal.version,
            on_failure=self._on_append_failed,
            on_gap=self._on_gap,
            turn=self._world.turn,
        )
        first: list[Event] = [self._requested] if journal.version == 0 else []
        first.append(RunClaimed(epoch=epoch, worker=f"{socket.gethostname()}:{os.getpid()}", reason=reason))
        if journal.version == 0:
            first.append(RunStarted())
        journal.epoch = epoch
        writer.record(*(writer.draft(event) for event in first))
        return writer

    async def _execute(self, writer: JournalWriter | None) -> Ending:
        progress = Progress(list(self._journal.order), on_diverged=self._on_diverged, on_idle=self._on_idle)
        self._execution = execution = Execution(
            self._world,
            self._journal,
            writer,
            progress,
            owner=self._requested.user,
            conversation=self._requested.conversation,
        )
        loop = asyncio.get_running_loop()
        main = loop.create_task(self._main(execution))
        execution.tasks.add(main)
        seconds = self._requested.timeout_seconds
        alarm = None
        if seconds is not None and writer is not None:
            alarm = loop.call_later(seconds, lambda: execution.stop(Stop("timed_out")))
        try:
            await asyncio.wait([main])
        except asyncio.CancelledError:
            # Whoever runs us was cancelled: like a crash, but in order. The run can be resumed.
            main.cancel()
            await asyncio.wait([main])
            _ = main.cancelled() or main.exception()
            raise
        finally:
            progress.close()
            if alarm is not None:
                alarm.cancel()
        return await self._end(main)

    async def _main(self, execution: Execution) -> JsonValue:
        current_scope.set(Scope(execution, "", asyncio.current_task()))
        given = self._requested.input
        context: Context[Any] = Context(execution, target=self._callee.name, input=given)
        output = await self._callee.execute(context, given)
        admitted = execution.admit(output)
        if execution.stopped is None:
            execution.check_all_asked()
        return admitted

    # Ends

    async def _end(self, main: asyncio.Task[JsonValue]) -> Ending:
        execution = self._execution
        error = asyncio.CancelledError() if main.cancelled() else main.exception()
        if execution.stopped is not None:
            return await self._stopped(execution.stopped)
        if error is None:
            return self._close(RunSucceeded(output=main.result()), Ending("succeeded", output=main.result()))
        if isinstance(error, StepLimitReached):
            event = RunStepLimitReached(model_turns_max=error.model_turns_max, summary=error.summary)
            return self._close(event, Ending("step_limit", output=error.summary))
        if isinstance(error, asyncio.CancelledError):
            error = RuntimeError("The run's code cancelled itself.")
        if not isinstance(error, Exception):
            raise error
        return self._failed(error)

    def _failed(self, error: Exception) -> Ending:
        execution = self._execution
        failure = Failure(
            error_type=type(error).__name__, message=str(execution.admit(str(error) or repr(error)))
        )
        operation = error.operation if isinstance(error, OperationFailed) else None
        return self._close(RunFailed(failure=failure, operation=operation), Ending("failed", failure=failure))

    def _close(self, terminal: Event, ending: Ending) -> Ending:
        if not self._execution.offline:
            writer = self._execution.writer
            assert writer is not None
            try:
                writer.record(writer.draft(terminal))
            except EvrtError as error:
                return self._failed(error)
        return ending

    async def _stopped(self, stop: Stop) -> Ending:
        execution = self._execution
        match stop.reason:
            case "log":
                raise await self._log_error(stop)
            case "replayed":
                return Ending("waiting", reason=self._history_waits_for())
            case "diverged":
                assert isinstance(stop.error, ReplayDivergence)
                return self._park_diverged(stop.error)
            case "parked":
                assert self._waiting is not None
                return Ending("waiting", reason=self._waiting.reason, waiting_for=self._waiting.operations)
            case "in_doubt":
                return self._park_in_doubt()
            case "timed_out" if execution.cut_off:
                for identity in sorted(execution.cut_off):
                    execution.record(ToolCallInDoubt(operation=identity, cause="timeout"))
                return self._park_in_doubt()
            case _:
                seconds = self._requested.timeout_seconds or 0.0
                return self._close(RunTimedOut(timeout_seconds=seconds), Ending("timed_out"))

    async def _log_error(self, stop: Stop) -> EvrtError:
        assert stop.error is not None
        if isinstance(stop.error, Fenced):
            await self._execution.report_late()
        return stop.error

    def _on_append_failed(self, error: EvrtError) -> None:
        """The log refused or failed: nothing more can be recorded for this claim."""
        self._execution.stop(Stop("log", error))

    def _on_gap(self) -> None:
        self._execution.on_gap()

    # Waits

    def _on_diverged(self, identity: str) -> None:
        execution = self._execution
        known = self._journal.operations[identity]
        place = known.outcome
        assert place is not None
        with suppress(RunStopped):  # Nobody is there to catch it: the tasks have been cancelled.
            execution.diverge(
                identity,
                f"the history has it next (event {place.version}, {place.type}), the code does not ask for it",
                place.position,
            )

    def _on_idle(self) -> None:
        if not self._parking and self._execution.stopped is None:
            self._parking = True
            self._park_task = asyncio.get_running_loop().create_task(self._park())

    async def _park(self) -> None:
        """Say that the run waits, unless what it waits for came in the meantime."""
        execution = self._execution
        reasons = {reason for reason, _ in execution.waits.values()}
        waiting = RunWaiting(
            reason="in_doubt" if "in_doubt" in reasons else "question",
            operations=tuple(sorted(execution.waits)),
        )
        execution.record(waiting)
        try:
            await execution.barrier()
        except RunStopped:
            return
        # The answer may stand just before our event. Then the gap has been noticed by now.
        if execution.catching_up is not None:
            await execution.catching_up
        self._parking = False
        if all(not waiter.done() for _, waiter in execution.waits.values()) and execution.waits:
            self._waiting = waiting
            execution.stop(Stop("parked"))

    def _park_in_doubt(self) -> Ending:
        """A write was cut off by the run's time-out or by the code itself."""
        waiting = RunWaiting(reason="in_doubt", operations=tuple(sorted(self._execution.cut_off)))
        self._execution.record(waiting)
        return Ending("waiting", reason=waiting.reason, waiting_for=waiting.operations)

    def _park_diverged(self, error: ReplayDivergence) -> Ending:
        execution = self._execution
        if not execution.offline:
            execution.record(
                RunDiverged(operation=error.operation, message=str(error), recorded_position=error.position)
            )
            execution.record(RunWaiting(reason="diverged", operations=(error.operation,)))
        return Ending("waiting", reason="diverged", waiting_for=(error.operation,), divergence=error)

    def _history_waits_for(self) -> WaitReason | None:
        if self._journal.waiting_for_settlement():
            return "in_doubt"
        return "question" if self._journal.waiting_for_answer() else None
