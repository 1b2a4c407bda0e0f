"""What waits for a person: questions and writes in doubt as documents, and those that still do."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from evrt.folds.operation import Known


class Waiting(Known):
    """A question or a write in doubt, or that its run has ended. Times are microseconds since 1970, UTC."""

    kind: Literal["", "question", "write", "run"] = ""
    status: Literal["open", "answered", "expired", "settled", "ended"] = "open"
    question: str = ""
    """The question; of a write, why nobody knows its outcome."""
    options: tuple[str, ...] | None = None
    by: str | None = None
    """Who answered or settled it, as they said."""
    since: int = 0
    """When it was asked, or last came to be in doubt."""


def still_waiting(documents: Iterable[tuple[str, Waiting]]) -> list[tuple[str, Waiting]]:
    """Of documents with their keys, the open ones of runs that have not ended."""
    known = list(documents)
    ended = {run for run, document in known if document.kind == "run"}
    return [(run, document) for run, document in known if document.status == "open" and run not in ended]
