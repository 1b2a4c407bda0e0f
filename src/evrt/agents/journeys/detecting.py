"""Which journey a message means, by its words alone: what is left when no model can be asked."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple, Protocol

from evrt.agents.journeys.closing import words_of
from evrt.errors import UsageError

CONFIDENCE_MIN = 0.5
"""From which confidence on a guess by keywords counts."""


class Detected(NamedTuple):
    """A guess: the route's name, and how much speaks for it, from 0 to 1."""

    name: str
    confidence: float


class Detector(Protocol):
    """Guesses the route that a message means. It must be pure: a replay asks it again."""

    def detect(self, text: str) -> Detected | None:
        """None where nothing speaks for any of them."""
        ...


class KeywordDetector:
    """Counts keywords: ``KeywordDetector({"book": ["book", "table", "reserve"], "cancel": ["cancel"]})``.

    A keyword is a word or several, found as whole words. The confidence is the share that a route has of all keywords
    found in the message; of two with the same share neither is meant for certain, so that it is at most a half.
    """

    def __init__(self, keywords: Mapping[str, Collection[str]]) -> None:
        for name, words in keywords.items():
            if isinstance(words, str) or not all(words_of(word) for word in words):
                raise UsageError(f"The keywords of {name} are a list of words: [{words!r:.60}] perhaps.")
        self._keywords = {name: [tuple(words_of(word)) for word in words] for name, words in keywords.items()}

    def detect(self, text: str) -> Detected | None:
        """The route with the most keywords in the message, the first of several; None where there are none."""
        words = words_of(text)
        counts = {
            name: sum(_contains(words, keyword) for keyword in known)
            for name, known in self._keywords.items()
        }
        total = sum(counts.values())
        if not total:
            return None
        best = max(counts, key=counts.__getitem__)
        return Detected(best, counts[best] / total)


def _contains(words: list[str], keyword: tuple[str, ...]) -> bool:
    size = len(keyword)
    return any(tuple(words[at : at + size]) == keyword for at in range(len(words) - size + 1))
