"""What happens to a run as a whole: asked for, claimed, waiting, ended."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict

from evrt.events.base import Event, JsonValue, register

Kind = Literal["agent", "workflow"]
WaitReason = Literal["question", "in_doubt", "retry", "diverged"]
ClaimReason = Literal["start", "resume", "retry"]


CANCELLED = "cancelled"
"""Error type of an operation that the code itself cut off, by a time-out of its own for example."""


class Failure(BaseModel):
    """An error as the log keeps it. ``error_type`` is an exception's class name, ``timeout`` or ``cancelled``."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    error_type: str
    message: str


@register
class RunRequested(Event):
    """Somebody wants this agent or workflow to run on this input."""

    type: ClassVar[str] = "run.requested"
    volatile: ClassVar[frozenset[str]] = frozenset({"conversation", "user"})

    target: str
    kind: Kind
    input: JsonValue = None
    conversation: str | None = None
    user: str | None = None
    timeout_seconds: float | None = None
    model_turns_max: int | None = None


@register
class RunClaimed(Event):
    """A process took the run; the stream's epoch rose to the one in this event's meta."""

    type: ClassVar[str] = "run.claimed"

    epoch: int
    worker: str
    reason: ClaimReason


@register
class RunStarted(Event):
    """The run's code began to execute for the first time."""

    type: ClassVar[str] = "run.started"


@register
class RunWaiting(Event):
    """Nothing more can be done until somebody answers, settles, or mends the code."""

    type: ClassVar[str] = "run.waiting"

    reason: WaitReason
    operations: tuple[str, ...] = ()


@register
class RunRetryScheduled(Event):
    """An attempt of the run failed, and it waits for the next one, in which one operation is made again.

    ``reopens`` is the operation whose error escaped the code: its failure does not count any more. ``attempt``
    counts attempts that have failed since one that was reopened came to a result.
    """

    type: ClassVar[str] = "run.retry_scheduled"

    reopens: str
    attempt: int
    delay_ms: float
    failure: Failure


@register
class RunDiverged(Event):
    """The code asked for something else than the history holds; the run is parked, not failed."""

    type: ClassVar[str] = "run.diverged"

    operation: str
    message: str
    recorded_position: int | None = None


@register
class RunSucceeded(Event):
    """The run ended with this output."""

    type: ClassVar[str] = "run.succeeded"

    output: JsonValue = None


@register
class RunFailed(Event):
    """An error escaped the run's code. ``operation`` names the operation it came from, if any."""

    type: ClassVar[str] = "run.failed"

    failure: Failure
    operation: str | None = None


@register
class RunTimedOut(Event):
    """Execution took longer than the time-out, waits not counted."""

    type: ClassVar[str] = "run.timed_out"

    timeout_seconds: float


@register
class RunStepLimitReached(Event):
    """The agent used up its model turns; the summary is its best effort to say how far it got."""

    type: ClassVar[str] = "run.step_limit_reached"

    model_turns_max: int
    summary: str | None = None


@register
class InputReceived(Event):
    """The run's code observed an event written from outside (an answer, a settlement): replay knows when."""

    type: ClassVar[str] = "input.received"
    volatile: ClassVar[frozenset[str]] = frozenset({"event_id"})

    operation: str
    event_id: str


@register
class MessageProduced(Event):
    """A message meant for the user of the run (``ctx.say``)."""

    type: ClassVar[str] = "message.produced"

    operation: str
    role: str
    content: JsonValue = None


@register
class ErrorReported(Event):
    """The code reports an error to the user and goes on (``ctx.report_error``)."""

    type: ClassVar[str] = "error.reported"

    operation: str
    message: str
    details: JsonValue = None


@register
class RunEmitted(Event):
    """Whatever the code wants readers of the run to see (``ctx.emit``), progress included."""

    type: ClassVar[str] = "run.emitted"

    operation: str
    name: str
    payload: JsonValue = None


@register
class CheckpointSaved(Event):
    """A state the code wants to be found again by; a snapshot for readers, never the truth."""

    type: ClassVar[str] = "checkpoint.saved"

    operation: str
    name: str | None = None
    state: JsonValue = None


@register
class GuardApplied(Event):
    """The loop stepped in: which guard, and what it did."""

    type: ClassVar[str] = "guard.applied"

    operation: str
    guard: str
    message: str


TERMINAL = frozenset({"run.succeeded", "run.failed", "run.timed_out", "run.step_limit_reached"})
"""Exactly one of these ends a run. (run.cancelled joins with cancelling.)"""
