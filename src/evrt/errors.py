"""Every error evrt raises, as one tree of what the caller can do about it.

    EvrtError
    ├── UsageError              mend the call, the code or the configuration
    │   ├── InvalidInput        a value that cannot be taken as it is
    │   │   └── PayloadTooLarge
    │   ├── WrongTask           an operation was awaited outside its scope's task
    │   ├── TierNotConfigured   no model is named for any tier
    │   └── ContextTooLarge     what a model has to be sent is more than the budget
    ├── NotFound                name something that exists
    ├── Conflict                somebody was first: read again, then decide
    │   ├── WrongVersion
    │   ├── Fenced              another process has claimed the run: stop
    │   └── RepeatMismatch
    ├── Denied                  get permission
    ├── Unavailable             try again later, or mend the disk
    ├── UnusableLog             this file is not a log this version can use
    ├── TreeDisagrees           log, tree or checkpoint has been changed: find out which
    ├── ReplayDivergence        the code does not do what the history says it did
    ├── OutcomeUnknown          raised by a tool that cannot tell whether its write happened: it is in doubt
    ├── OperationFailed         what a tool, a model or a step came to: an outcome
    │   ├── ToolFailed
    │   ├── ModelFailed
    │   ├── StepFailed
    │   ├── TimedOut            what was waited for did not come in time
    │   └── ChildFailed
    └── RunEnded                for callers who would rather catch than compare a status
        ├── RunFailed
        ├── RunTimedOut
        ├── RunCancelled
        ├── StepLimitReached
        └── RunWaiting

Each class carries the exit code that a command line should end with.
"""

from __future__ import annotations

from typing import ClassVar


class EvrtError(Exception):
    """Base of all errors of evrt; its text is one paragraph meant for a person."""

    exit_code: ClassVar[int] = 1


class UsageError(EvrtError):
    """The call, the code or the configuration has to change; trying again is no use."""

    exit_code = 2


class InvalidInput(UsageError):
    """A value given to evrt cannot be taken as it is."""


class PayloadTooLarge(InvalidInput):
    """An encoded event is larger than the log's limit."""


class WrongTask(UsageError):
    """A context operation was awaited in an asyncio task that its scope does not own."""


class TierNotConfigured(UsageError):
    """A model of some tier was asked for, and no model is named for any."""


class ContextTooLarge(UsageError):
    """What a model has to be sent takes more tokens than the budget of the agent's compaction, and cannot be shortened."""


class NotFound(EvrtError):
    """What was named does not exist."""

    exit_code = 3


class Conflict(EvrtError):
    """Another writer was first."""

    exit_code = 4


class WrongVersion(Conflict):
    """A stream is not at the version that the append expected."""


class Fenced(Conflict):
    """The run was claimed by somebody else: nothing more may be written for this claim."""


class RepeatMismatch(Conflict):
    """An append marked as a repeat found its event ids with other content."""


class Denied(EvrtError):
    """Permission is missing."""

    exit_code = 5


class Unavailable(EvrtError):
    """The log cannot be reached or written now: a lock is held, a disk is full or failing."""

    exit_code = 6


class UnusableLog(EvrtError):
    """The file is not an evrt log, is newer than this version, or is damaged."""

    exit_code = 2


class TreeDisagrees(EvrtError):
    """The log, the tree of its leaves and what was signed over it do not agree with one another."""


class ReplayDivergence(EvrtError):
    """The code asks for something else than its history recorded.

    Attributes
        operation: identity of the operation at which they part
        position: position of the recorded event, or None when the history has none
    """

    def __init__(self, text: str, *, operation: str, position: int | None = None) -> None:
        super().__init__(text)
        self.operation = operation
        self.position = position


class OutcomeUnknown(EvrtError):
    """A tool raises it where it cannot tell whether what it was to do has happened, as its connection broke say.

    A write without an idempotency key is in doubt then, as it is after a time-out; anything else may be tried again.
    """


class OperationFailed(EvrtError):
    """An operation ended in failure; the failure is recorded and replays the same.

    Attributes
        operation: identity of the operation, e.g. ``search#2``
        error_type: short name of the cause: an exception's class name, or ``timeout``
        message: the recorded text
    """

    def __init__(self, operation: str, error_type: str, message: str) -> None:
        super().__init__(f"{operation} failed: {error_type}: {message}")
        self.operation = operation
        self.error_type = error_type
        self.message = message


class ToolFailed(OperationFailed):
    """A tool raised, timed out, or returned what cannot be recorded."""


class ModelFailed(OperationFailed):
    """A model call failed after all its attempts."""


class StepFailed(OperationFailed):
    """The function given to ``ctx.step`` failed after all its attempts."""


class TimedOut(OperationFailed):
    """Nobody answered a question, or no signal came, in the time that the code gave."""


class ChildFailed(OperationFailed):
    """A child ended other than in success.

    Attributes
        child: the child's run
        status: how it ended: ``failed``, ``cancelled``, ``timed_out`` or ``step_limit``
    """

    def __init__(self, operation: str, error_type: str, message: str, *, child: str, status: str) -> None:
        super().__init__(operation, error_type, message)
        self.child = child
        self.status = status


class RunEnded(EvrtError):
    """A run ended other than in success, or waits (``Result.unwrap``)."""

    def __init__(self, text: str, *, run: str) -> None:
        super().__init__(text)
        self.run = run


class RunFailed(RunEnded):
    """The run's code raised."""


class RunTimedOut(RunEnded):
    """The run's execution took longer than its time-out."""


class RunCancelled(RunEnded):
    """Somebody wanted the run to end."""


class StepLimitReached(RunEnded):
    """An agent used up one of its limits.

    Attributes
        limit: which one: ``model_turns``, ``tool_rounds``, ``tokens``, ``cost``, ``wall_clock``, ``tool_errors``
        summary: the agent's best effort to say how far it got
    """

    def __init__(
        self, text: str, *, run: str, model_turns_max: int, summary: str | None, limit: str = "model_turns"
    ) -> None:
        super().__init__(text, run=run)
        self.model_turns_max = model_turns_max
        self.summary = summary
        self.limit = limit


class RunWaiting(RunEnded):
    """The run waits for a person or a settlement before it can go on."""
