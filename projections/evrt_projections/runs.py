"""Runs: one document per run with its status, figures, input and output."""

from __future__ import annotations

from evrt.events import Envelope
from evrt.folds.run import RunState, evolve_run
from evrt.projection import Projection

PREFIX = "run-"


def _key(envelope: Envelope) -> str | None:
    return envelope.stream if envelope.stream.startswith(PREFIX) else None


PROJECTION = Projection[RunState](
    name="runs",
    version=1,
    handles=lambda type: True,
    key=_key,
    source=lambda key: key,
    initial=lambda key: RunState(run=key),
    evolve=evolve_run,
)
