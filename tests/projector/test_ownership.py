"""Whose view it is: one process keeps it, and when that is dead, frozen or gone, another one does."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sqlite3
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing, closing
from pathlib import Path

import pytest

from evrt.log import open_log
from evrt.projection import AnyProjection
from evrt.projector import projector
from evrt.projector.files import open_file
from evrt.projector.folding import Folding
from evrt.projector.records import Overtaken
from projector.tallies import (
    BOXES,
    PROJECTIONS,
    THINGS,
    Item,
    check_views,
    opened,
    put,
    rows_of,
    small,
    tally,
    until,
    url_in,
    viewed,
)
from projector.worker import Job, Nursery

STALLED_SECONDS = 0.2
FREEZES = 6


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(projector, "STALLED_SECONDS", STALLED_SECONDS)
    monkeypatch.setattr(projector, "LOOK_SECONDS", 0.05)
    small(monkeypatch, batch=20)


def cursors(path: Path) -> dict[str, int]:
    if not path.exists():
        return {}
    with closing(sqlite3.connect(path)) as connection:
        return dict(connection.execute("SELECT name, cursor FROM views WHERE stage = 'live'"))


def reached(path: Path, position: int) -> Callable[[], Awaitable[bool]]:
    async def has_come() -> bool:
        found = cursors(path)
        return bool(found) and min(found.values()) >= position

    return has_come


async def test_when_the_owner_is_killed_another_goes_on(tmp_path: Path, nursery: Nursery) -> None:
    async with opened(url_in(tmp_path), *PROJECTIONS) as (log, views):
        owner = nursery.spawn(Job(folder=str(tmp_path)))
        await put(log, *[Item()] * 30)
        await until(reached(tmp_path / "log.db-views", 30))
        os.kill(owner, signal.SIGKILL)
        nursery.wait(owner)
        await put(log, *[Item(part="b")] * 30)
        await views.wait_for(60)
        await check_views(log, views.path, *PROJECTIONS, upto=60)


async def test_an_owner_that_was_frozen_in_a_fold_is_refused_when_it_goes_on(
    tmp_path: Path, nursery: Nursery
) -> None:
    path = tmp_path / "log.db-views"
    async with aclosing(await open_log(url_in(tmp_path))) as log:
        await put(log, *[Item()] * 50)
        # Were it to go on from what it has folded, it would stop again.
        job = Job(folder=str(tmp_path), names=["boxes"], batch=20, stop_at=[45, 55], upto=81)
        frozen = nursery.spawn(job)
        assert os.WIFSTOPPED(await asyncio.to_thread(nursery.wait, frozen))
        assert cursors(path) == {"boxes": 40}
        await put(log, *[Item("box-2")] * 30)
        async with viewed(log, BOXES) as views:
            # It has not let go: only that it does not move any more tells the others.
            await views.wait_for(80)
            await check_views(log, views.path, BOXES, upto=80)
        os.kill(frozen, signal.SIGCONT)
        await put(log, Item())
        assert await asyncio.to_thread(nursery.wait, frozen) == 0
        await check_views(log, str(path), BOXES, upto=81)


async def test_owners_frozen_at_any_moment_are_followed_by_others_and_do_no_harm_later(
    tmp_path: Path, nursery: Nursery
) -> None:
    chance = random.Random()
    head = 0
    async with opened(url_in(tmp_path), *PROJECTIONS) as (log, views):
        for number in range(FREEZES):
            frozen = nursery.spawn(Job(folder=str(tmp_path), batch=7, upto=head + 400))
            if number:  # The first finds nothing, and waits.
                await until(reached(tmp_path / "log.db-views", head))
            head = await put(log, *(Item(f"box-{n % 3}", "abc"[n % 3], n % 5 == 0) for n in range(400)))
            await asyncio.sleep(chance.random() * 0.15)
            status = await asyncio.to_thread(freeze, nursery, frozen, tmp_path / "log.db-views")
            await views.wait_for(head)
            await check_views(log, views.path, *PROJECTIONS, upto=head)
            if os.WIFSTOPPED(status):
                os.kill(frozen, signal.SIGCONT)
                assert await asyncio.to_thread(nursery.wait, frozen) == 0
                await check_views(log, views.path, *PROJECTIONS, upto=head)


def freeze(nursery: Nursery, pid: int, path: Path) -> int:
    """Stop a process, but not while it holds the lock of SQLite: nobody else could write until it goes on."""
    while True:
        os.kill(pid, signal.SIGSTOP)
        status = nursery.wait(pid)
        if not os.WIFSTOPPED(status) or _may_be_written(path):
            return status
        os.kill(pid, signal.SIGCONT)
        time.sleep(0.001)


def _may_be_written(path: Path) -> bool:
    with closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as connection:
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            return False
        connection.execute("ROLLBACK")
        return True


async def test_of_two_that_fold_the_same_one_is_refused_and_writes_nothing(tmp_path: Path) -> None:
    async with opened(url_in(tmp_path), BOXES) as (log, views):
        await put(log, *[Item()] * 10)
        generation = await views.store.ensure(BOXES)
        assert generation is not None
        rows = await rows_of(log)
        one, other = (Folding(views.store, generation, BOXES) for _ in range(2))
        first, second = await one.fold(rows[:6]), await other.fold(rows)
        await views.store.commit([first], "one")
        with pytest.raises(Overtaken, match="Another projector keeps the view boxes"):
            await views.store.commit([second], "other")
        await check_views(log, views.path, BOXES, upto=6)


async def test_who_is_overtaken_in_one_view_writes_nothing_of_the_others_in_that_batch(
    tmp_path: Path,
) -> None:
    async with opened(url_in(tmp_path), BOXES, THINGS) as (log, views):
        await put(log, *[Item()] * 10)
        rows = await rows_of(log)
        foldings = []
        for projection in (THINGS, BOXES):
            generation = await views.store.ensure(projection)
            assert generation is not None
            foldings.append(Folding(views.store, generation, projection))
        changes = [await folding.fold(rows) for folding in foldings]
        generation = foldings[1].generation
        await views.store.commit([await Folding(views.store, generation, BOXES).fold(rows[:3])], "other")
        with pytest.raises(Overtaken):
            await views.store.commit(changes, "one")
        await check_views(log, views.path, THINGS, upto=0)
        await check_views(log, views.path, BOXES, upto=3)


async def test_the_same_position_in_another_history_is_not_the_same_cursor(tmp_path: Path) -> None:
    async with aclosing(await open_log("memory://")) as log:
        await put(log, *[Item()] * 5)
        rows = await rows_of(log)
        async with aclosing(await open_file(str(tmp_path / "views"), log.id)) as store:
            generation = await store.ensure(BOXES)
            assert generation is not None
            folding = Folding(store, generation, BOXES)
            change = await folding.fold(rows[:4])
            await store.commit([change], "one")
            folding.committed(change)
            strange = Folding(store, folding.generation._replace(leaf=b"\x00" * 32), BOXES)
            with pytest.raises(Overtaken):
                await store.commit([await strange.fold(rows[4:])], "of another history")
            await store.commit([await folding.fold(rows[4:])], "one")
        await check_views(log, store.place, BOXES, upto=5)


async def test_projectors_with_different_views_share_what_both_have(tmp_path: Path) -> None:
    async with (
        opened(url_in(tmp_path), BOXES, THINGS) as (log, one),
        viewed(log, THINGS, PROJECTIONS[2], PROJECTIONS[3]) as other,
    ):
        for number in range(1, 11):
            position = await put(log, *[Item(part="abc"[number % 3])] * 7)
            await one.wait_for(position)
            await other.wait_for(position)
        assert set(cursors(Path(one.path)).values()) == {70}
        await check_views(log, one.path, *PROJECTIONS, upto=70)


async def test_what_an_owner_releases_is_taken_up_by_those_that_stand_by(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Nobody waits for a stalled owner here: it would take a day.
    monkeypatch.setattr(projector, "STALLED_SECONDS", 86_400)
    async with opened(url_in(tmp_path), BOXES) as (log, standing_by):
        async with viewed(log, BOXES) as owner:
            await put(log, Item())
            await owner.wait_for(1)
            await standing_by.wait_for(1)
        await put(log, Item())
        await standing_by.wait_for(2)
        await check_views(log, standing_by.path, BOXES, upto=2)


async def test_a_slow_owner_and_an_impatient_one_come_to_the_end_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(projector, "STALLED_SECONDS", 0.0)
    monkeypatch.setattr(projector, "LOOK_SECONDS", 0.01)

    def slowly() -> AnyProjection:
        def evolve(before: object, envelope: object) -> object:
            time.sleep(0.0005)
            return BOXES.evolve(before, envelope)  # type: ignore[arg-type]

        return tally("boxes", evolve=evolve)

    async with opened(url_in(tmp_path), slowly()) as (log, one), viewed(log, slowly()) as other:
        await put(log, *[Item()] * 300)
        await asyncio.gather(one.wait_for(300), other.wait_for(300))
        await check_views(log, one.path, BOXES, upto=300)
