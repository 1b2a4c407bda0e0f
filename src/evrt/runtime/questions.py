"""Questions to a person: asked, waited for, answered from outside."""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter
from typing import Any

from pydantic import PydanticUserError, TypeAdapter, ValidationError

from evrt.effects.json_schema import JsonSchema
from evrt.effects.tools import faults_text
from evrt.errors import InvalidInput, UsageError
from evrt.events import Event, JsonObject, JsonValue
from evrt.events.calls import Option, QuestionAnswered, QuestionAsked, QuestionExpired
from evrt.events.run import CANCELLED
from evrt.log.contract import Draft
from evrt.retry import Length
from evrt.runtime.execution import Execution
from evrt.runtime.identity import digest_of
from evrt.runtime.journal import payload_of
from evrt.runtime.latency import milliseconds_since
from evrt.runtime.waiting import DUE_LONGEST, TIMEOUT, due_in, parse_timeout, timed_out, wait


class Wanted:
    """What an answer has to be: options to choose from, whether another will do, or a type."""

    def __init__(
        self,
        options: Sequence[str | Option] | None,
        *,
        allow_free_form: bool = True,
        answer: Any = None,
    ) -> None:
        """Raises UsageError for options that cannot be chosen from, or a type that is none."""
        if options is not None and answer is not None:
            raise UsageError("A question has options or a type for its answer (answer=), not both.")
        if options is None and not allow_free_form:
            raise UsageError("Without options an answer can only be free form: give options=[…].")
        self.options = None if options is None else _options(options)
        self.allow_free_form = allow_free_form
        self.type: TypeAdapter[Any] | None = None
        self.schema: JsonObject | None = None
        if isinstance(answer, dict):
            self.schema = JsonSchema(answer, of="an answer").schema
        elif answer is not None:
            self.type, self.schema = _type(answer)

    def beyond_options(self) -> JsonObject:
        """What tells this question from one of the same text and options, and is not at its default.

        The schema of a type is not in it: another version of its library may make another of the same type.
        """
        told: JsonObject = {}
        if self.options is not None and any(option.description for option in self.options):
            told["descriptions"] = [option.description for option in self.options]
        if not self.allow_free_form:
            told["allow_free_form"] = False
        if self.schema is not None and self.type is None:
            told["answer_schema"] = self.schema
        return told

    def value(self, given: JsonValue) -> Any:
        """An answer as the code gets it. Raises InvalidInput where it is not of the type."""
        if self.type is None:
            return given
        try:
            return self.type.validate_python(given)
        except ValidationError as error:
            raise InvalidInput(
                f"The answer is not of the type that the code asks for. {faults_text(error, 'answer')}."
            ) from error


def _type(answer: Any) -> tuple[TypeAdapter[Any], JsonObject]:
    try:
        adapter: TypeAdapter[Any] = TypeAdapter(answer)
        return adapter, adapter.json_schema()
    except PydanticUserError as error:
        raise UsageError(
            f"{answer!r:.80} cannot be the type of an answer ({error.message}). Take one that JSON can hold, or a JSON schema."
        ) from error


def _options(options: Sequence[str | Option]) -> tuple[Option, ...]:
    found = tuple(Option(label=option) if isinstance(option, str) else option for option in options)
    labels = [option.label for option in found]
    if not labels or not all(label.strip() for label in labels) or len(set(labels)) < len(labels):
        raise UsageError(
            f"A question's options are one or more texts, none of them empty or there twice, not {labels!r:.200}."
        )
    return found


async def ask(execution: Execution, question: str, wanted: Wanted, timeout: Length | None) -> Any:
    """Ask and wait; returns the answer. Raises TimedOut, InvalidInput."""
    if not question.strip():
        raise UsageError("A question needs a text.")
    seconds = parse_timeout(timeout)
    identity = execution.bind("ask")
    asked = _asked(execution, identity, question, wanted, timeout)
    return wanted.value(await ask_as(execution, asked, seconds))


async def ask_as(execution: Execution, asked: QuestionAsked, seconds: float | None) -> JsonValue:
    """Ask what is drafted and wait, so many seconds at most; returns the answer as given. Raises TimedOut."""
    identity = asked.operation
    payload_of(asked)  # Too long a question is refused here, on the first execution as on replay.
    known = await execution.recorded(identity, "question", asked.digest)
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
    outcome = expired(TIMEOUT, 0.0) if found is None else execution.observe(identity, found)
    return _answer(identity, outcome)


def _asked(
    execution: Execution, identity: str, question: str, wanted: Wanted, timeout: Length | None
) -> QuestionAsked:
    text = str(execution.admit(question))
    options = wanted.options
    labels: Any = None if options is None else execution.admit([option.label for option in options])
    more: Any = execution.admit(wanted.beyond_options())
    if more:
        digest = digest_of([text, labels, timeout, more])
    else:
        digest = digest_of([text, labels] if timeout is None else [text, labels, timeout])
    return QuestionAsked(
        operation=identity,
        digest=digest,
        question=text,
        options=labels,
        due=None if timeout is None else DUE_LONGEST,
        descriptions=more.get("descriptions"),
        allow_free_form=None if options is None else wanted.allow_free_form,
        answer_schema=wanted.schema,
    )


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
