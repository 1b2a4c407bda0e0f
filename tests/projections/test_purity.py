"""A projection cannot reach I/O, a clock or randomness: what keeps it so, and each guard seen to refuse."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
BUILT_IN = sorted((ROOT / "projections" / "evrt_projections").glob("*.py"))
FOLDS = sorted((ROOT / "src" / "evrt" / "folds").glob("*.py"))

MODULES = frozenset(
    {
        "__future__",
        "collections",
        "dataclasses",
        "datetime",
        "decimal",
        "enum",
        "evrt",
        "fractions",
        "functools",
        "hashlib",
        "itertools",
        "math",
        "operator",
        "orjson",
        "pydantic",
        "re",
        "string",
        "typing",
    }
)
"""All that built-in projections and folds may import: no module is pure until it is named here."""

BUILTINS = frozenset(
    {
        "__import__",
        "breakpoint",
        "compile",
        "delattr",
        "eval",
        "exec",
        "exit",
        "globals",
        "hash",
        "id",
        "input",
        "locals",
        "open",
        "print",
        "quit",
        "setattr",
        "vars",
    }
)
"""Functions that reach the world, or whose result differs between processes."""

METHODS = frozenset({"now", "today", "utcnow", "fromtimestamp", "__setattr__"})
"""The clock behind types that are pure otherwise; and a local time zone."""

MAY_PUT_FIELDS = {"documents.py": {"__setattr__"}}
"""Where a frozen model that nobody has seen yet gets its fields."""


def impurities(source: str) -> Iterator[str]:
    """What a source does that a pure fold may not."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.partition(".")[0] not in MODULES)
        elif isinstance(node, ast.ImportFrom):
            if (node.module or "").partition(".")[0] not in MODULES:
                yield node.module or "a relative import"
        elif isinstance(node, ast.Name) and node.id in BUILTINS and isinstance(node.ctx, ast.Load):
            yield node.id
        elif isinstance(node, ast.Attribute) and node.attr in METHODS:
            yield node.attr
        elif isinstance(node, ast.Global | ast.Nonlocal | ast.AsyncFunctionDef | ast.Await):
            yield type(node).__name__


@pytest.mark.parametrize("path", [*BUILT_IN, *FOLDS], ids=lambda path: f"{path.parent.name}/{path.name}")
def test_projections_and_folds_do_nothing_that_reaches_the_world(path: Path) -> None:
    allowed = MAY_PUT_FIELDS.get(path.name, set())
    assert [found for found in impurities(path.read_text("utf-8")) if found not in allowed] == []


@pytest.mark.parametrize(
    "planted",
    [
        "import time",
        "import urllib.request",
        "from threading import Thread",
        "from . import runs",
        "def key(columns): return open(columns.stream).read()",
        "def key(columns): print(columns)",
        "def key(columns): return str(hash(columns.stream))",
        "def key(columns): return __import__('os').getcwd()",
        "def key(columns): return eval('1')",
        "from datetime import datetime\ndef key(columns): return datetime.now()",
        "from datetime import date\nDAY = date.today()",
        "seen = 0\ndef key(columns):\n    global seen\n    seen += 1",
        "async def key(columns): ...",
    ],
)
def test_whatever_reaches_the_world_is_found(planted: str) -> None:
    assert list(impurities(planted)) != []


@pytest.mark.parametrize(
    "planted, rule",
    [
        ("print(1)", "T201"),
        ("import random", "TID251"),
        ("from datetime import datetime\n\nNOW = datetime.now()", "TID251"),
    ],
)
def test_the_linter_refuses_it_too(planted: str, rule: str) -> None:
    finished = subprocess.run(
        [
            *(Path(sys.executable).with_name("ruff"), "check", "--no-cache", "--output-format=concise"),
            *("--stdin-filename", "projections/evrt_projections/planted.py", "-"),
        ],
        cwd=ROOT,
        input=f'"""Planted."""\n\n{planted}\n',
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 1
    assert rule in finished.stdout


KEY_FUNCTION = """\
from evrt.projection import Columns


def key(columns: Columns) -> str | None:
    return columns.{column}
"""


def test_the_type_checker_refuses_a_key_that_looks_into_the_event(tmp_path: Path) -> None:
    (tmp_path / "planted.py").write_text(KEY_FUNCTION.format(column="event.operation"), "utf-8")
    (tmp_path / "fine.py").write_text(KEY_FUNCTION.format(column="correlation"), "utf-8")
    finished = subprocess.run(
        [sys.executable, "-m", "mypy", "--no-error-summary", tmp_path / "planted.py", tmp_path / "fine.py"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 1, finished.stderr
    assert '"Columns" has no attribute "event"' in finished.stdout
    assert "fine.py" not in finished.stdout
