"""docs/compatibility.md has every row once, and each names tests that exist, or says that it is planned."""

from __future__ import annotations

from pathlib import Path

import pytest

from docs_compatibility import PAGE, PLANNED, filled, ids_in, proofs, rows
from docs_facts import held_tests, named_tests
from docs_pages import Page

REQUIRED = (
    *(f"S0.{number}" for number in range(1, 30)),
    *(f"S1.{number}" for number in range(1, 42)),
    *(f"S2.{number}" for number in range(1, 30)),
    *(f"S3.{number}" for number in range(1, 21)),
    *(f"S4.{number}" for number in range(1, 21)),
    *(f"B{number}" for number in range(1, 61)),
    *(f"fault {number}" for number in range(1, 67)),
    "All",
)


def problems(page: Page) -> list[str]:
    """What is wrong with a page, each in a few words."""
    there = rows(page)
    ids = [cells[0] for _, cells in there]
    found = [f"{row} is missing" for row in REQUIRED if row not in ids]
    found += [f"{row} is there {ids.count(row)} times" for row in dict.fromkeys(ids) if ids.count(row) > 1]
    found += [f"nobody knows {row}" for row in ids if row not in REQUIRED]
    for _, cells in there:
        row, proof = cells[0], cells[-1]
        if len(cells) != 4 or not all(cells):
            found.append(f"{row} has not four cells")
        named = list(named_tests(proof))
        if not named and proof != PLANNED:
            found.append(f"{row} names no test and is not planned")
        found += [
            f"{row}: there is no {path}::{test}" for path, test in named if test not in held_tests(path)
        ]
    return found


def test_every_row_is_there_once_and_names_tests_that_exist_or_is_planned() -> None:
    assert problems(PAGE) == []


def test_what_a_test_says_that_it_proves_is_not_only_planned() -> None:
    """A row for which there is a test names one: run ``python tests/docs_compatibility.py``."""
    assert [cells[0] for _, cells in rows() if cells[-1] == PLANNED and cells[0] in proofs()] == []


def test_what_tests_say_that_they_prove_are_rows() -> None:
    assert {row: tests for row, tests in proofs().items() if row not in REQUIRED} == {}


# ------------------------------------------------------------------------------- each check can fail


@pytest.fixture
def lines() -> list[str]:
    return PAGE.path.read_text("utf-8").splitlines()


def spoilt(folder: Path, lines: list[str]) -> list[str]:
    """What is wrong with these lines that is not wrong with the page as it is."""
    path = folder / "compatibility.md"
    path.write_text("\n".join(lines), "utf-8")
    before = problems(PAGE)
    return [problem for problem in problems(Page(path)) if problem not in before]


def place(lines: list[str], row: str) -> int:
    return next(number for number, line in enumerate(lines) if line.startswith(f"| {row} |"))


def test_a_row_that_is_missing_or_doubled_or_unknown_is_noticed(tmp_path: Path, lines: list[str]) -> None:
    at = place(lines, "S1.9")
    assert spoilt(tmp_path, lines[:at] + lines[at + 1 :]) == ["S1.9 is missing"]
    assert spoilt(tmp_path, [*lines[:at], lines[at], *lines[at:]]) == ["S1.9 is there 2 times"]
    other = lines[at].replace("| S1.9 |", "| S9.9 |")
    assert spoilt(tmp_path, [*lines[: at + 1], other, *lines[at + 1 :]]) == ["nobody knows S9.9"]


def test_a_test_that_is_missing_or_misspelt_is_noticed(tmp_path: Path, lines: list[str]) -> None:
    at = place(lines, "S1.9")
    name = "test_a_function_is_a_tool_by_signature_and_docstring"
    assert name in lines[at]
    misspelt = lines[at].replace(name, f"{name}s")
    [found] = spoilt(tmp_path, [*lines[:at], misspelt, *lines[at + 1 :]])
    assert found.startswith("S1.9: there is no tests/test_compatibility.py::test_a_function")
    cells = lines[at].split(" | ")
    without = " | ".join([*cells[:-1], "some day |"])
    assert spoilt(tmp_path, [*lines[:at], without, *lines[at + 1 :]]) == [
        "S1.9 names no test and is not planned"
    ]


@pytest.mark.parametrize(
    "docstring, ids",
    [
        ("S0.13, S0.14", ["S0.13", "S0.14"]),
        ("S0.1–S0.3: the tools.", ["S0.1", "S0.2", "S0.3"]),
        ("S4.5, faults 55 and 56", ["S4.5", "fault 55", "fault 56"]),
        ("Fault 62: ids.", ["fault 62"]),
        ("B36, fault 42", ["B36", "fault 42"]),
        ("B10: 30 seconds, of S0.25 too.", ["B10"]),
        ("A sentence about S0.13.", []),
        ("Faults are found, 3 of them.", []),
    ],
)
def test_rows_are_read_from_the_beginning_of_a_docstring(docstring: str, ids: list[str]) -> None:
    assert ids_in(docstring) == ids


def test_a_row_that_is_planned_gets_the_tests_that_name_it() -> None:
    row = "| S1.9 | there | here | planned |"
    assert filled(f"before\n{row}\nafter") == (
        "before\n| S1.9 | there | here | "
        "`tests/test_compatibility.py::test_a_function_is_a_tool_by_signature_and_docstring` |\nafter"
    )
    assert filled("| S1.36 | there | here | planned |") == "| S1.36 | there | here | planned |"
