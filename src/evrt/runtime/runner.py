"""Running a run: claim it, execute its code against its journal, record how it ended.

Only the runner writes terminal events. A run that waits is parked: its code is stopped and will be
executed again, from the journal, when somebody resumes it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import orjson

from evrt.endings import consequences_of
from evrt.errors import (
    Conflict,
    EvrtError,
    Fenced,
    InvalidInput,
    OperationFailed,
    ReplayDivergence,
    StepLimitReached,
    WrongVersion,
)
from evrt.events import Envelope, Event, JsonObject, JsonValue
from evrt.events.calls import ToolCallInDoubt
from evrt.events.run import (
    CANCELLED,
    WORKER_LOST,
    ClaimReason,
    Failure,
    RunCancelled,
    RunCancelRequested,
    RunClaimed,
    RunContinued,
    RunDiverged,
    RunFailed,
    RunRequested,
    RunRetryScheduled,
    RunStarted,
    RunStepLimitReached,
    RunSucceeded,
    RunTimedOut,
    RunWaiting,
    WaitReason,
)
from evrt.folds.gist import Gist
from evrt.folds.journal import Journal
from evrt.folds.queued import lane_of
from evrt.folds.run import Status
from evrt.history import CONTINUED, load_last_chapter
from evrt.log.contract import Draft, Exact
from evrt.log.coordination import Change, Hold, Park, Remove, Wake, Yield
from evrt.log.envelopes import envelopes
from evrt.runtime import differences
from evrt.runtime.context import Callee, Context
from evrt.runtime.execution import Execution, World
from evrt.runtime.identity import Scope, current_scope
from evrt.runtime.journal import JournalWriter, payload_of
from evrt.runtime.limit import TimeLimit
from evrt.runtime.parking import Parking
from evrt.runtime.progress import Progress
from evrt.runtime.stop import RunStopped, Stop

run_logger = logging.getLogger("evrt.run")

CONTINUE_TRIES_MAX = 100
"""How often to look again when something came from outside while the code was about to continue."""

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
    delay_seconds: float = 0.0
    """How long it waits for its next attempt, where that is the reason."""
    continued: bool = False
    """Whether it is only the end of a chapter: the code begins anew, as what ``output`` holds."""
    hook: str | None = None
    """The run that was asked for because this one has ended."""
    error: Exception | None = None
    """What the code raised, where the run has failed with it."""
    limit: RunStepLimitReached | None = None


class Runner:
    """Executes one run, once, in this process."""

    def __init__(self, world: World, callee: Callee, journal: Journal, *, requested: RunRequested) -> None:
        self._world = world
        self._callee = callee
        self._journal = journal
        self._requested = requested
        self._actor = f"{requested.kind}:{requested.target}"
        self._writer: JournalWriter | None = None
        self._winding_down: Stop | None = None
        self._execution: Execution
        self._parking: Parking

    async def run(self, reason: ClaimReason) -> Ending:
        """Claim with a new epoch, execute, record the end.

        Raises Fenced when another process holds or takes the claim, Conflict when the run ended meanwhile, WrongVersion
        when something was written to it before it could be claimed, Unavailable when the log fails.
        """
        journal = self._journal
        # Requested and nothing else: unless something comes in between, there is nothing to catch up with.
        fresh = journal.version == 0 or (self._world.worker is not None and journal.version == 1)
        writer, first = self._claim(reason, journal.version if fresh and journal.version else None)
        ending = None
        if not fresh:
            await self._catch_up(writer, first)
            first = ()
        try:
            if not first:
                ending = await self._at_once()
            if ending is None:
                ending = await self._execute(writer, first)
            while ending.continued:
                ending = await self._at_once() or await self._execute(writer)
            await writer.barrier()
        except RunStopped as stopped:
            raise await self._log_error(stopped.stop) from None
        finally:
            if self._world.live is not None:
                self._world.live.leave(self._journal.run, self._journal.epoch)
        return ending

    def wind_down(self, stop: Stop) -> None:
        """Have the run stopped where it can go on later, or ended, as soon as that leaves nothing in doubt."""
        self._winding_down = stop
        if hasattr(self, "_execution") and self._execution.stopped is None:
            self._execution.wind_down(stop)

    async def look_outside(self) -> None:
        """Take in what was written to the run from outside."""
        if hasattr(self, "_execution") and self._execution.stopped is None:
            await self._execution.look_outside()

    async def replay(self) -> Ending:
        """Execute against the history alone: no model, no tool, no write. A divergence is in the ending.

        Of a run that continued this is the chapter that the journal is of.
        """
        return await self._execute(None)

    def _claim(
        self, reason: ClaimReason, version: int | None = None
    ) -> tuple[JournalWriter, Sequence[Draft]]:
        journal = self._journal
        epoch = journal.epoch = journal.epoch + 1
        writer = JournalWriter(
            self._world.log,
            run=journal.run,
            correlation=journal.correlation or journal.run,
            meta=self._meta(),
            epoch=epoch,
            version=journal.version,
            on_failure=self._on_append_failed,
            on_gap=self._on_gap,
            turn=self._world.turn,
            claim_version=version,
        )
        first: list[Event] = [self._requested] if journal.version == 0 else []
        worker = self._world.worker or f"{socket.gethostname()}:{os.getpid()}"
        first.append(RunClaimed(epoch=epoch, worker=worker, reason=reason))
        if epoch == 1:
            first.append(RunStarted())
        self._writer = writer
        return writer, [writer.draft(event) for event in first]

    def _meta(self) -> bytes:
        """The meta of what the run writes of itself."""
        journal = self._journal
        meta: JsonObject = {"epoch": journal.epoch, "actor": self._actor, **journal.kin}
        if self._requested.user is not None:
            meta["on_behalf_of"] = self._requested.user
        if journal.continued:
            meta[CONTINUED] = journal.continued
        return orjson.dumps(meta)

    def _taken(self) -> Change:
        """Whoever is given a run by the queue must have it still; whoever takes one by himself takes it out of there."""
        worker, run = self._world.worker, self._journal.run
        return Remove(run) if worker is None else Hold(run, worker)

    async def _catch_up(self, writer: JournalWriter, first: Sequence[Draft]) -> None:
        """Take in what a worker that has lost its claim now wrote between our reading and our claim."""
        journal = self._journal
        writer.record(*first, beside=(self._taken(),))
        try:
            await writer.barrier()
        except RunStopped as stopped:
            raise stopped.stop.error or stopped from None
        for envelope in envelopes(await self._world.log.read_stream(journal.run, after=journal.version)):
            journal.apply(envelope)
        writer.meta = self._meta()
        if journal.terminal is not None:
            raise Conflict(f"{journal.run} ended ({journal.terminal.type}) while it was being claimed.")

    async def _at_once(self) -> Ending | None:
        """What becomes of the run before any of its code is executed, if that is known already."""
        journal = self._journal
        if journal.cancel_requested is not None:
            return self._cancelled()
        if journal.paused:
            return await self._put_away(RunWaiting(reason="paused"))
        attempts = 1 + journal.lost_claims + journal.failed_attempts
        if journal.lost_claims and attempts > self._callee.retry.attempts_max:
            failure = Failure(
                error_type=WORKER_LOST,
                message=f"Whoever executed it was lost {journal.lost_claims} times in a row before anything new was "
                "completed: the code may be what ends its process (memory, a crash of native code).",
            )
            return self._ended(RunFailed(failure=failure), Ending("failed", failure=failure))
        return None

    async def _execute(self, writer: JournalWriter | None, first: Sequence[Draft] = ()) -> Ending:
        progress = Progress(
            list(self._journal.order),
            on_diverged=self._on_diverged,
            on_idle=self._on_idle,
        )
        self._execution = execution = Execution(
            self._world,
            self._journal,
            writer,
            progress,
            actor=self._actor,
            owner=self._requested.user,
            conversation=self._requested.conversation,
            system=self._requested.system,
        )
        self._parking = Parking(execution, self._requested)
        main = asyncio.get_running_loop().create_task(self._main(execution))
        execution.tasks.add(main)
        progress.enter(main)
        if writer is not None and first:
            # After the task was created, so that the code's first intent rides in the same append.
            writer.record(*first, beside=(self._taken(),) if self._journal.version else ())
        if self._winding_down is not None:
            execution.wind_down(self._winding_down)
        seconds = self._requested.timeout_seconds
        if seconds is not None and writer is not None:
            execution.limit = TimeLimit(seconds, lambda: execution.stop(Stop("timed_out")))
        try:
            await asyncio.wait([main])
            await self._leave_nobody_behind(
                main
            )  # When it was stopped, others may still be on their way out.
            return await self._end(main)
        except asyncio.CancelledError:
            # Whoever runs us was cancelled: like a crash, but in order. The run can be resumed.
            execution.stop(Stop("interrupted"))
            await asyncio.wait([main])
            await self._leave_nobody_behind(main)
            _ = main.cancelled() or main.exception()
            raise
        finally:
            execution.stop(Stop("ended"))
            progress.close()
            if execution.limit is not None:
                execution.limit.end()

    async def _leave_nobody_behind(self, main: asyncio.Task[Any] | None) -> None:
        """Stop what the code has started and not awaited, so that nothing happens after the end."""
        execution = self._execution
        strays = execution.tasks - {main}
        if strays:
            execution.stop(Stop("in_doubt" if execution.under_way or execution.in_doubt else "ended"))
            await asyncio.wait(strays)
        for task in (self._parking.task, execution.catching_up):
            if task is not None and not task.done():
                task.cancel()
                await asyncio.wait([task])

    async def _main(self, execution: Execution) -> Ending:
        current_scope.set(Scope(execution, "", asyncio.current_task()))
        given = self._requested.input
        context: Context[Any] = Context(
            execution, target=self._callee.name, input=given, state=self._journal.state
        )
        error: Exception | None = None
        output: JsonValue = None
        try:
            output = execution.admit(await self._callee.execute(context, given))
        except Exception as raised:  # noqa: BLE001  (whatever the code raises is how its run ends)
            error = raised
        if execution.stopped is None:
            # Also when it raised: a bad deploy must not fail a run that has got further.
            execution.check_all_asked()
            await self._leave_nobody_behind(asyncio.current_task())
        if execution.stopped is not None and execution.stopped.reason != "ended":
            raise RunStopped(execution.stopped)
        # In the same turn as the code's last outcome, so that both ride in one append.
        if error is None:
            return self._close(RunSucceeded(output=output), Ending("succeeded", output=output))
        return await self._raised(error)

    # Ends

    async def _end(self, main: asyncio.Task[Ending]) -> Ending:
        execution = self._execution
        error = asyncio.CancelledError() if main.cancelled() else main.exception()
        if error is None:
            return main.result()
        if execution.stopped is not None and execution.stopped.reason != "ended":
            return await self._stopped(execution.stopped)
        if isinstance(error, asyncio.CancelledError):
            return self._failed(RuntimeError("The run's code cancelled itself."))
        raise error

    async def _raised(self, error: Exception) -> Ending:
        if self._journal.waits_for_retry and self._execution.offline:
            return Ending("waiting", reason="retry")
        scheduled = await self._schedule_retry(error)
        if scheduled is not None:
            return scheduled
        if isinstance(error, StepLimitReached):
            event = RunStepLimitReached(
                model_turns_max=error.model_turns_max,
                summary=error.summary,
                limit=None if error.limit == "model_turns" else error.limit,  # type: ignore[arg-type]  # checked by the event
            )
            return self._close(event, Ending("step_limit", output=error.summary, limit=event))
        return self._failed(error)

    async def _schedule_retry(self, error: Exception) -> Ending | None:
        """Another attempt of the run, if it has any left and what failed may be made again.

        That is the operation that the error came from; or, for an error of the code itself that says so of
        itself, nothing but what the code has not come to yet.
        """
        execution = self._execution
        policy = self._callee.retry
        if execution.offline or policy.attempts_max == 1:
            return None
        may_retry = self._may_retry(error)
        operation = error.operation if isinstance(error, OperationFailed) else ""
        if may_retry is False or (not operation and not may_retry):
            return None
        while True:
            await execution.barrier()
            journal = (await load_last_chapter(self._world.log, execution.run)).journal
            if journal.cancel_requested is not None:
                # Whoever is to hear of it may be about to: it would be too late after the wait.
                await execution.look_outside()
                return await self._stopped(Stop("cancelled"))
            attempt = journal.failed_attempts + 1
            if attempt + journal.lost_claims >= policy.attempts_max:
                return None
            if operation and not journal.may_reopen(operation):
                return None
            delay_seconds = policy.delay_seconds(attempt, execution.chance())
            failure = self._failure(error)
            scheduled = RunRetryScheduled(
                reopens=operation, attempt=attempt, delay_ms=delay_seconds * 1000, failure=failure
            )
            if await self._wait_for_retry(scheduled, journal.version):
                return Ending(
                    "waiting",
                    failure=failure,
                    reason="retry",
                    waiting_for=(operation,) if operation else (),
                    delay_seconds=delay_seconds,
                )

    async def _wait_for_retry(self, scheduled: RunRetryScheduled, version: int) -> bool:
        """Record that the run waits for another attempt, unless it has gone beyond this version. Whether it was."""
        writer, run = self._writer, self._journal.run
        assert writer is not None
        beside: list[Yield] = []
        if self._world.worker is not None:
            now = await self._world.log.coordination.now()
            beside.append(self._yielded(due=now + int(scheduled.delay_ms * 1000)))
        try:
            await writer.append_now(
                [writer.draft(scheduled)], {run: Exact(version)}, too_late=lambda: None, beside=beside
            )
        except WrongVersion:
            return False
        return True

    def _may_retry(self, error: Exception) -> bool | None:
        try:
            return self._callee.policy.may_retry(error)
        except Exception as raised:  # noqa: BLE001  (it is the program's own, and the run has to end all the same)
            run_logger.warning(
                "on_error of %s raised %r: its answer counts as None.", self._callee.name, raised
            )
            return None

    def _failure(self, error: Exception) -> Failure:
        if isinstance(error, OperationFailed):
            return self._execution.failure(error.error_type, error.message)
        return self._execution.failure(type(error).__name__, str(error) or repr(error))

    def _failed(self, error: Exception) -> Ending:
        execution = self._execution
        failure = execution.failure(type(error).__name__, str(error) or repr(error))
        operation = error.operation if isinstance(error, OperationFailed) else None
        ending = Ending("failed", failure=failure, error=error)
        return self._close(RunFailed(failure=failure, operation=operation), ending)

    def _close(self, terminal: Event, ending: Ending) -> Ending:
        try:
            payload_of(terminal)
        except InvalidInput as error:  # Offline too: a replay has to come to the same end.
            return self._failed(error)
        return self._ended(terminal, ending)

    def _ended(self, terminal: Event, ending: Ending) -> Ending:
        """Record the end, if this is no replay; the run leaves the queue with it."""
        writer = self._writer
        if writer is None:
            return ending
        follows = consequences_of(self._journal, terminal)
        beside = (Remove(self._journal.run), *follows.beside)
        writer.record(writer.draft(terminal), *follows.drafts, beside=beside)
        return replace(ending, hook=follows.hook)

    def _cancelled(self) -> Ending:
        asked = self._journal.cancel_requested
        by, reason = None, None
        if asked is not None and isinstance(asked.event, RunCancelRequested):
            by, reason = asked.event.by, asked.event.reason
        begun = hasattr(self, "_execution")
        gist = (self._execution.gist if begun else Gist.of(self._journal)).text()
        return self._ended(RunCancelled(by=by, reason=reason, summary=gist), Ending("cancelled", output=gist))

    async def _stopped(self, stop: Stop) -> Ending:
        execution = self._execution
        match stop.reason:
            case "log":
                raise await self._log_error(stop)
            case "replayed":
                return Ending("waiting", reason=self._history_waits_for())
            case "diverged":
                assert isinstance(stop.error, ReplayDivergence)
                return await self._park_diverged(stop.error)
            case "parked":
                assert self._parking.parked is not None
                return _waits(self._parking.parked)
            case "continued":
                return await self._continue(stop.state)
            case "in_doubt":
                return await self._park_in_doubt(CANCELLED)
            case "cancelled":
                for identity, attempt in execution.under_way.items():
                    execution.record(ToolCallInDoubt(operation=identity, attempt=attempt, cause=CANCELLED))
                return self._cancelled()
            case "paused":
                return await self._put_away(RunWaiting(reason="paused"))
            case "handover":
                execution.record(RunWaiting(reason="handover"), beside=(self._yielded(),))
                return Ending("waiting", reason="handover")
            case "timed_out" if execution.under_way or execution.in_doubt:
                return await self._park_in_doubt("timeout")
            case _:
                seconds = self._requested.timeout_seconds or 0.0
                return self._close(RunTimedOut(timeout_seconds=seconds), Ending("timed_out"))

    async def _continue(self, state: JsonValue) -> Ending:
        """Record that the code begins anew. What came from outside until then is known by now, or it is kept for it."""
        journal, writer, execution = self._journal, self._writer, self._execution
        ending = Ending("running", output=state, continued=True)
        if writer is None:
            return ending
        late: list[bool] = []
        for _ in range(CONTINUE_TRIES_MAX):
            try:
                await execution.barrier()
                await execution.caught_up()
                writer.version = execution.version
                event = RunContinued(
                    state=state,
                    kept=journal.kept(),
                    children=tuple(journal.children),
                    untrusted=tuple(execution.untrusted),
                )
                draft = writer.draft(event)
                await writer.append_now(
                    [draft], {journal.run: Exact(writer.version)}, too_late=partial(late.append, True)
                )
            except WrongVersion:
                await execution.look_outside()
                continue
            except RunStopped as stopped:
                raise await self._log_error(stopped.stop) from None
            meta: JsonObject = orjson.loads(draft.meta)
            journal.apply(
                Envelope(
                    0,
                    draft.event_id,
                    0,
                    journal.run,
                    writer.version,
                    draft.type,
                    draft.correlation,
                    meta,
                    event,
                )
            )
            writer.meta = self._meta()
            if late:
                raise asyncio.CancelledError
            return ending
        raise Conflict(f"{journal.run} is being written too fast from outside to continue; resume it later.")

    async def _log_error(self, stop: Stop) -> EvrtError:
        assert stop.error is not None
        if isinstance(stop.error, Fenced):
            await self._execution.report_late()
        return stop.error

    def _on_append_failed(self, error: EvrtError) -> None:
        """The log refused or failed: nothing more can be recorded for this claim."""
        if hasattr(self, "_execution"):  # Else we are still claiming, and hear of it there.
            self._execution.stop(Stop("log", error))

    def _on_gap(self) -> None:
        if hasattr(self, "_execution"):
            self._execution.on_gap()

    # Waits

    def _on_diverged(self, identity: str) -> None:
        if self._execution.stopped is None:
            with suppress(RunStopped):  # Nobody is there to catch it: the tasks have been cancelled.
                self._execution.diverge(differences.next_one_missing(self._journal, identity))

    def _on_idle(self) -> None:
        self._parking.on_idle()

    async def _park_in_doubt(self, cause: str) -> Ending:
        """Writes were cut off by the run's time-out or by the code itself."""
        execution = self._execution
        for identity, attempt in execution.under_way.items():
            execution.record(ToolCallInDoubt(operation=identity, attempt=attempt, cause=cause))
        operations = tuple(sorted(execution.under_way.keys() | execution.in_doubt))
        return await self._put_away(RunWaiting(reason="in_doubt", operations=operations))

    async def _park_diverged(self, error: ReplayDivergence) -> Ending:
        if self._execution.offline:
            return Ending("waiting", reason="diverged", waiting_for=(error.operation,), divergence=error)
        diverged = RunDiverged(
            operation=error.operation, message=str(error), recorded_position=error.position
        )
        waiting = RunWaiting(reason="diverged", operations=(error.operation,))
        return replace(await self._put_away(waiting, diverged), divergence=error)

    async def _put_away(self, waiting: RunWaiting, *before: Event) -> Ending:
        """Park a run whose code is not executed any more. A cause that has come by now lets it be taken again at once."""
        writer, run = self._writer, self._journal.run
        assert writer is not None
        while True:
            await writer.barrier()
            journal = (await load_last_chapter(self._world.log, run)).journal
            wanted = _is_wanted_again(journal, waiting.reason)
            park = Park(
                run,
                self._requested.target,
                lane=lane_of(self._requested, self._journal.kin),
                paused=waiting.reason == "paused" and not wanted,
                priority=self._requested.priority,
            )
            try:
                await writer.append_now(
                    [writer.draft(event) for event in (*before, waiting)],
                    {run: Exact(journal.version)},
                    too_late=lambda: None,
                    beside=(park, Wake(run)) if wanted else (park,),
                )
            except WrongVersion:
                continue
            return _waits(waiting)

    def _yielded(self, *, due: int | None = None) -> Yield:
        asked = self._requested
        lane = lane_of(asked, self._journal.kin)
        return Yield(self._journal.run, asked.target, due=due, lane=lane, priority=asked.priority)

    def _history_waits_for(self) -> WaitReason | None:
        return self._journal.reason_to_wait()


def _is_wanted_again(journal: Journal, reason: WaitReason) -> bool:
    """Whether a run whose code was stopped is to be taken again at once.

    What the code has not come to keeps until it goes on: taken for it while paused, or diverged, the run would be
    put away again, over and over.
    """
    match reason:
        case "paused":
            return journal.cancel_requested is not None or not journal.paused
        case "diverged":
            return journal.cancel_requested is not None
        case _:
            return journal.has_cause


def _waits(waiting: RunWaiting) -> Ending:
    return Ending("waiting", reason=waiting.reason, waiting_for=waiting.operations)
