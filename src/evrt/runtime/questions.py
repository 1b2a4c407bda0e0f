"""Questions to a person: asked, waited for, answered from outside."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from time import perf_counter

from evrt.errors import UsageError
from evrt.events import Envelope, Event, JsonValue
from evrt.events.calls import QuestionAsked, QuestionExpired
from evrt.events.run import CANCELLED
from evrt.runtime.execution import Execution
from evrt.runtime.identity import digest_of
from evrt.runtime.journal import payload_of


async def ask(execution: Execution, question: str, options: Sequence[str] | None) -> Event:
    """Ask and wait; returns the answer's event. The run parks when nothing else is left to do."""
    if not question.strip():
        raise UsageError("A question needs a text.")
    identity = execution.bind("ask")
    text = str(execution.admit(question))
    choices: JsonValue = execution.admit(list(options)) if options is not None else None
    digest = digest_of([text, choices])
    asked = QuestionAsked(
        operation=identity,
        digest=digest,
        question=text,
        options=tuple(str(choice) for choice in choices) if isinstance(choices, list) else None,
    )
    payload_of(asked)  # Too long a question is refused here, on the first execution as on replay.
    known = await execution.recorded(identity, "question", digest)
    if known is not None and known.outcome is not None:
        return known.outcome.event
    known = execution.journal.operations.get(identity)
    if known is None:
        execution.record(asked)
    answered = known is not None and bool(known.outside)
    began = perf_counter()
    try:
        found = await execution.outside(_answer(execution, identity), established=answered)
    except asyncio.CancelledError:
        if execution.stopped is None:
            latency_ms = round((perf_counter() - began) * 1000, 3)
            execution.record(QuestionExpired(operation=identity, cause=CANCELLED, latency_ms=latency_ms))
        raise
    return execution.observe(identity, found)


async def _answer(execution: Execution, identity: str) -> Envelope:
    await execution.barrier()
    return await execution.from_outside(identity, "question")
