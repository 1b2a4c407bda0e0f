"""Approvals: the code asks for leave to do something, and a person grants or denies it."""

from __future__ import annotations

from dataclasses import dataclass

from evrt.errors import UsageError
from evrt.events import JsonValue
from evrt.events.calls import ApprovalDecided, ApprovalRequested
from evrt.events.run import Failure, InputReceived
from evrt.log.contract import Draft
from evrt.retry import Length
from evrt.runtime.execution import Execution
from evrt.runtime.identity import digest_of
from evrt.runtime.journal import payload_of
from evrt.runtime.waiting import DUE_LONGEST, TIMEOUT, due_in, parse_timeout, wait


@dataclass(frozen=True, slots=True)
class Approval:
    """What was decided: whether it is approved, why, and by whom, as they said. It is true where it is approved.

    When the time was over without anybody's decision, the reason is ``timeout``.
    """

    approved: bool
    reason: str | None = None
    by: str | None = None

    def __bool__(self) -> bool:
        return self.approved


def call_digest(tool: str, arguments: JsonValue) -> str:
    """The digest of a tool call as a person is shown it: its name, and its arguments as they are recorded."""
    return digest_of([tool, arguments])


def mismatch(tool: str) -> Failure:
    """What becomes of a call that is not the one that was approved."""
    return Failure(
        error_type="approval_mismatch",
        message=f"The call of {tool} is not the one that was approved: its arguments have changed since. It was not made.",
    )


async def approve(
    execution: Execution, action: str, details: object, timeout: Length | None, shown_digest: str | None
) -> Approval:
    """Ask and wait. When the time is over it is denied."""
    if not action.strip():
        raise UsageError("An approval needs a text that says for what.")
    seconds = parse_timeout(timeout)
    identity = execution.bind("approve")
    text = str(execution.admit(action))
    shown = execution.admit(details)
    digest = digest_of([text, shown, timeout])
    requested = ApprovalRequested(
        operation=identity,
        digest=digest,
        action=text,
        details=shown,
        due=None if seconds is None else DUE_LONGEST,
        shown_digest=shown_digest or digest_of([text, shown]),
    )
    payload_of(requested)  # Too much of it is refused here, on the first execution as on replay.
    known = await execution.recorded(identity, "approval", digest)
    if known is not None and known.outcome is not None:
        return _approval(known.outcome.event)
    due = await _ask(execution, identity, requested, seconds)
    decided = ApprovalDecided(operation=identity, approved=False, reason=TIMEOUT)

    def over() -> list[Draft]:
        denied = execution.draft(decided)
        return [denied, execution.draft(InputReceived(operation=identity, event_id=denied.event_id))]

    found = await wait(execution, identity, "approval", due=due, over=over)
    return _approval(decided if found is None else execution.observe(identity, found))


async def _ask(
    execution: Execution, identity: str, requested: ApprovalRequested, seconds: float | None
) -> int | None:
    """Until when the decision is waited for; recorded when it is asked for first."""
    known = execution.journal.operations.get(identity)
    if known is not None:
        return known.due
    due = await due_in(execution, seconds)
    execution.record(requested.model_copy(update={"due": due}))
    return due


def _approval(event: object) -> Approval:
    assert isinstance(event, ApprovalDecided)
    return Approval(event.approved, event.reason, event.by)
