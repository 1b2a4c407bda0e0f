"""Building a view anew beside the one that is read: it switches once, never back, and readers see one or the other."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
from contextlib import aclosing, closing
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from evrt.errors import InvalidInput, Unavailable, UsageError
from evrt.events import Envelope
from evrt.log import open_log
from evrt.projection import AnyProjection
from evrt.projector import projector
from evrt.projector.files import FileReader, open_file
from evrt.projector.records import Change
from evrt.projector.views import Views
from projector.tallies import (
    BOXES,
    PROJECTIONS,
    Item,
    Tally,
    check_views,
    opened,
    put,
    small,
    tally,
    until,
    url_in,
    viewed,
)
from projector.worker import Job, Nursery

EVENTS = 2_000
SECOND = tally("boxes", version=2)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(projector, "STALLED_SECONDS", 0.2)
    monkeypatch.setattr(projector, "LOOK_SECONDS", 0.03)
    small(monkeypatch, batch=10)


def views_of(folder: Path) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(folder / "log.db-views")) as connection:
        return connection.execute("SELECT id, version, stage, cursor FROM views ORDER BY id").fetchall()


def tables_in(folder: Path) -> list[str]:
    with closing(sqlite3.connect(folder / "log.db-views")) as connection:
        rows = connection.execute(
            "SELECT name FROM sqlite_schema WHERE name GLOB 'view_[0-9]*' AND type = 'table'"
        )
        return sorted(name for (name,) in rows)


async def fill(folder: Path, events: int, projection: AnyProjection = BOXES) -> None:
    """A log with so many events, and a view of them."""
    async with opened(url_in(folder), projection) as (log, views):
        await put(log, *(Item(f"box-{n % 3}") for n in range(events)))
        await views.wait_for(events)


# -------------------------------------------------------------- readers, while it is being built


class Sample(NamedTuple):
    """What a reader saw in one look."""

    version: int
    cursor: int
    of_version: int
    counted: int


async def test_readers_see_one_or_the_other_never_a_mix_never_backward_at_full_speed_of_writing(
    tmp_path: Path,
) -> None:
    await fill(tmp_path, EVENTS)
    samples: list[Sample] = []
    done = asyncio.Event()
    async with opened(url_in(tmp_path), BOXES) as (log, old):
        old.project()

        async def write() -> None:
            while not done.is_set():
                await put(log, *[Item("box-1")] * 3)
                await put(log, Item("box-2"))

        async def sample() -> None:
            async with aclosing(FileReader(old.path)) as reader:
                while not done.is_set():
                    for projection in (BOXES, SECOND):
                        try:
                            seen = await reader.document(projection, "box-1", "")
                        except UsageError:
                            continue  # The older reader is told so from the switch on.
                        if seen is not None and seen.documents:
                            [document] = seen.documents
                            samples.append(
                                Sample(
                                    seen.generation.version,
                                    seen.generation.cursor,
                                    document.value.of_version,
                                    document.value.count,
                                )
                            )

        async with asyncio.TaskGroup() as group:
            group.create_task(write())
            group.create_task(sample())
            async with viewed(log, SECOND) as new:
                await new.wait_for(await log.position(), timeout_seconds=30)
                seen = len(samples)
                await until(lambda: asyncio.sleep(0, len(samples) >= seen + 20))
            done.set()
        rows = [row.position for row in await log.read(limit=1_000_000) if row.stream == "box-1"]
        written = await log.position()
    assert written > EVENTS + 8, "Nothing was written meanwhile."
    versions = [sample.version for sample in samples]
    assert versions == sorted(versions), "It went back."
    assert set(versions) == {1, 2}
    positions = [sample.cursor for sample in samples]
    assert positions == sorted(positions), "It went back."
    for one in samples:
        assert one.of_version == one.version, "A document of one version, a cursor of the other."
        assert one.counted == sum(position <= one.cursor for position in rows), one
    assert tables_in(tmp_path) == [f"view_{views_of(tmp_path)[0][0]}"]


async def test_a_view_built_anew_in_its_version_can_be_read_all_the_time(tmp_path: Path) -> None:
    await fill(tmp_path, 100)
    told: list[tuple[int, int]] = []
    async with opened(url_in(tmp_path), BOXES) as (log, views):
        [(before, *_)] = views_of(tmp_path)
        async with asyncio.TaskGroup() as group:
            rebuilding = group.create_task(
                views.rebuild("boxes", advance=lambda done, total: told.append((done, total)))
            )
            while not rebuilding.done():
                position = await put(log, Item())
                assert (await views.view("boxes", "box-1", min_position=position)).position == position
        [(after, version, stage, _)] = views_of(tmp_path)
        assert (after > before, version, stage) == (True, 1, "live")
        await views.wait_for(await log.position())
        await check_views(log, views.path, BOXES, upto=await log.position())
    assert told == sorted(told)
    assert told[0][0] < 100


# ------------------------------------------------------------------------------ which is to be live


async def test_a_newer_version_is_built_beside_the_older_and_takes_its_place_once(tmp_path: Path) -> None:
    await fill(tmp_path, 55)
    async with opened(url_in(tmp_path), SECOND) as (log, views):
        found = await views.view("boxes", "box-1")
        assert found.value.of_version == 2
        [(view, version, stage, cursor)] = views_of(tmp_path)
        assert (version, stage, cursor) == (2, "live", 55)
        await put(log, Item())
        await views.wait_for(56)
        assert views_of(tmp_path) == [(view, 2, "live", 56)]
        await check_views(log, views.path, SECOND, upto=56)


async def test_it_takes_its_place_in_an_empty_log_too(tmp_path: Path) -> None:
    async with opened(url_in(tmp_path), BOXES) as (_, views):
        await views.wait_for(0)
    async with opened(url_in(tmp_path), SECOND) as (_, views):
        await views.wait_for(0)
        assert [row[1:] for row in views_of(tmp_path)] == [(2, "live", 0)]


async def test_it_takes_its_place_though_the_older_one_stands_still_at_an_error(tmp_path: Path) -> None:
    failing = tally(
        "boxes", evolve=lambda before, envelope: {}[envelope.position] if envelope.position == 9 else before
    )
    async with opened(url_in(tmp_path), failing) as (log, views):
        await put(log, *[Item()] * 30)
        with pytest.raises(Unavailable):
            await views.wait_for(30)
    async with opened(url_in(tmp_path), SECOND) as (log, views):
        await views.wait_for(30)
        await check_views(log, views.path, SECOND, upto=30)


async def test_it_takes_its_place_though_the_owner_of_the_older_one_is_frozen(
    tmp_path: Path, nursery: Nursery
) -> None:
    async with opened(url_in(tmp_path), BOXES) as (log, _):
        await put(log, *[Item()] * 50)
        frozen = nursery.spawn(Job(folder=str(tmp_path), names=["boxes"], batch=20, stop_at=[45], upto=50))
        assert os.WIFSTOPPED(await asyncio.to_thread(nursery.wait, frozen))
        async with viewed(log, SECOND) as views:
            await views.wait_for(50)
            assert [row[1:] for row in views_of(tmp_path)] == [(2, "live", 50)]
            os.kill(frozen, signal.SIGCONT)
            # It goes on, finds its view gone, and hears that there is a newer one.
            with pytest.raises(AssertionError, match="built with version 2"):
                await asyncio.to_thread(nursery.wait, frozen)
            await check_views(log, views.path, SECOND, upto=50)


async def test_an_older_program_leaves_a_newer_view_alone_and_says_so(tmp_path: Path) -> None:
    await fill(tmp_path, 20, SECOND)
    before = views_of(tmp_path)
    async with opened(url_in(tmp_path), BOXES) as (log, views):
        for doing in (
            views.view("boxes", "box-1"),
            views.rebuild("boxes"),
            views.rebuild("boxes", anew=True),
        ):
            with pytest.raises(UsageError, match=r"built with version 2 .*this program\s+has version 1"):
                await doing
        await put(log, Item())
        await asyncio.sleep(0.2)
    assert views_of(tmp_path) == before


async def test_an_older_version_never_takes_the_place_of_a_newer_one(tmp_path: Path) -> None:
    await fill(tmp_path, 20, SECOND)
    async with aclosing(await open_log(url_in(tmp_path))) as log:
        async with aclosing(await open_file(f"{tmp_path}/log.db-views", log.id)) as store:
            building = await store.build(SECOND)
            with closing(sqlite3.connect(store.place)) as connection, connection:
                connection.execute("UPDATE views SET version = 1 WHERE id = ?", (building.id,))
            late = Change(building._replace(version=1), 20, None)
            assert not await store.commit([late], "an older program")
        assert [row[1:] for row in views_of(tmp_path)] == [(2, "live", 20), (1, "building", 20)]
        async with viewed(log, SECOND) as views:
            await views.wait_for(20)

            # What could never be live is cleared away.
            async def cleared() -> bool:
                return [row[1:] for row in views_of(tmp_path)] == [(2, "live", 20)]

            await until(cleared)


async def test_one_of_an_older_version_that_is_being_built_gives_way(tmp_path: Path) -> None:
    await fill(tmp_path, 20)
    async with opened(url_in(tmp_path), BOXES) as (log, old):
        await old.store.build(BOXES)
        async with viewed(log, SECOND) as new:
            await new.wait_for(20)

            async def is_alone() -> bool:
                return [row[1:] for row in views_of(tmp_path)] == [(2, "live", 20)]

            await until(is_alone)


async def test_other_indexes_are_built_beside_too(tmp_path: Path) -> None:
    await fill(tmp_path, 25)
    indexed = tally("boxes", indexes=("count", ("text", "count")))
    async with opened(url_in(tmp_path), indexed) as (log, views):
        page = await views.list("boxes", where={"text": ""}, since={"count": 8})
        assert [document.key for document in page.documents] == ["box-2", "box-1", "box-0"]
        await check_views(log, views.path, indexed, upto=25)
        async with viewed(log, BOXES) as plain:
            with pytest.raises(InvalidInput, match="no index on 'text'"):
                await plain.list("boxes", where={"text": ""})
            assert len((await plain.list("boxes", since={"count": 8})).documents) == 3


async def test_who_runs_on_with_other_indexes_of_the_same_version_is_told_what_is_there(
    tmp_path: Path,
) -> None:
    async with opened(url_in(tmp_path), BOXES) as (log, old):
        await put(log, Item())
        await old.wait_for(1)
        async with viewed(log, tally("boxes", indexes=("text",))) as new:
            await new.wait_for(1)
        told = (
            r"as another program built it: version 1, with other indexes or of another variant\. Start this"
        )
        with pytest.raises(Unavailable, match=told):
            await old.view("boxes", "box-1", timeout_seconds=0.2)
    # Started again it builds its own, and each start is one rebuild: they do not take turns for ever.
    async with opened(url_in(tmp_path), BOXES) as (log, views):
        assert (await views.view("boxes", "box-1")).value.count == 1


# ------------------------------------------------------------------------------- who builds, and when


async def test_two_that_build_at_once_build_one(tmp_path: Path) -> None:
    await fill(tmp_path, 200)
    async with opened(url_in(tmp_path), BOXES) as (log, one), viewed(log, BOXES) as other:
        await asyncio.gather(one.rebuild("boxes"), other.rebuild("boxes"))
        assert [row[1:] for row in views_of(tmp_path)] == [(1, "live", 200)]
        assert views_of(tmp_path)[0][0] <= 3
        await check_views(log, one.path, BOXES, upto=200)


async def test_who_builds_and_is_begun_anew_by_another_waits_for_that(tmp_path: Path) -> None:
    await fill(tmp_path, EVENTS)
    async with opened(url_in(tmp_path), BOXES) as (log, one), viewed(log, BOXES) as other:

        async def is_building() -> bool:
            return len(views_of(tmp_path)) == 2

        async with asyncio.TaskGroup() as group:
            group.create_task(one.rebuild("boxes"))
            await until(is_building)
            begun = await other.store.build(BOXES, anew=True)
        assert views_of(tmp_path) == [(begun.id, 1, "live", EVENTS)]
        await check_views(log, one.path, BOXES, upto=EVENTS)


async def test_a_rebuild_that_was_interrupted_goes_on_where_it_stopped(tmp_path: Path) -> None:
    folded: list[int] = []

    def noting() -> AnyProjection:
        def evolve(before: Any, envelope: Any) -> Any:
            folded.append(envelope.position)
            return BOXES.evolve(before, envelope)

        return tally("boxes", evolve=evolve)

    await fill(tmp_path, 600)
    async with opened(url_in(tmp_path), noting()) as (_, views), asyncio.TaskGroup() as group:
        rebuilding = group.create_task(views.rebuild("boxes"))
        await until(lambda: asyncio.sleep(0, len(folded) > 30))
        rebuilding.cancel()
    [_, (_, _, stage, cursor)] = views_of(tmp_path)
    assert stage == "building"
    assert 0 < cursor < 600
    folded.clear()
    async with opened(url_in(tmp_path), noting()) as (log, views):
        await views.rebuild("boxes")
        await check_views(log, views.path, BOXES, upto=600)
    assert min(folded) == cursor + 1
    assert [row[1:3] for row in views_of(tmp_path)] == [(1, "live")]


async def test_a_rebuild_that_fails_leaves_the_old_view_to_its_readers(tmp_path: Path) -> None:
    await fill(tmp_path, 40)
    failing = tally("boxes", evolve=lambda before, envelope: 1 / 0)
    async with opened(url_in(tmp_path), failing) as (_, views):
        with pytest.raises(Unavailable, match="stands still at position 0"):
            await views.rebuild("boxes")
        assert (await views.view("boxes", "box-1")).value.count == 13
    # Mended, it goes on with what was begun; nobody has to ask for it.
    async with opened(url_in(tmp_path), BOXES) as (log, views):
        await views.rebuild("boxes")
        await check_views(log, views.path, BOXES, upto=40)
        assert [row[1:3] for row in views_of(tmp_path)] == [(1, "live")]


# ------------------------------------------------------------------- what the log does not have any more


async def put_back(folder: Path, copy: dict[str, bytes]) -> None:
    for name in ("log.db", "log.db-wal", "log.db-shm"):
        (folder / name).unlink(missing_ok=True)  # Nobody else is here.
    for name, content in copy.items():
        (folder / name).write_bytes(content)


async def test_when_the_log_is_put_back_from_a_copy_views_are_of_what_is_there(tmp_path: Path) -> None:
    await fill(tmp_path, 20)
    copy = {"log.db": (tmp_path / "log.db").read_bytes()}
    async with opened(url_in(tmp_path), *PROJECTIONS) as (log, views):
        await put(log, *[Item("box-lost")] * 20)
        await views.wait_for(40)
    # Shorter than the views.
    await put_back(tmp_path, copy)
    async with opened(url_in(tmp_path), *PROJECTIONS) as (log, views):
        # Before anybody could look, and before anything is built anew.
        assert await views.reader.generations() == []
        page = await views.list("boxes", min_position=0)
        assert "box-lost" not in [document.key for document in page.documents]
        await views.wait_for(20)
        await check_views(log, views.path, *PROJECTIONS, upto=20)
        await put(log, *[Item("box-lost")] * 20)
        await views.wait_for(40)
    # As long as the views and longer, with other events.
    await put_back(tmp_path, copy)
    async with aclosing(await open_log(url_in(tmp_path))) as log:
        await put(log, *[Item("box-new")] * 30)
    async with opened(url_in(tmp_path), *PROJECTIONS) as (log, views):
        assert (await views.view("boxes", "box-new")).value.count == 30
        await check_views(log, views.path, *PROJECTIONS, upto=50)


async def test_views_of_another_history_are_noticed_while_running(tmp_path: Path) -> None:
    async with opened(url_in(tmp_path), BOXES) as (log, views):
        await put(log, *[Item()] * 5)
        await views.wait_for(5)
        for leaf, cursor in ((b"\x01" * 32, 5), (b"\x02" * 32, 50)):
            with closing(sqlite3.connect(views.path)) as connection, connection:
                connection.execute("UPDATE views SET leaf = ?, cursor = ?, owner = 'another'", (leaf, cursor))
                connection.execute(f"UPDATE view_{views_of(tmp_path)[0][0]} SET document = '{{}}'")

            async def built_anew() -> bool:
                [generation] = await views.store.generations()
                return generation.cursor == 5 and generation.leaf not in (b"\x01" * 32, b"\x02" * 32)

            await until(built_anew)
            await check_views(log, views.path, BOXES, upto=5)


async def test_views_of_another_log_are_thrown_away(tmp_path: Path) -> None:
    await fill(tmp_path, 20)
    for name in ("log.db", "log.db-lock"):
        (tmp_path / name).unlink()
    async with opened(url_in(tmp_path), BOXES) as (log, views):
        with closing(sqlite3.connect(views.path)) as connection:
            assert connection.execute("SELECT id FROM log").fetchall() == [(log.id,)]
            assert connection.execute("SELECT * FROM views").fetchall() == []
        assert (await views.list("boxes")).documents == []
        await put(log, Item("box-new"))
        assert (await views.view("boxes", "box-new")).value.count == 1


async def test_who_runs_on_with_a_log_that_was_replaced_does_not_write_into_the_views_of_the_new_one(
    tmp_path: Path,
) -> None:
    async with opened(url_in(tmp_path), BOXES) as (log, views):
        await put(log, *[Item()] * 5)
        await views.wait_for(5)
        for name in ("log.db", "log.db-wal", "log.db-shm", "log.db-lock"):
            (tmp_path / name).unlink(missing_ok=True)
        async with opened(url_in(tmp_path), BOXES) as (new_log, new_views):
            await put(new_log, *[Item("box-new")] * 3)
            await new_views.wait_for(3)
            with pytest.raises(Exception, match=r"views of another log by now|is not the file"):
                await views.wait_for(5)
            await check_views(new_log, new_views.path, BOXES, upto=3)


async def test_how_views_stand_is_told_while_they_are_built_anew_again_and_again(tmp_path: Path) -> None:
    async with opened(url_in(tmp_path), BOXES) as (log, views), viewed(log, BOXES) as other:
        await views.wait_for(await put(log, *[Item()] * 20))
        rebuilding = asyncio.create_task(again_and_again(views))
        while not rebuilding.done():
            assert {(s.name, s.documents) for s in await other.status() if s.stage == "live"} == {
                ("boxes", 1)
            }
        await rebuilding


async def again_and_again(views: Views) -> None:
    for _ in range(40):
        await views.rebuild("boxes", anew=True)


async def test_a_rebuild_that_a_newer_program_puts_an_end_to_says_so(tmp_path: Path) -> None:
    turn = asyncio.Event()

    def evolve(before: Tally, envelope: Envelope) -> Tally:
        if rebuilding and envelope.position == 2:
            turn.set()
        return before.model_copy(update={"count": before.count + 1})

    rebuilding = False
    old, new = tally("boxes", evolve=evolve), tally("boxes", version=2)
    async with (
        opened(url_in(tmp_path), old) as (log, views),
        aclosing(await open_file(views.path, log.id)) as store,
    ):
        await views.wait_for(await put(log, *[Item()] * 500))
        rebuilding = True
        built = asyncio.create_task(views.rebuild("boxes", anew=True))
        await turn.wait()
        await store.ensure(new)
        with pytest.raises(UsageError, match="has version 1"):
            await built
