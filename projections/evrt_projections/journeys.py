"""Journeys: one document per journey of a conversation: the step it is at, its state, and how it came there.

Its key is the journey's stream. A router has one as well, with the journey that it sends the conversation to.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from evrt.events import Envelope, Event, JsonObject, JsonValue
from evrt.events.journey import JourneyEnded, JourneyRouted, JourneyStarted, JourneyStepChanged
from evrt.folds.clip import clip, clip_text
from evrt.folds.documents import changed, meta_text
from evrt.projection import Columns, Projection, Stream

PREFIX = "journey-"
FIELDS_MAX = 20
"""Fields of the state that are kept, the first ones: a document is small, a state need not be."""
FIELD_BYTES_MAX = 2 * 1024
TEXT_BYTES_MAX = 300
PATH_STEPS_MAX = 20
"""Steps that are kept of the way it came, the last ones."""


class JourneyDocument(BaseModel):
    """How a journey stands. Times are microseconds since 1970, UTC."""

    model_config = ConfigDict(frozen=True)

    journey: str = ""
    conversation: str | None = None
    """Ref of the conversation, or of the run where it has none."""
    step: str | None = None
    state: dict[str, JsonValue] = {}
    """Its fields, each clipped."""
    fields: int = 0
    """How many it has at least: only the first are here."""
    version: int = 0
    """That of the last event of its stream."""
    begun: int = 0
    """How often it has been started."""
    began_at: int = 0
    changed_at: int = 0
    changes: int = 0
    """Since it was last started."""
    path: tuple[str, ...] = ()
    """The steps it has been at since then, the last ones."""
    ended: str | None = None
    """Why it has ended."""
    untrusted: bool = False
    """Whether something in its state may come from where its operator does not answer for."""
    route: str | None = None
    """Of a router: where it sends the conversation to."""
    routed_by: str | None = None
    confidence: float | None = None
    run: str | None = None
    """The run that wrote to it last."""
    actor: str | None = None


NOTHING = JourneyDocument()


def _key(columns: Columns) -> str | None:
    return columns.stream if columns.stream.startswith(PREFIX) else None


def _evolve(before: JourneyDocument, envelope: Envelope) -> JourneyDocument:
    change: dict[str, object] = {
        "version": envelope.version,
        "changed_at": envelope.time,
        "conversation": envelope.correlation,
        "run": meta_text(envelope.meta, "run"),
        "actor": meta_text(envelope.meta, "actor"),
    }
    return changed(before, change | _news(before, envelope.event, envelope))


def _news(before: JourneyDocument, event: Event, envelope: Envelope) -> dict[str, object]:
    match event:
        case JourneyStarted():
            step = _text(event.step, envelope)
            return {
                "journey": _text(event.journey, envelope),
                "step": step,
                **_state({}, event.state, envelope),
                "begun": before.begun + 1,
                "began_at": envelope.time,
                "changes": 0,
                "path": (step,),
                "ended": None,
                "untrusted": event.untrusted,
            }
        case JourneyStepChanged():
            step = _text(event.to_step, envelope)
            path = before.path if event.from_step == event.to_step else (*before.path, step)
            return {
                "step": step,
                **_state(before.state, event.patch, envelope),
                "changes": before.changes + 1,
                "ended": None if event.reopened else before.ended,
                "path": path[-PATH_STEPS_MAX:],
                "untrusted": before.untrusted or event.untrusted,
            }
        case JourneyRouted():
            return {
                "journey": _text(event.router, envelope),
                "route": None if event.journey is None else _text(event.journey, envelope),
                "routed_by": _text(event.by, envelope),
                "confidence": event.confidence,
            }
        case JourneyEnded():
            return {"ended": _text(event.reason, envelope)}
    return {}


def _state(
    before: dict[str, JsonValue], patch: JsonObject, envelope: Envelope
) -> dict[str, dict[str, JsonValue] | int]:
    news = {
        _text(key, envelope): clip(value, FIELD_BYTES_MAX, envelope.position) for key, value in patch.items()
    }
    state = {**before, **news}
    return {"state": dict(list(state.items())[:FIELDS_MAX]), "fields": len(state)}


def _text(text: str, envelope: Envelope) -> str:
    return clip_text(text, TEXT_BYTES_MAX, envelope.position)


PROJECTION = Projection[JourneyDocument](
    name="journeys",
    version=1,
    document=JourneyDocument,
    handles=frozenset({"journey.started", "journey.step_changed", "journey.routed", "journey.ended"}),
    key=_key,
    source=Stream,
    initial=lambda key, part: NOTHING,
    evolve=_evolve,
    indexes=("conversation", "changed_at", "run"),
)
