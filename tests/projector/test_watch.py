"""Watching: what arrives makes exactly the documents that the view had, whenever a reader comes, goes, stalls or is cut."""

from __future__ import annotations

import asyncio
import gc
import random
import shutil
import sqlite3
from collections.abc import AsyncIterator
from contextlib import aclosing, closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from evrt.errors import InvalidInput, NotFound, UsageError
from evrt.log import Log, open_log
from evrt.log.envelopes import envelopes
from evrt.projection import Documents, fold
from evrt.projector import watch as watching
from evrt.projector.frames import Changes, Frame, Parked, Patch, Row, Rows, Snapshot
from evrt.projector.patch import apply
from evrt.projector.reading import ViewReader, decoded
from evrt.projector.views import Views
from evrt.projector.watch import Watch
from projector.followers import Fold, Follower
from projector.things import THINGS, draft, opened, process, say, things, views_of

GUARD_SECONDS = 60
"""Against a hang: no test comes near it."""


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/things.db"


async def next_of(frames: AsyncIterator[Any]) -> Any:
    async with asyncio.timeout(GUARD_SECONDS):
        return await anext(frames)


async def quiet(frames: AsyncIterator[Any], views: Views) -> bool:
    """Whether there is nothing to be sent, though the view has been looked at again and again."""
    waiting = asyncio.ensure_future(anext(frames))
    for _ in range(3):
        views.reader.bell.ring()
        await asyncio.wait([waiting], timeout=0.03)
    waiting.cancel()
    with suppress(asyncio.CancelledError):
        await waiting
        return False
    return True


# ---------------------------------------------------------------------------------- one document


async def test_a_watch_begins_with_the_document_and_goes_on_with_what_changes(url: str) -> None:
    async with opened(url) as (log, views):
        first = await say(log, draft("thing-a", colour="red"), draft("thing-b"))
        await views.wait_for(first)
        watch = views.watch("things", "thing-a")

        snapshot = await next_of(watch)
        second = await say(log, draft("thing-b"), draft("thing-a", window=[1]))
        patch = await next_of(watch)

    assert isinstance(snapshot, Snapshot)
    assert (snapshot.version, snapshot.document["colour"], snapshot.document["changes"]) == (1, "red", 1)
    assert isinstance(patch, Patch)
    assert (patch.prev, patch.version) == (1, second)
    assert patch.operations == [
        {"op": "replace", "path": "/changes", "value": 2},
        {"op": "add", "path": "/window/0", "value": 1},
    ]
    assert apply(snapshot.document, patch.operations)["window"] == [1]


async def test_a_frame_is_a_server_sent_event(url: str) -> None:
    async with opened(url) as (log, views):
        await views.wait_for(await say(log, draft("thing-a", "changed", part="lid", notes={"a\nb": None})))
        watch = views.watch("things", "thing-a", "lid")
        snapshot = await next_of(watch)
        await say(log, draft("thing-a", part="lid", notes={"a\n/": "id: 9\n\n"}))
        patch = await next_of(watch)

    assert snapshot.sse.decode() == (
        "id: 1.1\n"
        "event: snapshot\n"
        'data: {"projection":"things","schema":1,"key":"thing-a","part":"lid","version":1,"state":{"name":"thing-a",'
        '"part":"lid","changes":1,"colour":null,"notes":{},"window":[],"revised":false}}\n\n'
    )
    assert patch.sse.decode() == (
        "id: 2.1\n"
        "event: patch\n"
        'data: {"version":2,"prev":1,"ops":[{"op":"replace","path":"/changes","value":2},'
        '{"op":"add","path":"/notes/a\\n~1","value":"id: 9\\n\\n"}]}\n\n'
    )
    assert Parked(7, "broke\nhere").sse == b'event: parked\ndata: {"position":7,"error":"broke\\nhere"}\n\n'


async def test_a_document_comes_to_be_is_lost_and_comes_to_be_again(url: str) -> None:
    follower = Follower()
    async with opened(url) as (log, views):
        await views.wait_for(await say(log, draft("thing-b")))
        watch = views.watch("things", "thing-a")
        follower.take(await next_of(watch))
        for kind in ("changed", "lost", "changed"):
            await say(log, draft("thing-b"), draft("thing-a", kind))
            follower.take(await next_of(watch))
        fold = await Fold.of(log, THINGS, "thing-a")

    fold.judge(follower.received)
    assert [document is None for _, _, document in follower.received] == [True, False, True, False]
    assert [version for version, _, _ in follower.received] == [1, 3, 5, 7]


async def test_what_happened_between_two_pulls_is_one_patch(url: str) -> None:
    follower = Follower()
    async with opened(url) as (log, views):
        await views.wait_for(await say(log, draft("thing-a")))
        watch = views.watch("things", "thing-a")
        follower.take(await next_of(watch))
        for number in range(30):
            await views.wait_for(await say(log, draft("thing-a", window=[number])))
        follower.take(await next_of(watch))

        assert await quiet(watch, views)
        assert follower.document == (await views.view("things", "thing-a")).value.model_dump(mode="json")
    assert len(follower.frames) == 2


async def test_a_change_that_leaves_the_document_as_it_was_moves_the_version(url: str) -> None:
    async with opened(url) as (log, views):
        await views.wait_for(await say(log, draft("thing-a")))
        watch = views.watch("things", "thing-a")
        await next_of(watch)
        position = await say(log, draft("thing-a", "lost"), draft("thing-a"))

        patch = await next_of(watch)

    assert (patch.version, patch.operations) == (position, [])


# --------------------------------------------------------------------------------- coming back


async def test_only_a_reader_that_has_the_present_document_is_spared_the_snapshot(url: str) -> None:
    async with opened(url) as (log, views):
        await say(log, draft("thing-a"), draft("thing-a"))
        await views.wait_for(await say(log, draft("thing-b"), draft("thing-b")))
        sent = await next_of(views.watch("things", "thing-a"))
        assert sent.cursor == "2.1"

        # Position 3 and 4 are later moments at which the document was the same.
        for after in ("2.1", "2", 2, 3, "4.1"):
            watch = views.watch("things", "thing-a", after=after)
            assert await quiet(watch, views)
            await views.wait_for(await say(log, draft("thing-b")))
            assert await quiet(watch, views)
        for after in ("1.1", 1, 0, "2.2", "2.9", 4_000, "999.1"):
            assert isinstance(await next_of(views.watch("things", "thing-a", after=after)), Snapshot)
        one, other = (
            views.watch("things", "thing-a", after="2.1"),
            views.watch("things", "thing-a", after="4.1"),
        )
        assert await quiet(one, views)
        assert await quiet(other, views)
        position = await say(log, draft("thing-a"))
        patches = await next_of(one), await next_of(other)
        assert [(patch.prev, patch.version) for patch in patches] == [(2, position), (4, position)]


async def test_that_there_is_no_document_is_true_of_the_moment_at_which_it_was_looked_for(url: str) -> None:
    async with opened(url) as (log, views):
        await views.wait_for(await say(log, draft("thing-b")))
        patient = views.watch("things", "thing-a")
        followers = [Follower() for _ in range(3)]
        followers[0].take(await next_of(patient))
        # It was there, and nobody looked.
        await views.wait_for(await say(log, draft("thing-a"), draft("thing-a", "lost"), draft("thing-b")))
        for follower, after in zip(followers, ("1.1", "2.1", "3.1"), strict=True):
            follower.version = int(after[0])
            follower.take(await next_of(views.watch("things", "thing-a", after=after)))
        assert await quiet(views.watch("things", "thing-a", after="4.1"), views)
        assert await quiet(patient, views)
        await say(log, draft("thing-a"))
        followers[0].version = 1
        followers[0].take(await next_of(patient))
        fold = await Fold.of(log, THINGS, "thing-a")

    for follower in followers:
        fold.judge(follower.received)
    assert followers[0].version == 5


@pytest.mark.parametrize("after", ["", "x", "-1", "1.", "01", "1.0", "1.x", " 1", "1\n", "9" * 20, -1])
async def test_what_is_no_cursor_is_refused(url: str, after: Any) -> None:
    async with opened(url) as (_, views):
        with pytest.raises(InvalidInput, match="is no cursor"):
            views.watch("things", "thing-a", after=after)


class Client:
    """A reader of one document, whose connections are cut at random moments, and which comes back."""

    def __init__(self, key: str, part: str, chance: random.Random) -> None:
        self.place = key, part
        self.follower = Follower()
        self.cuts = 0
        self._chance = chance

    async def live(self, views: Views, cuts: int) -> None:
        chance, follower = self._chance, self.follower
        for _ in range(cuts):
            after = follower.cursor if chance.random() < 0.95 else None
            watch = views.watch("things", *self.place, after=after)
            for _ in range(chance.choice([0, 1, 1, 2, 3, 5, 8])):
                await self._read(watch, chance.choice([0, 0.0005, 0.002, 0.01, 0.05]))
            if chance.random() < 0.5:
                await watch.aclose()
            self.cuts += 1

    async def _read(self, watch: Watch, patience_seconds: float) -> None:
        """One frame, or the end of patience: cut off while waiting, the watch itself is still good."""
        reading = asyncio.ensure_future(anext(watch))
        await asyncio.wait([reading], timeout=patience_seconds)
        reading.cancel()
        with suppress(asyncio.CancelledError, StopAsyncIteration):
            self.follower.take(await reading)

    async def come_to_rest(self, views: Views) -> None:
        """Read on to the document that everybody sees."""
        family = {
            d.place: d.value.model_dump(mode="json") for d in await views.family("things", self.place[0])
        }
        watch = views.watch("things", *self.place, after=self.follower.cursor)
        while self.follower.document != family.get(self.place):
            self.follower.take(await next_of(watch))


@pytest.mark.parametrize(
    "cuts", [200, pytest.param(10_000, marks=[pytest.mark.soak, pytest.mark.timeout(3_600)])]
)
async def test_readers_that_are_cut_at_random_moments_miss_nothing(url: str, cuts: int) -> None:
    seed = random.SystemRandom().randrange(2**32)
    chance = random.Random(seed)
    clients = [Client(f"thing-{number % 3}", part, chance) for number in range(5) for part in ("", "lid")]
    async with aclosing(await open_log(url)) as log:
        with process("write", url, seed, 5), process("keep", url):
            # Both ways of coming back are to be taken often, however quick the machine is.
            while sum(client.cuts for client in clients) < cuts or min(counts(clients)) < cuts / 10:
                # A program that lives for a while, as the server that readers come back to.
                async with views_of(log) as views:
                    await asyncio.gather(*(client.live(views, chance.randrange(2, 12)) for client in clients))
        async with views_of(log) as views:
            await views.wait_for(await log.position())
            await asyncio.gather(*(client.come_to_rest(views) for client in clients))
        for client in clients:
            (await Fold.of(log, THINGS, *client.place)).judge(client.follower.received)
        events = await log.position()
    cuts, (whole, patches) = sum(client.cuts for client in clients), counts(clients)
    print(f"seed {seed}: {events} events, {cuts} cuts, {whole} snapshots, {patches} patches")


def counts(clients: list[Client]) -> tuple[int, int]:
    """How many snapshots have arrived, and how many patches."""
    frames = [frame for client in clients for frame in client.follower.frames]
    return sum(isinstance(frame, Snapshot) for frame in frames), sum(
        isinstance(frame, Patch) for frame in frames
    )


# --------------------------------------------------------------------------------- many readers


class Counted:
    """How often the view has been looked at, and how much was read."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.looks = 0
        self.places = 0
        self.texts = 0
        unless_known = ViewReader.unless_known

        async def counted(reader: ViewReader, projection: Any, known: Any) -> Any:
            found = await unless_known(reader, projection, known)
            self.looks += 1
            self.places += len(known)
            self.texts += sum(row.document is not None for row in found[1]) if found else 0
            return found

        monkeypatch.setattr(ViewReader, "unless_known", counted)


async def pulled(watches: list[Watch]) -> list[asyncio.Future[Any]]:
    """Readers that wait, each for its next frame."""
    waiting: list[asyncio.Future[Any]] = [asyncio.ensure_future(anext(watch)) for watch in watches]
    await asyncio.sleep(0.2)
    return waiting


async def test_a_thousand_readers_of_a_document_are_sent_the_same_frame_from_a_look_or_two(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(url) as (log, views):
        await views.wait_for(await say(log, draft("thing-a")))
        watches = [views.watch("things", "thing-a") for _ in range(1_000)]
        counted = Counted(monkeypatch)

        snapshots = await asyncio.gather(*(next_of(watch) for watch in watches))
        assert counted.looks <= 3
        waiting = await pulled(watches)
        counted.looks = counted.texts = 0
        await say(log, draft("thing-a", window=[1]))
        patches = await asyncio.gather(*waiting)

    assert len({id(frame) for frame in snapshots}) == len({id(frame) for frame in patches}) == 1
    assert isinstance(patches[0], Patch)
    # Two for each ring of the bell: of who looks first, and of all who asked while it looked.
    assert counted.texts <= 2
    assert counted.looks <= 8


async def test_a_change_costs_readers_of_a_thousand_documents_a_few_looks_that_read_one_of_them(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(url) as (log, views):
        await views.wait_for(await say(log, *(draft(f"thing-{number}") for number in range(1_000))))
        watches = [views.watch("things", f"thing-{number}") for number in range(1_000)]
        for frame in await asyncio.gather(*(next_of(watch) for watch in watches)):
            assert isinstance(frame, Snapshot)
        waiting = await pulled(watches)
        counted = Counted(monkeypatch)

        await say(log, draft("thing-7", window=[1]))
        patch = await waiting[7]
        await asyncio.sleep(0.05)

        assert patch.operations[-1] == {"op": "add", "path": "/window/0", "value": 1}
        assert [number for number, reading in enumerate(waiting) if reading.done()] == [7]
        assert counted.texts == 1
        assert counted.looks <= 24
        for reading in waiting:
            reading.cancel()


async def test_whoever_waits_without_a_bell_looks_once_in_a_while_for_all(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "WAIT_SECONDS", 0.25)
    async with opened(url) as (log, views):
        await views.wait_for(await say(log, *(draft(f"thing-{number}") for number in range(100))))
        watches = [views.watch("things", f"thing-{number}", after=100) for number in range(100)]
        for frame in await asyncio.gather(*(next_of(views.watch("things", "thing-0")) for _ in range(3))):
            assert isinstance(frame, Snapshot)
        waiting = []
        for watch in watches:
            waiting.append(asyncio.ensure_future(anext(watch)))
            await asyncio.sleep(0.002)
        counted = Counted(monkeypatch)
        rung = views.reader.bell.rung
        await asyncio.sleep(0.75)
        # Each of them has waited three times over, and alone it would have looked as often.
        assert counted.looks <= 8 + 4 * (views.reader.bell.rung - rung)
        for reading in waiting:
            reading.cancel()


async def test_a_reader_that_never_reads_holds_one_document_and_nobody_up(url: str) -> None:
    much = "x" * 20_000
    async with opened(url) as (log, views):
        await views.wait_for(await say(log, draft("thing-a", notes={"much": much})))
        never, once, reader = (views.watch("things", "thing-a") for _ in range(3))
        await next_of(once)
        follower = Follower()
        follower.take(await next_of(reader))
        before = 0
        held = held_bytes(never), held_bytes(once)
        for number in range(120):
            await say(log, draft("thing-a", notes={"much": f"{number}{much}"}))
            follower.take(await next_of(reader))
            if number == 40:
                before = documents_alive(much)
        fold = await Fold.of(log, THINGS, "thing-a")

        fold.judge(follower.received)
        assert len(follower.frames) > 100
        assert (held_bytes(never), held_bytes(once)) == held
        assert held[0] < len(much) < held[1] < 4 * len(much)
        assert documents_alive(much) <= before
        late = Follower()
        late.take(once_snapshot := await next_of(never))
        assert isinstance(once_snapshot, Snapshot)
        assert late.document == follower.document
        # The one that read once has missed 120 changes, and they are one patch.
        patch = await next_of(once)
        assert (patch.prev, patch.version) == (1, follower.version)
        assert await quiet(once, views)


def held_bytes(watch: Watch) -> int:
    """Bytes of text that a watch holds, all of it, but for what belongs to all readers."""
    seen: set[int] = set()
    common = [watch._reader, watch._projection, watch._looks, watch._goes_on]
    total, left = 0, [value for value in vars(watch).values() if not any(value is one for one in common)]
    while left:
        value = left.pop()
        if id(value) not in seen:
            seen.add(id(value))
            if isinstance(value, bytes | str):
                total += len(value)
            else:
                left.extend(gc.get_referents(value) if not isinstance(value, type) else [])
    return total


def documents_alive(text: str) -> int:
    """How many documents with this text there are in the memory of this process."""
    gc.collect()
    return sum(
        isinstance(one, watching.Held) and text.encode() in (one.encoded or b"") for one in gc.get_objects()
    )


async def test_while_somebody_never_reads_the_projector_and_others_go_on(url: str) -> None:
    async with opened(url) as (log, views):
        await views.wait_for(await say(log, draft("thing-a")))
        idle = [views.watch("things", "thing-a") for _ in range(50)]
        for watch in idle:
            await next_of(watch)
        position = 0
        for _ in range(20):
            position = await say(log, draft("thing-a"))
            await views.wait_for(position)
            assert (await views.view("things", "thing-a", min_position=position)).position == position
        assert {(await next_of(watch)).version for watch in idle} == {position}


# ----------------------------------------------------------------------- another generation


async def test_a_rebuild_that_comes_to_the_same_is_not_noticed(url: str) -> None:
    async with opened(url) as (log, views):
        await views.wait_for(await say(log, draft("thing-a", colour="red")))
        watch = views.watch("things", "thing-a")
        follower = Follower()
        follower.take(await next_of(watch))

        await views.rebuild("things")
        assert await quiet(watch, views)
        await say(log, draft("thing-a", window=[1]))
        follower.take(await next_of(watch))

    assert [type(frame) for frame in follower.frames] == [Snapshot, Patch]
    assert follower.cursor == "2.2"


async def test_a_rebuild_after_an_erasure_is_a_snapshot_though_no_version_has_moved(url: str) -> None:
    async with opened(url) as (log, views):
        position = await say(log, draft("thing-a", colour="red"), draft("thing-a"))
        await views.wait_for(position)
        watch, by_list = views.watch("things", "thing-a"), views.watch_list("things")
        follower = Follower()
        follower.take(await next_of(watch))
        await next_of(by_list)
        assert follower.document["colour"] == "red"

        await log.erase_payload(1)
        await views.rebuild("things")
        follower.take(await next_of(watch))

        assert (follower.version, follower.document["colour"]) == (position, None)
        assert [row.document["colour"] for row in (await next_of(by_list)).rows] == [None]
        # Whoever was away knows of it by the generation, and not by a position alone.
        assert isinstance(await next_of(views.watch("things", "thing-a", after=f"{position}.1")), Snapshot)
        assert await quiet(views.watch("things", "thing-a", after=follower.cursor), views)


async def test_a_new_version_of_the_projection_is_a_snapshot_and_no_step_back(url: str) -> None:
    """Whose documents may be older: the new version passes over the last events."""
    passing = replace(things(2), handles=frozenset({"thing.changed"}), part=lambda envelope: "")
    noticed = replace(
        things(), evolve=lambda thing, envelope: thing.model_copy(update={"changes": thing.changes + 1})
    )
    async with opened(url, noticed) as (log, views):
        position = await say(log, draft("thing-a"), draft("thing-a", "seen"), draft("thing-a", "seen"))
        await views.wait_for(position)
        watch, follower = views.watch("things", "thing-a"), Follower()
        follower.take(await next_of(watch))
        assert (follower.version, follower.document["changes"]) == (3, 3)
        # As the program goes on that has been deployed in its place.
        await views.aclose()
    async with opened(url, passing) as (log, views):
        await views.wait_for(position)
        assert (await views.view("things", "thing-a")).position == 1
        watch = views.watch("things", "thing-a", after=follower.cursor)
        follower.take(await next_of(watch))
        assert (follower.document["changes"], follower.document["revised"]) == (1, True)


async def test_while_views_are_rebuilt_and_written_nobody_is_sent_a_mix(url: str) -> None:
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    async with opened(url) as (log, old):
        await old.wait_for(await say(log, draft("thing-0")))
        with process("write", url, seed, 2):
            followers = [Follower() for _ in range(4)]
            watches = [old.watch("things", f"thing-{number % 2}") for number in range(4)]
            reading = [
                asyncio.ensure_future(read_all(watch, follower))
                for watch, follower in zip(watches, followers, strict=True)
            ]
            for anew in (False, True, False):
                await old.rebuild("things", anew=anew)
                await asyncio.sleep(0.05)
        await old.wait_for(await log.position())
        await asyncio.sleep(0.1)
        for watch in watches:
            await watch.aclose()
        await asyncio.gather(*reading)
        generations = set()
        for number, follower in enumerate(followers):
            (await Fold.of(log, THINGS, f"thing-{number % 2}")).judge(follower.received)
            generations |= {received.generation for received in follower.received}
            assert follower.document == await present(old, f"thing-{number % 2}")
    assert len(generations) > 1


async def read_all(watch: Watch, follower: Follower) -> None:
    async for frame in watch:
        follower.take(frame)


async def present(views: Views, key: str) -> Any:
    family = [d for d in await views.family("things", key) if not d.part]
    return family[0].value.model_dump(mode="json") if family else None


async def test_readers_stay_while_another_program_brings_a_new_version(url: str) -> None:
    """The old program's readers hear that it is too old; they come back to the new one, and get what it has."""
    async with opened(url) as (log, old):
        await old.wait_for(await say(log, draft("thing-a", colour="red")))
        watch, follower = old.watch("things", "thing-a"), Follower()
        follower.take(await next_of(watch))
        async with views_of(log, things(2)) as new:
            await new.wait_for(1)
            with pytest.raises(UsageError, match="was built with version 2"):
                await next_of(watch)
            follower.take(await next_of(new.watch("things", "thing-a", after=follower.cursor)))
            assert follower.document["revised"] is True
            # A bare position is believed to be of the present generation.
            assert await quiet(new.watch("things", "thing-a", after=1), new)


async def test_a_log_that_was_put_back_from_a_copy_is_a_snapshot_of_what_it_says_now(
    tmp_path: Path, url: str
) -> None:
    async with opened(url) as (log, views):
        await views.wait_for(await say(log, draft("thing-a", colour="red")))
    shutil.copytree(tmp_path, copy := tmp_path / "copy", ignore=lambda folder, names: {"copy"} & set(names))
    async with opened(url) as (log, views):
        await views.wait_for(await say(log, draft("thing-a", colour="blue"), draft("thing-a")))
        sent = await next_of(views.watch("things", "thing-a"))
        assert sent.cursor == "3.1"
    for name in ("things.db", "things.db-wal", "things.db-shm"):
        (tmp_path / name).unlink(missing_ok=True)
        if (copy / name).exists():
            shutil.copy(copy / name, tmp_path / name)
    async with opened(url) as (log, views):
        await views.wait_for(await say(log, draft("thing-b"), draft("thing-b"), draft("thing-b")))
        snapshot = await next_of(views.watch("things", "thing-a", after=sent.cursor))
    # Which it also is as of the version that the reader has.
    assert (snapshot.version, snapshot.document["colour"]) == (3, "red")


# ------------------------------------------------------------------------------ standing still


async def test_a_view_that_stands_still_says_so_and_later_that_it_goes_on(url: str) -> None:
    follower = Follower()
    async with opened(url) as (log, views):
        await views.wait_for(await say(log, draft("thing-a", colour="red")))
        watch = views.watch("things", "thing-a")
        follower.take(await next_of(watch))
        await say(log, draft("thing-a", window=[1]), draft("thing-b", "broken"), draft("thing-a", window=[2]))
        follower.take(await next_of(watch))
        follower.take(await next_of(watch))

        assert [frame.event for frame in follower.frames] == ["snapshot", "patch", "parked"]
        assert (follower.version, follower.document["window"]) == (2, [1])
        assert follower.parked["position"] == 3
        assert "ValueError: a thing broke" in follower.parked["error"]
        assert await quiet(watch, views)
        # Whoever comes is told as well, after the document.
        other = views.watch("things", "thing-a", after=follower.cursor)
        assert await next_of(other) == follower.frames[-1]
        by_list = views.watch_list("things")
        assert isinstance(await next_of(by_list), Rows)
        assert await next_of(by_list) == follower.frames[-1]
        # The mended program has the same views open, and finds them as they are.
        mended = replace(
            THINGS,
            evolve=lambda thing, envelope: (
                thing if "broken" in envelope.type else THINGS.evolve(thing, envelope)
            ),
        )
        async with views_of(log, mended) as others:
            others.project()
            follower.take(await next_of(watch))
            follower.take(await next_of(watch))

    assert [frame.event for frame in follower.frames[3:]] == ["patch", "parked"]
    assert (follower.version, follower.document["window"]) == (4, [1, 2])
    assert follower.parked == {"position": None, "error": None}


# --------------------------------------------------------------------------- beginning and end


async def silence(views: Views) -> None:
    """Wait until everybody has rung for what was committed, the poller too, so that nobody will ring again."""
    rung = -1
    while views.reader.bell.rung != rung:
        rung = views.reader.bell.rung
        await views.reader.changed(rung, 0.15)


async def test_a_bell_between_look_and_wait_is_heard(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "WAIT_SECONDS", 10 * GUARD_SECONDS)
    unless_known = ViewReader.unless_known
    async with opened(url) as (log, views):
        await views.wait_for(await say(log, draft("thing-a")))
        watch = views.watch("things", "thing-a")
        await next_of(watch)

        async def late(reader: ViewReader, projection: Any, known: Any) -> Any:
            """Whose answer is old by the time it arrives."""
            monkeypatch.setattr(ViewReader, "unless_known", unless_known)
            found = await unless_known(reader, projection, known)
            await views.wait_for(await say(log, draft("thing-a", window=[1])))
            await silence(views)
            return found

        monkeypatch.setattr(ViewReader, "unless_known", late)
        assert isinstance(await next_of(watch), Patch)


async def test_a_look_that_began_before_the_bell_is_not_good_enough(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "WAIT_SECONDS", 10 * GUARD_SECONDS)
    unless_known = ViewReader.unless_known
    async with opened(url) as (log, views):
        await views.wait_for(await say(log, draft("thing-a"), draft("thing-b")))
        slow, other = views.watch("things", "thing-b"), views.watch("things", "thing-a")
        await next_of(other)
        looking = asyncio.Event()

        async def late(reader: ViewReader, projection: Any, known: Any) -> Any:
            monkeypatch.setattr(ViewReader, "unless_known", unless_known)
            found = await unless_known(reader, projection, known)
            looking.set()
            await views.wait_for(await say(log, draft("thing-a", window=[1])))
            await silence(views)
            return found

        waiting = asyncio.ensure_future(anext(other))
        await asyncio.sleep(0.2)
        monkeypatch.setattr(ViewReader, "unless_known", late)
        # Its look finds thing-a as well, and as it was: the one that waits hears of the change while it is under way.
        assert isinstance(await next_of(slow), Snapshot)
        async with asyncio.timeout(GUARD_SECONDS):
            assert isinstance(await waiting, Patch)


@pytest.mark.parametrize("what", ["watch", "views", "log"])
@pytest.mark.parametrize("kind", ["document", "list"])
async def test_whoever_waits_hears_that_it_was_closed(
    url: str, what: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "WAIT_SECONDS", 10 * GUARD_SECONDS)
    async with opened(url) as (log, views):
        await views.wait_for(await say(log, draft("thing-a")))
        watch: Any = views.watch("things", "thing-a") if kind == "document" else views.watch_list("things")
        frames: list[Frame] = []
        waiting = asyncio.ensure_future(collect(watch, frames))
        await asyncio.sleep(0.1)

        await {"watch": watch, "views": views, "log": log}[what].aclose()

        async with asyncio.timeout(GUARD_SECONDS):
            await waiting
        assert len(frames) == 1
        with pytest.raises(StopAsyncIteration):
            await next_of(watch)


async def collect(watch: AsyncIterator[Frame], frames: list[Frame]) -> None:
    frames.extend([frame async for frame in watch])


async def test_a_watch_is_read_by_one_task_at_a_time_and_cancelling_loses_nothing(url: str) -> None:
    async with opened(url) as (log, views):
        await views.wait_for(await say(log, draft("thing-a")))
        watch = views.watch("things", "thing-a")
        await next_of(watch)
        waiting = asyncio.ensure_future(anext(watch))
        await asyncio.sleep(0.05)
        with pytest.raises(UsageError, match="one task at a time"):
            await next_of(watch)
        waiting.cancel()
        with suppress(asyncio.CancelledError):
            await waiting
        await say(log, draft("thing-a"))
        assert isinstance(await next_of(watch), Patch)


async def test_what_cannot_be_watched_is_refused_at_once(url: str) -> None:
    async with opened(url) as (_, views):
        with pytest.raises(NotFound, match=r"no projection 'thing'\. Is 'things' meant"):
            views.watch("thing", "thing-a")
        with pytest.raises(NotFound, match="no projection 'nothing'"):
            views.watch_list("nothing")
        with pytest.raises(InvalidInput, match="no index on 'name'"):
            views.watch_list("things", where={"name": "thing-a"})
        for limit in (0, -1, 1_001):
            with pytest.raises(UsageError, match="1 to 1,000 documents"):
                views.watch_list("things", limit=limit)


async def test_a_document_that_cannot_be_read_is_the_trouble_of_its_own_readers(
    tmp_path: Path, url: str
) -> None:
    async with opened(url) as (log, views):
        await views.wait_for(await say(log, draft("thing-a"), draft("thing-b")))
        with closing(sqlite3.connect(tmp_path / "things.db-views")) as db:
            db.execute("UPDATE view_1 SET document = '{\"changes\": \"many\"}' WHERE key = 'thing-b'")
            db.commit()
        well, ill = (asyncio.ensure_future(anext(views.watch("things", f"thing-{name}"))) for name in "ab")
        assert isinstance(await well, Snapshot)
        with pytest.raises(UsageError, match="does not fit Thing"):
            await ill


# --------------------------------------------------------------------------------------- lists


async def test_a_list_begins_whole_and_goes_on_with_what_comes_changes_and_goes(url: str) -> None:
    async with opened(url) as (log, views):
        await say(log, draft("thing-a", colour="red"), draft("thing-b"), draft("thing-c", colour="red"))
        await views.wait_for(3)
        watch = views.watch_list("things", where={"colour": "red"}, limit=2)
        rows = await next_of(watch)
        assert isinstance(rows, Rows)
        assert [row.place for row in rows.rows] == [("thing-c", ""), ("thing-a", "")]

        seen: list[Changes] = []
        for drafts in (
            [draft("thing-a", window=[1])],
            [draft("thing-b", colour="red")],
            [draft("thing-b", colour="blue"), draft("thing-c", "lost")],
            [draft("thing-a", "lost"), draft("thing-a", colour="red")],
        ):
            await say(log, *drafts)
            seen.append(await next_of(watch))
        # Nothing of this list.
        await views.wait_for(await say(log, draft("thing-d"), draft("thing-b")))
        assert await quiet(watch, views)

    told = [
        (
            [key for key, _ in one.removed],
            [row.key for row in one.changed],
            [(at, row.key) for at, row in one.added],
        )
        for one in seen
    ]
    assert told == [
        ([], ["thing-a"], []),
        (["thing-a"], [], [(1, "thing-b")]),
        (["thing-c", "thing-b"], [], [(0, "thing-a")]),
        (["thing-a"], [], [(0, "thing-a")]),
    ]
    assert [one.prev for one in seen] == [rows.version, *(one.version for one in seen[:-1])]
    assert seen[-1].sse.decode() == (
        "event: changes\n"
        'data: {"version":9,"prev":7,"removed":[{"key":"thing-a","part":""}],"changed":[],"added":[{"index":0,'
        '"key":"thing-a","part":"","version":9,"state":{"name":"thing-a","part":"","changes":1,"colour":"red",'
        '"notes":{},"window":[],"revised":false}}]}\n\n'
    )


@pytest.mark.parametrize("limit", [4, 1_000])
async def test_whoever_applies_what_arrives_has_the_list(url: str, limit: int) -> None:
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    where = {"colour": "red"}
    async with opened(url) as (log, views):
        with process("write", url, seed, 9):
            watch = views.watch_list("things", where=where, limit=limit)
            rows: list[Row] = []
            version = changes = 0
            received: list[tuple[int, list[Row]]] = []
            for number in range(36):
                if number == 18:
                    await views.rebuild("things")
                frame = await next_of(watch)
                if isinstance(frame, Changes):
                    assert frame.prev == version
                    assert frame.version > version
                    rows, changes = frame.applied(rows), changes + 1
                else:
                    assert frame.version >= version
                    rows = list(frame.rows)
                version = frame.version
                received.append((version, rows))
                await asyncio.sleep(chance.choice([0, 0, 0.02]))
        assert changes > 25
        await judge_lists(log, received, limit)


async def judge_lists(log: Log, received: list[tuple[int, list[Row]]], limit: int) -> None:
    """Every list that arrived is the one that folding the log up to there comes to."""
    documents: Documents[Any] = {}
    before = 0
    for version, rows in received:
        documents = fold(
            THINGS, envelopes(await log.read(after=before, upto=version, limit=10**9)), documents
        )
        newest = sorted((d for d in documents.values() if d.value.colour == "red"), key=lambda d: -d.first)
        assert rows == [Row(*d.place, d.position, d.value.model_dump_json().encode()) for d in newest[:limit]]
        before = version


async def test_of_a_list_that_changed_only_the_changed_rows_are_read_anew(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []

    def noting(projection: Any, document: str) -> Any:
        read.append(document)
        return decoded(projection, document)

    monkeypatch.setattr(watching, "decoded", noting)
    async with opened(url) as (log, views):
        await views.wait_for(await say(log, *(draft(f"thing-{n}", colour="red") for n in range(30))))
        watch: Any = views.watch_list("things")
        assert len((await anext(watch)).rows) == len(read) == 30
        read.clear()
        await say(log, draft("thing-7", colour="blue"))
        frame = await anext(watch)
        assert [row.document["colour"] for row in frame.changed] == ["blue"]
        assert len(read) == 1
