"""Printing: data on stdout, hints and progress on stderr; colours and tables on terminals only."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple, TextIO

from evrt.cli.text import REORDERING, one_line

if TYPE_CHECKING:
    from rich.console import Console

PROGRESS_STEPS_MIN = 10_000
"""Work with fewer steps is over before a bar could be read."""

COLUMNS_MIN = 12
"""What the last column of a table gets, however narrow the terminal is: runs with a target of ten letters fit into 80."""

INVISIBLE = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"}
# A question could read as another one than is answered.
INVISIBLE |= {code: f"\\u{code:04x}" for code in REORDERING}


class Cell(NamedTuple):
    """A text and how it looks on a terminal, as rich names styles: ``bold red``, ``dim``."""

    text: str
    style: str = ""


class NotPrinted(Exception):
    """Stdout takes no more: whoever read it has gone (a pipe), or its disk is full. The cause says which."""


def out(text: str) -> None:
    """Data, on stdout. Raises NotPrinted."""
    try:
        sys.stdout.write(f"{text}\n")
    except OSError as error:
        raise NotPrinted from error


def flush() -> None:
    """Have everything printed so far really go out. Raises NotPrinted."""
    try:
        sys.stdout.flush()
    except OSError as error:
        raise NotPrinted from error


def note(text: str) -> None:
    """A hint or a piece of news, on stderr, after the data that came before it."""
    flush()
    whisper(f"{text}\n")


def whisper(text: str) -> None:
    """On stderr as it is. A run must not end because nobody listens to news of it."""
    with contextlib.suppress(OSError):
        sys.stderr.write(text)
        sys.stderr.flush()


def out_json(document: object) -> None:
    """A document on stdout, as indented JSON."""
    out(json.dumps(document, ensure_ascii=False, indent=2))


def out_json_line(document: object) -> None:
    """A document on stdout, as JSON in one line."""
    out(json.dumps(document, ensure_ascii=False, separators=(",", ":")))


@contextlib.contextmanager
def prints_aside() -> Iterator[None]:
    """While somebody else's code runs: what it prints goes to stderr, for stdout holds a command's own data only."""
    with contextlib.redirect_stdout(sys.stderr):
        yield


def on_terminal(stream: TextIO) -> bool:
    """Whether a person looks at what is written there."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def harmless(text: str) -> str:
    """Text that leaves cursor and colours of a terminal alone: what models and tools say could do anything."""
    return text.translate(INVISIBLE)


def paint(text: str, style: str = "", stream: TextIO | None = None) -> str:
    """Text as it is to be written to a stream (stdout, if not said otherwise): styled and harmless on a terminal."""
    stream = stream or sys.stdout
    if not on_terminal(stream):
        return text
    return _painter(stream, style)(harmless(text))


@functools.cache
def _painter(stream: TextIO, style: str) -> Callable[[str], str]:
    from rich.console import COLOR_SYSTEMS
    from rich.style import Style

    colours = _console(stream).color_system
    if colours is None or not style:
        return lambda text: text
    return functools.partial(Style.parse(style).render, color_system=COLOR_SYSTEMS[colours])


@functools.cache
def _console(stream: TextIO) -> Console:
    from rich.console import Console

    return Console(
        file=stream,
        color_system=None if os.environ.get("NO_COLOR") else "auto",
        highlight=False,
        markup=False,
        emoji=False,
    )


def width(stream: TextIO | None = None) -> int:
    """Columns of the terminal that a stream (stdout, if not said otherwise) is."""
    return _console(stream or sys.stdout).width


def fit(text: str, columns: int) -> str:
    """Text in one line that takes at most so many columns of a terminal."""
    if len(text) <= columns and text.isascii():
        return text
    from rich.cells import cell_len, set_cell_size

    return text if cell_len(text) <= columns else f"{set_cell_size(text, columns - 1).rstrip()}…"


def out_table(headings: Sequence[str], rows: Sequence[Sequence[Cell]]) -> None:
    """Rows under headings, aligned and of one line each; on a terminal the last column is cut to the width left."""
    terminal = on_terminal(sys.stdout)
    told = [[cell._replace(text=one_line(cell.text)) for cell in row] for row in rows]
    lines = [[Cell(heading, "dim") for heading in headings], *told]
    widths = [max(len(line[column].text) for line in lines) for column in range(len(headings) - 1)]
    left = max(width() - sum(widths) - 2 * len(widths), COLUMNS_MIN) if terminal else 0
    for line in lines:
        cells = [Cell(cell.text.ljust(size), cell.style) for cell, size in zip(line, widths, strict=False)]
        last = line[-1]._replace(text=fit(line[-1].text, left)) if terminal else line[-1]
        out("  ".join(paint(*cell) for cell in (*cells, last)).rstrip())


@contextlib.contextmanager
def progress(doing: str, unit: str = "") -> Iterator[Callable[[int, int], None]]:
    """A bar on stderr, if that is a terminal and the work is long; tell it how much is done, and of how much.

    With a ``unit`` it also says how many of them a second takes.
    """
    if not on_terminal(sys.stderr):
        yield lambda done, total: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[speed]}"),
    )
    with Progress(*columns, TimeRemainingColumn(), console=_console(sys.stderr), transient=True) as bar:
        task = bar.add_task(doing, total=None, visible=False, speed="")

        def advance(done: int, total: int) -> None:
            speed = bar.tasks[0].speed
            told = f"{speed:,.0f} {unit}/s" if unit and speed else ""
            bar.update(task, completed=done, total=total, visible=total >= PROGRESS_STEPS_MIN, speed=told)

        yield advance


def aligned(numbers: Sequence[str]) -> list[str]:
    """Numbers of one column, so that their last digits stand under one another."""
    size = max(map(len, numbers), default=0)
    return [number.rjust(size) for number in numbers]
