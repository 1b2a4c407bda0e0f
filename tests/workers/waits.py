"""What tests of workers wait with: for a state of the queue, never for a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeAlias

import evrt
from evrt.events.run import TERMINAL
from evrt.log import Log
from evrt.log.coordination import Entry, State

Ctx: TypeAlias = evrt.Context[Any]


async def until_entry(log: Log, run: str, state: State) -> Entry:
    """The run's entry as soon as it is in this state."""
    watch = log.watch()
    while (entry := await log.coordination.entry(run)) is None or entry.state != state:
        await watch.wait(0.05)
    return entry


async def until(holds: Callable[[], bool]) -> None:
    """Wait until something holds in this process."""
    while not holds():  # noqa: ASYNC110  (nobody rings a bell for it)
        await asyncio.sleep(0.005)


async def until_ended(log: Log, run: str) -> None:
    """Wait until the run's last event is an end of it."""
    watch = log.watch()
    while not TERMINAL & set(await types_of(log, run)):
        await watch.wait(0.05)


async def until_written(log: Log, run: str, kind: str) -> None:
    """Wait until the run's stream holds an event of this type."""
    watch = log.watch()
    while kind not in [row.type for row in await log.read_stream(run)]:
        await watch.wait(0.05)


async def types_of(log: Log, run: str) -> list[str]:
    """The types of a run's events."""
    return [row.type for row in await log.read_stream(run)]
