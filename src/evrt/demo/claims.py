"""Expense claims from a CSV file, checked in full before anything is done with them."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from evrt.demo.cells import FILE_BYTES_MAX, Cell, Problem, column_name, refusal, rows_of, shown, text_of
from evrt.errors import InvalidInput, NotFound

SAMPLE_PATH = Path(__file__).parent / "claims.csv"
CLAIMS_MAX = 10_000
NAME_CHARACTERS_MAX = 200
NOTE_CHARACTERS_MAX = 2_000


class Claim(BaseModel):
    """One expense that somebody wants back.

    ``date`` is the day of the expense, ``submitted`` the day it was claimed. ``same_as`` is not a
    column: it names an earlier claim of the file with equal employee, date, merchant and amount.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    claim: str
    employee: str
    date: dt.date
    submitted: dt.date
    category: str
    merchant: str
    amount: Decimal
    currency: str
    receipt: bool
    note: str = ""
    same_as: str | None = None


def read_claims(path: Path) -> list[Claim]:
    """All claims of a file, or none.

    Raises InvalidInput naming line and column of what is wrong, NotFound where there is no file.
    """
    try:
        with path.open("rb") as file:
            content = file.read(FILE_BYTES_MAX + 1)
    except FileNotFoundError as error:
        raise NotFound(
            f"There is no file {path}. Give the path of a CSV file with expense claims."
        ) from error
    except OSError as error:
        raise InvalidInput(
            f"{path} cannot be read: {error.strerror}. Give a CSV file of expense claims."
        ) from error
    return parse_claims(content, str(path))


def parse_claims(content: bytes, name: str) -> list[Claim]:
    """The claims in the bytes of a CSV file; ``name`` is what errors call it."""
    problems: list[Problem] = []
    rows = rows_of(text_of(content, name), problems)
    header = next(rows, None)
    if header is None and not problems:
        raise InvalidInput(f"{name} is empty. Its first line has to name the columns: {', '.join(COLUMNS)}.")
    if header is None or (wrong := _header_problems(header)):
        raise refusal(name, problems if header is None else wrong)

    claims: list[Claim] = []
    lines: dict[str, int] = {}
    for row in rows:
        if len(claims) == CLAIMS_MAX:
            problems.append(
                Problem(row[0].line, None, f"a file may hold up to {CLAIMS_MAX:,} claims; split it")
            )
            break
        claim = _claim(row, header, problems)
        if claim is None:
            continue
        line = row[[cell.text.strip() for cell in header].index("claim")].line
        if (first := lines.setdefault(claim.claim, line)) != line:
            text = f"found {shown(claim.claim)} again, as on line {first}; expected a name of its own"
            problems.append(Problem(line, "claim", text))
        claims.append(claim)
    if problems:
        raise refusal(name, problems)
    if not claims:
        raise InvalidInput(
            f"{name} holds no claims: nothing follows the line that names the columns. Add some."
        )
    return _marked(claims)


def _marked(claims: list[Claim]) -> list[Claim]:
    """The same claims, with ``same_as`` in those that look like one claimed before."""
    firsts: dict[tuple[object, ...], str] = {}
    marked = []
    for claim in claims:
        looks = (claim.employee, claim.date, claim.merchant.casefold(), claim.amount, claim.currency)
        first = firsts.setdefault(looks, claim.claim)
        marked.append(claim if first == claim.claim else claim.model_copy(update={"same_as": first}))
    return marked


def _header_problems(header: list[Cell]) -> list[Problem]:
    found = [cell.text.strip() for cell in header]
    line = header[0].line
    problems = []
    for number, column in enumerate(found, start=1):
        if column not in CHECKS:
            problems.append(Problem(line, number, f"found {shown(column)}, which is not a column of claims"))
        elif column in found[: number - 1]:
            problems.append(Problem(line, number, f"found {column} a second time"))
    if missing := [column for column in COLUMNS if column not in found]:
        # First, so that it is named even where there are many unknown columns.
        text = f"missing: {', '.join(missing)}; expected are {', '.join(COLUMNS)}, separated by commas"
        problems.insert(0, Problem(line, None, text))
    return problems


def _claim(row: list[Cell], header: list[Cell], problems: list[Problem]) -> Claim | None:
    if len(row) != len(header):
        short = len(row) < len(header)
        cell = row[-1] if short else row[len(header)]
        text = f"found {len(row)} cells, expected {len(header)}; a text with a comma has to stand in quotes"
        problems.append(Problem(cell.line, column_name(header, len(row if short else header) + 1), text))
        return None
    values: dict[str, Any] = {}
    for cell, column in zip(row, header, strict=True):
        name = column.text.strip()
        try:
            values[name] = CHECKS[name](cell.text)
        except ValueError as error:
            problems.append(Problem(cell.line, name, f"found {shown(cell.text)}, expected {error}"))
    return Claim(**values) if len(values) == len(header) else None


def _name(text: str) -> str:
    if not re.fullmatch(r"\w[\w.-]{0,63}", text.strip()):
        raise ValueError("up to 64 letters, digits, points, hyphens and underscores, such as C-001")
    return text.strip()


def _short(text: str) -> str:
    text = text.strip()
    if not 0 < len(text) <= NAME_CHARACTERS_MAX or re.search(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]", text):
        raise ValueError(f"1 to {NAME_CHARACTERS_MAX} characters on one line")
    return text


def _category(text: str) -> str:
    return _short(text).lower()


def _date(text: str) -> dt.date:
    try:
        # Python reads 20250131 and 2025-W05-5 as well; here a date has one shape.
        if re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", text.strip()):
            return dt.date.fromisoformat(text.strip())
    except ValueError:
        pass
    raise ValueError("a date of the calendar as YYYY-MM-DD, such as 2025-09-30")


def _amount(text: str) -> Decimal:
    # Decimal itself takes 1e5, NaN, and the digits of other scripts.
    if re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,2})?", text.strip()) and (amount := Decimal(text.strip())) > 0:
        return amount
    raise ValueError("an amount above 0 with a point and at most two decimals, such as 1250.00")


def _currency(text: str) -> str:
    if not re.fullmatch(r"[A-Z]{3}", text.strip()):
        raise ValueError("a currency as three capital letters, such as EUR")
    return text.strip()


def _receipt(text: str) -> bool:
    answer = text.strip().lower()
    if answer not in ("yes", "no"):
        raise ValueError("yes or no")
    return answer == "yes"


def _note(text: str) -> str:
    if len(text) > NOTE_CHARACTERS_MAX or re.search(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]", text):
        raise ValueError(f"at most {NOTE_CHARACTERS_MAX:,} characters, none of them a control character")
    return text


CHECKS: Mapping[str, Callable[[str], object]] = {
    "claim": _name,
    "employee": _short,
    "date": _date,
    "submitted": _date,
    "category": _category,
    "merchant": _short,
    "amount": _amount,
    "currency": _currency,
    "receipt": _receipt,
    "note": _note,
}
"""For each column, what turns a cell into a value, or raises ValueError with what was expected."""

COLUMNS = tuple(CHECKS)
