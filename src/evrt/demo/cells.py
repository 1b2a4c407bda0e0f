"""A CSV file's bytes as rows of cells, each of which knows the line of the file it begins on.

Python's own csv module is not used because it can say neither in which cell a quote is
misplaced, nor on which line a cell of a row begins that spans several.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from evrt.errors import InvalidInput

FILE_BYTES_MAX = 8 * 1024 * 1024
PROBLEMS_SHOWN_MAX = 5
FOUND_CHARACTERS_MAX = 40

LINE_END = re.compile(r"\r\n?|\n")
CELL = re.compile(r'(?:"([^"]*(?:""[^"]*)*)"|([^",\r\n]*))(,|\r\n?|\n|\Z)')
NAME = re.compile(r"[a-z_]{1,40}")
QUOTED = re.compile(r'"[^"]*(?:""[^"]*)*"')


class Cell(NamedTuple):
    """The text between two commas, and the line on which it begins."""

    line: int
    text: str


class Problem(NamedTuple):
    """What is wrong at one place of the file. Lines count from 1, as editors do."""

    line: int
    column: str | int | None
    text: str


def refusal(name: str, problems: Sequence[Problem]) -> InvalidInput:
    """The error that names the first problems of the file called ``name``, in one paragraph."""
    places = [
        f"line {line}{'' if column is None else f', column {column}'}: {text}"
        for line, column, text in problems[:PROBLEMS_SHOWN_MAX]
    ]
    if more := len(problems) - len(places):
        places.append(f"and {more:,} more")
    return InvalidInput(f"{name} cannot be taken, and nothing of it was: {'; '.join(places)}. Mend the file.")


def shown(text: str) -> str:
    """A found value on one line, short, with every character escaped that a terminal might obey."""
    return repr(text if len(text) <= FOUND_CHARACTERS_MAX else text[: FOUND_CHARACTERS_MAX - 1] + "…")


def text_of(content: bytes, name: str) -> str:
    """The file as text, without byte order mark. Raises InvalidInput where it is not text in UTF-8."""
    if len(content) > FILE_BYTES_MAX:
        raise InvalidInput(f"{name} is larger than {FILE_BYTES_MAX // 1024**2} MiB, the limit. Split it.")
    if content.startswith(b"PK\x03\x04"):
        raise InvalidInput(f"{name} is a workbook or a zip file, not text. Save the sheet as CSV in UTF-8.")
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise InvalidInput(f"{name} is text in UTF-16. Save it as CSV in UTF-8.")
    content = content.removeprefix(b"\xef\xbb\xbf")
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise refusal(name, [_not_utf8(content, error.start)]) from error


def _not_utf8(content: bytes, at: int) -> Problem:
    text = f"found the byte 0x{content[at]:02x}, which is not UTF-8; save the file as CSV in UTF-8"
    before = content[:at].decode() + "?"
    # Read as rows, what comes before the byte tells its place. It may end inside a quoted cell.
    for closing in ("", '"'):
        problems: list[Problem] = []
        rows = list(rows_of(before + closing, problems))
        if not problems:
            column = column_name(rows[0], len(rows[-1]))
            return Problem(rows[-1][-1].line + _line_ends(rows[-1][-1].text), column, text)
    return Problem(1 + _line_ends(before), None, text)


def rows_of(text: str, problems: list[Problem]) -> Iterator[list[Cell]]:
    """The rows that are not blank, up to the first misplaced quote, which is added to ``problems``."""
    header: list[Cell] = []
    row: list[Cell] = []
    line, at = 1, 0
    # A comma at the very end is followed by one more cell, an empty one.
    while at < len(text) or row:
        match = CELL.match(text, at)
        if match is None:
            problems.append(Problem(line, column_name(header, len(row) + 1), _misplaced_quote(text, at)))
            return
        quoted, plain, end = match.groups()
        row.append(Cell(line, plain if quoted is None else quoted.replace('""', '"')))
        line += _line_ends(match[0])
        at = match.end()
        if end != ",":
            if any(cell.text.strip() for cell in row):
                header = header or row
                yield row
            row = []


def column_name(header: Sequence[Cell], number: int) -> str | int:
    """What the header calls its n-th column, or n where it has no fit name for it."""
    name = header[number - 1].text.strip() if number <= len(header) else ""
    return name if NAME.fullmatch(name) else number


def _line_ends(text: str) -> int:
    return len(LINE_END.findall(text))


def _misplaced_quote(text: str, at: int) -> str:
    if text[at] != '"':
        return "found a quote inside a text; put the whole text in quotes and double the quote in it"
    if QUOTED.match(text, at):
        return "found text behind a closing quote; a quote inside a quoted text has to be doubled"
    return "found a quote that is never closed"
