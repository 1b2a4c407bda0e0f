"""What waits for a person: questions, approvals and writes in doubt as documents, and those that still do."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from evrt.events import JsonValue
from evrt.folds.operation import Known


class Waiting(Known):
    """A question, an approval or a write in doubt, or that its run has ended. Times are microseconds since 1970, UTC."""

    kind: Literal["", "question", "approval", "write", "run"] = ""
    status: Literal["open", "answered", "expired", "approved", "denied", "cancelled", "settled", "ended"] = (
        "open"
    )
    question: str = ""
    """The question; what is to be approved; of a write, why nobody knows its outcome."""
    details: JsonValue = None
    """What helps to decide on an approval; of a call for the run's client ``tool``, ``arguments`` and ``tool_call_id``."""
    due: int | None = None
    """When nobody waits for it any more."""
    options: tuple[str, ...] | None = None
    descriptions: tuple[str, ...] | None = None
    """What each of the options means, where that is said."""
    allow_free_form: bool | None = None
    """Of a question with options, whether an answer may be none of them."""
    answer_schema: JsonValue = None
    """The JSON schema that an answer has to fit."""
    shown_digest: str | None = None
    """Of an approval, the digest of what exactly is asked leave for."""
    by: str | None = None
    """Who answered, decided or settled it, as they said."""
    since: int = 0
    """When it was asked, or last came to be in doubt."""


def still_waiting(documents: Iterable[tuple[str, Waiting]]) -> list[tuple[str, Waiting]]:
    """Of documents with their keys, the open ones of runs that have not ended."""
    known = list(documents)
    ended = {run for run, document in known if document.kind == "run"}
    return [(run, document) for run, document in known if document.status == "open" and run not in ended]
