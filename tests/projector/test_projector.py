"""Views follow the log: read your writes, read what is there, wait, and hear why it takes so long."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
import textwrap
import threading
from collections.abc import Sequence
from contextlib import aclosing, closing
from pathlib import Path
from typing import Any

import pytest

import evrt
from evrt.errors import InvalidInput, NotFound, Unavailable, UsageError
from evrt.log import Append, Draft, open_log
from evrt.projection import AnyProjection
from evrt.projector import folding, opening, projector
from evrt.projector.files import FileReader
from evrt.projector.places import views_path
from evrt.projector.records import Change
from evrt.projector.store import ViewStore
from evrt.projector.transactions import Connection
from evrt.projector.views import Views, open_views
from projector.tallies import (
    BOXES,
    KINDS,
    PROJECTIONS,
    SPOKEN,
    THINGS,
    Item,
    check_views,
    draft,
    opened,
    put,
    small,
    tally,
    url_in,
    viewed,
)
from projector.worker import Job, Nursery

APPENDS = 60


@pytest.fixture(params=["memory", "sqlite"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return "memory://" if request.param == "memory" else url_in(tmp_path)


# -------------------------------------------------------------------------------- read your writes


async def test_what_was_appended_is_read_at_once(url: str) -> None:
    async with opened(url, *PROJECTIONS) as (log, views):
        for number in range(1, APPENDS + 1):
            position = await put(log, Item(text=str(number)))
            found = await views.view("boxes", "box-1", min_position=position)
            assert (found.position, found.value.text) == (position, str(number))
            # Nothing said, it is as fresh as the log was at the call.
            assert (await views.view("things", "box-1", "a")).position == position
        await check_views(log, views.path, *PROJECTIONS, upto=APPENDS)


async def test_another_process_reads_what_this_one_keeps_and_the_other_way_round(
    tmp_path: Path, nursery: Nursery
) -> None:
    async with opened(url_in(tmp_path), BOXES) as (log, views):
        await views.wait_for(0)
        other = nursery.spawn(Job(folder=str(tmp_path), names=["boxes"], puts=APPENDS))
        for number in range(1, APPENDS + 1):
            position = await put(log, Item())
            found = await views.view("boxes", "box-1", min_position=position)
            assert (found.position, found.value.count) == (position, number)
        assert await asyncio.to_thread(nursery.wait, other) == 0
        await views.wait_for(2 * APPENDS)
        await check_views(log, views.path, BOXES, upto=2 * APPENDS)


async def test_what_is_there_is_read_without_waiting(url: str) -> None:
    async with opened(url, BOXES) as (log, views):
        await put(log, Item())
        await views.wait_for(1)
        async with asyncio.TaskGroup() as group:
            reading = group.create_task(views.view("boxes", "box-1", min_position=0))
            group.create_task(put(log, Item()))
        assert reading.result().position in (1, 2)


async def test_views_of_an_empty_log_are_read_as_empty(url: str) -> None:
    async with opened(url, *PROJECTIONS) as (_, views):
        assert (await views.list("boxes")).documents == []
        with pytest.raises(NotFound, match="no document 'box-1' as of position 0"):
            await views.view("boxes", "box-1")


async def test_a_batch_is_small_where_events_are_large(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(projector, "BATCH_BYTES", 100_000)
    monkeypatch.setattr(projector, "BATCH_EVENTS", 16)
    sizes: list[int] = []
    commit = ViewStore.commit

    async def watched(self: ViewStore, changes: Sequence[Change], owner: str) -> bool:
        [change] = changes
        sizes.append(change.cursor - change.generation.cursor)
        return await commit(self, changes, owner)

    monkeypatch.setattr(ViewStore, "commit", watched)
    async with opened(url_in(tmp_path), BOXES) as (log, views):
        await put(log, *[Item(text="x" * 50_000)] * 32)
        await put(log, *[Item()] * 64)
        await views.wait_for(96)
        await check_views(log, views.path, BOXES, upto=96)
    assert sizes[0] == 16
    assert 1 in sizes or 2 in sizes
    assert 16 in sizes[-4:]


async def test_while_a_batch_is_folded_others_have_their_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns: list[int] = []
    folded: list[int] = []

    def evolve(before: object, envelope: object) -> object:
        folded.append(len(turns))
        threading.Event().wait(0.001)
        return before

    async def take_turns() -> None:
        while True:
            await asyncio.sleep(0)
            turns.append(0)

    async with opened(url_in(tmp_path), tally("boxes", evolve=evolve)) as (log, views):
        await put(log, *[Item()] * 300)
        async with asyncio.TaskGroup() as group:
            turning = group.create_task(take_turns())
            await views.wait_for(300)
            turning.cancel()
    # Folding some events takes longer than a turn, so nobody folded many without another's turn in between.
    assert max(folded.count(turn) for turn in set(folded)) <= 10


async def test_while_large_documents_are_written_as_json_others_have_their_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns: list[int] = []
    written: list[int] = []
    describe = folding._Batch._describe

    def described(self: Any, slot: Any, change: Any) -> None:
        written.append(len(turns))
        describe(self, slot, change)

    async def take_turns() -> None:
        while True:
            await asyncio.sleep(0)
            turns.append(0)

    monkeypatch.setattr(folding._Batch, "_describe", described)
    monkeypatch.setattr(projector, "BATCH_EVENTS", 100)
    async with opened(url_in(tmp_path), BOXES) as (log, views):
        await put(log, *[Item(f"box-{n}", text="x" * 60_000) for n in range(50)])
        async with asyncio.TaskGroup() as group:
            turning = group.create_task(take_turns())
            await views.wait_for(50)
            turning.cancel()
    assert len(written) == 50
    assert max(written.count(turn) for turn in set(written)) <= 5


# ---------------------------------------------------------------------------- waiting, and in vain


async def test_who_waits_in_vain_hears_how_far_the_view_has_come(tmp_path: Path) -> None:
    def evolve(before: object, envelope: object) -> object:
        threading.Event().wait(0.02)
        return before

    async with opened(url_in(tmp_path), tally("slow", evolve=evolve)) as (log, views):
        await put(log, *[Item()] * 200)
        with pytest.raises(
            Unavailable, match="slow has not come to position 200 in time: it has come to position 0"
        ):
            await views.view("slow", "box-1", timeout_seconds=0.05)
        with pytest.raises(InvalidInput, match="no event 201 to wait for: the log has positions 1 to 200"):
            await views.wait_for(201)


async def test_views_that_another_program_locks_stop_neither_the_log_nor_what_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "BUSY_TIMEOUT_SECONDS", 0.05)
    async with opened(url_in(tmp_path), BOXES) as (log, views):
        await put(log, Item())
        await views.wait_for(1)
        with closing(sqlite3.connect(views.path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            for number in range(2, 12):
                assert await put(log, Item()) == number
            assert (await views.view("boxes", "box-1", min_position=1)).position == 1
            with pytest.raises(
                Unavailable, match=r"not come to position 11 in time: .*another program has locked"
            ):
                await views.view("boxes", "box-1", timeout_seconds=1)
            other.execute("ROLLBACK")
        assert (await views.view("boxes", "box-1")).position == 11


async def test_a_full_disk_is_told_and_when_there_is_room_views_go_on(tmp_path: Path) -> None:
    async with opened(url_in(tmp_path), BOXES, THINGS) as (log, views):
        await put(log, Item())
        await views.wait_for(1)
        await set_pages(views, 1)
        await put(log, *(Item(f"box-{number}", text="x" * 500) for number in range(50)))
        with pytest.raises(Unavailable, match=r"not come to position 51 in time: .*the disk of .* is full"):
            await views.wait_for(51, timeout_seconds=1)
        assert (await views.view("boxes", "box-1", min_position=0)).position == 1
        await set_pages(views, 1_000_000)
        await views.wait_for(51)
        await check_views(log, views.path, BOXES, THINGS, upto=51)


async def set_pages(views: Views, most: int) -> None:
    """Let SQLite have no more pages than these, or what it has: it then reports a full disk."""

    def limit(connection: Connection) -> None:
        connection.execute(f"PRAGMA max_page_count = {most}").fetchone()

    await views.store._do(limit, writes=False)


# ------------------------------------------------------------------------------------- cancelling


async def test_a_transaction_whose_caller_is_cancelled_is_whole_and_the_next_one_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small(monkeypatch, batch=3)
    for turn in range(25):
        async with opened(url_in(tmp_path), *PROJECTIONS) as (log, views):
            await put(log, *[Item(part="abc"[n % 3], box=f"box-{n % 2 + 1}") for n in range(9)])
            views.project()
            # Closed in the middle of whatever is under way after so many turns of the loop.
            for _ in range(turn * 3):
                await asyncio.sleep(0)
        async with aclosing(await open_log(url_in(tmp_path))) as log:
            await check_views(log, views.path, *await begun(views.path))
    async with opened(url_in(tmp_path), *PROJECTIONS) as (log, views):
        await views.wait_for(await log.position())
        await check_views(log, views.path, *PROJECTIONS, upto=9 * 25)


async def begun(path: str) -> list[AnyProjection]:
    """Projections that somebody came to make a view of."""
    async with aclosing(FileReader(path)) as reader:
        return [p for p in PROJECTIONS if await reader.live(p) is not None]


@pytest.mark.timeout(20)
async def test_views_are_left_to_others_when_they_are_closed(tmp_path: Path) -> None:
    async with opened(url_in(tmp_path), BOXES) as (log, views):
        await put(log, Item())
        await views.wait_for(1)
        [status] = await views.store.generations()
        assert status.owner is not None
        path = views.path
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT cursor, owner FROM views").fetchall() == [(1, None)]


# ---------------------------------------------------------------------- loops, processes, places


def test_an_app_keeps_its_views_from_one_event_loop_to_the_next(tmp_path: Path) -> None:
    app = evrt.App(url_in(tmp_path))

    @app.workflow
    async def greet(ctx: evrt.Context[None], name: str) -> str:
        return f"Hello {name}"

    async def count() -> int:
        async with app:
            return len((await (await app.views()).list("runs")).documents)

    for number in range(1, 4):
        assert app.run_sync(greet, "Ann").output == "Hello Ann"
        assert asyncio.run(count()) == number


def test_views_are_of_one_event_loop_and_say_so(tmp_path: Path) -> None:
    with asyncio.Runner() as one, asyncio.Runner() as other:
        log = one.run(open_log(url_in(tmp_path)))
        views = one.run(open_views(log, [BOXES], only=["boxes"]))
        with pytest.raises(UsageError, match="opened in another event loop"):
            other.run(views.wait_for(0))
        second = other.run(open_views(log, [BOXES], only=["boxes"]))
        one.run(views.wait_for(one.run(put(log, Item()))))
        other.run(second.wait_for(1))
        other.run(second.aclose())
        one.run(views.aclose())
        one.run(log.aclose())


FORK = """
    import asyncio, atexit, os, sys
    from contextlib import aclosing
    from evrt.errors import UsageError
    from evrt.log import open_log
    from evrt.projector.views import open_views
    from projector.tallies import BOXES, Item, put

    async def main():
        async with aclosing(await open_log(sys.argv[1])) as log:
            async with aclosing(await open_views(log, [BOXES], only=["boxes"])) as views:
                await put(log, Item())
                await views.wait_for(1)
                folder = os.path.dirname(views.path)
                pid = os.fork()
                if not pid:
                    try:
                        await views.wait_for(1)
                    except UsageError as error:
                        print(error, flush=True)
                    await views.aclose()
                    atexit._run_exitfuncs()
                    os._exit(3)
                print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
                await put(log, Item())
                await views.wait_for(2)
                print((await views.view("boxes", "box-1")).value.count, os.path.exists(folder))

    asyncio.run(main())
"""


def test_a_forked_child_is_told_and_takes_nothing_from_its_parent(url: str) -> None:
    told = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(FORK), url],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    lines = [line for line in told.stdout.splitlines() if line]
    assert "before this process was forked" in lines[0], told
    assert lines[-2:] == ["3", "2 True"], told


async def test_of_a_log_in_memory_views_are_in_a_folder_that_goes_with_them() -> None:
    async with opened("memory://", BOXES) as (log, views), viewed(log, BOXES) as others:
        await put(log, Item())
        await views.wait_for(1)
        await others.wait_for(1)
        assert views.path != others.path
        folder = Path(views.path).parent
        assert folder.exists()
    assert not folder.exists()


async def test_keys_parts_and_values_that_no_view_can_have_are_refused(tmp_path: Path) -> None:
    async with opened(url_in(tmp_path), BOXES) as (log, views):
        await put(log, Item())
        with pytest.raises(InvalidInput, match="are texts"):
            await views.view("boxes", "box-\ud800")
        with pytest.raises(InvalidInput, match="beyond 64 bits"):
            await views.list("boxes", where={"count": 2**64})
        with pytest.raises(InvalidInput, match="no index on 'text'"):
            await views.list("boxes", where={"text": "x"})


def test_views_stand_beside_their_log(tmp_path: Path) -> None:
    assert views_path(url_in(tmp_path)) == f"{tmp_path}/log.db-views"
    assert views_path("memory://") is None


async def test_many_keys_and_a_key_with_many_parts_are_kept_with_a_bounded_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folding, "CACHED_DOCUMENTS_MAX", 100)
    monkeypatch.setattr(projector, "BATCH_EVENTS", 200)
    most: list[int] = []
    committed = folding.Folding.committed

    def watched(self: folding.Folding[Any], change: Change) -> None:
        committed(self, change)
        most.append(max(len(self._slots), len(self._keys)))

    monkeypatch.setattr(folding.Folding, "committed", watched)
    many = [Draft(f"box-{n % 700}", *draft(Item(part=str(n % 1_300)))[1:]) for n in range(4_000)]
    async with opened(url_in(tmp_path), BOXES, THINGS, SPOKEN, KINDS) as (log, views):
        await log.append(Append(many, {}))
        await views.wait_for(4_000)
        await check_views(log, views.path, *PROJECTIONS, upto=4_000)
    assert max(most) <= 100


async def test_a_mark_of_a_key_with_many_parts_looks_only_at_what_has_changed(tmp_path: Path) -> None:
    async with opened(url_in(tmp_path), THINGS) as (log, views):
        await views.wait_for(await put(log, Item()))
        with closing(sqlite3.connect(views.path)) as connection:
            plan = connection.execute(
                "EXPLAIN QUERY PLAN SELECT document FROM view_1 WHERE key = 'box-1' AND position > 0"
            ).fetchall()
    assert "USING INDEX changed_1 (key=? AND position>?)" in str(plan)


async def test_the_bytes_held_in_memory_are_bounded_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folding, "CACHED_BYTES_MAX", 50_000)
    monkeypatch.setattr(projector, "BATCH_EVENTS", 10)
    held: list[int] = []
    committed = folding.Folding.committed

    def watched(self: folding.Folding[Any], change: Change) -> None:
        committed(self, change)
        held.append(sum(len(slot.value.text) for slot in self._slots.values() if slot.value is not None))

    monkeypatch.setattr(folding.Folding, "committed", watched)
    async with opened(url_in(tmp_path), BOXES) as (log, views):
        await put(log, *(Item(f"box-{n}", text="x" * 5_000) for n in range(100)))
        await views.wait_for(100)
        await put(log, *(Item(f"box-{n}", text="y" * 5_000) for n in range(100)))
        await views.wait_for(200)
        await check_views(log, views.path, BOXES, upto=200)
    assert len(held) >= 11
    assert max(held) <= 50_000


@pytest.mark.parametrize("text", ["\ud800", 5, None])
async def test_what_is_no_text_is_no_key_and_no_part(text: Any, tmp_path: Path) -> None:
    async with opened(url_in(tmp_path), BOXES) as (log, views):
        await put(log, Item())
        with pytest.raises(InvalidInput, match="Keys and parts of documents are texts"):
            await views.view("boxes", text, as_of=1)
        with pytest.raises(InvalidInput, match="Keys and parts of documents are texts"):
            await views.view("boxes", "box-1", text)
        with pytest.raises(InvalidInput, match="Keys and parts of documents are texts"):
            await views.family("boxes", text, as_of=1)
        with pytest.raises(InvalidInput, match="Keys and parts of documents are texts"):
            views.watch("boxes", text)


async def test_closing_that_is_cancelled_goes_on_and_who_closes_again_waits_for_it(tmp_path: Path) -> None:
    async with opened(url_in(tmp_path), BOXES) as (log, views):
        await put(log, Item())
        await views.wait_for(1)
        first = asyncio.create_task(views.aclose())
        await asyncio.sleep(0)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        await views.aclose()
        with pytest.raises(UsageError, match="closed"):
            await views.view("boxes", "box-1")
        # Nobody owns the view any more, so that others go on with it at once.
        with closing(sqlite3.connect(tmp_path / "log.db-views")) as connection:
            assert connection.execute("SELECT owner FROM views").fetchall() == [(None,)]
