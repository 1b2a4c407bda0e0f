"""What an agent's loop decides beside its calls: which model, what a shield says, what of the context is summarised."""

from __future__ import annotations

from typing import ClassVar, Literal

from evrt.events.base import Event, register


@register
class TierSelected(Event):
    """The router chose a tier of models, and why."""

    type: ClassVar[str] = "tier.selected"

    operation: str
    tier: str
    model: str
    rule: str
    """The rule of the router that chose it."""
    rationale: str
    wanted: str | None = None
    """The tier that the rule asked for, where that is not configured and another took its place."""


@register
class ShieldEvaluated(Event):
    """A shield looked at what goes to the model, or at what comes from it."""

    type: ClassVar[str] = "shield.evaluated"

    operation: str
    direction: Literal["input", "output"]
    shield: str
    verdict: Literal["pass", "warn", "block"]
    message: str | None = None
    """What the user is told, or the reason for a warning."""


@register
class ContextCompacted(Event):
    """Messages of the context were replaced by a summary, or shortened; the originals are where they were recorded.

    ``first`` and ``last`` are the indices of the messages that the summary stands for, in the request before.
    """

    type: ClassVar[str] = "context.compacted"

    operation: str
    kind: str
    first: int
    last: int
    summary: str | None = None
    tokens_before: int
    tokens_after: int
    shortened: tuple[int, ...] = ()
    """Indices of the messages that were shortened to references."""
