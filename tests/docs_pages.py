"""The pages of the documentation as tests read them: fenced blocks, headings, links.

What a block needs beside its text stands in front of it: ``<!-- not run: reason -->`` for an example that is
only to be looked at, ``<!-- figures vary -->`` where numbers are those of one time. A block of Python whose first line is ``# name.py`` is also that file; a ``text`` block
right behind one of Python is what it prints.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
OUTER = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md")

FENCE = re.compile(r"^(?P<mark>`{3,}|~{3,})(?P<kind>\w*)\s*$")
NOT_RUN = re.compile(r"^<!-- not run: (?P<reason>\S.*) -->$")
FIGURES_VARY = "<!-- figures vary -->"
FILE = re.compile(r"# (?P<name>[\w-]+\.py)\n")
HEADING = re.compile(r"^#{1,6} +(?P<text>.+?) *#*$")
LINK = re.compile(r"\[(?P<text>[^\]]*)\]\((?P<target>[^()\s]+)\)")
CODE_SPAN = re.compile(r"`[^`]+`")


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block. ``line`` is that of its first line of text."""

    kind: str
    line: int
    text: str
    not_run: str | None
    figures_vary: bool
    follows_directly: bool

    @property
    def file(self) -> str | None:
        """The name of the file that a block of Python stands for."""
        match = FILE.match(self.text) if self.kind == "python" else None
        return match["name"] if match else None


@dataclass(frozen=True)
class Page:
    """One Markdown file."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.relative_to(ROOT).as_posix()

    @cached_property
    def lines(self) -> list[str]:
        return self.path.read_text("utf-8").splitlines()

    @cached_property
    def blocks(self) -> list[Block]:
        return list(self._blocks())

    def _blocks(self) -> Iterator[Block]:
        before: list[str] = []
        begun: tuple[str, str, int] | None = None
        for number, line in enumerate(self.lines):
            fence = FENCE.match(line)
            if begun is None and fence is not None:
                begun = fence["mark"], fence["kind"], number + 1
            elif begun is not None and line.rstrip() == begun[0]:
                _, kind, first = begun
                text = "".join(f"{inner}\n" for inner in self.lines[first:number])
                said = [NOT_RUN.match(comment) for comment in before[-1:]]
                reason = next((match["reason"] for match in said if match is not None), None)
                vary = before[-1:] == [FIGURES_VARY]
                yield Block(kind, first + 1, text, reason, vary, follows_directly=not before)
                begun, before = None, []
            elif begun is None and line.strip():
                before.append(line.strip())
        assert begun is None, f"{self.name}: its last block does not end."

    @cached_property
    def prose(self) -> list[tuple[int, str]]:
        """Lines outside of fenced blocks, with their numbers."""
        inside = {
            number
            for block in self.blocks
            for number in range(block.line - 1, block.line + block.text.count("\n") + 1)
        }
        return [(number, line) for number, line in enumerate(self.lines, start=1) if number not in inside]

    @cached_property
    def anchors(self) -> set[str]:
        """What GitHub makes of the headings: lower case, no punctuation, hyphens for spaces, numbered when repeated."""
        found: dict[str, int] = {}
        anchors: set[str] = set()
        for _, line in self.prose:
            if heading := HEADING.match(line):
                text = LINK.sub(r"\g<text>", heading["text"])
                slug = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
                count = found.get(slug, 0)
                found[slug] = count + 1
                anchors.add(f"{slug}-{count}" if count else slug)
        return anchors

    @cached_property
    def links(self) -> list[tuple[int, str]]:
        """Targets of links, with their lines."""
        return [
            (number, link["target"])
            for number, line in self.prose
            for link in LINK.finditer(CODE_SPAN.sub(lambda span: "`" * len(span[0]), line))
        ]

    @cached_property
    def code_spans(self) -> list[tuple[int, str]]:
        """Texts in single backticks, with their lines."""
        return [(number, span[0][1:-1]) for number, line in self.prose for span in CODE_SPAN.finditer(line)]

    def tables(self) -> Iterator[list[tuple[int, list[str]]]]:
        """Each table as rows of cells, the heading first and the rule under it left out."""
        rows: list[tuple[int, list[str]]] = []
        for number, line in [*self.prose, (0, "")]:
            if line.startswith("|"):
                cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip("|"))]
                if not all(re.fullmatch(r":?-+:?", cell) for cell in cells):
                    rows.append((number, cells))
            elif rows:
                yield rows
                rows = []


def pages() -> list[Page]:
    """README and what stands beside it, then everything in docs/."""
    return [Page(ROOT / name) for name in OUTER] + [Page(path) for path in sorted(DOCS.rglob("*.md"))]
