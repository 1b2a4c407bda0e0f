"""The list of runs, of the view ``runs``: ``evrt runs list``."""

from __future__ import annotations

import sys
from typing import NamedTuple

from evrt.cli.details import failed, reason_text
from evrt.cli.documents import state_document
from evrt.cli.lanes import first_of
from evrt.cli.output import Cell, note, on_terminal, out_json, out_table
from evrt.cli.place import Place
from evrt.cli.text import ago, cut, duration, rfc3339, short
from evrt.cli.viewing import Seen, period, viewing
from evrt.folds.run import RunState
from evrt.history import load_run, resolve_ref, resolve_run

ABOUT_CHARACTERS_MAX = 80
TO_GO_ON = "to go on"
STATUS_STYLES = {
    "queued": "dim",
    "running": "cyan",
    "waiting": "yellow",
    "succeeded": "green",
    "failed": "red",
    "cancelled": "magenta",
    "timed_out": "red",
    "step_limit": "red",
}


class Wanted(NamedTuple):
    """Which runs are asked for; what is None may be anything. Conversation and user are ids of one's own, or refs."""

    status: str | None = None
    agent: str | None = None
    conversation: str | None = None
    user: str | None = None
    since: str | None = None
    until: str | None = None
    parent: str | None = None


async def list_runs(place: Place, wanted: Wanted, *, limit: int, oldest_first: bool, as_json: bool) -> None:
    """Print the runs, newest first, at most ``limit`` of them."""
    asked = period(wanted.since, wanted.until)
    async with viewing(place, "runs") as seen:
        documents, more = await seen.listed(
            "runs",
            limit=limit,
            oldest_first=oldest_first,
            where=await _where(seen, wanted),
            since={} if asked.since is None else {"requested_at": asked.since},
            until={} if asked.until is None else {"requested_at": asked.until},
        )
        any_runs = bool(documents) or bool((await seen.listed("runs", limit=1))[0])
        url = seen.log.url
        told = {} if as_json else await _told_of_waiting(seen, [document.value for document in documents])
    if as_json:
        out_json([state_document(document.value) for document in documents])
    elif documents:
        headings = ("RUN", "STATUS", "TARGET", "ASKED FOR", "TOOK", "ABOUT")
        out_table(headings, [_row(document.value, told) for document in documents])
    else:
        note(f"No run of {url} is like that." if any_runs else f"There are no runs in {url} yet.")
    if more:
        note(f"There are more than these {len(documents)}; --limit shows more at once.")


async def _where(seen: Seen, wanted: Wanted) -> dict[str, object]:
    where: dict[str, object] = {"status": wanted.status, "target": wanted.agent}
    if wanted.conversation is not None:
        where["conversation"] = await resolve_ref(seen.log, "conversation", wanted.conversation)
    if wanted.user is not None:
        where["user"] = await resolve_ref(seen.log, "user", wanted.user)
    if wanted.parent is not None:
        where["parent"] = await resolve_run(seen.log, wanted.parent)
    return {field: value for field, value in where.items() if value is not None}


async def _told_of_waiting(seen: Seen, states: list[RunState]) -> dict[str, str]:
    """What the queue knows better than the view: which waiting runs could go on, and what others are behind."""
    # Whoever was handed over waits for nothing else than a worker, and says so already.
    waiting = [state.run for state in states if state.status == "waiting" and state.reason != "handover"]
    queue = seen.log.coordination
    entries = [entry for run in waiting if (entry := await queue.entry(run)) is not None]
    first = await first_of(queue, entries)
    told = {entry.run: TO_GO_ON for entry in entries if entry.state == "ready"}
    for run, before in first.items():
        if (await load_run(seen.log, run)).journal.has_cause:
            told[run] = f"{TO_GO_ON}, behind {before}"
    return told


def _row(state: RunState, told: dict[str, str]) -> list[Cell]:
    took = ""
    if state.requested_at is not None and state.changed_at is not None and state.ended:
        took = duration((state.changed_at - state.requested_at) / 1_000_000)
    return [
        Cell(state.run, "bold"),
        Cell(state.status, STATUS_STYLES.get(state.status, "")),
        Cell(state.target or "(erased)"),
        Cell(when(state.requested_at), "dim"),
        Cell(took),
        Cell(told.get(state.run) or _about(state)),
    ]


def when(time: int | None) -> str:
    """A time of the log in a table: how long ago on a terminal, else exact."""
    if time is None:
        return ""
    return ago(time) if on_terminal(sys.stdout) else rfc3339(time)


def _about(state: RunState) -> str:
    """What a person wants to know first: why it failed or waits, what came out, or what went in."""
    if state.failure is not None:
        text = failed(state.failure)
    elif state.reason is not None:
        operations = f" ({', '.join(state.waiting_for)})" if state.waiting_for else ""
        text = f"{reason_text(state.reason)}{operations}" if state.status == "waiting" else state.reason
    else:
        text = short(state.output if state.output is not None else state.input)
    return cut(text, ABOUT_CHARACTERS_MAX)
