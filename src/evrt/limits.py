"""Limits on the runs of an agent or workflow, for all workers together: how many at once, how many in a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol, TypedDict

from evrt.errors import UsageError
from evrt.retry import parse_seconds

PRIORITY_MAX = 1_000
"""Priorities lie between minus this and this; higher ones go first, 0 is the usual one."""


@dataclass(frozen=True, slots=True)
class RateLimit:
    """At most ``count`` runs begin ``per`` a length of time ("1m", or seconds); the others wait their turn.

    ``by`` says what is counted together: all runs of the target, those of one user, or of one conversation.
    Raises UsageError.
    """

    count: int
    per: str | float
    by: Literal["target", "user", "conversation"] = "target"

    def __post_init__(self) -> None:
        if type(self.count) is not int or self.count < 1:
            raise UsageError(
                f"RateLimit: count is {self.count!r}; it has to be a whole number of at least 1."
            )
        if self.by not in ("target", "user", "conversation"):
            raise UsageError(f"RateLimit: by is {self.by!r}; it can be 'target', 'user' or 'conversation'.")
        if self.per_seconds <= 0:
            raise UsageError(f"RateLimit: per is {self.per!r}; it has to be longer than nothing.")

    @property
    def per_seconds(self) -> float:
        return parse_seconds(self.per)


def check_runs_max(runs_max: int | None) -> int | None:
    """A cap on runs at once, as it was given. Raises UsageError."""
    if runs_max is not None and (type(runs_max) is not int or runs_max < 1):
        raise UsageError(
            f"runs_max is {runs_max!r}; it has to be a whole number of at least 1, or None for no limit."
        )
    return runs_max


def check_priority(priority: int) -> int:
    """A priority, as it was given. Raises UsageError."""
    if type(priority) is not int or not -PRIORITY_MAX <= priority <= PRIORITY_MAX:
        raise UsageError(
            f"A priority is a whole number from -{PRIORITY_MAX} to {PRIORITY_MAX}, higher ones first; not {priority!r}."
        )
    return priority


OnError = Callable[[Exception], bool | None]
"""Says of an error that escaped a run's code whether trying again may mend it; None where it cannot tell."""


class Named(Protocol):
    """A workflow, as far as a policy has to know one."""

    @property
    def name(self) -> str: ...


@dataclass(frozen=True, slots=True)
class RunPolicy:
    """How runs of one target are executed, beside their time-out and their attempts.

    ``runs_max``: how many may be executed at once, by all workers together. ``rate``: how many may begin in a
    time. ``on_error``: whether a run may be attempted again that ended with this error. ``on_end``: a workflow, or
    its name, that is run, as a run of its own, whenever one of these has ended.
    """

    runs_max: int | None = None
    rate: RateLimit | None = None
    on_error: OnError | None = None
    on_end: str | Named | None = None

    def __post_init__(self) -> None:
        check_runs_max(self.runs_max)
        if self.rate is not None and not isinstance(self.rate, RateLimit):
            raise UsageError(f"rate is {self.rate!r}; give a RateLimit(count, per), or None for no limit.")

    @property
    def hook(self) -> str | None:
        """The name of the workflow that is run at an end."""
        return self.on_end if self.on_end is None or isinstance(self.on_end, str) else self.on_end.name

    def may_retry(self, error: Exception) -> bool | None:
        """What ``on_error`` says, else the error's own attribute ``retriable``; None where neither tells."""
        said = None if self.on_error is None else self.on_error(error)
        return getattr(error, "retriable", None) if said is None else said


class RunPolicyArguments(TypedDict, total=False):
    """The same, as keyword arguments."""

    runs_max: int | None
    rate: RateLimit | None
    on_error: OnError | None
    on_end: str | Named | None


PLAIN = RunPolicy()
