"""How a run stands in the queue, going by its events alone: what the queue is made from again where it is lost."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal, NamedTuple

from evrt.events import Envelope
from evrt.events.run import (
    TERMINAL,
    RunClaimed,
    RunRequested,
    RunRetryScheduled,
    RunWaiting,
)

CAUSES = frozenset(
    {
        "question.answered",
        "approval.decided",
        "tool_call.settled",
        "tool_call.reported",
        "run.signalled",
        "run.cancel_requested",
        "child.ended",
    }
)
"""What wakes a run that waits."""


class Queued(NamedTuple):
    """A run in the queue, or not: ``state`` is None where it is executed outside of it, has ended, or is unknown.

    A run that a worker has claimed counts as ready. Times are microseconds since 1970.
    """

    run: str
    state: Literal["ready", "waiting", "paused"] | None = None
    claimed: bool = False
    """Its worker may be at it still."""
    place: int = 0
    due: int | None = None
    pausing: bool = False
    """Somebody wants it paused."""
    requested: RunRequested | None = None
    lane: str | None = None


def lane_of(requested: RunRequested, meta: Mapping[str, object]) -> str | None:
    """The lane that a run stands in: its conversation. ``meta`` is that of its request, or what it says of its kin.

    A child in the conversation that its parent is in has none: there it would wait for its parent, which waits for it.
    """
    conversation = requested.conversation
    return None if conversation == meta.get("parent_correlation") else conversation


def evolve_queued(state: Queued, envelope: Envelope) -> Queued:
    """The state after one more event of the run's stream."""
    kind, event = envelope.type, envelope.event
    if isinstance(event, RunRequested):
        return state._replace(
            state="ready",
            place=envelope.position,
            due=event.not_before,
            requested=event,
            lane=lane_of(event, envelope.meta),
        )
    if kind in TERMINAL:
        return Queued(state.run)
    if state.requested is None:
        return state
    match event:
        case RunClaimed(worker=worker):
            return state._replace(state="ready" if _is_worker(worker) else None, claimed=True, due=None)
        case RunWaiting(reason="handover"):
            return _back(state, envelope, "ready", None)
        case RunWaiting(reason="paused"):
            return _back(state, envelope, "paused" if state.pausing else "ready", None)
        case RunWaiting(due=due):
            return _back(state, envelope, "waiting", due)
        case RunRetryScheduled(delay_ms=delay_ms) if state.state is not None:
            return _back(state, envelope, "ready", envelope.time + round(delay_ms * 1_000))
        case _:
            return _ordered(state, kind)


def _back(
    state: Queued, envelope: Envelope, to: Literal["ready", "waiting", "paused"], due: int | None
) -> Queued:
    """The run is given back: at its place, or at a new one where it was executed outside of the queue."""
    place = state.place if state.state is not None else envelope.position
    return state._replace(state=to, claimed=False, place=place, due=due)


def _ordered(state: Queued, kind: str) -> Queued:
    """What comes from outside; whoever executes the run looks for himself."""
    if kind in ("run.paused", "run.unpaused"):
        state = state._replace(pausing=kind == "run.paused")
    if state.claimed or state.state is None:
        return state
    if kind in CAUSES:
        return state._replace(state="paused" if state.state == "paused" else "ready", due=None)
    if kind == "run.paused":
        return state._replace(state="paused")
    if kind == "run.unpaused" and state.state == "paused":
        return state._replace(state="ready")
    return state


def _is_worker(name: str) -> bool:
    """Whether this is the name of a worker, ``host:pid:random``, and not of a process that executes by itself."""
    return name.count(":") >= 2


def fold_queued(run: str, envelopes: Iterable[Envelope]) -> Queued:
    """How a run stands after the given events of its stream."""
    state = Queued(run)
    for envelope in envelopes:
        state = evolve_queued(state, envelope)
    return state
