"""A projection that fails stops at its event, alone; and goes on from there when it has been mended."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict

from evrt.errors import Unavailable, UsageError
from evrt.events import Envelope
from evrt.projection import AnyProjection, digest
from evrt.projector import projector
from evrt.projector.views import Views, ViewStatus
from projector.tallies import (
    BOXES,
    THINGS,
    Item,
    Tally,
    check_views,
    digest_stored,
    folded,
    opened,
    put,
    small,
    tally,
    url_in,
    viewed,
)

BAD = 13


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(projector, "LOOK_SECONDS", 0.05)
    small(monkeypatch, batch=5)


def counted(seen: list[int], *, bad: int | None = BAD, name: str = "boxes") -> AnyProjection:
    """Counts, notes what it has seen, and fails at one event."""

    def evolve(before: Tally, envelope: Envelope) -> Tally:
        if envelope.position == bad:
            raise KeyError("price")
        seen.append(envelope.position)
        counted: Tally = BOXES.evolve(before, envelope)  # type: ignore[assignment]
        return counted

    return tally(name, evolve=evolve)


async def status_of(views: Views, name: str) -> ViewStatus:
    [status] = [status for status in await views.status() if status.name == name]
    return status


async def test_a_view_that_fails_stands_before_its_event_and_the_others_go_on(tmp_path: Path) -> None:
    async with opened(url_in(tmp_path), counted([]), THINGS) as (log, views):
        await put(log, *[Item()] * 30)
        with pytest.raises(Unavailable) as told:
            await views.view("boxes", "box-1")
        assert "The view boxes stands still at position 12, as its projection failed" in str(told.value)
        assert "KeyError: 'price' (test_parking.py, line " in str(told.value)
        assert "at event 13, item.moved of box-1" in str(told.value)
        await views.wait_for(30, "things")
        status = await status_of(views, "boxes")
        assert (status.position, status.error_position, status.lag) == (BAD - 1, BAD, 18)
        # What it knows can still be read, and what comes still goes into the others.
        found = await views.view("boxes", "box-1", min_position=BAD - 1)
        assert (found.position, found.value.count) == (BAD - 1, BAD - 1)
        await views.wait_for(await put(log, Item(part="b")), "things")
        await check_views(log, views.path, THINGS, upto=31)
        assert digest(BOXES, await folded(log, BOXES, BAD - 1)) == await digest_of(views, "boxes")


async def digest_of(views: Views, name: str) -> str:
    generation = await views.reader.live(views.projections[name])
    assert generation is not None
    return await digest_stored(views.reader, generation)


async def test_runs_do_not_notice_a_view_that_fails(tmp_path: Path) -> None:
    import evrt

    everything = tally("boxes", handles=frozenset({"*"}), evolve=lambda before, envelope: 1 / 0)
    app = evrt.App(url_in(tmp_path), projections=[everything])

    @app.workflow
    async def greet(ctx: Any, name: str) -> str:
        return await ctx.step("greeting", lambda: f"Hello {name}")  # type: ignore[no-any-return]

    async with app:
        views = await app.views()
        views.project()
        for _ in range(3):
            assert (await app.run(greet, "Ann")).output == "Hello Ann"
        with pytest.raises(Unavailable, match="ZeroDivisionError"):
            await views.wait_for(await (await app.log()).position(), "boxes")
        assert len((await views.list("runs")).documents) == 3


async def test_mended_it_goes_on_from_its_place_and_folds_nothing_again(tmp_path: Path) -> None:
    seen: list[int] = []
    async with opened(url_in(tmp_path), counted(seen)) as (log, views):
        await put(log, *[Item()] * 20)
        with pytest.raises(Unavailable):
            await views.wait_for(20)
    assert seen == list(range(1, BAD))
    # Started again as it was, it tries that event once more, and no other.
    async with opened(url_in(tmp_path), counted(seen)) as (_, views):
        with pytest.raises(Unavailable, match="at event 13"):
            await views.wait_for(20)
    assert seen == list(range(1, BAD))
    async with opened(url_in(tmp_path), counted(seen, bad=None)) as (log, views):
        await views.wait_for(20)
        assert (await status_of(views, "boxes")).error is None
        await check_views(log, views.path, BOXES, upto=20)
    assert seen == list(range(1, 21))


async def test_a_program_that_can_do_better_goes_on_at_once_and_the_one_that_failed_later_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Nobody waits for a stalled owner here: it would take a day.
    monkeypatch.setattr(projector, "STALLED_SECONDS", 86_400)
    async with opened(url_in(tmp_path), counted([])) as (log, broken):
        await put(log, *[Item()] * 20)
        with pytest.raises(Unavailable):
            await broken.wait_for(20)
        async with viewed(log, counted([], bad=None)) as mended:
            await mended.wait_for(20)
            await broken.wait_for(20)
        # The mended one is gone; beyond the event that was too much, the other can go on.
        await put(log, Item())
        await broken.wait_for(21)
        await check_views(log, broken.path, BOXES, upto=21)


# ---------------------------------------------------------------------------- what an author can do


class Priced(BaseModel):
    """What a tally became without a new version of its projection."""

    model_config = ConfigDict(frozen=True)

    price: float
    count: int = 0


class Sorted(Tally):
    """A tally that knows more."""

    colour: str = ""


def raising(position: int, how: str) -> dict[str, Any]:
    """A projection's functions that do something wrong from a position on."""

    def wrong(envelope: Any, right: Any) -> Any:
        if envelope.position < position:
            return right
        match how:
            case "raises":
                raise ValueError("no\n such\x00 \ud800 thing" * 1_000)
            case "number":
                return 5
            case "surrogate":
                return "\ud800"
            case "other class":
                return Priced(price=1.0)
            case "dict":
                return {"count": 1}
            case "too large":
                return Tally(text="x" * 70_000)
            case "no JSON":
                return Tally(text="\ud800")
            case "beyond 64 bits":
                return Tally(count=2**70)
            case "not a number":
                return Tally(share=float("nan"))
            case "class below":
                return Sorted(count=1, colour="red")
            case "cancelled":
                raise asyncio.CancelledError
            case "exit":
                raise SystemExit(3)
        raise AssertionError(how)

    return {
        "evolve": lambda before, envelope: wrong(envelope, BOXES.evolve(before, envelope)),
        "part": lambda envelope: wrong(envelope, "a"),
        "key": lambda columns: wrong(columns, columns.stream),
    }


@pytest.mark.parametrize(
    "function, how, text",
    [
        ("key", "raises", "ValueError: no such"),
        ("key", "number", "has to be a text, not 5"),
        ("key", "surrogate", "UnicodeEncodeError"),
        ("part", "raises", "ValueError"),
        ("part", "number", "has to be a text"),
        ("part", "surrogate", "UnicodeEncodeError"),
        ("evolve", "raises", "ValueError"),
        ("evolve", "other class", "evolve returned a Priced, not a Tally"),
        ("evolve", "dict", "evolve returned a dict, not a Tally"),
        ("evolve", "too large", "would have 70,0"),
        ("evolve", "no JSON", "PydanticSerializationError"),
        ("evolve", "beyond 64 bits", "beyond 64 bits"),
        ("evolve", "not a number", "could not be read back: Input should be a valid number"),
        ("evolve", "class below", "evolve returned a Sorted, not a Tally"),
        ("evolve", "cancelled", "CancelledError"),
        ("key", "exit", "SystemExit: 3"),
    ],
)
@pytest.mark.parametrize("position", [1, 8])
async def test_whatever_it_does_wrong_parks_it_at_the_event_and_nobody_else(
    function: str, how: str, text: str, position: int, tmp_path: Path
) -> None:
    wrong = tally("wrong", **{function: raising(position, how)[function]})
    async with opened(url_in(tmp_path), wrong, BOXES) as (log, views):
        # Two marks' worth of events: what is kept as of a moment must not trip over it either.
        await put(log, *[Item()] * 12)
        with pytest.raises(Unavailable, match=f"stands still at position {position - 1}, as") as told:
            await views.wait_for(12, "wrong")
        assert text in str(told.value)
        assert len(str(told.value)) < 2_000
        await views.wait_for(12, "boxes")
        await check_views(log, views.path, BOXES, upto=12)


async def test_a_document_too_large_at_a_mark_leaves_no_mark(tmp_path: Path) -> None:
    wrong = tally("boxes", evolve=raising(5, "too large")["evolve"])
    async with opened(url_in(tmp_path), wrong) as (log, views):
        await put(log, *[Item()] * 12)
        with pytest.raises(Unavailable, match="at event 5"):
            await views.wait_for(12)
    async with opened(url_in(tmp_path), BOXES) as (log, views):
        await views.wait_for(12)
        await check_views(log, views.path, BOXES, upto=12)


# ------------------------------------------------------------- documents that no longer fit their class


async def test_documents_that_no_longer_fit_their_class_park_at_the_first_event_that_needs_one(
    tmp_path: Path,
) -> None:
    async with opened(url_in(tmp_path), BOXES) as (log, views):
        await put(log, *[Item()] * 4)
        await views.wait_for(4)
    priced = tally(
        "boxes",
        document=Priced,
        initial=lambda key, part: Priced(price=1.0),
        evolve=lambda before, envelope: before,
    )
    async with opened(url_in(tmp_path), priced) as (log, views):
        with pytest.raises(UsageError, match=r"does not fit Priced .* Raise the projection's version"):
            await views.view("boxes", "box-1")
        await put(log, *[Item("box-2")] * 3, Item("box-1"), Item("box-3"))
        with pytest.raises(
            Unavailable, match=r"stands still at position 7.* does not fit Priced .*at event 8"
        ):
            await views.wait_for(9)
        assert (await views.view("boxes", "box-2", min_position=7)).value == Priced(price=1.0)
    again = tally("boxes", version=2, evolve=BOXES.evolve)
    async with opened(url_in(tmp_path), again) as (log, views):
        await views.wait_for(9)
        await check_views(log, views.path, again, upto=9)
    with closing(sqlite3.connect(views.path)) as connection:
        assert connection.execute("SELECT version, stage FROM views").fetchall() == [(2, "live")]


async def test_a_crash_of_the_projector_itself_is_not_hidden(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(self: object) -> None:
        raise RuntimeError("a bug of ours")

    async with opened(url_in(tmp_path), BOXES) as (log, views):
        await put(log, Item())
        with monkeypatch.context() as patch:
            patch.setattr(projector.Projector, "_follow", broken)
            with pytest.raises(RuntimeError, match="a bug of ours"):
                await asyncio.wait_for(views.wait_for(1), 10)
        await views.wait_for(1)
