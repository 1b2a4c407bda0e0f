"""What a model says of its own words where it has no tool to say it with: ``[FINAL]`` an answer, ``[ASK_USER]`` a question.

A marker counts at the very beginning of a text and nowhere else, and a text without one is just a text, question mark or
not: else a quotation of a marker would end a task.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

FINAL = "[FINAL]"
ASK_USER = "[ASK_USER]"


class Marked(NamedTuple):
    """A reply: the final answer, a question to the user, or words that carry no marker; and its text without it."""

    kind: Literal["final", "question", "text"]
    text: str


def read_marker(text: str) -> Marked:
    """What a reply is by the marker that it begins with."""
    bare = text.lstrip()
    if bare.startswith(FINAL):
        return Marked("final", bare.removeprefix(FINAL).strip())
    if bare.startswith(ASK_USER):
        return Marked("question", bare.removeprefix(ASK_USER).strip())
    return Marked("text", text)


def without_marker(text: str) -> str:
    """A final answer without its marker."""
    marked = read_marker(text)
    return marked.text if marked.kind == "final" else text
