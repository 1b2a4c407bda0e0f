"""What the end of a run means to the run that started it: a fact in the parent's stream, and a reason to wake it.

Whoever writes a child's last event, its runner or somebody who cancels it, writes this in the same append.
"""

from __future__ import annotations

from typing import NamedTuple

import orjson

from evrt.codec import encode, meta_for
from evrt.events import Event, JsonObject
from evrt.events.run import (
    CANCELLED,
    ChildEnded,
    Failure,
    RunCancelled,
    RunFailed,
    RunStepLimitReached,
    RunSucceeded,
    RunTimedOut,
)
from evrt.folds.journal import Journal
from evrt.folds.run import ERASED
from evrt.history import CONTINUED
from evrt.log.contract import PAYLOAD_BYTES_MAX, Draft
from evrt.log.coordination import Change, Wake
from evrt.log.ids import new_event_id


class ForParent(NamedTuple):
    """What goes into the append of a run's last event: nothing where nobody started it as a child."""

    drafts: tuple[Draft, ...] = ()
    beside: tuple[Change, ...] = ()


def ending_for_parent(journal: Journal, terminal: Event) -> ForParent:
    """What a run's last event is to its parent, to be written in the same append. Expects nothing of the parent."""
    requested = journal.requested
    if requested is None or requested.parent is None or requested.operation_of_parent is None:
        return ForParent()
    event = _ended(journal.run, requested.operation_of_parent, terminal)
    payload = encode(event)
    if len(payload) > PAYLOAD_BYTES_MAX:
        # Twice the output fits into an append, but with what stands around it not into this event.
        event = event.model_copy(update={"output": None, "elsewhere": True})
        payload = encode(event)
    meta: JsonObject = {"actor": f"{requested.kind}:{requested.target}"}
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
    return ForParent((draft,), (Wake(requested.parent),))


def _ended(child: str, operation: str, terminal: Event) -> ChildEnded:
    output = None
    failure: Failure | None = None
    match terminal:
        case RunSucceeded():
            output = terminal.output
        case RunFailed():
            failure = terminal.failure
        case RunTimedOut():
            took = f"It took longer than its time-out of {terminal.timeout_seconds:g} s."
            failure = Failure(error_type="timeout", message=took)
        case RunStepLimitReached():
            output = terminal.summary
            turns = f"It used up its {terminal.model_turns_max} model turns without an answer."
            failure = Failure(error_type="step_limit", message=turns)
        case RunCancelled():
            failure = Failure(error_type=CANCELLED, message=terminal.reason or "It was cancelled.")
        case _:
            raise TypeError(f"{terminal.type} ends no run.")
    return ChildEnded(
        operation=operation, child=child, status=ERASED[terminal.type], output=output, failure=failure
    )
