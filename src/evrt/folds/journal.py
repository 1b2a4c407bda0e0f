"""A run's journal: its stream folded into operations with intents and outcomes.

Outcomes written by the runner count where they stand. Those written from outside (an answer, a decision, a
signal, a settlement, a late report) count where the runner noted with ``input.received`` that its code
saw them, so that a replay releases them at the same moment.

Where the code continued as another state (``run.continued``) a new chapter begins: the journal forgets what the
code had done, and keeps what is still to reach it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from evrt.events import Envelope, Event, JsonObject, JsonValue
from evrt.events.calls import (
    ModelCallFailed,
    QuestionAnswered,
    QuestionExpired,
    StepFailed,
    ToolCallFailed,
    ToolCallInDoubt,
    ToolCallReported,
    ToolCallRequested,
    ToolCallSettled,
    ValueRecorded,
)
from evrt.events.run import (
    CANCELLED,
    TERMINAL,
    UNKNOWN_TARGET,
    WORKER_LOST,
    ChildEnded,
    ChildStarted,
    Failure,
    InputReceived,
    RunCancelled,
    RunClaimed,
    RunContinued,
    RunFailed,
    RunRequested,
    RunRetryScheduled,
    RunSignalled,
    RunTimedOut,
    RunWaiting,
    TimerSet,
    WaitCancelled,
    WaitReason,
)

INTENTS = frozenset(
    {
        "step.started",
        "model_call.requested",
        "tool_call.requested",
        "question.asked",
        "approval.requested",
        "timer.set",
        "child.started",
    }
)
FAILURES = frozenset({"step.failed", "model_call.failed", "tool_call.failed"})
OUTSIDE = frozenset(
    {"question.answered", "approval.decided", "tool_call.settled", "tool_call.reported", "child.ended"}
)
SIGNALLED = "run.signalled"
"""Comes from outside as well, and belongs to no operation before its code has received it."""
CONTROL = frozenset({"run.cancel_requested", "run.paused", "run.unpaused"})
"""What somebody outside wants to become of the run."""
PRECEDENCE: tuple[WaitReason, ...] = ("in_doubt", "approval", "question", "signal", "child", "timer")
"""Of several reasons to wait, the one that is said: what asks most of a person comes first."""
REASONS: dict[str, WaitReason] = {
    "approval": "approval",
    "question": "question",
    "signal": "signal",
    "timer": "timer",
}
"""Why an operation of a kind waits, while it is open."""
AT_ONCE = frozenset(
    {
        "value.recorded",
        "run.emitted",
        "checkpoint.saved",
        "message.produced",
        "error.reported",
        "guard.applied",
        "tier.selected",
        "shield.evaluated",
        "context.compacted",
    }
)
"""Outcomes the code never waits for, so that they take no part in the order of release."""
OUTCOMES = AT_ONCE | {
    "step.completed",
    "model_call.completed",
    "tool_call.completed",
    "memory.written",
    "memory.recalled",
    "conversation.recalled",
    "journey.written",
    "journey.recalled",
    "question.expired",
    "timer.fired",
    "wait.cancelled",
    "race.won",
}
KIN = ("root", "parent", "parent_correlation")
"""What the meta of a child's events says: the first run of its family; the run that started it; and that one's
correlation, where the child has a conversation of its own."""
PARENT_CONTINUED = "parent_continued"
"""Key in the meta of a child's request: version of the ``run.continued`` that its parent's chapter had begun at."""


@dataclass(slots=True)
class Operation:
    """One operation of a run, as far as the journal knows it."""

    identity: str
    kind: str
    intent: Envelope | None = None
    outcome: Envelope | None = None
    attempts: int = 0
    """Attempts that have begun, as far as recorded."""
    began: int = 0
    """The version of its first event."""
    reopened: Envelope | None = None
    """The failure that does not count any more, as the run was to be attempted again."""
    attempts_before: int = 0
    """Attempts that had been made then: the policy of its tool, step or model call counts from there."""
    in_doubt: bool = False
    outside: list[Envelope] = field(default_factory=list)
    """Events from outside that the code has not observed yet, oldest first."""

    @property
    def digest(self) -> str | None:
        """Digest of the arguments, from the intent or, where there is none, the outcome."""
        for envelope in (self.intent, self.outcome, self.reopened):
            found: str | None = getattr(envelope.event, "digest", None) if envelope else None
            if found is not None:
                return found
        return None

    @property
    def open(self) -> bool:
        return self.outcome is None

    @property
    def due(self) -> int | None:
        """When its time is over, microseconds since 1970; None where it waits for as long as it takes."""
        return None if self.intent is None else getattr(self.intent.event, "due", None)


@dataclass(slots=True)
class Journal:
    """The fold of a run's stream. ``order`` lists awaited operations as their outcomes were seen."""

    run: str
    version: int = 0
    epoch: int = 0
    requested: RunRequested | None = None
    correlation: str | None = None
    terminal: Envelope | None = None
    operations: dict[str, Operation] = field(default_factory=dict)
    order: list[str] = field(default_factory=list)
    failed_attempts: int = 0
    """Attempts of the run that have failed since one that had been reopened came to a result.

    What others come to beside it does not count: something that beats in a branch of its own does so at every attempt.
    """
    lost_claims: int = 0
    """How often in a row whoever had claimed the run was lost before an operation was completed."""
    waits_for_retry: bool = False
    attempted_whole: bool = False
    """Whether the error of the last attempt came from the code itself, and nothing has been completed since."""
    cancel_requested: Envelope | None = None
    paused: bool = False
    waiting_for: tuple[str, ...] = ()
    """What it was parked for, as long as nobody has claimed it since."""
    signals: dict[str, dict[str, Envelope]] = field(default_factory=dict)
    """Signals that the code has not received yet: by their name, and then by event id, oldest first."""
    state: JsonValue = None
    """What the code continued as."""
    continued: int = 0
    """Version of the ``run.continued`` that this chapter begins at; 0 in the first."""
    continued_epoch: int = 0
    untrusted: tuple[str, ...] = ()
    """What the code had read of outside by then: see ``Context.untrusted``."""
    patches: set[str] = field(default_factory=set)
    """Changes of the code that this chapter was executed with from where they stand (``ctx.patched``)."""
    children: dict[str, str] = field(default_factory=dict)
    """Runs that this one has started, in any chapter, and that have not ended; with their targets, or the empty text."""
    started: dict[str, str] = field(default_factory=dict)
    """The children of this chapter, by the operations that started them."""
    kin: JsonObject = field(default_factory=dict)
    """Of a child what its meta says of its parent: see ``KIN``."""
    parent_continued: JsonValue = None

    def apply(self, envelope: Envelope) -> None:
        """Take in the next event of the stream."""
        self.version = envelope.version
        event = envelope.event
        kind = envelope.type
        if kind in TERMINAL:
            self.terminal = envelope
        elif isinstance(event, RunRequested):
            self.requested = event
            self.correlation = envelope.correlation
            self.kin = {name: envelope.meta[name] for name in KIN if name in envelope.meta}
            self.parent_continued = envelope.meta.get(PARENT_CONTINUED)
        elif isinstance(event, RunClaimed):
            self.epoch = event.epoch
            self.waits_for_retry = False
            self.lost_claims += event.reason == "takeover"
            self.waiting_for = ()
        elif kind in CONTROL:
            self._take_order(envelope)
        elif isinstance(event, RunWaiting):
            self.waiting_for = event.operations
        elif isinstance(event, RunSignalled):
            self.signals.setdefault(event.name, {})[envelope.event_id] = envelope
        elif isinstance(event, RunRetryScheduled):
            self._reopen(event)
        elif isinstance(event, RunContinued):
            self._continue(envelope, event)
        else:
            identity = operation_of(event)
            if identity and kind != "run.diverged" and self._is_of_this_chapter(identity, event):
                self._apply_to(self._operation(identity, envelope), envelope, event)

    def _take_order(self, envelope: Envelope) -> None:
        if envelope.type == "run.cancel_requested":
            self.cancel_requested = self.cancel_requested or envelope
        else:
            self.paused = envelope.type == "run.paused"

    def _is_of_this_chapter(self, identity: str, event: Event) -> bool:
        """Whether an event belongs to an operation of this chapter; other news that it brings is noted here."""
        if isinstance(event, ChildStarted):
            self.note_child(event)
        elif isinstance(event, ChildEnded):
            self.children.pop(event.child, None)
            # An identity is used again after the code has continued; a child is not.
            return self.started.get(identity) == event.child
        elif isinstance(event, ToolCallReported):
            return event.epoch >= self.continued_epoch
        elif isinstance(event, ValueRecorded) and event.kind == "patched":
            self.patches.add(str(event.value))
            return False
        return True

    def note_child(self, event: ChildStarted) -> None:
        """A child has been started, and its end can come from outside."""
        self.children[event.child] = event.target
        self.started[event.operation] = event.child

    def _continue(self, envelope: Envelope, event: RunContinued) -> None:
        """The code has begun anew: forget what it had done before."""
        epoch = envelope.meta.get("epoch")
        if isinstance(epoch, int):
            self.epoch = epoch
        self.state = event.state
        self.continued, self.continued_epoch = envelope.version, self.epoch
        self.operations, self.order, self.patches, self.started = {}, [], set(), {}
        self.failed_attempts = self.lost_claims = 0
        self.waits_for_retry = self.attempted_whole = False
        self.children = {child: self.children.get(child, "") for child in event.children}
        self.untrusted = event.untrusted

    def kept(self) -> tuple[int, ...]:
        """Versions of the signals that the code has not received yet, oldest first."""
        return tuple(sorted(kept.version for named in self.signals.values() for kept in named.values()))

    def _operation(self, identity: str, envelope: Envelope) -> Operation:
        operation = self.operations.get(identity)
        if operation is None:
            operation = Operation(identity, kind_of(envelope), began=envelope.version)
            self.operations[identity] = operation
        return operation

    def _apply_to(self, operation: Operation, envelope: Envelope, event: Event) -> None:
        kind = envelope.type
        if kind in INTENTS:
            operation.intent = operation.intent or envelope
            operation.attempts = max(operation.attempts, getattr(event, "attempt", 1))
        elif kind in FAILURES:
            assert isinstance(event, StepFailed | ModelCallFailed | ToolCallFailed)
            operation.attempts = max(operation.attempts, event.attempt)
            if event.final:
                self._close(operation, envelope)
            else:
                operation.attempts += 1  # The failed attempt's event is the next attempt's intent.
        elif kind in OUTCOMES:
            self._close(operation, envelope)
        elif kind in OUTSIDE:
            operation.outside.append(envelope)
        elif isinstance(event, ToolCallInDoubt):
            operation.in_doubt = True
            operation.outside = [e for e in operation.outside if e.event_id != event.refused]
        elif isinstance(event, InputReceived):
            if event.signal is not None:
                self._close(operation, self.signals.get(event.signal, {}).pop(event.event_id, envelope))
            else:
                self._observe(operation, event.event_id)

    def _close(self, operation: Operation, envelope: Envelope) -> None:
        if operation.outcome is None:
            operation.outcome = envelope
            operation.in_doubt = False
            if envelope.type not in AT_ONCE:
                self.order.append(operation.identity)
                self.lost_claims = 0
                if self.attempted_whole:
                    self.attempted_whole = False
                    self.failed_attempts = 0
                if operation.reopened is not None and established(envelope.event)[0]:
                    self.failed_attempts = 0

    def _waits_for_child(self, identity: str) -> bool:
        known = self.operations.get(identity)
        return identity in self.started and known is not None and known.open and not known.outside

    def _observe(self, operation: Operation, event_id: str) -> None:
        seen = next((e for e in operation.outside if e.event_id == event_id), None)
        if seen is None:
            return
        # What came from outside before it and was passed over will not be looked at again.
        operation.outside = operation.outside[operation.outside.index(seen) + 1 :]
        if isinstance(seen.event, ToolCallSettled) and seen.event.outcome == "again":
            operation.in_doubt = False
        else:
            self._close(operation, seen)

    def _reopen(self, event: RunRetryScheduled) -> None:
        self.failed_attempts = event.attempt
        self.waits_for_retry = True
        self.attempted_whole = not event.reopens
        operation = self.operations.get(event.reopens)
        if operation is None or operation.outcome is None or operation.outcome.type not in FAILURES:
            return
        operation.reopened, operation.outcome = operation.outcome, None
        operation.attempts_before = operation.attempts
        operation.attempts += 1  # This event is the next attempt's intent.
        self.order.remove(operation.identity)

    def may_reopen(self, identity: str) -> bool:
        """Whether an operation that has failed may be made again, and the code be led to the same place.

        Not a write without a key; nor a failure that trying again cannot mend, or that the code may have acted
        on, by beginning anything after it, in whichever branch, for branches may share what they know: what it
        did then, it would not do again if the operation succeeded.
        """
        known = self.operations.get(identity)
        failure = known.outcome if known is not None else None
        if known is None or failure is None or failure.type not in FAILURES or is_unkeyed_write(known):
            return False
        if getattr(failure.event, "retriable", None) is False:
            return False
        return all(other is known or other.began < failure.version for other in self.operations.values())

    def waiting_for_answer(self) -> list[Operation]:
        """Questions nobody has answered yet."""
        return [o for o in self.operations.values() if o.kind == "question" and o.open and not o.outside]

    def waiting_for_approval(self) -> list[Operation]:
        """Approvals that nobody has decided on yet."""
        return [o for o in self.operations.values() if o.kind == "approval" and o.open and not o.outside]

    def waiting_for_child(self) -> list[str]:
        """Operations it was parked for whose child has not ended yet; ``started`` has their runs."""
        return [identity for identity in self.waiting_for if self._waits_for_child(identity)]

    def waiting_for_settlement(self) -> list[Operation]:
        """Writes in doubt that nobody has settled or reported yet."""
        return [o for o in self.operations.values() if o.in_doubt and o.open and not o.outside]

    @property
    def has_cause(self) -> bool:
        """Whether something has come from outside that the code has not seen, and may be what it waits for."""
        came = any(operation.open and operation.outside for operation in self.operations.values())
        return came or self.cancel_requested is not None

    def reason_to_wait(self) -> WaitReason | None:
        """What the run waits for, as far as its operations say; None where none of them waits."""
        if self.waits_for_retry:
            return "retry"
        reasons = [
            REASONS[o.kind]
            for o in self.operations.values()
            if o.kind in REASONS and o.open and not o.outside
        ]
        reasons += ["signal" for identity in self.waiting_for if identity not in self.operations]
        reasons += ["child" for _ in self.waiting_for_child()]
        reasons += ["in_doubt" for _ in self.waiting_for_settlement()]
        return foremost(reasons) if reasons else None


def foremost(reasons: Iterable[WaitReason]) -> WaitReason:
    """The reason that is said where a run waits for several things."""
    return min(reasons, key=PRECEDENCE.index)


def fold_journal(run: str, envelopes: Iterable[Envelope]) -> Journal:
    """The journal of a run's whole stream: of the chapter that it is in."""
    journal = Journal(run)
    for envelope in envelopes:
        journal.apply(envelope)
    return journal


def kind_of(envelope: Envelope) -> str:
    """The kind of the operation that begins with this event: ``tool_call``, ``question``, ``timer``, ``signal`` …"""
    event = envelope.event
    if isinstance(event, WaitCancelled):
        return "signal"  # Waiting for one has no intent of its own.
    if isinstance(event, InputReceived | TimerSet) and event.signal is not None:
        return "signal"
    return envelope.type.partition(".")[0]


def fold_chapters(run: str, envelopes: Iterable[Envelope]) -> list[Journal]:
    """A journal for each chapter of a run's whole stream; what ends all but the last is their ``run.continued``."""
    journal = Journal(run)
    chapters: list[Journal] = []
    for envelope in envelopes:
        if envelope.type == "run.continued":
            # What the next chapter receives is taken from the signals that this one has left.
            left = {name: dict(kept) for name, kept in journal.signals.items()}
            chapters.append(replace(journal, version=envelope.version, terminal=envelope, signals=left))
        journal.apply(envelope)
    return [*chapters, journal]


def operation_of(event: Event) -> str:
    """The identity of the operation that an event belongs to; empty for events of the run as a whole."""
    identity: str = getattr(event, "operation", "")
    return identity


def unkeyed_writes_left_open(journal: Journal) -> dict[str, int]:
    """Writes without a key whose outcome nobody has established, nor called in doubt yet; with their attempts."""
    return {
        known.identity: known.attempts
        for known in journal.operations.values()
        if known.open and not known.in_doubt and not known.outside and is_unkeyed_write(known)
    }


def is_unkeyed_write(operation: Operation) -> bool:
    """Whether it was made as a write without an idempotency key, which may never be repeated."""
    intent = operation.intent.event if operation.intent is not None else None
    return isinstance(intent, ToolCallRequested) and intent.effect == "write" and intent.key is None


def ended_by_others(terminal: Event) -> bool:
    """Whether a run's end is not one that its code came to: how far the code would have got, nobody knows."""
    if isinstance(terminal, RunFailed):
        return terminal.failure.error_type in (WORKER_LOST, UNKNOWN_TARGET)
    return isinstance(terminal, RunTimedOut | RunCancelled)


def was_cancelled(event: Event) -> bool:
    """Whether an outcome says that the code itself cut the operation off, by a time-out of its own for example."""
    # Most outcomes have no such field, and of one that is missing pydantic takes long to say so.
    failure = event.__dict__.get("failure")
    return (
        isinstance(event, WaitCancelled)
        or (isinstance(event, QuestionExpired) and event.cause == CANCELLED)
        or (
            isinstance(failure, Failure)
            and failure.error_type == CANCELLED
            and not isinstance(event, ChildEnded)  # Of a child it says that somebody cancelled that.
        )
    )


def established(event: Event) -> tuple[bool, object]:
    """What an outcome establishes: (succeeded, value or failure), the same for outcomes from outside.

    A settled or reported outcome counts as the outcome it establishes.
    """
    if isinstance(event, ToolCallSettled | ToolCallReported):
        return (True, event.result) if event.failure is None else (False, event.failure)
    if isinstance(event, StepFailed | ModelCallFailed | ToolCallFailed):
        return False, event.failure
    if isinstance(event, QuestionAnswered):
        return True, event.answer
    if isinstance(event, ChildEnded):
        return (True, event.output) if event.failure is None else (False, event.failure)
    return True, getattr(event, "result", None)
