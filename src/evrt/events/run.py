"""What happens to a run as a whole: asked for, claimed, waiting, ended."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict

from evrt.events.base import Event, JsonValue, register

Kind = Literal["agent", "workflow"]
WaitReason = Literal[
    "question", "approval", "timer", "signal", "child", "in_doubt", "retry", "paused", "diverged", "handover"
]
"""handover: its worker was stopped in good order, and another will go on."""
ClaimReason = Literal["start", "resume", "retry", "takeover", "cancel"]
"""takeover: whoever had claimed it is gone. That counts as an attempt."""


StepLimit = Literal["model_turns", "tool_rounds", "tokens", "cost", "wall_clock", "tool_errors"]
"""Limits of an agent's loop; tool_errors: too many in a row."""

CANCELLED = "cancelled"
"""Error type of an operation that the code itself cut off, by a time-out of its own for example."""


WORKER_LOST = "worker_lost"
"""Error type of a run whose workers were lost at every attempt."""

UNKNOWN_TARGET = "unknown_target"
"""Error type of a run of an agent or workflow that no worker has."""


class Failure(BaseModel):
    """An error as the log keeps it. ``error_type`` is an exception's class name, ``timeout`` or ``cancelled``."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    error_type: str
    message: str


class Delegation(BaseModel):
    """Why an agent runs for another one: for a piece of work (``delegate``), or to take over (``handoff``).

    ``above`` names the agents that stand above it, the first one first. ``approvals`` is what the one above needs leave
    for: it holds below as well, for an agent that has no such policy of its own.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    mode: Literal["delegate", "handoff"]
    above: tuple[str, ...]
    approvals: JsonValue = None


@register
class RunRequested(Event):
    """Somebody wants this agent or workflow to run on this input."""

    type: ClassVar[str] = "run.requested"
    volatile: ClassVar[frozenset[str]] = frozenset(
        {
            "conversation",
            "user",
            "priority",
            "not_before",
            "idempotency_key",
            "parent",
            "operation_of_parent",
            "supersedes",
            "schedule",
            "tick",
            "on_end",
            "on_end_timeout_seconds",
            "agent",
            "system",
            "defined_at",
        }
    )
    came_later: ClassVar[frozenset[str]] = frozenset(
        {"revision", "system_revision", "model", "untrusted", "delegation", "toolgroups"}
    )

    target: str
    kind: Kind
    input: JsonValue = None
    conversation: str | None = None
    user: str | None = None
    timeout_seconds: float | None = None
    model_turns_max: int | None = None
    priority: int = 0
    not_before: int | None = None
    """Microseconds since 1970; so is ``tick``."""
    idempotency_key: str | None = None
    parent: str | None = None
    """The run that this one is a child of, and the operation there that waits for it."""
    operation_of_parent: str | None = None
    supersedes: str | None = None
    """The run that this one takes the place of."""
    schedule: str | None = None
    """The schedule it was started by, and for which of its ticks."""
    tick: int | None = None
    on_end: str | None = None
    """The workflow that is run when this one has ended, and how long that may take."""
    on_end_timeout_seconds: float | None = None
    agent: str | None = None
    """Ref of the agent, where it is defined as data, and its revision, which the run keeps to."""
    revision: int | None = None
    system: str | None = None
    """Ref of the system that the agent works in, and its revision."""
    system_revision: int | None = None
    defined_at: int | None = None
    """Position of the log as of which all of that counts: the agent, those it inherits from, and the system."""
    model: str | None = None
    """The model that was asked for in place of the agent's own."""
    untrusted: tuple[str, ...] = ()
    """Where what its input holds may come from, beyond those who may be trusted: see ``Context.untrusted``."""
    delegation: Delegation | None = None
    """Of an agent that runs for another one."""
    toolgroups: tuple[str, ...] | None = None
    """The groups of tools, or single ones as ``group/tool``, that it has in place of its agent's own groups."""


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
    """Nothing more can be done until somebody answers, settles, or mends the code, or a time has come."""

    type: ClassVar[str] = "run.waiting"

    reason: WaitReason
    operations: tuple[str, ...] = ()
    due: int | None = None
    """When it goes on whatever comes, microseconds since 1970: the earliest time-out or end of a sleep."""


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
    """The agent used up one of its limits; the summary is its best effort to say how far it got."""

    type: ClassVar[str] = "run.step_limit_reached"
    came_later: ClassVar[frozenset[str]] = frozenset({"limit"})

    model_turns_max: int
    summary: str | None = None
    limit: StepLimit | None = None
    """Which of the agent's limits it was, where it was not the turns."""


@register
class InputReceived(Event):
    """The run's code observed an event written from outside (an answer, a signal, a settlement): replay knows when."""

    type: ClassVar[str] = "input.received"
    volatile: ClassVar[frozenset[str]] = frozenset({"event_id"})

    operation: str
    event_id: str
    signal: str | None = None
    """Name of the signal, where it was one: this is then the outcome of the operation that waited for it."""


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


@register
class RunCancelRequested(Event):
    """Somebody wants the run to end; its worker ends it at its next operation."""

    type: ClassVar[str] = "run.cancel_requested"

    by: str | None = None
    reason: str | None = None


@register
class RunCancelled(Event):
    """The run ended because somebody wanted it to."""

    type: ClassVar[str] = "run.cancelled"
    volatile: ClassVar[frozenset[str]] = frozenset({"by", "summary"})

    by: str | None = None
    reason: str | None = None
    summary: str | None = None
    """The last that the run said or did, where it had got that far."""


@register
class RunPaused(Event):
    """Somebody wants the run to begin nothing more until it is unpaused."""

    type: ClassVar[str] = "run.paused"

    by: str | None = None


@register
class RunUnpaused(Event):
    """A run that was paused may go on."""

    type: ClassVar[str] = "run.unpaused"

    by: str | None = None


@register
class RunSignalled(Event):
    """A message to the run from outside: its code receives those of one name in their order."""

    type: ClassVar[str] = "run.signalled"
    volatile: ClassVar[frozenset[str]] = frozenset({"by"})

    name: str
    payload: JsonValue = None
    by: str | None = None


@register
class RunContinued(Event):
    """The code begins anew with this state; what came before is history, and is not replayed any more."""

    type: ClassVar[str] = "run.continued"
    volatile: ClassVar[frozenset[str]] = frozenset({"kept", "children"})
    came_later: ClassVar[frozenset[str]] = frozenset({"untrusted"})

    state: JsonValue = None
    kept: tuple[int, ...] = ()
    """Versions of the events from outside that the code had not received yet: they are kept for it."""
    children: tuple[str, ...] = ()
    """Runs that it had started and that had not ended."""
    untrusted: tuple[str, ...] = ()
    """Where what the code has read so far may come from, beyond those who are trusted: its state may hold it."""


@register
class RunSuperseded(Event):
    """Another run takes the place of this one, which has ended."""

    type: ClassVar[str] = "run.superseded"
    volatile: ClassVar[frozenset[str]] = frozenset({"run"})

    run: str


@register
class TimerSet(Event):
    """The code sleeps until ``due`` (microseconds since 1970), or waits until then at most for a signal of this name."""

    type: ClassVar[str] = "timer.set"
    volatile: ClassVar[frozenset[str]] = frozenset({"due"})

    operation: str
    digest: str
    due: int
    signal: str | None = None


@register
class TimerFired(Event):
    """The time of a timer had come."""

    type: ClassVar[str] = "timer.fired"

    operation: str


@register
class WaitCancelled(Event):
    """The code cut off a wait of its own, for a time, a signal or an approval: by a time-out, or as it lost a race."""

    type: ClassVar[str] = "wait.cancelled"
    volatile: ClassVar[frozenset[str]] = frozenset({"latency_ms"})

    operation: str
    latency_ms: float = 0.0


@register
class ChildStarted(Event):
    """The code started a run of its own, which is executed for itself and ends for itself."""

    type: ClassVar[str] = "child.started"
    volatile: ClassVar[frozenset[str]] = frozenset({"child"})

    operation: str
    digest: str
    child: str
    target: str


@register
class ChildEnded(Event):
    """How a child ended; written with its end, from outside its parent's claim."""

    type: ClassVar[str] = "child.ended"
    volatile: ClassVar[frozenset[str]] = frozenset({"child"})

    operation: str
    child: str
    status: str
    output: JsonValue = None
    failure: Failure | None = None
    """Of a child that did not succeed; ``error_type`` is ``cancelled``, ``timeout`` or ``step_limit`` where it did not fail."""
    elsewhere: bool = False
    """Whether the output is too large to stand here as well: the child's own last event has it."""


TERMINAL = frozenset(
    {"run.succeeded", "run.failed", "run.cancelled", "run.timed_out", "run.step_limit_reached"}
)
"""Exactly one of these ends a run."""
