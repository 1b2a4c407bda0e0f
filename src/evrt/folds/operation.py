"""One operation of a run folded by itself: what the run's journal knows of it, small enough to be kept in a document.

The rules are those of ``evrt.folds.journal``, which folds whole runs: the first outcome stays, a failed attempt that is
not final is the next one's intent, what comes from outside counts where the run's code saw it, and a retry of the run
takes back the failure it names. A property test holds the two together.
"""

from __future__ import annotations

from typing import TypeVar

from pydantic import BaseModel, ConfigDict

from evrt.events import Envelope, JsonValue
from evrt.events.calls import ToolCallInDoubt
from evrt.events.run import Failure, InputReceived
from evrt.folds.clip import clip, clip_failure
from evrt.folds.documents import changed
from evrt.folds.journal import FAILURES, INTENTS, OUTCOMES, OUTSIDE

OUTSIDE_MAX = 8
"""Most outcomes from outside that are kept while the run has not seen them; later ones are passed over."""
OUTSIDE_BYTES_MAX = 1_536
AGAIN = "again"
"""Type of what is no outcome: a settlement that says that the write is to be made again."""
VALUES = {
    "question.answered": "answer",
    "value.recorded": "value",
    "memory.recalled": "value",
    "run.emitted": "payload",
    "checkpoint.saved": "state",
    "message.produced": "content",
    "race.won": "winner",
}
"""The field that holds an outcome's value, where that is not ``result``."""


class Outcome(BaseModel):
    """What an operation came to: a value or a failure, by which event. ``time`` is microseconds since 1970, UTC."""

    model_config = ConfigDict(frozen=True)

    type: str
    position: int
    time: int
    event_id: str
    latency_ms: float | None = None
    value: JsonValue = None
    failure: Failure | None = None
    clipped: bool = False
    """Whether the value or the failure is cut, so that only the event at ``position`` has it whole."""


class Known(BaseModel):
    """What is known of an operation, as the beginning of documents that say more."""

    model_config = ConfigDict(frozen=True)

    intent: str | None = None
    """Type of the event that began it, if it has an intent."""
    attempts: int = 0
    """Attempts that have begun."""
    in_doubt: bool = False
    """Whether nobody knows if its write happened."""
    outcome: Outcome | None = None
    outside: tuple[Outcome, ...] = ()
    """What came from outside and the run's code has not seen yet, oldest first."""


K = TypeVar("K", bound=Known)


def operation_in(envelope: Envelope) -> str | None:
    """The operation that an event belongs to, a retry of a run to the one it reopens, or None."""
    # From the fields themselves: pydantic takes long to say that a model has no such attribute.
    fields = envelope.event.__dict__
    if envelope.type == "run.retry_scheduled":
        return fields.get("reopens")
    return fields.get("operation")


def evolve_operation(known: K, envelope: Envelope, value_bytes_max: int) -> K:
    """The operation after one more of its events. Its value has at most that many bytes, or is clipped."""
    change = change_of(known, envelope, value_bytes_max)
    return changed(known, change) if change else known


def change_of(known: Known, envelope: Envelope, value_bytes_max: int) -> dict[str, object]:
    """What an event changes of an operation; ``outcome`` is in it where that came, or was taken back."""
    kind = envelope.type
    event = envelope.event
    if kind in INTENTS:
        attempts = max(known.attempts, event.__dict__.get("attempt", 1))
        return {"intent": known.intent or kind, "attempts": attempts}
    if kind in OUTCOMES:
        return _closing(known, envelope, value_bytes_max)
    if kind in FAILURES:
        attempts = max(known.attempts, event.__dict__["attempt"])
        if event.__dict__["final"]:
            return {"attempts": attempts, **_closing(known, envelope, value_bytes_max)}
        return {"attempts": attempts + 1}
    if kind in OUTSIDE:
        if len(known.outside) >= OUTSIDE_MAX:
            return {}
        return {"outside": (*known.outside, outcome_of(envelope, OUTSIDE_BYTES_MAX))}
    if isinstance(event, ToolCallInDoubt):
        left = tuple(one for one in known.outside if one.event_id != event.refused)
        return {"in_doubt": True, "outside": left}
    if isinstance(event, InputReceived):
        return _observing(known, event)
    if kind == "run.retry_scheduled" and known.outcome is not None and known.outcome.type in FAILURES:
        return {"outcome": None, "attempts": known.attempts + 1}
    return {}


def outcome_of(envelope: Envelope, value_bytes_max: int) -> Outcome:
    """What an outcome says, the same for those from outside."""
    fields = envelope.event.__dict__
    position = envelope.position
    given = fields.get("failure")
    value, failure = None, None
    if given is None:
        given = fields.get(VALUES.get(envelope.type, "result"))
        value = clip(given, value_bytes_max, position)
    else:
        failure = clip_failure(given, position)
    return Outcome(
        type=AGAIN if fields.get("outcome") == AGAIN else envelope.type,
        position=position,
        time=envelope.time,
        event_id=envelope.event_id,
        latency_ms=fields.get("latency_ms"),
        value=value,
        failure=failure,
        clipped=given is not (value if failure is None else failure),
    )


def _closing(known: Known, envelope: Envelope, value_bytes_max: int) -> dict[str, object]:
    if known.outcome is not None:
        return {}
    return {"outcome": outcome_of(envelope, value_bytes_max), "in_doubt": False}


def _observing(known: Known, event: InputReceived) -> dict[str, object]:
    for number, seen in enumerate(known.outside):
        if seen.event_id == event.event_id:
            # What came before it and was passed over will not be looked at again.
            left: dict[str, object] = {"outside": known.outside[number + 1 :]}
            if seen.type == AGAIN:
                return {**left, "in_doubt": False}
            return left if known.outcome is not None else {**left, "outcome": seen, "in_doubt": False}
    return {}
