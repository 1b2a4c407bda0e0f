"""A run's feed as it is written: read from the log, in order, from any point on, until the run has ended.

What is told comes from the log alone, by whichever process the run is executed. Whoever comes back with the cursor of
what it had last is told what came after; whoever lost it is told again.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import TypeVar

from evrt.agents.run_events import RunEvent, RunFeed, Told
from evrt.errors import NotFound
from evrt.log import Log
from evrt.log.envelopes import envelopes
from evrt.waiting import LOOK_SECONDS

OnEvent = Callable[[RunEvent], Awaitable[None]]
T = TypeVar("T")
BEGINNING = (0, 0)
PAGE_EVENTS = 500
"""Events of a run that are read at once."""


class Follower:
    """Reads a run's events from the log as far as they go, and says what they tell."""

    def __init__(self, log: Log, run: str) -> None:
        self._log = log
        self._feed = RunFeed(run)
        self.version = 0

    @property
    def ended(self) -> bool:
        return self._feed.ended

    async def look(self) -> list[Told] | None:
        """What the next events tell, or None where there are none yet. Raises what reading the log raises."""
        rows = await self._log.read_stream(self._feed.run, after=self.version, limit=PAGE_EVENTS)
        told: list[Told] = []
        for envelope in envelopes(rows):
            self.version = envelope.version
            told += self._feed.apply(envelope)
        return told if rows else None


async def follow_feed(
    log: Log, run: str, *, after: tuple[int, int] = BEGINNING
) -> AsyncGenerator[Told, None]:
    """What a run tells behind a cursor, past and then future, until it has ended.

    Raises NotFound, and what reading the log raises.
    """
    watch = log.watch()
    follower = Follower(log, run)
    while not follower.ended:
        told = await follower.look()
        if not follower.version:
            raise NotFound(f"There is no run {run} in {log.url}. `evrt runs list` shows those that are.")
        for one in told or ():
            if one.cursor > after:
                yield one
        if told is None:
            await watch.wait(LOOK_SECONDS)


async def tell_while(log: Log, run: str, running: asyncio.Task[T], on_event: OnEvent) -> T:
    """Await a run that is executed here, and call ``on_event`` with all that it tells until it ends or waits.

    One call after another, in order. An error of ``on_event`` ends the telling and not the run, and is raised when that
    has come to its end.
    """
    listening = asyncio.create_task(_listen(log, run, running, on_event), name=f"feed of {run}")
    try:
        result = await running  # Who cancels this cancels the run.
    except BaseException:
        listening.cancel()
        await asyncio.wait({listening})
        raise
    await listening
    return result


async def _listen(log: Log, run: str, running: asyncio.Task[T], on_event: OnEvent) -> None:
    watch = log.watch()
    follower = Follower(log, run)
    while not follower.ended:
        over = running.done()  # Asked before the look, so that nothing falls between them.
        told = await follower.look()
        for one in told or ():
            await on_event(one.event)
        if told is not None:
            continue
        if over:
            return
        news = asyncio.ensure_future(watch.wait(LOOK_SECONDS))
        try:
            await asyncio.wait({news, running}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            news.cancel()
