"""A journey stream folded into how the journey stands now."""

from __future__ import annotations

from dataclasses import dataclass, replace

from evrt.events import Envelope, Event, JsonObject
from evrt.events.journey import (
    JourneyEnded,
    JourneyRecalled,
    JourneyRouted,
    JourneyStarted,
    JourneyStepChanged,
)


@dataclass(frozen=True, slots=True)
class Standing:
    """How a journey stands. ``version`` is that of its stream; ``state`` is None where it has not begun."""

    version: int = 0
    state: JsonObject | None = None
    ended: str | None = None
    """Why it has come to its end."""
    route: str | None = None
    """Of a router: the journey it sends the conversation to."""
    untrusted: bool = False
    """Whether something in the state may come from where its operator does not answer for."""

    @property
    def under_way(self) -> bool:
        """Whether it has begun and not ended."""
        return self.state is not None and self.ended is None


def evolve(standing: Standing, event: Event) -> Standing:
    """How a journey stands after one more event of its stream, whatever that is."""
    standing = replace(standing, version=standing.version + 1)
    match event:
        case JourneyStarted():
            return replace(standing, state=event.state, ended=None, untrusted=event.untrusted)
        case JourneyStepChanged():
            state = {**(standing.state or {}), **event.patch}
            ended = None if event.reopened else standing.ended
            return replace(
                standing, state=state, ended=ended, untrusted=standing.untrusted or event.untrusted
            )
        case JourneyEnded():
            return replace(standing, ended=event.reason)
        case JourneyRouted():
            return replace(standing, route=event.journey)
    return standing


@dataclass(slots=True)
class JourneyFold:
    """One journey's stream, as far as it has been folded."""

    standing: Standing = Standing()
    version: int = 0

    def apply(self, envelope: Envelope) -> None:
        """Take in the next event of the stream."""
        self.version = envelope.version
        self.standing = evolve(self.standing, envelope.event)


def recalled(event: JourneyRecalled) -> Standing:
    """How a journey stood when a run read it."""
    return Standing(event.version, event.state, event.ended, event.route, event.untrusted)
