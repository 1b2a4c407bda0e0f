"""What pages claim and code can confirm: names, values, signatures, tests, paths."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from collections.abc import Iterator
from functools import cache
from typing import Any

from docs_pages import ROOT, Page

SIGNATURE = re.compile(r"<!-- signature of (?P<name>[\w.]+) -->")
DOTTED = re.compile(r"evrt(_projections)?(\.\w+)+")
PATH = re.compile(r"(?:src|tests|docs|projections|benchmarks)/[\w./-]*[\w/]")
TEST = re.compile(r"(?P<path>tests/[\w/]+\.py)::(?:Test\w+::)?(?P<name>test_\w+)")
ANY = "any"
REQUIRED = "required"


def find(name: str) -> Any:
    """The object or module of a dotted name. Raises AttributeError, ModuleNotFoundError."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        try:
            found: Any = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError as error:
            if length == 1 or not ".".join(parts[:length]).startswith(error.name or ""):
                raise
            continue
        for part in parts[length:]:
            found = getattr(found, part)
        return found
    raise ModuleNotFoundError(name)


def unwrapped(text: str) -> str:
    """A cell without its backticks."""
    return text.strip("`")


def as_value(text: str) -> object:
    """A cell as a value: a number with commas, a literal, or the text itself."""
    text = unwrapped(text)
    try:
        return ast.literal_eval(text.replace(",", "") if re.fullmatch(r"[\d,]+(\.\d+)?", text) else text)
    except (SyntaxError, ValueError):
        return text


def same(claimed: str, actual: object) -> bool:
    """Whether a cell says a value."""
    return as_value(claimed) == actual or unwrapped(claimed) == _shown(actual)


def _shown(value: object) -> str:
    return str(getattr(value, "__name__", None) or repr(value))


def constants(page: Page) -> Iterator[tuple[int, str, str]]:
    """Rows that state a constant: line, dotted name, the value claimed."""
    for table in page.tables():
        if table[0][1][:2] == ["constant", "value"]:
            for line, cells in table[1:]:
                yield line, unwrapped(cells[0]), cells[1]


def signatures(page: Page) -> Iterator[tuple[int, str, dict[str, str]]]:
    """Tables that state the arguments of a callable: line, dotted name, the default claimed for each."""
    marks = [
        (number, match["name"]) for number, line in page.prose if (match := SIGNATURE.fullmatch(line.strip()))
    ]
    tables = list(page.tables())
    for number, name in marks:
        table = next(table for table in tables if table[0][0] > number)
        yield number, name, {unwrapped(cells[0]): cells[1] for _, cells in table[1:]}


def parameters(name: str) -> dict[str, object]:
    """The arguments of a callable with their defaults."""
    # The options of the decorator are those of Tool.from_function, as its own text says.
    decorator = name == "evrt.tool"
    target = find("evrt.Tool.from_function" if decorator else name)
    actual: dict[str, object] = {}
    for parameter in inspect.signature(target).parameters.values():
        if parameter.name == "self" or (decorator and parameter.name == "function"):
            continue
        if parameter.kind is parameter.VAR_KEYWORD:
            actual[parameter.name] = ANY
        else:
            actual[parameter.name] = REQUIRED if parameter.default is parameter.empty else parameter.default
    return actual


def named_tests(text: str) -> Iterator[tuple[str, str]]:
    """Path and name of every test that a text names."""
    for match in TEST.finditer(text):
        yield match["path"], match["name"]


@cache
def held_tests(path: str) -> set[str]:
    """Names of the tests that a file holds."""
    file = ROOT / path
    if not file.exists():
        return set()
    return {
        node.name
        for node in ast.walk(ast.parse(file.read_text("utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
    }
