"""Verifying a view: it agrees with the log, or it is said that it does not."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import aclosing, closing
from pathlib import Path
from typing import Any

import pytest

from evrt.errors import NotFound, Unavailable, UnusableLog, UsageError
from evrt.projection import AnyProjection, digest
from evrt.projector import folding, verify
from evrt.projector.files import FileReader
from evrt.projector.verify import verify_view
from evrt.projector.views import Views
from projector.tallies import (
    BOXES,
    KINDS,
    PROJECTIONS,
    SPOKEN,
    THINGS,
    Item,
    folded,
    opened,
    put,
    small,
    tally,
    url_in,
    viewed,
)

EVENTS = 120


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    small(monkeypatch, batch=16, mark=7)
    monkeypatch.setattr(verify, "ROWS", 3)


def some_items(count: int = EVENTS) -> list[Item]:
    return [
        Item(f"box-{n % 5}", "abcdefg"[n % 7], n % 4 == 3, f"talk-{n % 3}", lost=n % 11 == 5)
        for n in range(count)
    ]


def changed(views: Views, statement: str, *parameters: object) -> int:
    with closing(sqlite3.connect(views.path)) as connection, connection:
        return connection.execute(statement, parameters).rowcount


async def test_a_view_agrees_with_the_log_by_three_ways_to_the_same_documents(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    async with opened(url_in(tmp_path), *PROJECTIONS) as (log, views):
        await put(log, *some_items())
        await views.wait_for(EVENTS)
        for projection in PROJECTIONS:
            verified = await verify_view(views, projection.name, lambda *done: told.append(done))
            expected = digest(projection, await folded(log, projection, EVENTS))
            assert verified == (projection.name, EVENTS, expected, expected, expected)
            assert verified.agrees
    assert told[0] == (0, EVENTS)
    assert told[-1] == (EVENTS, EVENTS)


async def test_it_is_of_one_moment_while_the_view_goes_on(tmp_path: Path) -> None:
    async with opened(url_in(tmp_path), *PROJECTIONS) as (log, views):
        await put(log, *some_items())
        await views.wait_for(EVENTS)
        verifying = asyncio.gather(*(verify_view(views, p.name) for p in PROJECTIONS))
        while not verifying.done():
            await views.wait_for(await put(log, Item("box-1", "c")))
        positions = [verified.position for verified in verifying.result() if verified.agrees]
        assert len(positions) == len(PROJECTIONS)
        assert max(positions) < await log.position()


async def test_what_is_committed_after_the_first_look_is_not_seen(tmp_path: Path) -> None:
    async with opened(url_in(tmp_path), BOXES) as (log, views):
        await put(log, *some_items())
        await views.wait_for(EVENTS)
        async with views.reader.standing_still() as fetch:
            moment = verify.Moment(fetch)
            generation = await moment.live(BOXES)
            await views.wait_for(await put(log, *some_items(), Item("box-new")))
            positions = [row[3] async for row in moment.stored(generation)]
            assert (len(positions), max(positions)) == (5, EVENTS)


@pytest.mark.parametrize("projection", [BOXES, THINGS, SPOKEN, KINDS], ids=lambda p: p.name)
async def test_a_document_that_was_changed_is_noticed(projection: AnyProjection, tmp_path: Path) -> None:
    async with opened(url_in(tmp_path), projection) as (log, views):
        await put(log, *some_items())
        await views.wait_for(EVENTS)
        assert changed(
            views, "UPDATE view_1 SET position = position - 1 WHERE first = (SELECT max(first) FROM view_1)"
        )
        verified = await verify_view(views, projection.name)
        assert not verified.agrees
        assert verified.incremental != verified.rebuilt


@pytest.mark.parametrize("projection", [BOXES, THINGS, SPOKEN, KINDS], ids=lambda p: p.name)
async def test_what_was_kept_as_of_a_mark_and_changed_is_noticed(
    projection: AnyProjection, tmp_path: Path
) -> None:
    async with opened(url_in(tmp_path), projection) as (log, views):
        await put(log, *some_items())
        await views.wait_for(EVENTS)
        assert changed(views, "UPDATE snapshots_1 SET first = first + 1000 WHERE document IS NOT NULL")
        verified = await verify_view(views, projection.name)
        assert verified.incremental == verified.rebuilt != verified.snapshot_and_tail


async def test_marks_that_forget_a_deletion_are_noticed(tmp_path: Path) -> None:
    async with opened(url_in(tmp_path), THINGS) as (log, views):
        await put(log, *[Item(part="a"), Item(part="b")] * 4, Item(part="a", gone=True))
        await views.wait_for(9)
        # So that the deletion comes in another batch than the mark.
        await put(log, *[Item(part="b")] * 12)
        await views.wait_for(21)
        assert (await verify_view(views, "things")).agrees
        assert changed(views, "DELETE FROM snapshots_1 WHERE document IS NULL")
        verified = await verify_view(views, "things")
        assert verified.incremental == verified.rebuilt != verified.snapshot_and_tail


async def test_what_cannot_be_verified_says_why(tmp_path: Path) -> None:
    async with opened(url_in(tmp_path), BOXES) as (log, views):
        with pytest.raises(NotFound, match=r"no projection 'bokes'\. Is 'boxes' meant"):
            await verify_view(views, "bokes")
        with pytest.raises(Unavailable, match="has not been built in version 1 yet"):
            await verify_view(views, "boxes")
        await put(log, *some_items(20))
        await views.wait_for(20)
        changed_evolve: Any = tally("boxes", evolve=lambda before, envelope: 1 / 0)
        async with viewed(log, changed_evolve) as other:
            with pytest.raises(UsageError, match=r"fails where its view did not: ZeroDivisionError"):
                await verify_view(other, "boxes")
        async with viewed(log, tally("boxes", version=2)) as newer:
            await newer.wait_for(20)
            with pytest.raises(UsageError, match="built with version 2"):
                await verify_view(views, "boxes")


async def test_a_view_of_another_history_is_told_before_anything_is_compared(tmp_path: Path) -> None:
    async with opened(url_in(tmp_path), BOXES) as (log, views):
        await put(log, *some_items(20))
        await views.wait_for(20)
        changed(views, "UPDATE views SET cursor = 30")
        with pytest.raises(UnusableLog, match="events that are not in the log"):
            await verify_view(views, "boxes")


async def test_marks_come_every_so_many_events_of_a_key(tmp_path: Path) -> None:
    assert folding.MARK_EVENTS == 7
    async with opened(url_in(tmp_path), BOXES) as (log, views):
        await put(log, *[Item()] * 30)
        await views.wait_for(30)
        async with aclosing(FileReader(views.path)) as reader:
            generation = await reader.live(BOXES)
            assert generation is not None
            found = [await reader.mark(generation, "box-1", position) for position in (6, 7, 13, 14, 30)]
    assert [None if mark is None else tuple(mark) for mark in found] == [
        None,
        (7, 7),
        (7, 7),
        (14, 14),
        (28, 28),
    ]
