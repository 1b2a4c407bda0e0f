"""One operation of a run folded by itself: what the run's journal knows of it, small enough to be kept in a document.

The rules are those of ``evrt.folds.journal``, which folds whole runs: the first outcome stays, a failed attempt that is
not final is the next one's intent, what comes from outside counts where the run's code saw it, and a retry of the run
takes back the failure it names. A property test holds the two together.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pydantic import BaseModel, ConfigDict

from evrt.events import Envelope, JsonValue
from evrt.events.run import CANCELLED, Failure
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
    "approval.decided": "approved",
    "value.recorded": "value",
    "memory.recalled": "value",
    "journey.recalled": "state",
    "run.emitted": "payload",
    "checkpoint.saved": "state",
    "message.produced": "content",
    "race.won": "winner",
    "child.ended": "output",
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


NO_OUTCOME = Outcome(type="", position=0, time=0, event_id="")


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


def operation_in(envelope: Envelope) -> str | None:
    """The operation that an event belongs to, a retry of a run to the one it reopens, or None.

    Where the code has continued as another state, its identities begin again: then it is the version at which
    the chapter begins, a colon, and the identity, such as ``57:search#1``.
    """
    # From the fields themselves: pydantic takes long to say that a model has no such attribute.
    fields = envelope.event.__dict__
    identity = fields.get("operation") or fields.get("reopens")
    continued = envelope.meta.get("continued")
    return f"{continued}:{identity}" if identity and isinstance(continued, int) else identity


def change_of(known: Known, envelope: Envelope, value_bytes_max: int | None) -> dict[str, object]:
    """What an event changes of an operation; ``outcome`` is in it where that came, or was taken back.

    Its value has at most that many bytes, or is clipped; with None it is left out where it is the run's own event that
    says it, for whoever makes something else of that event.
    """
    change = CHANGES.get(envelope.type)
    return {} if change is None else change(known, envelope, value_bytes_max)


def _intended(known: Known, envelope: Envelope, value_bytes_max: int | None) -> dict[str, object]:
    attempts = max(known.attempts, envelope.event.__dict__.get("attempt", 1))
    return {"intent": known.intent or envelope.type, "attempts": attempts}


def _closed(known: Known, envelope: Envelope, value_bytes_max: int | None) -> dict[str, object]:
    if known.outcome is not None:
        return {}
    return {"outcome": outcome_of(envelope, value_bytes_max), "in_doubt": False}


def _failed(known: Known, envelope: Envelope, value_bytes_max: int | None) -> dict[str, object]:
    fields = envelope.event.__dict__
    attempts = max(known.attempts, fields["attempt"])
    if fields["final"]:
        return {"attempts": attempts, **_closed(known, envelope, value_bytes_max)}
    return {"attempts": attempts + 1}  # This event is the next attempt's intent.


def _came_from_outside(known: Known, envelope: Envelope, value_bytes_max: int | None) -> dict[str, object]:
    if len(known.outside) >= OUTSIDE_MAX:
        return {}
    return {"outside": (*known.outside, outcome_of(envelope, OUTSIDE_BYTES_MAX))}


def _doubted(known: Known, envelope: Envelope, value_bytes_max: int | None) -> dict[str, object]:
    refused = envelope.event.__dict__["refused"]
    return {"in_doubt": True, "outside": tuple(one for one in known.outside if one.event_id != refused)}


def _observed(known: Known, envelope: Envelope, value_bytes_max: int | None) -> dict[str, object]:
    if envelope.event.__dict__["signal"] is not None:
        # The signal itself belongs to no operation: that it was received is the outcome.
        return _closed(known, envelope, value_bytes_max)
    event_id = envelope.event.__dict__["event_id"]
    for number, seen in enumerate(known.outside):
        if seen.event_id == event_id:
            # What came before it and was passed over will not be looked at again.
            left: dict[str, object] = {"outside": known.outside[number + 1 :]}
            if seen.type == AGAIN:
                return {**left, "in_doubt": False}
            return left if known.outcome is not None else {**left, "outcome": seen, "in_doubt": False}
    return {}


def _reopened(known: Known, envelope: Envelope, value_bytes_max: int | None) -> dict[str, object]:
    if known.outcome is None or known.outcome.type not in FAILURES:
        return {}
    return {"outcome": None, "attempts": known.attempts + 1}


CHANGES: dict[str, Callable[[Known, Envelope, int | None], dict[str, object]]] = {
    **dict.fromkeys(INTENTS, _intended),
    **dict.fromkeys(OUTCOMES, _closed),
    **dict.fromkeys(FAILURES, _failed),
    **dict.fromkeys(OUTSIDE, _came_from_outside),
    "tool_call.in_doubt": _doubted,
    "input.received": _observed,
    "run.retry_scheduled": _reopened,
}


def outcome_of(envelope: Envelope, value_bytes_max: int | None) -> Outcome:
    """What an outcome says, the same for those from outside."""
    fields = envelope.event.__dict__
    kind = envelope.type
    position = envelope.position
    given: Any = fields.get("failure")
    failure: Failure | None = None
    value: JsonValue = None
    if kind == "question.expired" and fields["cause"] != CANCELLED:
        given = Failure(error_type=fields["cause"], message="Nobody answered in time.")
    if value_bytes_max is None:
        given = None
    elif given is not None:
        failure = clip_failure(given, position)
    else:
        given = fields.get(VALUES.get(kind, "result"))
        value = clip(given, value_bytes_max, position)
    change = {
        "type": AGAIN if fields.get("outcome") == AGAIN else kind,
        "position": position,
        "time": envelope.time,
        "event_id": fields["event_id"] if kind == "input.received" else envelope.event_id,
        "latency_ms": fields.get("latency_ms"),
        "value": value,
        "failure": failure,
        "clipped": given is not value and given is not failure,
    }
    return changed(NO_OUTCOME, change)
