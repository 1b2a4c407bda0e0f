"""Questions to a person: asked, waited for, answered from outside."""

from __future__ import annotations

from collections.abc import Sequence

from evrt.errors import UsageError
from evrt.events import Event, JsonValue
from evrt.events.calls import QuestionAsked
from evrt.runtime.execution import Execution
from evrt.runtime.identity import digest_of


async def ask(execution: Execution, question: str, options: Sequence[str] | None) -> Event:
    """Ask and wait; returns the answer's event. The run parks when nothing else is left to do."""
    if not question.strip():
        raise UsageError("A question needs a text.")
    identity = execution.bind("ask")
    text = str(execution.admit(question))
    choices: JsonValue = execution.admit(list(options)) if options is not None else None
    digest = digest_of([text, choices])
    known = await execution.recorded(identity, "question", digest)
    if known is not None and known.outcome is not None:
        return known.outcome.event
    if identity not in execution.journal.operations:
        asked = QuestionAsked(
            operation=identity,
            digest=digest,
            question=text,
            options=tuple(str(choice) for choice in choices) if isinstance(choices, list) else None,
        )
        execution.record(asked)
    await execution.barrier()
    return (await execution.from_outside(identity, "question")).event
