"""How many tokens messages have: counted over their text, offline, and always the same for the same text.

A run's code decides by such counts what it sends to a model, so a replay has to count as the run did. A provider's own
tokenizer comes with a vocabulary from the network, and its next version counts otherwise. So this is an estimate from
the bytes alone. Beside cl100k and o200k it is within a tenth for English, source code and Russian or Chinese, and up to
a third too low for ids, hexadecimal and other noise: tests/agents/test_compaction.py has the figures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from evrt.events import JsonObject, JsonValue
from evrt.events.canonical import canonical

Counter = Callable[[str], int]
"""Tokens of a text. Has to be pure: the same text, the same number, in every process and version."""

WEIGHTS: tuple[tuple[bytes, int], ...] = (
    (b"abcdefghijklmnopqrstuvwxyz", 24),
    (b"ABCDEFGHIJKLMNOPQRSTUVWXYZ", 70),
    (b"0123456789", 60),
    (b" \t", 4),
    (b"\n\r", 40),
    (bytes(range(128, 256)), 40),
)
"""Hundredths of a token that a byte of each kind makes; fitted to cl100k, to the larger of it and o200k."""
PUNCTUATION_WEIGHT = 60
"""Of every other byte: JSON has much of it."""


def estimate_tokens(text: str) -> int:
    """Tokens of a text, estimated from how many bytes of each kind it has: some 3 ns a byte."""
    left = text.encode("utf-8", "surrogatepass")
    hundredths = 0
    for kind, weight in WEIGHTS:
        others = left.translate(None, kind)
        hundredths += (len(left) - len(others)) * weight
        left = others
    return -(-(hundredths + len(left) * PUNCTUATION_WEIGHT) // 100)


def text_of(message: JsonObject) -> str:
    """A message as the text that tokens are counted over: ``role: content``, then the tool calls it makes, if any."""
    content = message.get("content")
    said = "" if content is None else content if isinstance(content, str) else canonical(content).decode()
    calls = message.get("tool_calls")
    return f"{message.get('role')}: {said}" + (f"\n{canonical(calls).decode()}" if calls else "")


def count_tokens(messages: Iterable[JsonObject], counter: Counter = estimate_tokens) -> int:
    """Tokens of messages together."""
    return sum(counter(text_of(message)) for message in messages)


def text_content(content: JsonValue) -> str:
    """The text of a message's content: of several parts, those that are text, a line each."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        texts = [part.get("text") for part in content if isinstance(part, dict)]
        return "\n".join(text for text in texts if isinstance(text, str))
    return ""
