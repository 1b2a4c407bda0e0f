"""What the story consists of: scenes with their checks, the processes that took part, the report of it all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from evrt.demo.deliveries import completed_writes
from evrt.demo.plan import Plan
from evrt.events import Envelope, JsonObject
from evrt.events.run import RunClaimed
from evrt.history import Run


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that has to hold. ``ok`` is None where it could not be looked at; the text says why."""

    name: str
    ok: bool | None
    text: str
    problems: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Scene:
    """An act that is over: what happened, things it lists, what was checked, and the facts for programs."""

    name: str
    title: str
    told: str
    listed: Sequence[str]
    checks: Sequence[Check]
    facts: JsonObject


@dataclass(frozen=True, slots=True)
class Span:
    """What one process did of the run: its first and its last event, its decisions, how it ended."""

    epoch: int
    pid: int
    first: Envelope
    last: Envelope
    decisions: int
    ended: str


@dataclass(slots=True)
class Report:
    """Everything that was found. ``killed_at`` is the run's last event before the kill."""

    plan: Plan
    scenes: list[Scene] = field(default_factory=list)
    history: Run | None = None
    killed_at: int | None = None
    seconds: float = 0.0

    @property
    def checks(self) -> list[Check]:
        return [check for scene in self.scenes for check in scene.checks]

    @property
    def failed(self) -> list[str]:
        """Names of the checks that do not hold."""
        return [check.name for check in self.checks if check.ok is False]

    @property
    def ok(self) -> bool:
        return not self.failed

    @property
    def spans(self) -> list[Span]:
        """The processes that worked on the run, in their order."""
        return [] if self.history is None else _spans(self.history, self.killed_at)


class Audience(Protocol):
    """Whom the story is told to, as it happens."""

    def progress(self, pid: int, decided: int, total: int) -> None:
        """A process has recorded a decision."""
        ...

    def scene(self, scene: Scene) -> None:
        """An act is over."""
        ...


def _spans(history: Run, killed_at: int | None) -> list[Span]:
    claims = [index for index, e in enumerate(history.events) if isinstance(e.event, RunClaimed)]
    # The request stands before the first claim and came from the same process.
    bounds = [0, *claims[1:], len(history.events)]
    decisions = {write.operation for write in completed_writes(history)}
    spans = []
    for claim, first, end in zip(claims, bounds, bounds[1:], strict=False):
        claimed = history.events[claim].event
        assert isinstance(claimed, RunClaimed)
        events = history.events[first:end]
        spans.append(
            Span(
                epoch=claimed.epoch,
                pid=int(claimed.worker.rpartition(":")[2]),
                first=events[0],
                last=events[-1],
                decisions=sum(_completes(e, decisions) for e in events),
                ended="killed" if events[-1].version == killed_at else history.at(end).status,
            )
        )
    return spans


def _completes(envelope: Envelope, operations: set[str]) -> bool:
    return envelope.type == "tool_call.completed" and getattr(envelope.event, "operation", None) in operations
