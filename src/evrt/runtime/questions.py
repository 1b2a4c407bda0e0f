"""Questions to a person: asked, waited for, answered from outside."""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter

from evrt.errors import UsageError
from evrt.events import Event, JsonValue
from evrt.events.calls import QuestionAnswered, QuestionAsked, QuestionExpired
from evrt.events.run import CANCELLED
from evrt.log.contract import Draft
from evrt.retry import Length
from evrt.runtime.execution import Execution
from evrt.runtime.identity import digest_of
from evrt.runtime.journal import payload_of
from evrt.runtime.latency import milliseconds_since
from evrt.runtime.waiting import DUE_LONGEST, TIMEOUT, due_in, parse_timeout, timed_out, wait


async def ask(
    execution: Execution, question: str, options: Sequence[str] | None, timeout: Length | None
) -> JsonValue:
    """Ask and wait; returns the answer. Raises TimedOut."""
    if not question.strip():
        raise UsageError("A question needs a text.")
    seconds = parse_timeout(timeout)
    identity = execution.bind("ask")
    text = str(execution.admit(question))
    choices: JsonValue = execution.admit(list(options)) if options is not None else None
    digest = digest_of([text, choices] if timeout is None else [text, choices, timeout])
    asked = QuestionAsked(
        operation=identity,
        digest=digest,
        question=text,
        options=tuple(str(choice) for choice in choices) if isinstance(choices, list) else None,
        due=None if seconds is None else DUE_LONGEST,
    )
    payload_of(asked)  # Too long a question is refused here, on the first execution as on replay.
    known = await execution.recorded(identity, "question", digest)
    if known is not None and known.outcome is not None:
        return _answer(identity, known.outcome.event)
    due = await _ask(execution, identity, asked, seconds)
    began = perf_counter()

    def expired(cause: str, latency_ms: float) -> QuestionExpired:
        return QuestionExpired(operation=identity, cause=cause, latency_ms=latency_ms)

    def over() -> list[Draft]:
        return [execution.draft(expired(TIMEOUT, milliseconds_since(began)))]

    found = await wait(
        execution,
        identity,
        "question",
        due=due,
        over=over,
        cancelled=lambda took: expired(CANCELLED, took),
    )
    return _answer(identity, expired(TIMEOUT, 0.0) if found is None else execution.observe(identity, found))


async def _ask(
    execution: Execution, identity: str, asked: QuestionAsked, seconds: float | None
) -> int | None:
    """Until when the answer is waited for; recorded when it is asked for first."""
    known = execution.journal.operations.get(identity)
    if known is not None:
        return known.due
    due = await due_in(execution, seconds)
    execution.record(asked.model_copy(update={"due": due}))
    return due


def _answer(identity: str, event: Event) -> JsonValue:
    if isinstance(event, QuestionAnswered):
        return event.answer
    raise timed_out(identity, "Nobody answered")
