"""What a question takes for an answer: checked when it is given, so that whoever gives it is told, and not the run."""

from __future__ import annotations

from evrt.effects.json_schema import JsonSchema
from evrt.errors import InvalidInput
from evrt.events import JsonValue
from evrt.events.calls import QuestionAsked


def checked_answer(asked: QuestionAsked, given: JsonValue) -> JsonValue:
    """The answer as it is recorded: an option by its label, or what was given. Raises InvalidInput."""
    if isinstance(given, str) and not given.strip():
        raise InvalidInput(f"An empty text is no answer to {asked.question!r:.200}.{_what_fits(asked)}")
    if asked.answer_schema is not None:
        faults = JsonSchema(asked.answer_schema, of="the answer", formats=True).faults(given)
        if faults is not None:
            raise InvalidInput(f"{given!r:.80} is no answer to {asked.question!r:.200}: {faults}.")
        return given
    if asked.options is None:
        return given
    if isinstance(given, str):
        for text in (given, given.strip()):
            if text in asked.options:
                return text
        if asked.allow_free_form is not False:
            return given
    raise InvalidInput(
        f"{given!r:.80} is not one of the answers that {asked.question!r:.200} takes.{_what_fits(asked)}"
    )


def _what_fits(asked: QuestionAsked) -> str:
    if asked.options is None:
        return ""
    *others, last = asked.options
    said = f"{', '.join(others)} or {last}" if others else last
    return f" Say {said}{'' if asked.allow_free_form is False else ', or something else in words'}."
