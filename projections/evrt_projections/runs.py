"""Runs: one document per run with its status, figures, input and output."""

from __future__ import annotations

from evrt.folds.run import RunState, evolve_run
from evrt.projection import Columns, Projection, Stream

PREFIX = "run-"


def _key(columns: Columns) -> str | None:
    return columns.stream if columns.stream.startswith(PREFIX) else None


PROJECTION = Projection[RunState](
    name="runs",
    version=1,
    document=RunState,
    handles=frozenset({"*"}),
    key=_key,
    source=Stream,
    initial=lambda key, part: RunState(run=key),
    evolve=evolve_run,
    indexes=("status", "target", "conversation", "user", "requested_at"),
)
