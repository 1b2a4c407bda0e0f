"""What the end of a run means to others: a fact for its parent, which is woken; for its children; the run of its hook.

Whoever writes a run's last event, its runner or somebody who cancels it, writes this in the same append. So there
is no end that others do not hear of, and they hear of none that is not recorded.
"""

from __future__ import annotations

from typing import NamedTuple

import orjson

from evrt.codec import encode, meta_for
from evrt.events import Event, JsonObject, JsonValue
from evrt.events.run import (
    CANCELLED,
    ChildEnded,
    Failure,
    RunCancelled,
    RunCancelRequested,
    RunFailed,
    RunRequested,
    RunStepLimitReached,
    RunSucceeded,
    RunTimedOut,
)
from evrt.folds.journal import Journal
from evrt.folds.run import ERASED
from evrt.history import CONTINUED
from evrt.log.contract import PAYLOAD_BYTES_MAX, Draft
from evrt.log.coordination import Change, Enqueue, Unpause, Wake
from evrt.log.ids import new_event_id, new_ref


class Consequences(NamedTuple):
    """What goes into the append of a run's last event. Nothing is expected of the streams of others."""

    drafts: tuple[Draft, ...] = ()
    beside: tuple[Change, ...] = ()
    hook: str | None = None
    """The run that is asked for because this one has ended."""


def consequences_of(journal: Journal, terminal: Event) -> Consequences:
    """What follows from a run's last event."""
    requested = journal.requested
    if requested is None:
        return Consequences()
    parent = _for_parent(journal, requested, terminal)
    children = _for_children(journal, terminal)
    hook = _hook(journal, requested, terminal)
    return Consequences(
        (*parent.drafts, *children.drafts, *hook.drafts),
        (*parent.beside, *children.beside, *hook.beside),
        hook.hook,
    )


def _hook(journal: Journal, requested: RunRequested, terminal: Event) -> Consequences:
    """The request of the hook's run. It says of itself what it is for, and has no hook in its turn."""
    if requested.on_end is None:
        return Consequences()
    output, failure = _came_to(terminal)
    told: JsonObject = {
        "run": journal.run,
        "status": ERASED[terminal.type],
        "output": output,
        "failure": None if failure is None else failure.model_dump(),
    }
    event = RunRequested(
        target=requested.on_end,
        kind="workflow",
        input=told,
        user=requested.user,
        timeout_seconds=requested.on_end_timeout_seconds,
    )
    payload = encode(event)
    if len(payload) > PAYLOAD_BYTES_MAX:  # What is left out stands in the run, as its input says.
        event = event.model_copy(update={"input": {**told, "output": None}})
        payload = encode(event)
    root = str(journal.kin.get("root", journal.run))
    meta: JsonObject = {"actor": _actor(requested), "root": root, "parent": journal.run}
    if requested.user is not None:
        meta["on_behalf_of"] = requested.user
    run = new_ref("run")
    # Not among the runs of the conversation: what it is told and says is nobody's message there.
    draft = Draft(run, event.type, new_event_id(), root, meta_for(event, orjson.dumps(meta)), payload)
    return Consequences((draft,), (Enqueue(run, event.target),), run)


def _for_children(journal: Journal, terminal: Event) -> Consequences:
    """Whoever cancels a run wants what it has started cancelled too; otherwise children go on without their parent."""
    if not isinstance(terminal, RunCancelled):
        return Consequences()
    drafts: list[Draft] = []
    beside: list[Change] = []
    for child in journal.children:
        event = RunCancelRequested(by=terminal.by, reason=f"{journal.run}, which started it, was cancelled.")
        meta = meta_for(event, orjson.dumps({"actor": "parent", "parent": journal.run}))
        correlation = journal.correlation or journal.run
        drafts.append(Draft(child, event.type, new_event_id(), correlation, meta, encode(event)))
        # Whoever claims it ends it, before any of its code is executed.
        beside += [Unpause(child), Wake(child)]
    return Consequences(tuple(drafts), tuple(beside))


def _for_parent(journal: Journal, requested: RunRequested, terminal: Event) -> Consequences:
    """What the end is to the run that started this one as a child."""
    if requested.parent is None or requested.operation_of_parent is None:
        return Consequences()
    event = _ended(journal.run, requested.operation_of_parent, terminal)
    payload = encode(event)
    if len(payload) > PAYLOAD_BYTES_MAX:
        # Twice the output fits into an append, but with what stands around it not into this event.
        event = event.model_copy(update={"output": None, "elsewhere": True})
        payload = encode(event)
    meta: JsonObject = {"actor": _actor(requested)}
    if journal.parent_continued is not None:
        meta[CONTINUED] = journal.parent_continued
    if requested.user is not None:
        meta["on_behalf_of"] = requested.user
    correlation = str(journal.kin.get("parent_correlation", journal.correlation or journal.run))
    draft = Draft(
        requested.parent,
        event.type,
        new_event_id(),
        correlation,
        meta_for(event, orjson.dumps(meta)),
        payload,
    )
    return Consequences((draft,), (Wake(requested.parent),))


def _ended(child: str, operation: str, terminal: Event) -> ChildEnded:
    output, failure = _came_to(terminal)
    return ChildEnded(
        operation=operation, child=child, status=ERASED[terminal.type], output=output, failure=failure
    )


def _came_to(terminal: Event) -> tuple[JsonValue, Failure | None]:
    """Output and failure of a run that ended like this."""
    match terminal:
        case RunSucceeded():
            return terminal.output, None
        case RunFailed():
            return None, terminal.failure
        case RunTimedOut():
            took = f"It took longer than its time-out of {terminal.timeout_seconds:g} s."
            return None, Failure(error_type="timeout", message=took)
        case RunStepLimitReached():
            turns = f"It used up its {terminal.model_turns_max} model turns without an answer."
            return terminal.summary, Failure(error_type="step_limit", message=turns)
        case RunCancelled():
            return None, Failure(error_type=CANCELLED, message=terminal.reason or "It was cancelled.")
        case _:
            raise TypeError(f"{terminal.type} ends no run.")


def _actor(requested: RunRequested) -> str:
    return f"{requested.kind}:{requested.target}"
