"""What running a run comes to. Ends are statuses, not exceptions; ``unwrap`` is for who prefers those."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from evrt.errors import (
    ReplayDivergence,
    RunCancelled,
    RunFailed,
    RunTimedOut,
    RunWaiting,
    StepLimitReached,
)
from evrt.events import JsonValue
from evrt.events.run import Failure, RunStepLimitReached, WaitReason
from evrt.folds.run import Status


@dataclass(frozen=True, slots=True)
class Result:
    """How a run ended, or that it waits: ``reason`` and ``waiting_for`` (operations) then say for what.

    ``output``: what the run returned; after a step limit the summary, if there is one.
    """

    run_id: str
    status: Status
    output: Any = None
    failure: Failure | None = None
    reason: WaitReason | None = None
    waiting_for: tuple[str, ...] = ()
    limit: RunStepLimitReached | None = None
    """Which limit was reached, after a step limit."""

    def __str__(self) -> str:
        if self.status == "succeeded":
            return str(self.output)
        detail = self.failure.message if self.failure else self.reason or self.output or ""
        return f"{self.run_id} {self.status}" + (f": {detail}" if detail else "")

    def unwrap(self) -> Any:
        """The output of a run that succeeded.

        Raises RunFailed, RunTimedOut, RunCancelled, StepLimitReached or RunWaiting for one that did not.
        """
        match self.status:
            case "succeeded":
                return self.output
            case "step_limit":
                raise StepLimitReached(
                    str(self),
                    run=self.run_id,
                    model_turns_max=self.limit.model_turns_max if self.limit else 0,
                    summary=self.output,
                    limit=(self.limit and self.limit.limit) or "model_turns",
                )
            case "timed_out":
                raise RunTimedOut(str(self), run=self.run_id)
            case "cancelled":
                raise RunCancelled(str(self), run=self.run_id)
            case "waiting":
                raise RunWaiting(str(self), run=self.run_id)
            case _:
                raise RunFailed(str(self), run=self.run_id)


@dataclass(frozen=True, slots=True)
class ReplayReport:
    """What replaying a run's code against its history came to.

    ``operations``: how many operations the history holds; ``complete``: the run had ended, and the
    code came to the same end; otherwise it followed the history to where that stops.
    """

    run_id: str
    ok: bool
    complete: bool
    operations: int
    digest: str
    divergence: ReplayDivergence | None = None
    recorded_output: JsonValue = None
    replayed_output: JsonValue = None
