"""Runs: one document per run with its status, figures, input and output."""

from __future__ import annotations

from evrt.events import Envelope
from evrt.folds.clip import clip, clip_failure, clip_text, clip_texts
from evrt.folds.documents import changed
from evrt.folds.run import RunState, evolve_run
from evrt.projection import Columns, Projection, Stream

PREFIX = "run-"
VALUE_BYTES_MAX = 12 * 1024
WAITING_FOR_BYTES_MAX = 6 * 1024
NAME_BYTES_MAX = 2 * 1024

MAY_BE_LONG = {
    "run.requested": ("target", "input", "conversation", "user", "parent"),
    "run.waiting": ("waiting_for",),
    "run.retry_scheduled": ("waiting_for",),
    "run.succeeded": ("output",),
    "run.step_limit_reached": ("output",),
    "run.failed": ("failure",),
    "run.cancelled": ("reason", "output"),
    "checkpoint.saved": ("state",),
}
"""Fields that an event may have made long, by its type; every other field is small."""


def _key(columns: Columns) -> str | None:
    return columns.stream if columns.stream.startswith(PREFIX) else None


def _evolve(before: RunState, envelope: Envelope) -> RunState:
    after = evolve_run(before, envelope)
    fields = MAY_BE_LONG.get(envelope.type)
    if fields is None:
        return after
    change: dict[str, object] = {}
    for field in fields:
        value = getattr(after, field)
        if value is not getattr(before, field):
            change[field] = _clipped(field, value, envelope.position)
    return changed(after, change)


def _clipped(field: str, value: object, position: int) -> object:
    match field:
        case _ if value is None:
            return None
        case "target" | "conversation" | "user" | "parent" | "reason":
            return clip_text(value, NAME_BYTES_MAX, position)  # type: ignore[arg-type]
        case "waiting_for":
            return clip_texts(value, WAITING_FOR_BYTES_MAX, position)  # type: ignore[arg-type]
        case "failure":
            return clip_failure(value, position)  # type: ignore[arg-type]
        case _:
            return clip(value, VALUE_BYTES_MAX, position)  # type: ignore[arg-type]


PROJECTION = Projection[RunState](
    name="runs",
    version=2,
    document=RunState,
    # Every event of a run moves its position and the time of its last change.
    handles=frozenset({"*"}),
    key=_key,
    source=Stream,
    initial=lambda key, part: RunState(run=key),
    evolve=_evolve,
    indexes=("status", "target", "conversation", "user", "parent", "requested_at"),
)
