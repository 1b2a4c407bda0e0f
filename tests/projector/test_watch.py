"""Watching: what arrives makes exactly the documents that the view had, whenever a reader comes, goes, stalls or is cut."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Any

import pytest

from evrt.errors import InvalidInput, NotFound, UsageError
from evrt.log import open_log
from evrt.projector import watch as watching
from evrt.projector.frames import Changes, Frame, Parked, Patch, Row, Rows, Snapshot
from evrt.projector.patch import apply
from evrt.projector.reading import ViewReader
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


async def soon(frames: AsyncIterator[Any], views: Views) -> Any:
    """The next frame if there is something to be sent, and None if there is not when the view has been looked at again."""
    waiting = asyncio.ensure_future(anext(frames))
    for _ in range(3):
        views.reader.bell.ring()
        await asyncio.wait([waiting], timeout=0.05)
    waiting.cancel()
    with suppress(asyncio.CancelledError):
        return await waiting


async def quiet(frames: AsyncIterator[Any], views: Views) -> bool:
    return await soon(frames, views) is None


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
        # Of a document that is not there nobody knows whether the reader has it.
        assert (await next_of(views.watch("things", "thing-c", after="4.1"))).document is None

        watch = views.watch("things", "thing-a", after="2.1")
        assert await quiet(watch, views)
        position = await say(log, draft("thing-a"))
        patch = await next_of(watch)
        assert (patch.prev, patch.version) == (2, position)


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
        """Read what is left, and have the document that everybody sees."""
        watch = views.watch("things", *self.place, after=self.follower.cursor)
        while frame := await soon(watch, views):
            self.follower.take(frame)
        family = {
            d.place: d.value.model_dump(mode="json") for d in await views.family("things", self.place[0])
        }
        assert self.follower.document == family.get(self.place)


@pytest.mark.parametrize(
    "cuts", [200, pytest.param(10_000, marks=[pytest.mark.soak, pytest.mark.timeout(3_600)])]
)
async def test_readers_that_are_cut_at_random_moments_miss_nothing(url: str, cuts: int) -> None:
    seed = random.SystemRandom().randrange(2**32)
    chance = random.Random(seed)
    clients = [Client(f"thing-{number % 3}", part, chance) for number in range(5) for part in ("", "lid")]
    async with aclosing(await open_log(url)) as log:
        with process("write", url, seed, 5), process("keep", url):
            while sum(client.cuts for client in clients) < cuts:
                # A program that lives for a while, as the server that readers come back to.
                async with views_of(log) as views:
                    await asyncio.gather(*(client.live(views, chance.randrange(2, 12)) for client in clients))
        async with views_of(log) as views:
            await views.wait_for(await log.position())
            await asyncio.gather(*(client.come_to_rest(views) for client in clients))
        for client in clients:
            (await Fold.of(log, THINGS, *client.place)).judge(client.follower.received)
        events = await log.position()
    frames = [frame for client in clients for frame in client.follower.frames]
    patches = sum(isinstance(frame, Patch) for frame in frames)
    print(f"seed {seed}: {events} events, {len(frames)} frames, {patches} of them patches")
    # Both ways of coming back have been taken, often.
    assert min(patches, len(frames) - patches) > cuts / 10
