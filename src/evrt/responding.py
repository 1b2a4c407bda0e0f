"""Answers from this process: a callback is asked what a run asks, and its answer goes the way of any other.

The run is parked and durable while the callback is at it, so nothing is lost if this process dies then; and somebody
else may answer first.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, cast

from evrt.errors import Conflict
from evrt.events import JsonValue
from evrt.events.calls import ApprovalRequested, Option, QuestionAsked
from evrt.events.run import WaitReason
from evrt.folds.journal import Operation
from evrt.history import Run, load_run
from evrt.log import Log
from evrt.result import Result
from evrt.runtime.answers import checked_answer
from evrt.runtime.approvals import Approval
from evrt.waiting import LOOK_SECONDS


@dataclass(frozen=True, slots=True)
class Asked:
    """What a run asks a person: a question, or leave to do something (``is_approval``)."""

    run_id: str
    operation: str
    event: QuestionAsked | ApprovalRequested

    @property
    def is_approval(self) -> bool:
        """Whether it asks leave, and so wants True, False or an ``evrt.Approval``."""
        return isinstance(self.event, ApprovalRequested)

    @property
    def text(self) -> str:
        """The question, or what is to be approved."""
        return self.event.action if isinstance(self.event, ApprovalRequested) else self.event.question

    @property
    def details(self) -> JsonValue:
        """What helps to decide on an approval."""
        return self.event.details if isinstance(self.event, ApprovalRequested) else None

    @property
    def options(self) -> tuple[Option, ...]:
        """The answers that a question offers."""
        event = self.event
        if isinstance(event, ApprovalRequested) or event.options is None:
            return ()
        told = event.descriptions or ("",) * len(event.options)
        return tuple(
            Option(label=label, description=description)
            for label, description in zip(event.options, told, strict=True)
        )

    @property
    def allow_free_form(self) -> bool:
        """Whether an answer may be none of the options."""
        return isinstance(self.event, QuestionAsked) and self.event.allow_free_form is not False

    def check(self, answer: JsonValue) -> JsonValue:
        """An answer to a question as it would be recorded. Raises InvalidInput where it does not take it."""
        return checked_answer(self.event, answer) if isinstance(self.event, QuestionAsked) else answer


OnQuestion: TypeAlias = Callable[[Asked], Awaitable[Any]]
"""Given what is asked, returns the answer: any JSON; for an approval True, False or an ``evrt.Approval``."""


class Answering(Protocol):
    """What is needed of an app."""

    async def log(self) -> Log: ...
    async def answer(
        self, run: str, answer: object, *, operation: str | None = None, by: str | None = None
    ) -> str: ...
    async def decide(
        self,
        run: str,
        approved: bool,
        *,
        operation: str | None = None,
        by: str | None = None,
        reason: str | None = None,
        digest: str | None = None,
    ) -> str: ...
    async def resume(self, run: str) -> Result: ...


async def respond_with(app: Answering, waiting: Result, callback: OnQuestion) -> Result:
    """Have a callback answer whatever a run asks, one thing after another, until it has ended or waits for something else.

    Raises what the callback raises, and InvalidInput for an answer that the question does not take; the run then goes
    on waiting, and can be answered by anybody.
    """
    result = waiting
    log = await app.log()
    while result.status == "waiting":
        asked = _asked(await load_run(log, result.run_id))
        if not asked:
            return result
        for each in asked:
            answer = await callback(each)
            with suppress(Conflict):  # Somebody else was faster, or its time is over.
                await _give(app, each, answer)
        try:
            result = await app.resume(result.run_id)
        except Conflict:
            result = await _from_elsewhere(log, result.run_id)
    return result


async def _give(app: Answering, asked: Asked, answer: Any) -> None:
    event = asked.event
    if isinstance(event, QuestionAsked):
        await app.answer(asked.run_id, answer, operation=asked.operation)
        return
    given = answer if isinstance(answer, Approval) else Approval(answer is True)
    await app.decide(
        asked.run_id,
        given.approved,
        operation=asked.operation,
        by=given.by,
        reason=given.reason,
        digest=event.shown_digest,
    )


def _asked(run: Run) -> list[Asked]:
    found: list[Operation] = [*run.journal.waiting_for_approval(), *run.journal.waiting_for_answer()]
    return [
        Asked(run.id, operation.identity, operation.intent.event)
        for operation in found
        if operation.intent is not None
        and isinstance(operation.intent.event, QuestionAsked | ApprovalRequested)
    ]


async def _from_elsewhere(log: Log, run: str) -> Result:
    """A run that a worker has taken when its answer came: when that has come to its end, or waits again."""
    watch = log.watch()
    while True:
        state = (await load_run(log, run)).state
        if state.ended or state.status == "waiting":
            reason = cast(WaitReason | None, state.reason)
            return Result(run, state.status, state.output, state.failure, reason, state.waiting_for)
        await watch.wait(LOOK_SECONDS)
