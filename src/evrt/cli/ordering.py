"""Orders from the command line: ``runs cancel``, ``pause``, and ``resume`` and ``retry`` that are left to workers."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from evrt.app import App
from evrt.cli.output import note, out, out_json, paint
from evrt.cli.place import Place, require_log
from evrt.folds.queued import lane_of
from evrt.history import executable, load_run, resolve_run
from evrt.log.coordination import Wake, Yield
from evrt.orders import refuse_ended


async def cancel(place: Place, name: str, *, reason: str | None, by: str | None, as_json: bool) -> None:
    """End a run, or have its worker end it."""
    async with ordering(place) as app:
        run = await resolve_run(await app.log(), name)
        came_to = await app.cancel(run, by=by, reason=reason)
    if as_json:
        out_json({"run": run, "cancel": came_to})
    elif came_to == "cancelled":
        out(f"{run} is cancelled.")
    else:
        out(f"{run} will be cancelled: whoever executes it ends it at its next operation.")


async def pause(place: Place, name: str, *, by: str | None, as_json: bool) -> None:
    """Have a run begin nothing more."""
    async with ordering(place) as app:
        run = await resolve_run(await app.log(), name)
        await app.pause(run, by=by)
        running = (await app.get(run)).status == "running"
    if as_json:
        out_json({"run": run, "paused": True})
        return
    out(f"{run} {'stops at its next operation' if running else 'is paused'}.")
    note(
        paint(f"  {place.command('runs', 'resume', run, '--detach')}  # to let it go on", "cyan", sys.stderr)
    )


async def resume_detached(place: Place, name: str, *, by: str | None, as_json: bool) -> None:
    """Have a worker go on with a run."""
    async with ordering(place) as app:
        log = await app.log()
        run = await resolve_run(log, name)
        history = await load_run(log, run)
        refuse_ended(history)
        if history.journal.paused:
            await app.unpause(run, by=by)
        elif await log.coordination.entry(run) is not None:
            await log.coordination.change(Wake(run))
        else:
            # Whoever executed it had not taken it out of a queue.
            asked = executable(history)
            lane = lane_of(asked, history.journal.kin)
            await log.coordination.change(Yield(run, asked.target, lane=lane, priority=asked.priority))
    _out_left(run, as_json)


async def retry_detached(place: Place, name: str, *, as_json: bool) -> None:
    """Have a worker try a run again."""
    async with ordering(place) as app:
        run = await app.retry(name)
    _out_left(run, as_json)


@asynccontextmanager
async def ordering(place: Place) -> AsyncIterator[App]:
    """The app with its log, which is there; one without any code where none is named."""
    app = place.load_app_if_named() or App(place.existing_url())
    require_log(app.url)
    async with app:
        yield app


def _out_left(run: str, as_json: bool) -> None:
    if as_json:
        out_json({"run": run})
    else:
        out(run)
