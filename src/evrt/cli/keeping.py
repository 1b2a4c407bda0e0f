"""How views stand, and a process that keeps them current: ``evrt projections list``, ``lag`` and ``run``."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple

from evrt.cli.output import Cell, aligned, fit, note, on_terminal, out_json, out_table, paint, whisper, width
from evrt.cli.place import Place
from evrt.cli.text import counted, duration, one_line
from evrt.cli.viewing import opened
from evrt.events import JsonObject
from evrt.log import Log
from evrt.projection import AnyProjection
from evrt.projector.records import fits
from evrt.projector.registry import named
from evrt.projector.views import Views, ViewStatus

TICK_SECONDS = 0.5
"""How often it is looked how views stand."""

CATCHING_UP_EVENTS = 1_000
"""A view that is less behind than that is told of as current: its next batch has all of it."""

PLAIN_SECONDS = 10.0
"""How often it is told, where nobody sees a line change, that views are still catching up."""

ERASE_LINE = "\x1b[2K"

STYLES = {
    "current": "green",
    "behind": "yellow",
    "building": "cyan",
    "not built": "dim",
    "parked": "bold red",
}


async def list_views(place: Place, *, as_json: bool) -> None:
    """Print every view, those of other programs too, and the projections that have none yet."""
    async with opened(place) as views:
        head = await views.log.position()
        statuses = list(await views.status())
        statuses += _not_built(views, statuses, head)
        statuses.sort(key=lambda status: (status.name, status.stage != "live"))
        temporary = views.temporary
    if as_json:
        out_json([_document(status) for status in statuses])
    else:
        _out_statuses(statuses)
    if temporary:
        note("Nothing can be kept beside this log, so a command builds the views that it reads for itself.")


def _not_built(views: Views, statuses: Sequence[ViewStatus], head: int) -> list[ViewStatus]:
    """Projections that no generation is of, or older ones only."""

    def there(projection: AnyProjection) -> bool:
        return any(
            status.known or status.version > projection.version
            for status in statuses
            if status.name == projection.name
        )

    return [
        ViewStatus(projection.name, projection.version, "not built", 0, head, 0, None, None, True)
        for projection in views.projections.values()
        if not there(projection)
    ]


def _document(status: ViewStatus) -> JsonObject:
    return {
        "name": status.name,
        "version": status.version,
        "stage": status.stage,
        "position": status.position,
        "lag": status.lag,
        "documents": status.documents,
        "error": status.error,
        "error_position": status.error_position,
        "known": status.known,
    }


def _state(status: ViewStatus) -> str:
    if status.error is not None:
        return "parked"
    if status.stage != "live":
        return status.stage
    return "behind" if status.lag else "current"


def _out_statuses(statuses: Sequence[ViewStatus]) -> None:
    positions = aligned([f"{status.position:,}" for status in statuses])
    lags = aligned([f"{status.lag:,}" for status in statuses])
    documents = aligned([f"{status.documents:,}" for status in statuses])
    rows = [
        [
            Cell(status.name, "bold"),
            Cell(str(status.version)),
            Cell(_state(status), STYLES[_state(status)]),
            Cell(positions[number]),
            Cell(lags[number]),
            Cell(documents[number]),
            Cell(
                one_line(status.error or ("" if status.known else "(no such projection, or version, here)"))
            ),
        ]
        for number, status in enumerate(statuses)
    ]
    out_table(("VIEW", "VERSION", "STATE", "POSITION", "BEHIND", "DOCUMENTS", ""), rows)


# ----------------------------------------------------------------------------------------------- lag


class Lag(NamedTuple):
    """How far a view is behind: events, and the seconds between the event it has come to and the log's last."""

    name: str
    events: int
    seconds: float


async def show_lag(place: Place, names: Sequence[str], *, lag_max: int | None, as_json: bool) -> int:
    """Print how far views are behind; returns the exit code."""
    async with opened(place) as views:
        chosen = [named(views.projections, name).name for name in names or views.projections]
        head = await views.log.position()
        # One that this program does not read, being of another version, says nothing of how far its own has come.
        positions = {
            status.name: status.position
            for status in sorted(await views.status(), key=lambda status: status.stage == "live")
            if status.known
        }
        lags = [
            Lag(name, head - at, await _seconds_between(views.log, at, head))
            for name, at in ((name, positions.get(name, 0)) for name in chosen)
        ]
    if as_json:
        out_json([lag._asdict() for lag in lags])
    else:
        events = aligned([f"{lag.events:,}" for lag in lags])
        out_table(
            ("VIEW", "EVENTS BEHIND", "TIME BEHIND"),
            [
                [Cell(lag.name, "bold"), Cell(count.rjust(len("EVENTS BEHIND"))), Cell(duration(lag.seconds))]
                for lag, count in zip(lags, events, strict=True)
            ],
        )
    if lag_max is None or all(lag.events <= lag_max for lag in lags):
        return 0
    late = [lag.name for lag in lags if lag.events > lag_max]
    note(
        f"More than {counted(lag_max, 'event')} behind: {', '.join(late)}. `evrt projections run` keeps views current."
    )
    return 1


async def _seconds_between(log: Log, position: int, head: int) -> float:
    if position >= head:
        return 0.0
    seen = max(position, 1)
    [first] = await log.read(after=seen - 1, upto=seen)
    [last] = await log.read(after=head - 1, upto=head)
    return (last.time - first.time) / 1_000_000


# ----------------------------------------------------------------------------------------------- run


async def keep_views(place: Place) -> None:
    """Keep all views current until SIGINT or SIGTERM, and tell how they stand."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with opened(place) as views:
        note(f"Keeping {counted(len(views.projections), 'view')} of {views.log.url} current; Ctrl-C ends it.")
        teller = _Teller(views)
        while not stop.is_set():
            views.project()
            await teller.tell()
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), TICK_SECONDS)
        teller.end()
    note("Ended. Whoever keeps or reads these views next goes on where they are.")


class _Teller:
    """Tells how views stand: in one line that is renewed on a terminal, else in a line whenever that has changed."""

    def __init__(self, views: Views) -> None:
        self._views = views
        self._terminal = on_terminal(sys.stderr)
        self._troubles: set[str] = set()
        self._told = ""
        self._told_at = 0.0
        self._before: tuple[float, int] | None = None

    async def tell(self) -> None:
        """Look, and tell what is new."""
        head = await self._views.log.position()
        projections = self._views.projections
        kept = [
            one
            for one in await self._views.reader.generations()
            if one.name in projections and fits(one, projections[one.name])
        ]
        troubles = {
            f"{one.name} is parked at position {one.cursor}: {one.error}" for one in kept if one.error
        }
        if self._views.trouble is not None:
            troubles.add(str(self._views.trouble))
        for trouble in sorted(troubles - self._troubles):
            self.end()
            note(paint(trouble, "red", sys.stderr))
        self._troubles = troubles
        cursors = [one.cursor for one in kept if one.error is None]
        self._show(len(cursors), min(cursors, default=0), head)

    def _show(self, count: int, position: int, head: int) -> None:
        now = time.monotonic()
        behind = head - position
        if behind < CATCHING_UP_EVENTS:
            state, text = f"{count} current", f"{counted(count, 'view')} current, at position {head:,}"
        else:
            speed = "" if self._before is None else _speed(position - self._before[1], now - self._before[0])
            state, text = "behind", f"catching up: {position:,} of {head:,} events{speed}"
        self._before = (now, position)
        if self._terminal:
            whisper(f"\r{ERASE_LINE}{fit(text, width(sys.stderr) - 1)}")
        elif state != self._told or (state == "behind" and now - self._told_at >= PLAIN_SECONDS):
            note(text)
            self._told_at = now
        self._told = state

    def end(self) -> None:
        """Take the line away that is renewed."""
        if self._terminal:
            whisper(f"\r{ERASE_LINE}")


def _speed(events: int, seconds: float) -> str:
    return f", {events / seconds:,.0f} events/s" if events > 0 else ""
