"""Printing: data on stdout, hints and progress on stderr; colours and tables on terminals only."""

from __future__ import annotations

import functools
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple, TextIO

if TYPE_CHECKING:
    from rich.console import Console

PROGRESS_STEPS_MIN = 10_000
"""Work with fewer steps is over before a bar could be read."""

INVISIBLE = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"}


class Cell(NamedTuple):
    """A text and how it looks on a terminal, as rich names styles: ``bold red``, ``dim``."""

    text: str
    style: str = ""


def out(text: str) -> None:
    """Data, on stdout."""
    sys.stdout.write(f"{text}\n")


def note(text: str) -> None:
    """A hint or a piece of news, on stderr, after the data that came before it."""
    sys.stdout.flush()
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def out_json(document: object) -> None:
    """A document on stdout, as indented JSON."""
    out(json.dumps(document, ensure_ascii=False, indent=2))


def out_json_line(document: object) -> None:
    """A document on stdout, as JSON in one line."""
    out(json.dumps(document, ensure_ascii=False, separators=(",", ":")))


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


def width() -> int:
    """Columns of the terminal that stdout is."""
    return _console(sys.stdout).width


def out_table(headings: Sequence[str], rows: Sequence[Sequence[Cell]]) -> None:
    """Rows under headings: cut to the terminal's width there, whole and aligned with spaces elsewhere."""
    if on_terminal(sys.stdout):
        _out_rich_table(headings, rows)
        return
    texts = [tuple(headings), *(tuple(cell.text for cell in row) for row in rows)]
    widths = [max(len(row[column]) for row in texts) for column in range(len(headings))]
    for row in texts:
        out("  ".join(text.ljust(size) for text, size in zip(row, widths, strict=True)).rstrip())


def _out_rich_table(headings: Sequence[str], rows: Sequence[Sequence[Cell]]) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    for heading in headings:
        # Only the last column may give way when the terminal is narrow.
        table.add_column(heading, no_wrap=True, overflow="ellipsis", ratio=1 if heading == headings[-1] else None)
    for row in rows:
        table.add_row(*(Text(harmless(cell.text), cell.style) for cell in row))
    _console(sys.stdout).print(table)


@contextmanager
def progress(doing: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar on stderr, if that is a terminal, for work of ``total`` steps; tell it how many are done."""
    if total < PROGRESS_STEPS_MIN or not on_terminal(sys.stderr):
        yield lambda done: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=_console(sys.stderr), transient=True) as bar:
        task = bar.add_task(doing, total=total)
        yield lambda done: bar.update(task, completed=done)
