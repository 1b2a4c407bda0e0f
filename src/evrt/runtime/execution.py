"""One run being executed in this process: what every operation needs, and nothing about any one of them.

An operation binds its identity, asks for its recorded outcome, and if there is none does its work
and records it. The journal of the past comes in as a fold; new events go out through the writer.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from random import random
from typing import Any, TypeVar, overload

import orjson

from evrt.effects.contract import Model, OnDelta
from evrt.errors import EvrtError, NotFound, ReplayDivergence, UsageError, WrongTask
from evrt.events import Envelope, Event, JsonObject, JsonValue
from evrt.events.calls import ToolCallReported, ToolCallSettled, ValueRecorded
from evrt.events.run import Failure, InputReceived, RunContinued, RunSignalled, WaitReason
from evrt.folds.gist import Gist
from evrt.folds.journal import (
    CONTROL,
    OUTSIDE,
    SIGNALLED,
    Journal,
    Operation,
    operation_of,
    unkeyed_writes_left_open,
    was_cancelled,
)
from evrt.history import CONTINUED
from evrt.live.writer import LiveWriter
from evrt.log.blobs import Blobs
from evrt.log.contract import Append, Draft, Log
from evrt.log.coordination import Change, Wake
from evrt.log.envelopes import envelopes
from evrt.remembering import KEPT, MemoryPolicy
from evrt.requesting import Startable
from evrt.runtime import differences
from evrt.runtime.chats import Chats
from evrt.runtime.differences import Difference, Unasked
from evrt.runtime.identity import Scope, current_scope, escape
from evrt.runtime.journal import JournalWriter, Turn, payload_of
from evrt.runtime.late_cancels import LateCancels
from evrt.runtime.limit import TimeLimit
from evrt.runtime.progress import Progress
from evrt.runtime.stop import RunStopped, Stop
from evrt.runtime.transcript import Transcript
from evrt.seal import Redact, admit, admit_arguments, keep

T = TypeVar("T")

LATE_ACTOR = "late worker"

FAILURE_CHARACTERS_MAX = 10_000
"""What is kept of an exception's text."""

LOOK_AT_CLOCK_SECONDS = 60.0
"""How long a timer sleeps here before it looks at the log's clock again, which may have been set meanwhile."""

CANCELLED_AGAIN_SECONDS = 5.0
"""What a replay allows, beyond twice the time it took then, for code to cancel an operation again."""


def _nothing_to_start(name: str) -> Startable:
    raise NotFound(f"There is no app here that could have {name!r}.")


async def _nothing_defined(name: str, system: str | None) -> Startable:
    return _nothing_to_start(name)


@dataclass(frozen=True, slots=True)
class World:
    """What runs of one app share: the log, the models, the dependencies handed to tools, the redaction."""

    log: Log
    models: Callable[[str], Model]
    deps: Any = None
    redact: Redact = keep
    default_model: str | None = None
    turn: Turn = field(default_factory=Turn)
    on_delta: Callable[[str, str, str], None] | None = None
    """Called with (run, operation, text) while a model streams; live only, never on replay."""
    live: LiveWriter | None = None
    """Has other processes see what models say while they say it."""
    chats: Chats = field(default_factory=Chats)
    """Conversations as this process last folded them."""
    find: Callable[[str], Startable] = _nothing_to_start
    """An agent or workflow in the app's code by its name. Raises NotFound."""
    find_defined: Callable[[str, str | None], Awaitable[Startable]] = _nothing_defined
    """An agent that is defined as data by its name, for a run that works in the system of this ref. Raises NotFound."""
    memory: MemoryPolicy = KEPT
    """How long things are remembered, and how many."""
    worker: str | None = None
    """The worker that has been given these runs by the queue; None for runs executed outside of it."""

    @property
    def blobs(self) -> Blobs:
        """The log's blobs."""

        async def opened() -> Log:
            return self.log

        return Blobs(opened)


@dataclass(slots=True, eq=False)
class Wait:
    """An operation that waits for the outside: why, until when at most (µs since 1970), for which signal."""

    reason: WaitReason
    due: int | None
    signal: str | None
    woken: asyncio.Future[None]

    def wake(self) -> None:
        """Have it look again whether there is something for it, or whether its time is over."""
        if not self.woken.done():
            self.woken.set_result(None)


@dataclass(slots=True, eq=False)
class Execution:
    """A run under one claim. ``offline`` replays: nothing is recorded, no effect can start."""

    world: World
    journal: Journal
    writer: JournalWriter | None
    progress: Progress
    actor: str | None = None
    """Who acts, as the meta of events says it: ``agent:NAME`` or ``workflow:NAME``."""
    owner: str | None = None
    conversation: str | None = None
    system: str | None = None
    scopes: dict[str, Scope] = field(default_factory=dict)
    tasks: set[asyncio.Task[Any]] = field(default_factory=set)
    limit: TimeLimit | None = None
    """What the code may take, while it does more than wait."""
    waits: dict[str, Wait] = field(default_factory=dict)
    parking: asyncio.Event | None = None
    """While the run is being parked: set when it is known whether it is, and until then nobody goes on."""
    under_way: dict[str, int] = field(default_factory=dict)
    """Writes without a key that are under way, with the attempt: cut off now, they would be in doubt."""
    writing: set[str] = field(default_factory=set)
    """Those of them that this process is making now: whoever may wait for the end of the run's code lets them end."""
    in_doubt: set[str] = field(default_factory=set)
    """Writes that are in doubt and have not been settled."""
    late_cancels: LateCancels = field(default_factory=LateCancels)
    late: deque[tuple[int, ToolCallReported]] = field(default_factory=deque)
    """Outcomes of such writes, each with its number among what was recorded: the claim may be lost by then."""
    transcripts: dict[str, Transcript] = field(default_factory=dict)
    """The last list of messages given to a model in each scope, to find what is new in the next."""
    waiting_for_branches: dict[asyncio.Task[Any], Callable[[int | None], None]] = field(default_factory=dict)
    """Tasks that wait for branches, each with what cuts those off (see ``Branches.cut_off``)."""
    journeys: dict[str, Any] = field(default_factory=dict)
    """The journeys that the code has asked for, by name (``Context.journey``)."""
    tools_recorded: set[str] = field(default_factory=set)
    patches: dict[str, bool] = field(default_factory=dict)
    """What this execution has been told of changes of its code (``ctx.patched``)."""
    untrusted: dict[str, None] = field(default_factory=dict)
    """Where what the code has read may come from, beyond those who are trusted: see ``Context.untrusted``."""
    facts_recorded: int = 0
    """The last that was recorded with facts of other streams, by its number: whoever folds those waits for it."""
    gist: Gist = field(init=False)
    """How far the code has got, in words: kept where the run is cancelled."""
    stopped: Stop | None = None
    winding_down: Stop | None = None
    """Why the code is to be stopped as soon as no write without a key is being made."""
    gap: bool = False
    catching_up: asyncio.Task[None] | None = None
    unasked: Unasked = field(init=False)
    """What the past knows and the code has not asked for yet."""

    def __post_init__(self) -> None:
        self.unasked = Unasked(self.journal)
        self.gist = Gist.of(self.journal)
        if self.journal.requested is not None:
            self.untrusted.update(dict.fromkeys(self.journal.requested.untrusted))
        self.untrusted.update(dict.fromkeys(self.journal.untrusted))
        if self.writer is not None:
            # What a worker before this one left open is as much under way as what this one will begin.
            self.under_way.update(unkeyed_writes_left_open(self.journal))

    @property
    def run(self) -> str:
        return self.journal.run

    @property
    def correlation(self) -> str:
        """What the run's events are found together by: its conversation, else the run itself."""
        return self.journal.correlation or self.run

    @property
    def offline(self) -> bool:
        return self.writer is None

    # Identities and scopes

    def scope(self) -> Scope:
        """The scope of the code that calls. Raises WrongTask outside the task that owns it."""
        if self.stopped is not None:
            raise self.refusal()
        scope = current_scope.get()
        if scope is None or scope.execution is not self or scope.task is not asyncio.current_task():
            raise WrongTask(
                "A context operation was awaited in a task that is not the run's own, or inside a tool or a step, so "
                "its place in the history would be chance. Use `ctx.gather(...)` to do things at the same time, or "
                "`async with ctx.scope(key):` inside a task that something else created. Note that asyncio.wait_for "
                "makes a task of its own on Python 3.11: give the operation a timeout= instead."
            )
        return scope

    def _task(self) -> asyncio.Task[Any]:
        """The task of the operation that calls: the one that its scope was checked for when it was bound."""
        scope = current_scope.get()
        assert scope is not None
        assert scope.task is not None
        return scope.task

    def refusal(self) -> BaseException:
        """What an operation raises once the run was stopped or has ended."""
        assert self.stopped is not None
        if self.stopped.reason != "ended":
            return RunStopped(self.stopped)
        return WrongTask(
            f"{self.run} has ended, so nothing more can be done in it. Await every task before the run's code returns."
        )

    def here(self) -> Scope:
        """The scope in which an operation begins. Raises WrongTask."""
        scope = self.scope()
        assert scope.task is not None
        self.progress.back(scope.task)
        return scope

    def bind(self, name: str) -> str:
        """The identity of an operation, at the moment it is first awaited."""
        return self.here().next(name)

    def enter(self, path: str, task: asyncio.Task[Any] | None, parent: Scope) -> Scope:
        """A scope by its path; entering it again goes on counting where it was left."""
        known = self.scopes.get(path)
        scope = Scope(self, path, task, parent, known.ordinals if known is not None else {})
        self.scopes[path] = scope
        return scope

    def leave_scope(self, scope: Scope) -> None:
        """A scope that will not be entered again is done: forget it, so that a long run does not grow by it."""
        self.scopes.pop(scope.path, None)
        self.transcripts.pop(scope.path, None)

    # The past

    def is_new(self, identity: str) -> bool:
        """Whether this operation is plainly the present's: the past is complete and does not know it."""
        return (
            self.progress.live
            and self.writer is not None
            and self.journal.terminal is None
            and not self.unasked
            and identity not in self.journal.operations
            and not _has_lost(current_scope.get())
        )

    def is_behind(self, task: asyncio.Task[Any], scope: Scope, before: int | None) -> bool:
        """Whether a task is busy with something of its own that its history had come out of (see ``has_begun``)."""
        return self.progress.is_busy(task) and self.unasked.has_begun(scope.path, before)

    async def recorded(self, identity: str, kind: str, digest: str | None) -> Operation | None:
        """The operation with its outcome, when its turn comes; None when its outcome has yet to be made.

        An operation that is known but open comes back as None too, once the past is complete;
        ``journal.operations`` then says how far it got.
        """
        known = await self.begun(identity, kind, digest)
        return known if known is not None and await self.outcome_of(known) is not None else None

    async def begun(self, identity: str, kind: str, digest: str | None) -> Operation | None:
        """The operation as the past knows it, at once; None where it begins now, when the past is complete."""
        self.diverge(self.unasked.take(identity))
        known = self.journal.operations.get(identity)
        if known is not None:
            self.diverge(differences.in_request(known, kind, digest))
            return known
        if _has_lost(current_scope.get()):
            await self._until_cut_off()
        await self.present(identity)
        return None

    async def outcome_of(self, known: Operation) -> Envelope | None:
        """An operation's outcome, when its turn comes; None when it has yet to be made and the past is complete."""
        outcome = known.outcome
        if outcome is None:
            await self.present(known.identity)
            return None
        task = self._task()
        if not self.progress.release_at_once(known.identity, task):
            await self._release(known.identity, task)
        if was_cancelled(outcome.event):
            self.late_cancels.strike()
            await self._cancelled_again(outcome, known.identity)
        return outcome

    async def present(self, identity: str) -> None:
        """Return when the past is complete; a replay, which comes to nothing after that, ends here."""
        try:
            await self.progress.go_live(self._task())
        except asyncio.CancelledError:
            self.strike_next()
        if self.offline or self.journal.terminal is not None:
            self._past_the_end(identity)

    async def _release(self, identity: str, task: asyncio.Task[Any]) -> None:
        try:
            await self.progress.release(identity, task)
        except asyncio.CancelledError:
            self.strike_next()

    async def _until_cut_off(self) -> None:
        """The code is further here than it was when it was cut off, which it will be again: nothing may begin."""
        task = asyncio.current_task()
        assert task is not None
        self.progress.leave(task)
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            self.progress.enter(task)

    def strike_next(self) -> None:
        """The code cancelled this task too late for this operation. Raises CancelledError where the run was stopped."""
        if self.stopped is not None:
            raise asyncio.CancelledError
        self.late_cancels.keep()

    async def _cancelled_again(self, outcome: Envelope, identity: str) -> None:
        """The code cancelled this operation, by a time-out of its own say: wait for it to do so again."""
        took_seconds: float = getattr(outcome.event, "latency_ms", 0.0) / 1000
        with self.progress.pinned():
            await asyncio.sleep(2 * took_seconds + CANCELLED_AGAIN_SECONDS)
        self.diverge(differences.not_cancelled(outcome, identity))

    def recorded_at_once(self, identity: str, kind: str) -> Envelope | None:
        """The recorded event of an operation that the code does not wait for."""
        self.diverge(self.unasked.take(identity))
        known = self.journal.operations.get(identity)
        if known is not None:
            self.diverge(differences.in_request(known, kind, None))
            return known.outcome
        if _has_lost(current_scope.get()):
            return None  # The code is further here than it was when it was cut off: this was not to be.
        if (self.offline and self.progress.live) or self.journal.terminal is not None:
            self._past_the_end(identity)
        if not self.progress.live:
            # Where nothing later is known either, it was lost with a crash while other branches had got further.
            self.diverge(self.unasked.after_lost_one(identity, self.scope()))
        return None

    def _past_the_end(self, identity: str) -> None:
        self.diverge(differences.after_the_end(self.journal, identity))
        raise self.stop(Stop("replayed"))

    def diverge(self, difference: Difference | None) -> None:
        """Stop the run if its code left its history."""
        if difference is None:
            return
        parked = "" if self.offline else " The run is parked, not failed."
        error = ReplayDivergence(
            f"The code diverges from the history of {self.run} at {difference.identity}: {difference.what}.{parked} "
            "Bring back the code it was started with, or start a new run.",
            operation=difference.identity,
            position=difference.position,
        )
        raise self.stop(Stop("diverged", error))

    def patched(self, change: str) -> bool:
        """Whether the code goes on as it was changed, or as it was before: see ``Context.patched``."""
        self.here()
        if change in self.journal.patches:
            return True
        if change in self.patches:
            return self.patches[change]
        # Whatever is left of the past, in any branch, was made by code that did not know of the change.
        answer = not self.unasked and self.journal.terminal is None
        if not _has_lost(current_scope.get()):
            self.patches[change] = answer
            if answer:
                mark = escape(f"patched:{change}")
                self.note(ValueRecorded(operation=f"{mark}#1", kind="patched", value=change))
        return answer

    @property
    def can_continue(self) -> bool:
        """Whether the code is outside of every scope, and nothing it has started is still under way."""
        return not self.scope().path and len(self.tasks) <= 1

    def continue_as(self, state: object) -> RunStopped:
        """Stop the code, so that it begins anew with this state. Returns what to raise; raises UsageError."""
        if not self.can_continue:
            raise UsageError(
                "Only the run's own code can continue as another state, outside of every scope and when nothing it has "
                "started at the same time is still under way: call ctx.continue_as after `await ctx.gather(...)`."
            )
        shown = self.admit(state)
        payload_of(RunContinued(state=shown))
        self.check_all_asked()
        return self.stop(Stop("continued", state=shown))

    def check_all_asked(self) -> None:
        """Diverge if the code has ended and the history knows operations that it never asked for."""
        self.diverge(self.unasked.at_the_end())

    # The present

    def draft(self, event: Event) -> Draft:
        """An event of this run, encoded. Raises InvalidInput or PayloadTooLarge, before anything is recorded."""
        assert self.writer is not None
        return self.writer.draft(event)

    def note(self, event: Event) -> None:
        """Record an event that the code does not wait for; a replay offline passes over what was lost in a crash.

        So does a branch that has lost its race, where it gets further than it did.
        """
        if self.writer is not None and not _has_lost(current_scope.get()):
            self.record(event)

    def record(self, event: Event, drafted: Draft | None = None, *, beside: Sequence[Change] = ()) -> None:
        """Record an event of this run, which may be drafted already; it is durable after the next barrier."""
        assert self.writer is not None
        self.writer.record(drafted or self.writer.draft(event), beside=beside)
        self.gist.note(event)

    def barrier(self) -> Coroutine[Any, Any, None]:
        """Await this before any effect starts: it returns when everything recorded is durable."""
        assert self.writer is not None
        return self.writer.barrier()

    def admit(self, value: object) -> JsonValue:
        """A value as it is recorded and seen: JSON, redacted."""
        return admit(value, self.world.redact)

    def admit_arguments(self, value: object) -> JsonValue:
        """Arguments as they are recorded, or as their digest is made."""
        return admit_arguments(value, self.world.redact)

    def failure(self, error_type: str, message: str) -> Failure:
        """A failure as it is recorded. Whatever the text holds, it can be: redacted, clipped, valid Unicode."""
        text = str(self.admit(message.encode("utf-8", "backslashreplace").decode()))
        if len(text) > FAILURE_CHARACTERS_MAX:
            text = f"{text[:FAILURE_CHARACTERS_MAX]}…"
        return Failure(error_type=error_type, message=text)

    def chance(self) -> float:
        """A number in [0, 1) for jitter: it delays an attempt and decides nothing, so it is not recorded."""
        return random()

    def delta_listener(self, identity: str, attempt: int) -> OnDelta | None:
        """Whom to tell of text as it streams in, if anybody wants to know."""
        tell, live = self.world.on_delta, self.world.live
        if live is None:
            return None if tell is None else lambda text: tell(self.run, identity, text)
        hear = live.begin(self.run, identity, self.journal.epoch, attempt)

        def listen(text: str) -> None:
            hear(text)
            if tell is not None:
                tell(self.run, identity, text)

        return listen

    def end_deltas(self, identity: str) -> None:
        """An outcome has been recorded: once it is durable, what streamed before it is of no use."""
        live = self.world.live
        if live is not None and self.writer is not None:
            epoch = self.journal.epoch
            self.writer.when_durable(lambda: live.conclude(self.run, identity, epoch))

    async def outside(self, work: Coroutine[Any, Any, T], *, established: bool = False) -> T:
        """Do a piece of work with the world. The code hears of the result in its turn; so must the journal.

        Inside, the context cannot be used: what a tool or a step did with it would be missing on replay.
        Raises CancelledError when the code cancels it before there is a result. ``established`` says that the
        result is there to be fetched, so that it cannot be too late for it.
        """
        if not established:
            self.late_cancels.strike(work)
        task = self._task()
        self.progress.effect_started(task)
        token = current_scope.set(None)
        try:
            result = await work
        except BaseException:
            # That it was cut off, too, the code hears in its turn.
            with suppress(asyncio.CancelledError):
                if not self.progress.effect_ended(task):
                    await self.progress.take_turn(task)
            raise
        finally:
            current_scope.reset(token)
        try:
            if not self.progress.effect_ended(task):
                await self.progress.take_turn(task)
        except asyncio.CancelledError:
            # What has happened is known: it is recorded, and the code is cut off at its next operation.
            if self.stopped is None:
                self.strike_next()
        return result

    # The outside

    @overload
    async def from_outside(self, identity: str, reason: WaitReason) -> Envelope: ...
    @overload
    async def from_outside(
        self, identity: str, reason: WaitReason, *, due: int | None, signal: str | None = None
    ) -> Envelope | None: ...
    async def from_outside(
        self, identity: str, reason: WaitReason, *, due: int | None = None, signal: str | None = None
    ) -> Envelope | None:
        """The next event written from outside for this operation, or the next signal of a name.

        None when it is ``due`` (µs since 1970) and nothing has come. Part of a work with the world.
        """
        while True:
            left_seconds = None if due is None else (due - await self.now()) / 1_000_000
            found = self.come(identity, signal)
            if found is not None or (left_seconds is not None and left_seconds <= 0):
                return found
            await self._until_woken(
                identity, Wait(reason, due, signal, asyncio.get_running_loop().create_future()), left_seconds
            )

    async def _until_woken(self, identity: str, wait: Wait, seconds: float | None) -> None:
        self.waits[identity] = wait
        self.progress.wait_started()
        loop = asyncio.get_running_loop()
        alarm = None if seconds is None else loop.call_later(min(seconds, LOOK_AT_CLOCK_SECONDS), wait.wake)
        try:
            await wait.woken
            if self.parking is not None:
                await self.parking.wait()
        finally:
            if alarm is not None:
                alarm.cancel()
            self.waits.pop(identity, None)
            self.progress.wait_ended()
            if self.limit is not None:
                self.limit.go_on()

    def come(self, identity: str, signal: str | None = None) -> Envelope | None:
        """What has come from outside for this operation and is not taken yet, the oldest; or a signal of a name."""
        kept = self.journal.signals.get(signal) if signal is not None else None
        if kept:
            return kept.pop(next(iter(kept)))
        operation = self.journal.operations.get(identity)
        return operation.outside.pop(0) if operation is not None and operation.outside else None

    async def now(self) -> int:
        """The log's clock, by which timers are due: microseconds since 1970."""
        return await self.world.log.coordination.now()

    @property
    def version(self) -> int:
        """The last version of the run's stream that is known here."""
        assert self.writer is not None
        return max(self.writer.version, self.journal.version)

    def observe(self, identity: str, found: Envelope) -> Event:
        """Record that the code sees an event from outside now."""
        signal = found.event.name if isinstance(found.event, RunSignalled) else None
        self.record(InputReceived(operation=identity, event_id=found.event_id, signal=signal))
        self.in_doubt.discard(identity)
        return found.event

    def settle(self, settled: ToolCallSettled) -> Envelope:
        """Record a settlement that the run itself has found out; as one from outside would come in, to be observed."""
        draft = self.draft(settled)
        self.record(settled, draft)
        return Envelope(0, draft.event_id, 0, self.run, 0, draft.type, self.correlation, {}, settled)

    def on_gap(self) -> None:
        """Events from outside stand in the stream: read them."""
        self.gap = True
        if self.catching_up is None or self.catching_up.done():
            self.catching_up = asyncio.get_running_loop().create_task(self.catch_up())

    async def look_outside(self) -> None:
        """Take in what has been written from outside by now, without waiting for a write of our own to show it."""
        self.on_gap()
        await self.caught_up()

    async def caught_up(self) -> None:
        """Return when what was noticed to have been written from outside has been taken in."""
        catching_up = self.catching_up
        if catching_up is not None:
            # Who is cut off here is not the only one to wait for it; and who is not shall not be, when the run is.
            await asyncio.wait([catching_up])
            if not catching_up.cancelled():
                catching_up.result()

    async def catch_up(self) -> None:
        """Take in what was written from outside, and wake those who wait for it."""
        while self.gap:
            self.gap = False
            try:
                rows = await self.world.log.read_stream(self.run, after=self.journal.version)
            except EvrtError as error:
                self.stop(Stop("log", error))
                return
            for envelope in envelopes(rows):
                self._take_in(envelope)

    def _take_in(self, envelope: Envelope) -> None:
        own = envelope.meta.get("epoch") == self.journal.epoch  # A settlement by a tool's own function.
        if envelope.type in CONTROL:
            self.journal.apply(envelope)
            self.obey()
            return
        if own or envelope.type not in OUTSIDE | {SIGNALLED}:
            self.journal.version = envelope.version
            return
        self.journal.apply(envelope)
        if isinstance(envelope.event, RunSignalled):
            for wait in self.waits.values():
                if wait.signal == envelope.event.name:
                    wait.wake()
        elif (waiting := self.waits.get(operation_of(envelope.event))) is not None:
            waiting.wake()

    # The end

    def stop(self, stop: Stop) -> RunStopped:
        """Stop the run's code: every task is cancelled, every further operation refused. Returns what to raise."""
        if self.stopped is None:
            self.stopped = stop
            current = asyncio.current_task()
            for task in self.tasks:
                if task is not current:
                    task.cancel()
            self.progress.close()
        return RunStopped(self.stopped)

    def wind_down(self, stop: Stop) -> None:
        """Stop the code; if it makes writes that could only be left in doubt, once these have come to their ends."""
        self.winding_down = self.winding_down or stop
        if not self.writing:
            self.stop(self.winding_down)

    def write_ended(self, identity: str) -> None:
        """A write without a key has its outcome, or is in doubt."""
        self.writing.discard(identity)
        if self.winding_down is not None:
            self.wind_down(self.winding_down)

    def obey(self) -> None:
        """Do what somebody outside wants to become of the run."""
        if self.journal.cancel_requested is not None:
            self.wind_down(Stop("cancelled"))
        elif self.journal.paused:
            self.wind_down(Stop("paused"))

    def report_if_lost(self, reported: ToolCallReported) -> None:
        """Keep what a write came to until its outcome, the event recorded last, is durable."""
        assert self.writer is not None
        self.late.append((self.writer.recorded, reported))
        while self.late[0][0] <= self.writer.landed:
            self.late.popleft()

    async def report_late(self) -> None:
        """After losing the claim: tell what writes came to whose outcomes were refused."""
        assert self.writer is not None
        # Their meta names no epoch: they are written from outside the claim that was lost.
        meta: JsonObject = {"actor": LATE_ACTOR}
        if self.journal.continued:
            meta[CONTINUED] = self.journal.continued
        late = [
            self.writer.draft(event, meta=orjson.dumps(meta))
            for place, event in self.late
            if place > self.writer.landed
        ]
        if late:
            with suppress(EvrtError):  # What stopped the run matters more than that nobody can be told.
                await self.world.log.append(Append(late, {}, beside=(Wake(self.run),)))


def _has_lost(scope: Scope | None) -> bool:
    while scope is not None:
        if scope.lost:
            return True
        scope = scope.parent
    return False
