"""Closing phrases: whether a message only says thank you and good-bye."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from evrt.events import JsonObject

CLOSING_PHRASES = frozenset(
    {
        "thanks",
        "thank you",
        "thank you very much",
        "thank you so much",
        "thanks a lot",
        "many thanks",
        "thx",
        "cheers",
        "bye",
        "bye bye",
        "goodbye",
        "good bye",
        "see you",
        "see you later",
        "have a nice day",
        "have a good day",
        "you too",
        "take care",
        "ok",
        "okay",
        "great",
        "perfect",
        "all good",
        "that's all",
        "that is all",
        "that's it",
        "that is it",
        "nothing else",
        "no thanks",
        "no thank you",
        "i'm done",
        "i am done",
    }
)
NOT_A_WORD = re.compile(r"[^\w']+")


def is_closing(text: str, phrases: Collection[str] = CLOSING_PHRASES) -> bool:
    """Whether the whole message consists of closing phrases: "Thanks! Bye." does, "Thanks, but …" does not."""
    known = {tuple(words_of(phrase)) for phrase in phrases} - {()}
    words = words_of(text)
    longest = max(map(len, known), default=0)
    # Which beginnings of the message are closing phrases from end to end.
    whole = [True] + [False] * len(words)
    for end in range(1, len(words) + 1):
        starts = range(max(0, end - longest), end)
        whole[end] = any(whole[start] and tuple(words[start:end]) in known for start in starts)
    return bool(words) and whole[-1]


def words_of(text: str) -> list[str]:
    """The words of a text in small letters, without what stands between them."""
    plain = text.casefold().replace("\u2019", "'")
    return NOT_A_WORD.sub(" ", plain).split()


def last_words(messages: Sequence[JsonObject]) -> str:
    """What the user said last; empty where the last message is not a text of the user's."""
    last = messages[-1] if messages else {}
    content = last.get("content")
    return content if last.get("role") == "user" and isinstance(content, str) else ""
