"""What a prompt is made of, as a reader of Markdown sees it: headings and fences, and which are closed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

LINE_ENDS = re.compile("\r\n|[\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029]")
"""Everything that something takes for the end of a line."""
HEADING = re.compile(r" {0,3}(#{1,6})(?:\s|$)")
UNDERLINE = re.compile(r" {0,3}(?:=+|-+)\s*$")
FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")


def skeleton(text: str) -> tuple[str, ...]:
    """Headings by their level, underlined ones, and fences with whether they are closed, in their order."""
    found: list[str] = []
    fence = ""
    before = ""
    for line in LINE_ENDS.split(text):
        mark = FENCE.match(line)
        if fence:
            closes = mark is not None and mark[1].startswith(fence) and not line.strip().strip(fence[0])
            if closes:
                found.append("end of fence")
                fence = ""
        elif mark is not None:
            fence = mark[1]
            found.append("fence")
        elif heading := HEADING.match(line):
            found.append(f"heading {len(heading[1])}")
        elif UNDERLINE.match(line) and before.strip():
            found.append("underlined")
        before = line
    return tuple(found)


def system_messages(messages: Sequence[Any]) -> list[tuple[str, ...]]:
    """The skeletons of the messages that speak for the operator."""
    return [skeleton(str(message["content"])) for message in messages if message["role"] == "system"]
