"""The list of runs: the projection ``runs``, folded over the whole log when it is asked for."""

from __future__ import annotations

import sys
from importlib.metadata import entry_points
from typing import cast

from evrt.cli.details import failed, reason_text
from evrt.cli.documents import state_document
from evrt.cli.output import Cell, note, on_terminal, out_json, out_table, progress
from evrt.cli.place import Place
from evrt.cli.text import ago, cut, duration, rfc3339, short
from evrt.errors import UnusableLog, UsageError
from evrt.events import Envelope
from evrt.folds.run import RunState
from evrt.log import Log, Recorded
from evrt.log.envelopes import envelope
from evrt.projection import Documents, Projection, fold

GROUP, NAME = "evrt.projections", "runs"
PAGE_EVENTS = 1_000
ABOUT_CHARACTERS_MAX = 80
STATUS_STYLES = {
    "queued": "dim",
    "running": "cyan",
    "waiting": "yellow",
    "succeeded": "green",
    "failed": "red",
    "timed_out": "red",
    "step_limit": "red",
}


async def list_runs(
    place: Place, *, status: str | None, agent: str | None, limit: int, as_json: bool
) -> None:
    """Print the runs, newest first, at most ``limit`` of them."""
    async with place.reading() as log:
        runs = await fold_runs(log)
        where = log.url
    chosen = [state for state in runs if status in (None, state.status) and agent in (None, state.target)]
    shown = chosen[:limit]
    if as_json:
        out_json([state_document(state) for state in shown])
    elif shown:
        headings = ("RUN", "STATUS", "TARGET", "ASKED FOR", "TOOK", "ABOUT")
        out_table(headings, [_row(state) for state in shown])
    else:
        note(f"No run of {where} is like that." if runs else f"There are no runs in {where} yet.")
    if len(chosen) > len(shown):
        note(f"{len(shown)} of {len(chosen)} runs; --limit {len(chosen)} shows all.")


async def fold_runs(log: Log) -> list[RunState]:
    """Every run of a log, newest first."""
    projection = _projection()
    documents: Documents[RunState] = {}
    last = await log.position()
    after = 0
    with progress("Reading the log") as advance:
        while rows := await log.read(after=after, upto=last, limit=PAGE_EVENTS):
            documents = fold(projection, map(_readable, rows), documents)
            after = rows[-1].position
            advance(after, last)
    return [document.value for document in reversed(documents.values())]


def _readable(row: Recorded) -> Envelope:
    """The event of a row; one that is damaged is passed over as if erased, so that the others can be listed."""
    try:
        return envelope(row)
    except UnusableLog:
        note(f"Event {row.position} of {row.stream} cannot be read; `evrt log` shows it.")
        return envelope(row._replace(payload=None))


def _projection() -> Projection[RunState]:
    for entry_point in entry_points(group=GROUP, name=NAME):
        return cast("Projection[RunState]", entry_point.load())
    raise UsageError(
        f"The projection {NAME!r} is not installed: no package registers it in the entry point group {GROUP}. "
        "It comes with evrt; install evrt again."
    )


def _row(state: RunState) -> list[Cell]:
    took = ""
    if state.requested_at is not None and state.changed_at is not None and state.ended:
        took = duration((state.changed_at - state.requested_at) / 1_000_000)
    return [
        Cell(state.run, "bold"),
        Cell(state.status, STATUS_STYLES.get(state.status, "")),
        Cell(state.target or "(erased)"),
        Cell(_when(state.requested_at), "dim"),
        Cell(took),
        Cell(_about(state)),
    ]


def _when(time: int | None) -> str:
    if time is None:
        return ""
    return ago(time) if on_terminal(sys.stdout) else rfc3339(time)


def _about(state: RunState) -> str:
    """What a person wants to know first: why it failed or waits, what came out, or what went in."""
    if state.failure is not None:
        text = failed(state.failure)
    elif state.reason is not None:
        text = f"{reason_text(state.reason)} ({', '.join(state.waiting_for)})"
    else:
        text = short(state.output if state.output is not None else state.input)
    return cut(text, ABOUT_CHARACTERS_MAX)
