"""The rows of docs/compatibility.md, and the tests whose docstrings begin with the rows that they prove.

``python tests/docs_compatibility.py`` puts such tests where a row says ``planned``, and prints the rows that still say
so.
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from functools import cache

from docs_pages import ROOT, Page

PAGE = Page(ROOT / "docs" / "compatibility.md")
PLANNED = "planned"
LACKING = f"| {PLANNED} |"
NAMED_MAX = 3
"""A row names so many tests at most; others may prove it as well."""

_ROW = r"S[0-4]\.\d+|B\d+"
_FAULTS = r"[Ff]aults? \d+(?:(?:, | and |–|, and )\d+)*(?!\w|\.\d)"
HEAD = re.compile(rf"(?:Rows? )?((?:{_FAULTS}|(?:{_ROW})(?:–(?:{_ROW}))?)(?:,? and |[,;] )?)+")
ONE = re.compile(rf"(?P<faults>{_FAULTS})|(?P<first>{_ROW})(?:–(?P<last>{_ROW}))?")


def rows(page: Page = PAGE) -> list[tuple[int, list[str]]]:
    """Lines and cells of all rows: their id, what is there, what is in evrt, and what proves it."""
    return [row for table in page.tables() for row in table[1:]]


def ids_in(docstring: str) -> list[str]:
    """The rows that a docstring begins with: "S0.13, S0.14: …", "Faults 3 and 4"."""
    head = HEAD.match(docstring)
    return [] if head is None else [row for one in ONE.finditer(head[0]) for row in _ids(one)]


def _ids(one: re.Match[str]) -> Iterator[str]:
    if one["faults"]:
        yield from (f"fault {number}" for number in _numbers(one["faults"]))
    elif one["last"] is None:
        yield one["first"]
    else:
        system, _, _ = one["first"].rpartition(".")
        begin, end = (int(re.findall(r"\d+", row)[-1]) for row in (one["first"], one["last"]))
        yield from (f"{system}.{number}" if system else f"B{number}" for number in range(begin, end + 1))


def _numbers(text: str) -> Iterator[int]:
    for first, last in re.findall(r"(\d+)(?:–(\d+))?", text):
        yield from range(int(first), int(last or first) + 1)


@cache
def proofs() -> dict[str, list[str]]:
    """``path::test`` of all tests that name a row in their docstrings, those that name it first before others."""
    found: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
                for place, row in enumerate(ids_in(ast.get_docstring(node) or "")):
                    found[row].append((place, f"{path.relative_to(ROOT).as_posix()}::{node.name}"))
    return {
        row: [test for _, test in sorted(tests, key=lambda test: test[0])] for row, tests in found.items()
    }


def filled(text: str) -> str:
    """The page with the tests that there are where it says that there are none yet."""
    lines = text.split("\n")
    for number, line in enumerate(lines):
        if line.startswith("| ") and line.endswith(LACKING):
            row = line.removeprefix("| ").partition(" | ")[0]
            said = ", ".join(f"`{test}`" for test in proofs().get(row, [])[:NAMED_MAX])
            lines[number] = line.removesuffix(LACKING) + f"| {said or PLANNED} |"
    return "\n".join(lines)


if __name__ == "__main__":
    before = PAGE.path.read_text("utf-8")
    PAGE.path.write_text(filled(before), "utf-8")
    print(*(cells[0] for _, cells in rows(Page(PAGE.path)) if cells[-1] == PLANNED), sep="\n")
