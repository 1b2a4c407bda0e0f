"""The file of the views: it can be thrown away at any time, nothing of others is touched, and what is wrong is said."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from evrt.errors import Unavailable, UnusableLog
from evrt.events import Envelope
from evrt.projection import AnyProjection, Correlation
from evrt.projector import opening, projector
from evrt.projector.records import Change, Overtaken
from projector.tallies import (
    BOXES,
    PROJECTIONS,
    THINGS,
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

FILES = ("", "-wal", "-shm")
ID_BITS = opening.FIRST_ID_BITS
TALKED = tally("talked", lambda columns: columns.correlation, source=Correlation, indexes=())


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(projector, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(opening, "FIRST_ID_BITS", ID_BITS)
    small(monkeypatch)


async def fill(folder: Path, events: int = 40) -> None:
    async with opened(url_in(folder), *PROJECTIONS) as (log, views):
        await put(log, *(Item(f"box-{n % 9}", "abc"[n % 3], text="x" * 300) for n in range(events)))
        await views.wait_for(events)


def remove(path: Path) -> None:
    for suffix in FILES:
        Path(f"{path}{suffix}").unlink(missing_ok=True)


def one_is_there(path: str) -> Callable[[], Awaitable[bool]]:
    async def is_there() -> bool:
        return Path(path).exists()  # noqa: ASYNC240

    return is_there


# ------------------------------------------------------------------------------ removed, while in use


async def test_views_that_were_removed_are_built_again(tmp_path: Path) -> None:
    await fill(tmp_path)
    remove(tmp_path / "log.db-views")
    async with opened(url_in(tmp_path), *PROJECTIONS) as (log, views):
        await views.wait_for(40)
        await check_views(log, views.path, *PROJECTIONS, upto=40)


async def test_views_that_are_removed_while_they_are_kept_and_read_are_built_again_for_all(
    tmp_path: Path,
) -> None:
    async with opened(url_in(tmp_path), *PROJECTIONS) as (log, one), viewed(log, *PROJECTIONS) as other:
        for turn in range(1, 4):
            position = await put(log, *[Item(part="abc"[turn % 3])] * 20)
            await one.wait_for(position)
            await other.wait_for(position)
            remove(tmp_path / "log.db-views")
            position = await put(log, Item())
            # Both come to the same new file, which a third finds at the same place.
            assert (await one.view("boxes", "box-1", min_position=position)).position == position
            assert (await other.view("boxes", "box-1", min_position=position)).position == position

            await until(one_is_there(one.path))
            await one.wait_for(position)
            async with viewed(log, *PROJECTIONS) as third:
                await third.wait_for(position)
                await check_views(log, third.path, *PROJECTIONS, upto=position)
        for views in (one, other):
            await views.wait_for(await put(log, Item("box-last")))
        await check_views(log, one.path, *PROJECTIONS, upto=await log.position())


@pytest.mark.parametrize("projection", [tally("boxes", version=2, indexes=()), TALKED], ids=lambda p: p.name)
async def test_views_that_another_program_has_made_in_their_place_are_not_taken_for_ones_own(
    projection: AnyProjection, tmp_path: Path
) -> None:
    own = tally("boxes", indexes=())
    async with opened(url_in(tmp_path), own) as (log, views):
        await views.wait_for(await put(log, Item(), Item("box-2")))
        remove(tmp_path / "log.db-views")
        # At the same place and the same position, but of another projection, or of another version of it.
        async with viewed(log, projection) as other:
            await other.wait_for(2)
        position = await put(log, Item(), Item("box-3"))
        async with viewed(log, projection) as other:
            await other.wait_for(position)
            await check_views(log, other.path, projection, upto=position)


@pytest.mark.parametrize("other", [{"name": "chests"}, {"version": 2}, {"shape": '[[],""]'}], ids=str)
async def test_a_generation_of_the_same_number_is_not_written_into_where_it_is_of_something_else(
    other: dict[str, Any], tmp_path: Path
) -> None:
    # As where the file was put back from a copy.
    async with opened(url_in(tmp_path), BOXES) as (log, views):
        await views.wait_for(await put(log, Item()))
        [generation] = await views.store.generations()
        change = Change(generation._replace(**other), generation.cursor, generation.leaf)
        with pytest.raises(Overtaken):
            await views.store.commit([change], "somebody")


async def test_a_view_that_stood_still_is_built_again_where_its_file_was_removed(tmp_path: Path) -> None:
    ill = [True]

    def evolve(before: Tally, envelope: Envelope) -> Tally:
        if ill[0] and envelope.position == 3:
            raise ValueError("not this one")
        return before.model_copy(update={"count": before.count + 1})

    async with opened(url_in(tmp_path), tally("boxes", evolve=evolve)) as (log, views):
        with pytest.raises(Unavailable, match="stands still at position 2"):
            await views.wait_for(await put(log, *[Item()] * 5))
        ill[0] = False
        remove(tmp_path / "log.db-views")
        await until(one_is_there(views.path))
        await views.wait_for(5)


async def test_a_file_of_others_that_takes_their_place_meanwhile_is_left_alone(tmp_path: Path) -> None:
    async with opened(url_in(tmp_path), BOXES) as (log, views):
        await views.wait_for(await put(log, Item()))
        remove(tmp_path / "log.db-views")
        letter = "a letter to somebody\n" * 100
        (tmp_path / "log.db-views").write_text(letter)  # Nobody waits for it.
        with pytest.raises(UnusableLog, match="is in the way"):
            await views.wait_for(await put(log, Item()))
        assert (tmp_path / "log.db-views").read_text() == letter


async def test_while_somebody_holds_its_lock_what_is_there_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(tmp_path)
    monkeypatch.setattr(opening, "BUSY_TIMEOUT_SECONDS", 0.1)
    with closing(sqlite3.connect(tmp_path / "log.db-views", isolation_level=None)) as frozen:
        frozen.execute("BEGIN IMMEDIATE")
        async with opened(url_in(tmp_path), *PROJECTIONS) as (log, views):
            position = await put(log, Item())
            assert (await views.view("boxes", "box-1", min_position=0)).position == 38
            assert (await views.view("boxes", "box-1", as_of=position)).position == position
            with pytest.raises(Unavailable, match="has not come to position 41 in time"):
                await views.view("boxes", "box-1", timeout_seconds=0.5)
            frozen.execute("ROLLBACK")
            await views.wait_for(position)


# ------------------------------------------------------------------------------------- what is there


def a_letter(path: Path) -> None:
    path.write_text("a letter to somebody\n" * 100)


def another_database(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE customers (name TEXT)")


def a_log(path: Path) -> None:
    path.write_bytes(path.with_name("log.db").read_bytes())


def a_folder(path: Path) -> None:
    path.mkdir()


def a_pipe(path: Path) -> None:
    os.mkfifo(path)


def a_newer_one(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA application_id = 0x45565256")
        connection.execute("PRAGMA user_version = 99")
        connection.execute("CREATE TABLE views (id TEXT)")


@pytest.mark.parametrize(
    "make, told",
    [
        (a_letter, "is in the way: .*it is no database, or its beginning is damaged.*left as it is; move it"),
        (another_database, "is in the way: .*the database of another program"),
        (a_log, "is in the way: .*the database of another program"),
        (a_folder, "is in the way: .*it is not a file"),
        (a_pipe, "is in the way: .*it is not a file"),
        (a_newer_one, r"was written by a newer evrt\. Upgrade evrt, or remove the file"),
    ],
)
async def test_what_is_in_the_way_is_left_as_it_is(
    make: Callable[[Path], None], told: str, tmp_path: Path
) -> None:
    await fill(tmp_path)
    path = tmp_path / "log.db-views"
    remove(path)
    make(path)
    before = path.read_bytes() if path.is_file() else b""
    with pytest.raises(UnusableLog, match=told):
        async with opened(url_in(tmp_path), BOXES):
            raise AssertionError("It was opened.")
    assert (path.read_bytes() if path.is_file() else b"") == before


@pytest.mark.parametrize("make", [Path.touch, another_database], ids=["empty file", "empty database"])
async def test_what_is_empty_is_made_use_of(make: Callable[[Path], None], tmp_path: Path) -> None:
    await fill(tmp_path)
    path = tmp_path / "log.db-views"
    remove(path)
    make(path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DROP TABLE IF EXISTS customers")
    async with opened(url_in(tmp_path), BOXES) as (log, views):
        await views.wait_for(40)
        await check_views(log, views.path, BOXES, upto=40)


@pytest.mark.parametrize("page", range(1, 12))
async def test_a_damaged_page_is_told_and_never_read_as_something_else(page: int, tmp_path: Path) -> None:
    await fill(tmp_path, 120)
    path = tmp_path / "log.db-views"
    content = bytearray(path.read_bytes())
    content[page * 4096 : page * 4096 + 200] = os.urandom(200)
    path.write_bytes(content)
    told: list[str] = []
    try:
        async with opened(url_in(tmp_path), *PROJECTIONS) as (log, views):
            await put(log, *(Item(f"box-{n % 9}", "abc"[n % 3]) for n in range(30)))
            for name in ("boxes", "things"):
                try:
                    await views.wait_for(150, name, timeout_seconds=5)
                except UnusableLog as error:
                    told.append(str(error))
    except UnusableLog as error:
        told.append(str(error))
    for text in told:
        assert "Nothing of the log is lost: remove" in text or "is in the way" in text, text
    if not told:
        # The page was free, or of what nobody asked for.
        async with opened(url_in(tmp_path), *PROJECTIONS) as (log, views):
            await check_views(log, views.path, BOXES, THINGS)
    remove(path)
    async with opened(url_in(tmp_path), *PROJECTIONS) as (log, views):
        await views.wait_for(await log.position())
        await check_views(log, views.path, *PROJECTIONS, upto=await log.position())


# ---------------------------------------------------------------------- where nothing can be written


UNWRITABLE = """
    import asyncio, os, sys
    from pathlib import Path
    import aiosqlite, evrt.log.sqlite.store, evrt.projector.views
    from evrt.projector.registry import projections
    from projector.tallies import BOXES, opened, url_in

    async def main():
        async with opened(url_in(Path(sys.argv[1])), BOXES) as (log, views):
            await views.wait_for(40)
            print((await views.view("boxes", "box-1")).value.count, views.path.startswith(sys.argv[1]))

    projections()
    if os.geteuid() == 0:
        # The superuser may write everything; nobody may not. All is imported by now.
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
    asyncio.run(main())
"""


@pytest.fixture
def shared_folder() -> Iterator[Path]:
    """A folder that another user can reach, which those of pytest are not."""
    folder = Path(tempfile.mkdtemp(prefix="evrt-test-"))
    yield folder
    folder.chmod(0o700)
    shutil.rmtree(folder)


async def test_in_a_folder_that_cannot_be_written_views_are_built_for_this_process_alone(
    shared_folder: Path,
) -> None:
    await fill(shared_folder)
    remove(shared_folder / "log.db-views")
    for file in shared_folder.iterdir():  # noqa: ASYNC240
        file.chmod(0o444)
    shared_folder.chmod(0o555)  # noqa: ASYNC240
    told = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", textwrap.dedent(UNWRITABLE), str(shared_folder)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert told.stdout == "5 False\n", told.stderr
    assert not (shared_folder / "log.db-views").exists()
