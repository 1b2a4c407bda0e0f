"""What somebody outside wants to become of a run: cancelled, paused, unpaused, tried again at once.

A run that nobody executes is cancelled by one append of claim and end; one that is being executed is told, and
its worker obeys at the next operation. Whichever it was when it was looked at, the epoch decides.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import orjson

from evrt.codec import encode, meta_for
from evrt.endings import consequences_of
from evrt.errors import Conflict, Fenced, WrongVersion
from evrt.events import Event, JsonObject
from evrt.events.run import RunCancelled, RunCancelRequested, RunClaimed, RunPaused, RunUnpaused
from evrt.folds.gist import Gist
from evrt.history import LastChapter, Run, load_run
from evrt.inbox import TRIES_MAX, held_by_worker
from evrt.log import Append, Claim, Draft, Exact, Expectation, Log
from evrt.log.coordination import Change, Pause, Remove, Unpause, Wake
from evrt.log.ids import new_event_id

Cancelled = Literal["cancelled", "requested"]
"""cancelled: it has ended · requested: whoever executes it will end it at its next operation."""


async def cancel_run(log: Log, run: str, *, by: str | None, reason: str | None) -> Cancelled:
    """End a run, or have it ended. Raises NotFound, Conflict (it has ended)."""
    for _ in range(TRIES_MAX):
        history = await load_run(log, run)
        refuse_ended(history)
        asked = RunCancelRequested(by=by, reason=reason)
        try:
            if history.status == "running":
                await _append_held(log, history, asked, Wake(run))
                return "requested"
            cancelled = RunCancelled(by=by, reason=reason, summary=Gist.of(history.journal).text())
            await end_unclaimed(log, history, cancelled, asked)
            return "cancelled"
        except (WrongVersion, Fenced):
            continue
    raise _too_fast(run)


async def pause_run(log: Log, run: str, *, by: str | None) -> None:
    """Have a run begin nothing more until it is unpaused. Raises NotFound, Conflict (ended, paused already)."""
    for _ in range(TRIES_MAX):
        history = await load_run(log, run)
        refuse_ended(history)
        if history.journal.paused:
            raise Conflict(f"{run} is paused already: `evrt runs resume` lets it go on.")
        try:
            await _append_held(log, history, RunPaused(by=by), Pause(run))
            return
        except (WrongVersion, Fenced):
            continue
    raise _too_fast(run)


async def unpause_run(log: Log, run: str, *, by: str | None) -> None:
    """Let a paused run go on; a worker takes it from there. Raises NotFound, Conflict (ended, not paused)."""
    for _ in range(TRIES_MAX):
        history = await load_run(log, run)
        refuse_ended(history)
        if not history.journal.paused:
            raise Conflict(f"{run} is not paused (it is {history.status}).")
        try:
            await _append(log, history, [RunUnpaused(by=by)], Exact(len(history.events)), (Unpause(run),))
            return
        except WrongVersion:
            continue
    raise _too_fast(run)


async def end_unclaimed(
    log: Log, history: Run | LastChapter, terminal: Event, *before: Event, beside: Sequence[Change] = ()
) -> None:
    """End a run that nobody executes: claim and end in one append. Raises Fenced where somebody was first."""
    epoch = history.journal.epoch + 1
    claimed = RunClaimed(epoch=epoch, worker="outside", reason="cancel")
    follows = consequences_of(history.journal, terminal)
    await _append(
        log,
        history,
        [*before, claimed, terminal],
        Claim(epoch),
        (*beside, Remove(history.id), *follows.beside),
        epoch=epoch,
        others=follows.drafts,
    )


def refuse_ended(history: Run) -> None:
    """Raises Conflict for a run that has ended."""
    if history.state.ended:
        raise Conflict(f"{history.id} has ended ({history.status}): nothing can become of it any more.")


async def _append_held(log: Log, history: Run, event: Event, change: Change) -> None:
    """Append an order that a worker obeys whatever it has come to; where none has the run, to just this history."""
    held = await held_by_worker(log, history.id)
    await _append(log, history, [event], None if held else Exact(len(history.events)), (*held, change))


async def _append(
    log: Log,
    history: Run | LastChapter,
    events: Sequence[Event],
    expect: Expectation | None,
    beside: Sequence[Change],
    *,
    epoch: int | None = None,
    others: Sequence[Draft] = (),
) -> None:
    known: JsonObject = {"actor": "person", **history.journal.kin}
    meta = orjson.dumps(known if epoch is None else {**known, "epoch": epoch})
    correlation = history.events[0].correlation
    drafts = [
        Draft(history.id, event.type, new_event_id(), correlation, meta_for(event, meta), encode(event))
        for event in events
    ]
    expected = {} if expect is None else {history.id: expect}
    await log.append(Append([*drafts, *others], expected, beside=beside))


def _too_fast(run: str) -> Conflict:
    return Conflict(f"{run} is being written too fast to add to it; try again.")
