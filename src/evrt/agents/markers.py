"""Markers by which a model that is told to says what its text is: the end, a question, or thinking aloud.

A marker counts at the beginning of the text alone. Anywhere else it may be quoted, and a question mark makes no
question: people are asked only where the model says so.
"""

from __future__ import annotations

from dataclasses import dataclass

FINAL = "[FINAL]"
ASK_USER = "[ASK_USER]"


@dataclass(frozen=True, slots=True)
class Final:
    """The run is done, with this output."""

    output: str


@dataclass(frozen=True, slots=True)
class Question:
    """The user is to be asked this."""

    text: str


@dataclass(frozen=True, slots=True)
class Reasoning:
    """Thinking aloud: the loop goes on."""

    content: str


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer of a model that was not told to mark its texts."""

    text: str


Decision = Final | Question | Reasoning | Answer


def decision(text: str, *, markers: bool = True) -> Decision:
    """What a model's text without tool calls decides; without ``markers`` any text is its answer.

    A question that asks nothing is none: ``[ASK_USER]`` alone is thinking aloud.
    """
    if not markers:
        return Answer(text)
    said = text.lstrip()
    if said.startswith(FINAL):
        return Final(said.removeprefix(FINAL).strip())
    if said.startswith(ASK_USER) and (question := said.removeprefix(ASK_USER).strip()):
        return Question(question)
    return Reasoning(text)
