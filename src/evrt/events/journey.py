"""Journeys: facts on journey streams, and what a run read of them and wrote to them."""

from __future__ import annotations

from typing import ClassVar, Literal

from evrt.events.base import Event, JsonObject, register
from evrt.events.run import Failure

JourneyAction = Literal["start", "change", "end", "route"]


@register
class JourneyStarted(Event):
    """A journey begins with this state, for the first time or anew."""

    type: ClassVar[str] = "journey.started"

    journey: str
    step: str
    state: JsonObject
    untrusted: bool = False
    """Whether the run had read what its operator does not answer for, so that the state may hold it."""


@register
class JourneyStepChanged(Event):
    """A tool changed a journey's state: the keys of ``patch`` have these values from now on.

    Where it stayed at its step, ``from_step`` and ``to_step`` are the same.
    """

    type: ClassVar[str] = "journey.step_changed"

    from_step: str
    to_step: str
    patch: JsonObject
    tool: str | None = None
    """The tool that did it."""
    reopened: bool = False
    """Whether the journey had ended, and goes on with this."""
    untrusted: bool = False
    """Whether the run had read what its operator does not answer for: see ``Context.untrusted``."""


@register
class JourneyRouted(Event):
    """A router sends a conversation to this journey from now on; without one, it has to choose again."""

    type: ClassVar[str] = "journey.routed"

    router: str
    journey: str | None = None
    by: str
    """Who chose: ``model``, ``keywords``, ``default``, ``code`` or ``person``."""
    confidence: float | None = None
    """From 0 to 1, where it was a guess."""
    person: str | None = None
    """Who it was, where somebody outside of the run did it."""


@register
class JourneyEnded(Event):
    """A journey has come to its end. It may be started anew."""

    type: ClassVar[str] = "journey.ended"

    reason: str
    """``complete``: it came to a terminal step; or what the code said."""
    step: str | None = None


@register
class JourneyWritten(Event):
    """Run side of what was written to a journey's stream; in conflict, nothing was."""

    type: ClassVar[str] = "journey.written"
    volatile: ClassVar[frozenset[str]] = frozenset({"event_ids", "version"})

    operation: str
    digest: str
    journey: str
    action: JourneyAction
    event_ids: tuple[str, ...] = ()
    version: int = 0
    """That of the journey's stream after it."""
    conflict: str | None = None
    failure: Failure | None = None
    """Set where the code cut the operation off; then nothing was written."""


@register
class JourneyRecalled(Event):
    """Run side of a read: how a journey stood, and at which version of its stream."""

    type: ClassVar[str] = "journey.recalled"
    volatile: ClassVar[frozenset[str]] = frozenset({"version"})

    operation: str
    digest: str
    journey: str
    state: JsonObject | None = None
    """Null where it has not begun."""
    ended: str | None = None
    route: str | None = None
    """Of a router: the journey it sends the conversation to."""
    untrusted: bool = False
    version: int = 0
    failure: Failure | None = None
    """Set where the code cut the operation off; then nothing was read."""
