"""Who has seen a position never finds something new before it: cursors stand on that, and so does every view."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, aclosing
from pathlib import Path

import pytest

from evrt.log import Append, Log, open_log
from log.worker import Process
from projector.tallies import BOXES, Item, check_views, draft, url_in, viewed

EVENTS = 150
WRITERS = 2
READERS = 3


async def watch(log: Log, done: asyncio.Event) -> int:
    """Read all there is again and again; what was seen up to a position stays what it was. How many reads."""
    seen: list[str] = []
    reads = 0
    while not done.is_set():
        rows = await log.read(limit=1_000_000)
        ids = [row.event_id for row in rows]
        assert [row.position for row in rows] == list(range(1, len(rows) + 1))
        assert ids[: len(seen)] == seen
        # What is read from a position on is what comes after it, all of it.
        later = await log.read(after=len(ids), limit=1_000_000)
        assert [row.position for row in later] == list(range(len(ids) + 1, len(ids) + 1 + len(later)))
        assert len(ids) >= len(seen), "It went back."
        assert await log.position() >= len(ids) + len(later)
        seen = ids + [row.event_id for row in later]
        reads += 1
        await asyncio.sleep(0)
    return reads


@pytest.mark.parametrize("store", ["memory", "sqlite"])
async def test_nothing_new_appears_before_a_position_that_was_seen(store: str, tmp_path: Path) -> None:
    url = "memory://" if store == "memory" else url_in(tmp_path)
    done = asyncio.Event()

    async def write(log: Log, number: int) -> None:
        for count in range(EVENTS // 3):
            await log.append(Append([draft(Item(box)) for box in (f"box-{number}", "box-a", "box-b")], {}))
            if count % 7 == number:
                await asyncio.sleep(0)

    async with AsyncExitStack() as stack:
        log = await stack.enter_async_context(aclosing(await open_log(url)))
        others = [log]
        if store == "sqlite":
            others += [await stack.enter_async_context(aclosing(await open_log(url))) for _ in range(2)]
        watching = [asyncio.create_task(watch(other, done)) for other in others * READERS]
        await asyncio.gather(*(write(other, number) for number, other in enumerate(others)))
        done.set()
        assert min(await asyncio.gather(*watching)) > 1
        assert await log.position() == EVENTS * len(others)


async def test_nor_when_several_processes_append(tmp_path: Path) -> None:
    url = url_in(tmp_path)
    done = asyncio.Event()
    async with aclosing(await open_log(url)) as log, viewed(log, BOXES) as views:
        views.project()
        processes = [Process() for _ in range(WRITERS)]
        try:
            for number, process in enumerate(processes):
                await asyncio.to_thread(process.tell, "open", url=url)
                process.start("flood", stream=f"box-{number}", count=EVENTS)
            watching = [asyncio.create_task(watch(log, done)) for _ in range(READERS)]
            for process in processes:
                for _ in range(EVENTS + 1):
                    assert await asyncio.to_thread(process.line) is not None
            done.set()
            assert min(await asyncio.gather(*watching)) > 1
        finally:
            for process in processes:
                process.end()
        head = await log.position()
        assert head == WRITERS * EVENTS
        await views.wait_for(head)
        await check_views(log, views.path, BOXES, upto=head)
