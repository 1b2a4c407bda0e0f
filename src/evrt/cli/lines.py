"""The log, one line per event, past and to come: ``evrt log``."""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from evrt.cli.details import detail
from evrt.cli.documents import event_document
from evrt.cli.output import (
    COLUMNS_MIN,
    fit,
    flush,
    note,
    on_terminal,
    out,
    out_json,
    out_json_line,
    paint,
    width,
)
from evrt.cli.place import Place
from evrt.cli.text import local_date, local_time_of_day, one_line, rfc3339
from evrt.errors import UnusableLog, UsageError
from evrt.events import Envelope, Unknown
from evrt.events.run import TERMINAL
from evrt.history import find_run
from evrt.log import Log, Recorded
from evrt.log.envelopes import envelope

PAGE_EVENTS = 1_000
TYPE_CHARACTERS = 21
STREAM_CHARACTERS = 23
OPERATION_CHARACTERS_MIN, OPERATION_CHARACTERS_MAX = 12, 34

STYLES = (
    (("run.succeeded",), "bold green"),
    (("run.failed", "run.timed_out", "run.step_limit_reached", "run.diverged"), "bold red"),
    (("run.retry_scheduled",), "yellow"),
    (("run.", "input."), "bold"),
    (("timer.", "wait."), "dim"),
    (("child.",), "bold cyan"),
    (("step.failed", "model_call.failed", "tool_call.failed", "error."), "red"),
    (("tool_call.in_doubt", "question.asked", "approval.requested", "guard."), "yellow"),
    (("model_call.",), "magenta"),
    (("tool_call.", "step."), "cyan"),
    (("race.",), "bold cyan"),
    (("memory.", "checkpoint."), "blue"),
)
"""Beginnings of types and how they look; the first that fits."""


async def show_log(
    place: Place, revision: str | None, *, follow: bool, types: Sequence[str], after: int, as_json: bool
) -> None:
    """Print a run's events, or the whole log's; ``follow`` goes on with those to come."""
    async with place.reading() as log:
        show = _show_json if as_json else _Lines(whole_log=revision is None).show
        shown = 0
        async with aclosing(_pages(log, revision, follow=follow, after=after)) as pages:
            async for page in pages:
                chosen = [(row, _decoded(row)) for row in page if not types or _of_types(row, types)]
                shown += len(chosen)
                show(chosen)
                if follow:
                    flush()
        if not shown:
            note(f"No event of {revision or log.url} is like that.")


def _of_types(row: Recorded, types: Sequence[str]) -> bool:
    return any(row.type == one or row.type.startswith(f"{one}.") for one in types)


async def show_request(place: Place, revision: str, operation: str) -> None:
    """Print the exact request of a model call, rebuilt from the log and checked against its digest."""
    async with place.reading() as log:
        out_json((await find_run(log, revision)).request(operation))


async def _pages(
    log: Log, revision: str | None, *, follow: bool, after: int
) -> AsyncGenerator[list[Recorded]]:
    if revision is None:
        last = await log.position()  # Else what is appended while this prints would keep it printing.
        while rows := await log.read(after=after, upto=last, limit=PAGE_EVENTS):
            yield rows
            after = rows[-1].position
        run = None
    else:
        if follow and "@" in revision:
            raise UsageError(f"{revision} is a moment that has passed: follow the run itself, without the @.")
        run = await find_run(log, revision)
        rows = await log.read_stream(run.id, upto=len(run.events))
        yield [row for row in rows if row.position > after]
        after = max(after, run.state.position)
    if follow and not (run is not None and run.state.ended):
        async with aclosing(_to_come(log, None if run is None else run.id, after)) as pages:
            async for page in pages:
                yield page


async def _to_come(log: Log, run: str | None, after: int) -> AsyncGenerator[list[Recorded]]:
    """The events after a position, past and future; those of a run until it ends."""
    async with aclosing(log.subscribe(after)) as subscription:
        async for row in subscription:
            if run in (None, row.stream):
                yield [row]
                if run is not None and row.type in TERMINAL:
                    return


def _decoded(row: Recorded) -> Envelope:
    """The event; one that cannot be decoded must not hide the others."""
    try:
        return envelope(row)
    except UnusableLog as error:
        note(f"Position {row.position}: {error} Run `evrt db check`.")
        return envelope(row._replace(payload=None))._replace(
            event=Unknown(logical_type=row.type, schema_version=0, state=None)
        )


Page = list[tuple[Recorded, Envelope]]


def _show_json(page: Page) -> None:
    for row, event in page:
        out_json_line(event_document(row, event))


class _Lines:
    """Prints events as lines: in columns, and on a terminal cut to its width, a date where the day begins."""

    def __init__(self, *, whole_log: bool) -> None:
        self._whole_log = whole_log
        self._terminal = on_terminal(sys.stdout)
        self._operation_characters = OPERATION_CHARACTERS_MIN
        self._date = ""

    def show(self, page: Page) -> None:
        # The column widens as it has to and stays so: of what is to come the width is not known.
        wanted = max((len(_operation(event)) for _, event in page), default=0)
        self._operation_characters = max(self._operation_characters, min(wanted, OPERATION_CHARACTERS_MAX))
        for row, event in page:
            if self._terminal:
                self._show_date(row)
            self._show_line(row, event)

    def _show_line(self, row: Recorded, event: Envelope) -> None:
        columns = [
            (self._place(row), "dim"),
            (local_time_of_day(row.time) if self._terminal else rfc3339(row.time), "dim"),
            (row.type.ljust(TYPE_CHARACTERS), _style(row.type)),
            (_operation(event).ljust(self._operation_characters), ""),
        ]
        text = detail(event.event)
        if self._terminal:
            taken = sum(len(column) + 2 for column, _ in columns)
            text = fit(text, max(width() - taken, COLUMNS_MIN))
        out("  ".join([*(paint(column, style) for column, style in columns), paint(text)]).rstrip())

    def _place(self, row: Recorded) -> str:
        if self._whole_log:
            return f"{row.position:>6}  {f'{row.stream}@{row.version}'.ljust(STREAM_CHARACTERS)}"
        return f"{f'@{row.version}':>5}  {row.position:>6}"

    def _show_date(self, row: Recorded) -> None:
        date = local_date(row.time)
        if date != self._date:
            self._date = date
            out(paint(date, "dim"))


def _operation(event: Envelope) -> str:
    return one_line(str(getattr(event.event, "operation", None) or ""))


def _style(type: str) -> str:
    return next((style for beginnings, style in STYLES if type.startswith(beginnings)), "")
