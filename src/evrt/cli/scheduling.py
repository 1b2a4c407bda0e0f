"""Does the work of ``evrt schedules``."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from evrt.app import App
from evrt.cli.output import Cell, note, out, out_json, out_table
from evrt.cli.place import Place, require_log
from evrt.cli.text import rfc3339, rfc3339_or_none
from evrt.errors import NotFound
from evrt.schedules import SECOND, Schedule, next_ticks

NEXT_TICKS = 3


async def list_schedules(place: Place, *, as_json: bool) -> None:
    """Print the app's schedules. Raises UsageError where no app is named."""
    app = place.load_app()
    known, now = await _how_far(app)
    schedules = sorted(app.schedules.values(), key=lambda schedule: schedule.name)
    if as_json:
        out_json([_document(schedule, known.get(schedule.name), now) for schedule in schedules])
    elif schedules:
        headings = ("SCHEDULE", "TARGET", "WHEN", "ZONE", "LAST", "NEXT")
        out_table(headings, [_row(schedule, known.get(schedule.name), now) for schedule in schedules])
    else:
        note('The app has no schedules. Write @app.schedule("0 9 * * mon-fri") above a workflow of it.')


async def run_now(place: Place, name: str, *, as_json: bool) -> None:
    """Ask for a run of a schedule and print its id. Raises NotFound."""
    async with place.load_app() as app:
        queued = await app.trigger(name)
    if as_json:
        out_json({"run": queued.run_id, "schedule": name})
        return
    out(queued.run_id)
    note(f"A worker executes it: {place.command('worker')}")


async def _how_far(app: App) -> tuple[dict[str, int], int]:
    """How far schedules have come, and the present; a log that is not there yet knows of none."""
    try:
        require_log(app.url)
    except NotFound:
        return {}, time.time_ns() // 1_000
    log = await app.log(read_only=True)
    try:
        return await log.coordination.ticks(), await log.coordination.now()
    finally:
        await app.aclose()


def _last(schedule: Schedule, known: int | None) -> int | None:
    """The last tick that was dealt with. A schedule also stands at the moment it was seen first, which is none."""
    return known if known is not None and schedule.times.next(known - 1) == known else None


def _row(schedule: Schedule, known: int | None, now: int) -> list[Cell]:
    last = _last(schedule, known)
    following = [_shown(tick, schedule.zone) for tick in next_ticks(schedule.times, now, NEXT_TICKS)]
    return [
        Cell(schedule.name, "bold"),
        Cell(schedule.target),
        Cell(schedule.when),
        Cell(schedule.zone),
        Cell("-" if last is None else _shown(last, schedule.zone)),
        Cell(", ".join(following)),
    ]


def _document(schedule: Schedule, known: int | None, now: int) -> dict[str, object]:
    return {
        "name": schedule.name,
        "target": schedule.target,
        "when": schedule.when,
        "zone": schedule.zone,
        "input": schedule.input,
        "user": schedule.user,
        "conversation": schedule.conversation,
        "missed": schedule.missed,
        "overlap": schedule.overlap,
        "last": rfc3339_or_none(_last(schedule, known)),
        "next": [rfc3339(tick) for tick in next_ticks(schedule.times, now, NEXT_TICKS)],
    }


def _shown(tick: int, zone: str) -> str:
    """What clocks show there, as far as a schedule needs it."""
    moment = datetime.fromtimestamp(tick // SECOND, UTC).astimezone(ZoneInfo(zone))
    return f"{moment:%Y-%m-%d %H:%M}" + (f":{moment:%S}" if moment.second else "")
