"""One run being executed in this process: what every operation needs, and nothing about any one of them.

An operation binds its identity, asks for its recorded outcome, and if there is none does its work
and records it. The journal of the past comes in as a fold; new events go out through the writer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from random import random
from typing import Any

from evrt.effects.contract import Model, OnDelta
from evrt.errors import ReplayDivergence, WrongTask
from evrt.events import Envelope, Event, JsonValue
from evrt.events.calls import ToolCallReported
from evrt.events.run import InputReceived, RunTimedOut, WaitReason
from evrt.folds.journal import OUTSIDE, Journal, Operation, operation_of
from evrt.log.contract import Append, Draft, Log
from evrt.log.envelopes import envelopes
from evrt.runtime.identity import Scope, current_scope
from evrt.runtime.journal import JournalWriter, Turn
from evrt.runtime.progress import Progress
from evrt.runtime.stop import RunStopped, Stop
from evrt.runtime.transcript import Transcript
from evrt.seal import Redact, admit, keep

LATE_META = b'{"actor":"late worker"}'


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


@dataclass(slots=True, eq=False)
class Execution:
    """A run under one claim. ``offline`` replays: nothing is recorded, no effect can start."""

    world: World
    journal: Journal
    writer: JournalWriter | None
    progress: Progress
    owner: str | None = None
    conversation: str | None = None
    system: str | None = None
    scopes: dict[str, Scope] = field(default_factory=dict)
    asked: set[str] = field(default_factory=set)
    tasks: set[asyncio.Task[Any]] = field(default_factory=set)
    waits: dict[str, tuple[WaitReason, asyncio.Future[Envelope]]] = field(default_factory=dict)
    doubtful: set[str] = field(default_factory=set)
    """Writes without a key that are under way: cut off now, they would be in doubt."""
    late: dict[str, tuple[int, ToolCallReported]] = field(default_factory=dict)
    """Outcomes of such writes, with the append they go into, should the claim be lost by then."""
    cut_off: set[str] = field(default_factory=set)
    """Which of them were under way when the run was stopped."""
    transcripts: dict[str, Transcript] = field(default_factory=dict)
    """The last list of messages given to a model in each scope, to find what is new in the next."""
    tools_recorded: set[str] = field(default_factory=set)
    stopped: Stop | None = None
    catching_up: asyncio.Task[None] | None = None

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
            raise RunStopped(self.stopped)
        scope = current_scope.get()
        if scope is None or scope.execution is not self or scope.task is not asyncio.current_task():
            raise WrongTask(
                "A context operation was awaited in a task that is not the run's own, so its place in the history "
                "would be chance. Use `ctx.gather(...)` to do things at the same time, or `async with "
                "ctx.scope(key):` inside a task that something else created. Note that asyncio.wait_for makes a task "
                "of its own on Python 3.11: give the operation a timeout= instead."
            )
        return scope

    def bind(self, name: str) -> str:
        """The identity of an operation, at the moment it is first awaited."""
        identity = self.scope().next(name)
        self.asked.add(identity)
        return identity

    def enter(self, path: str, task: asyncio.Task[Any] | None, parent: Scope) -> Scope:
        """A scope by its path; entering it again goes on counting where it was left."""
        known = self.scopes.get(path)
        scope = Scope(self, path, task, parent, known.ordinals if known is not None else {})
        self.scopes[path] = scope
        return scope

    def branch_started(self, task: asyncio.Task[Any]) -> None:
        """A task begins to execute a part of the run."""
        self.tasks.add(task)
        self.progress.branch_started()

    def branch_ended(self, task: asyncio.Task[Any], *, hands_over: bool = False) -> None:
        """A task has done its part; with ``hands_over`` the one that waited for it runs in its place."""
        self.tasks.discard(task)
        if not hands_over:
            self.progress.branch_ended()

    # The past

    def is_new(self, identity: str) -> bool:
        """Whether this operation is plainly the present's: the past is complete and does not know it."""
        return (
            self.progress.live
            and self.writer is not None
            and self.journal.terminal is None
            and identity not in self.journal.operations
        )

    async def recorded(self, identity: str, kind: str, digest: str | None) -> Operation | None:
        """The operation with its outcome, when its turn comes; None when its outcome has yet to be made.

        An operation that is known but open comes back as None too, once the past is complete;
        ``journal.operations`` then says how far it got.
        """
        known = self.journal.operations.get(identity)
        if known is not None:
            self._compare(known, kind, digest)
            if known.outcome is not None:
                await self.progress.release(identity)
                return known
        await self.progress.go_live()
        if self.offline or self.journal.terminal is not None:
            self._past_the_end(identity, kind)
        return None

    def recorded_at_once(self, identity: str, kind: str) -> Event | None:
        """The recorded event of an operation that the code does not wait for."""
        known = self.journal.operations.get(identity)
        if known is None:
            if (self.offline and self.progress.live) or self.journal.terminal is not None:
                self._past_the_end(identity, kind)
            return None
        self._compare(known, kind, None)
        return known.outcome.event if known.outcome is not None else None

    def _compare(self, known: Operation, kind: str, digest: str | None) -> None:
        place = known.intent or known.outcome
        assert place is not None
        if known.kind != kind:
            self.diverge(
                known.identity,
                f"the history has a {known.kind} there (event {place.version}), the code asks for a {kind}",
                place.position,
            )
        if digest is not None and known.digest is not None and known.digest != digest:
            self.diverge(
                known.identity,
                f"the history has it with other arguments (event {place.version}, {_shown(place.event)})",
                place.position,
            )

    def _past_the_end(self, identity: str, kind: str) -> None:
        terminal = self.journal.terminal
        if terminal is not None and not isinstance(terminal.event, RunTimedOut):
            self.diverge(
                identity,
                f"the history ends there with {terminal.type} (event {terminal.version}), the code goes on with a {kind}",
                terminal.position,
            )
        raise self.stop(Stop("replayed"))

    def diverge(self, identity: str, what: str, position: int | None) -> None:
        """Stop the run because its code left its history."""
        error = ReplayDivergence(
            f"The code diverges from the history of {self.run} at {identity}: {what}. The run is parked, not "
            "failed: bring back the code it was started with, or start a new run.",
            operation=identity,
            position=position,
        )
        raise self.stop(Stop("diverged", error))

    def check_all_asked(self) -> None:
        """Diverge if the code has ended and the history knows operations that it never asked for."""
        for identity, known in self.journal.operations.items():
            if identity not in self.asked:
                place = known.intent or known.outcome
                if place is not None:
                    self.diverge(
                        identity,
                        f"the history has it (event {place.version}, {place.type}), the code ended without it",
                        place.position,
                    )

    # The present

    def draft(self, event: Event) -> Draft:
        """An event of this run, encoded. Raises InvalidInput or PayloadTooLarge, before anything is recorded."""
        assert self.writer is not None
        return self.writer.draft(event)

    def record(self, event: Event, drafted: Draft | None = None) -> None:
        """Record an event of this run, which may be drafted already; it is durable after the next barrier."""
        assert self.writer is not None
        self.writer.record(drafted or self.writer.draft(event))

    def barrier(self) -> Coroutine[Any, Any, None]:
        """Await this before any effect starts: it returns when everything recorded is durable."""
        assert self.writer is not None
        return self.writer.barrier()

    def admit(self, value: object) -> JsonValue:
        """A value as it is recorded and seen: JSON, redacted."""
        return admit(value, self.world.redact)

    def chance(self) -> float:
        """A number in [0, 1) for jitter: it delays an attempt and decides nothing, so it is not recorded."""
        return random()

    def delta_listener(self, identity: str) -> OnDelta | None:
        """Whom to tell of text as it streams in, if anybody wants to know."""
        tell = self.world.on_delta
        return None if tell is None else lambda text: tell(self.run, identity, text)

    def effect(self) -> Progress:
        """To be entered while the task waits for the world."""
        return self.progress

    # The outside

    async def from_outside(self, identity: str, reason: WaitReason) -> Envelope:
        """The next event written from outside for this operation, noted as observed."""
        operation = self.journal.operations.get(identity)
        if operation is not None and operation.outside:
            found = operation.outside.pop(0)
        else:
            waiter: asyncio.Future[Envelope] = asyncio.get_running_loop().create_future()
            self.waits[identity] = (reason, waiter)
            self.progress.wait_started()
            try:
                found = await waiter
            finally:
                self.waits.pop(identity, None)
                self.progress.wait_ended()
        self.record(InputReceived(operation=identity, event_id=found.event_id))
        return found

    def on_gap(self) -> None:
        """Events from outside stand in the stream: read them."""
        if self.catching_up is None or self.catching_up.done():
            self.catching_up = asyncio.get_running_loop().create_task(self.catch_up())

    async def catch_up(self) -> None:
        """Take in what was written from outside, and wake those who wait for it."""
        rows = await self.world.log.read_stream(self.run, after=self.journal.version)
        for envelope in envelopes(rows):
            if envelope.type not in OUTSIDE:
                self.journal.version = envelope.version
                continue
            self.journal.apply(envelope)
            identity = operation_of(envelope.event)
            reason_and_waiter = self.waits.get(identity)
            if reason_and_waiter is not None and not reason_and_waiter[1].done():
                reason_and_waiter[1].set_result(self.journal.operations[identity].outside.pop(0))

    # The end

    def stop(self, stop: Stop) -> RunStopped:
        """Stop the run's code: every task is cancelled, every further operation refused. Returns what to raise."""
        if self.stopped is None:
            self.stopped = stop
            self.cut_off = set(self.doubtful)
            current = asyncio.current_task()
            for task in self.tasks:
                if task is not current:
                    task.cancel()
        return RunStopped(self.stopped)

    async def report_late(self) -> None:
        """After losing the claim: tell what writes came to whose outcomes were refused."""
        assert self.writer is not None
        # Their meta names no epoch: they are written from outside the claim that was lost.
        late = [
            self.writer.draft(event, meta=LATE_META)
            for batch, event in self.late.values()
            if batch > self.writer.landed
        ]
        if late:
            await self.world.log.append(Append(late, {}))


def _shown(event: Event) -> str:
    fields: Mapping[str, object] = event.model_dump(exclude_none=True)
    name = (
        fields.get("tool") or fields.get("model") or fields.get("question") or fields.get("key") or event.type
    )
    arguments = fields.get("arguments")
    return f"{name}" if arguments is None else f"{name} {arguments}"
