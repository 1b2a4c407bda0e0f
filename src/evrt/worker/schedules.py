"""Starting the runs of schedules: whichever worker is first with a tick asks for its run, the others find it done.

How far a schedule has come stands in the log, and only ever moves on: whoever asks for the run of a tick moves it
in the same append. So any number of workers may do this at once, and a clock that is put back repeats nothing.
"""

from __future__ import annotations

import asyncio
import logging

from evrt.app import App
from evrt.errors import Conflict, EvrtError
from evrt.events.run import RunRequested
from evrt.log import Log
from evrt.log.coordination import Tick
from evrt.log.envelopes import envelopes
from evrt.schedules import SECOND, Schedule, due

worker_logger = logging.getLogger("evrt.worker")

LOOK_SECONDS = 60.0
"""The longest time between two looks: so often it is noticed that the clock was set, or the machine asleep."""

TROUBLE_SECONDS = 5.0
PAGE_ENTRIES = 1_000


class Ticker:
    """Starts the runs of an app's schedules as they come due, until it is cancelled."""

    def __init__(self, app: App, log: Log) -> None:
        self._app = app
        self._log = log

    async def run(self) -> None:
        """Survives what the log raises; a schedule whose runs cannot be asked for keeps no other waiting."""
        while True:
            seconds = await self.look()
            await asyncio.sleep(seconds)

    async def look(self) -> float:
        """Start what is due; returns after how many seconds there is more to do. Raises no EvrtError."""
        schedules = list(self._app.schedules.values())
        if not schedules:
            return LOOK_SECONDS
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            ticks = await self._log.coordination.ticks()
            now = await self._log.coordination.now()
        except EvrtError as error:
            worker_logger.warning("It cannot be seen how far schedules have come: %s", error)
            return TROUBLE_SECONDS
        seconds = LOOK_SECONDS
        for schedule in schedules:
            try:
                await self._start(schedule, ticks.get(schedule.name), now)
            except EvrtError as error:
                worker_logger.warning("The schedule %s could not be attended to: %s", schedule.name, error)
                seconds = min(seconds, TROUBLE_SECONDS)
            following = schedule.times.next(now)
            if following is not None:
                # A little too late rather than too early: then the tick has passed when it is looked for.
                seconds = min(seconds, (following - now) / SECOND + 0.001)
        return max(0.0, seconds - (loop.time() - began))

    async def _start(self, schedule: Schedule, last: int | None, now: int) -> None:
        if last is None:
            await self._pass(schedule, now)  # It is seen for the first time, and begins now.
            return
        found = due(schedule, last, now)
        if found.dropped:
            worker_logger.warning(
                "The schedule %s missed more ticks than are made up for: runs are started for the last %d.",
                schedule.name,
                len(found.ticks),
            )
        for tick in found.ticks:
            if schedule.overlap == "skip" and (active := await self._active(schedule)) is not None:
                worker_logger.info("A tick of %s is skipped: %s has not ended.", schedule.name, active)
                await self._pass(schedule, tick)
            else:
                await self._ask(schedule, tick)
        if not found.ticks and found.upto is not None:
            await self._pass(schedule, found.upto)

    async def _ask(self, schedule: Schedule, tick: int) -> None:
        try:
            queued = await self._app.trigger(schedule.name, tick=tick)
        except Conflict:
            return  # Another worker was first.
        worker_logger.info("The schedule %s has started %s.", schedule.name, queued.run_id)

    async def _pass(self, schedule: Schedule, tick: int) -> None:
        """Go past a tick without a run."""
        try:
            await self._log.coordination.change(Tick(schedule.name, tick))
        except Conflict:
            return  # Another worker was first, and has done with it what there was to do.

    async def _active(self, schedule: Schedule) -> str | None:
        """A run of this schedule that has not ended, as far as workers know of it."""
        queue = self._log.coordination
        place = 0
        while entries := await queue.entries(target=schedule.target, after=place, limit=PAGE_ENTRIES):
            for entry in entries:
                [first] = envelopes(await self._log.read_stream(entry.run, limit=1))
                if isinstance(first.event, RunRequested) and first.event.schedule == schedule.name:
                    return entry.run
            place = entries[-1].place
        return None
