"""Takes secrets out of a text that is still streaming, as far as one can before its end is known: pure.

A piece of a secret looks like none. So text is held back until the word it is in has ended, and the redaction sees each
word with what stands before it.
"""

from __future__ import annotations

import re
from itertools import takewhile

from evrt.seal import Redact, keep

WINDOW_CHARACTERS = 1_000
"""How much of what was shown the redaction sees again, before what is new."""

WORD_CHARACTERS_MAX = 8_000
"""A word is held back no longer than this: no key has so many characters."""

_WORD = re.compile(r"[!-~]*\Z")


class Redacting:
    """The redaction of one text. ``take`` pieces of it as they come."""

    def __init__(self, redact: Redact) -> None:
        self._redact = redact
        self._seen = ""
        """What stands before the text that is held back, as the model said it: its end at least."""
        self._shown = ""
        """That, as it was shown."""
        self._held = ""
        self._torn = False

    def take(self, text: str) -> str:
        """What can be shown now."""
        if self._redact is keep:
            return text
        if self._torn:
            # Whatever the rest of this word is, nobody can tell without its beginning.
            whole = re.search(r"[^!-~].*", text, re.DOTALL)
            if whole is None:
                return ""
            self._torn, text = False, whole[0]
        self._held += text
        end = _WORD.search(self._held)
        assert end is not None
        length = end.start() if len(self._held) - end.start() < WORD_CHARACTERS_MAX else len(self._held)
        ended, self._held = self._held[:length], self._held[length:]
        return self._show(ended) if ended else ""

    def tear(self) -> None:
        """Some text has been lost here."""
        self._seen = self._shown = self._held = ""
        self._torn = True

    def _show(self, ended: str) -> str:
        self._seen += ended
        redacted = str(self._redact(self._seen))
        # Where a word shows that what stood before it was part of a secret, that has been seen; its rest has not.
        new = redacted[_common(self._shown, redacted) :]
        self._shown = redacted
        if len(self._seen) > 4 * WINDOW_CHARACTERS:
            self._seen = self._seen[-WINDOW_CHARACTERS:]
            self._shown = str(self._redact(self._seen))
        return new


def _common(one: str, other: str) -> int:
    """How many characters both begin with."""
    if other.startswith(one):
        return len(one)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))
