"""What waits for a person in all runs: found in the view ``questions``, told from the runs' own histories."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator

from evrt.cli.documents import wait_document, waits
from evrt.cli.listing import when
from evrt.cli.output import note, out, out_json, paint
from evrt.cli.place import Place
from evrt.cli.text import rfc3339
from evrt.cli.viewing import Seen, viewing
from evrt.cli.waiting import hints, wait_text
from evrt.events import JsonObject
from evrt.folds.journal import Operation
from evrt.folds.waiting import still_waiting
from evrt.history import Run, load_run

VIEW = "questions"


async def show_questions(place: Place, *, limit: int, as_json: bool) -> None:
    """Print the runs that wait for a person, the longest first, with what for; at most ``limit`` of them."""
    runs: list[Run] = []
    more = False
    async with viewing(place, VIEW) as seen:
        async for run in _waiting_runs(seen):
            more = len(runs) == limit
            if more:
                break
            runs.append(run)
        url = seen.log.url
    if as_json:
        out_json([_document(run, operation) for run in runs for operation in waits(run)])
    else:
        for number, run in enumerate(runs):
            if number:
                out("")
            _out_run(place, run)
        if not runs:
            note(f"Nothing waits for a person in {url}.")
    if more:
        note(f"There are more runs that wait than these {len(runs)}; --limit shows more at once.")


async def _waiting_runs(seen: Seen) -> AsyncIterator[Run]:
    opened, _ = await seen.listed(VIEW, oldest_first=True, where={"status": "open"})
    for name in dict.fromkeys(document.key for document in opened):
        documents = await seen.family(VIEW, name)
        if still_waiting((document.key, document.value) for document in documents):
            run = await load_run(seen.log, name)
            if waits(run):  # It may have been answered since the view was read.
                yield run


def _since(operation: Operation) -> int | None:
    return None if operation.intent is None else operation.intent.time


def _document(run: Run, operation: Operation) -> JsonObject:
    since = _since(operation)
    return {
        "run": run.id,
        "target": run.state.target,
        "since": None if since is None else rfc3339(since),
        **wait_document(operation),
    }


def _out_run(place: Place, run: Run) -> None:
    out(f"{paint(run.id, 'bold')}  {run.state.target}  {paint(when(run.events[-1].time), 'dim')}")
    for operation in waits(run):
        out(paint(f"  {wait_text(operation)}", "yellow"))
    for hint in hints(place, run):
        note(paint(hint, "cyan", sys.stderr))
