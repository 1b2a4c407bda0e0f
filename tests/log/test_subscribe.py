"""Subscriptions: past then future, in order, each event once; and nothing of them stays behind."""

from __future__ import annotations

import asyncio
import random
from contextlib import aclosing, suppress
from pathlib import Path

import pytest

from evrt.errors import UsageError
from evrt.log import Log, Recorded, Subscription, open_log
from evrt.log.sqlite.reader import IDLE_POLLS_MAX, POLL_SECONDS
from evrt.log.subscribe import PAGE_EVENTS, Bells, Following
from log.stores import Open, append, draft
from log.worker import Process


async def take(subscription: Subscription, count: int) -> list[int]:
    return [(await anext(subscription)).position for _ in range(count)]


async def write(log: Log, count: int) -> None:
    for _ in range(count):
        await log.append(append(draft()))


async def test_subscribe_yields_past_then_future(open_lasting: Open) -> None:
    async with open_lasting() as log:
        await write(log, 3)
        following = log.subscribe()
        assert await take(following, 3) == [1, 2, 3]
        waiting = asyncio.ensure_future(take(following, 2))
        await asyncio.sleep(0)
        await write(log, 2)
        assert await waiting == [4, 5]


async def test_subscribe_goes_on_after_a_position(open_lasting: Open) -> None:
    async with open_lasting() as log:
        await write(log, 5)
        assert await take(log.subscribe(3), 2) == [4, 5]
        later = asyncio.ensure_future(take(log.subscribe(6), 1))
        await asyncio.sleep(0.01)
        await write(log, 2)
        assert await later == [7]


async def test_subscribe_delivers_what_reading_gives(open_lasting: Open) -> None:
    async with open_lasting() as log:
        await log.append(append(draft(payload=b"1"), draft("run-2", b"2", meta=b'{"a":1}')))
        following = log.subscribe()
        assert [await anext(following), await anext(following)] == await log.read()


async def test_a_long_past_comes_in_pages(open_lasting: Open) -> None:
    count = 2 * PAGE_EVENTS + 7
    async with open_lasting() as log:
        await log.append(append(*[draft(payload=b"") for _ in range(count)]))
        positions: list[int] = []
        async for row in log.subscribe():
            positions.append(row.position)
            if row.position == count:
                break
        assert positions == list(range(1, count + 1))


async def test_many_subscribers_miss_and_repeat_nothing_while_many_append(open_lasting: Open) -> None:
    async with open_lasting() as log:

        async def late_subscriber(after: int) -> list[int]:
            while await log.position() < after:
                await log.append(append(draft()))
            return await take(log.subscribe(after), 200 - after)

        subscribers = [asyncio.ensure_future(late_subscriber(10 * number)) for number in range(8)]
        await asyncio.gather(*(write(log, 20) for _ in range(10)))
        for number, subscriber in enumerate(subscribers):
            assert await subscriber == list(range(10 * number + 1, 201))


async def test_a_subscriber_that_is_cancelled_again_and_again_misses_and_repeats_nothing(
    open_lasting: Open,
) -> None:
    chance = random.Random(7)
    async with open_lasting() as log:
        following = log.subscribe()
        writing = asyncio.ensure_future(write(log, 60))
        positions: list[int] = []
        while len(positions) < 60:
            step = asyncio.ensure_future(anext(following))
            for _ in range(chance.randrange(8)):
                await asyncio.sleep(0)
            step.cancel()
            with suppress(asyncio.CancelledError):
                positions.append((await step).position)
            # Without this the cancelling could outrun every read for ever.
            if len(positions) < 60 and chance.random() < 0.3:
                positions.append((await anext(following)).position)
        await writing
        assert positions == list(range(1, 61))


async def test_no_append_falls_between_a_read_and_the_wait_after_it() -> None:
    """The time-out is an hour: only a bell that is heard from before the read on can end the wait."""
    bells = Bells()
    rows: list[Recorded] = []

    async def read(after: int) -> list[Recorded]:
        page = rows[after:]
        if not rows:
            # Somebody commits just after this read has seen the end of the log.
            rows.append(Recorded(1, "", 0, "", 1, "", "", b"", 0, b"", b"", b"", b""))
            for _, bell in bells.heard_in():
                bell.ring()
        return page

    following = Following(read, bells, after=0, wait_seconds=3600)
    assert (await anext(following)).position == 1


async def test_the_bell_of_this_process_needs_no_poller(open_lasting: Open) -> None:
    async with open_lasting() as log:
        bells: Bells = log._bells  # type: ignore[attr-defined]

        async def read(after: int) -> list[Recorded]:
            return await log.read(after=after)

        following = Following(read, bells, after=0, wait_seconds=3600)
        waiting = asyncio.ensure_future(take(following, 20))
        for _ in range(20):
            await asyncio.sleep(0.001)
            await write(log, 1)
        assert await waiting == list(range(1, 21))


async def test_a_bell_that_nobody_rings_costs_a_time_out_not_an_event() -> None:
    rows: list[Recorded] = []

    async def read(after: int) -> list[Recorded]:
        return rows[after:]

    following = Following(read, Bells(), after=0, wait_seconds=0.01)
    waiting = asyncio.ensure_future(anext(following))
    await asyncio.sleep(0.005)
    rows.append(Recorded(1, "", 0, "", 1, "", "", b"", 0, b"", b"", b"", b""))
    assert (await waiting).position == 1


async def test_a_subscriber_hears_of_what_other_processes_append(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/evrt.db"
    async with aclosing(await open_log(url)) as log:
        following = log.subscribe()
        with Process() as one, Process() as other:
            for number, process in enumerate((one, other)):
                process.tell("open", url=url)
                process.start("flood", stream=f"run-{number}", count=100)
            received = [await anext(following) for _ in range(200)]
            assert [row.position for row in received] == list(range(1, 201))
            said = [process.line() for process in (one, other) for _ in range(100)]
            assert {(row.event_id, row.position) for row in received} == {tuple(line) for line in said}
            # And now that everything is quiet, one more.
            waiting = asyncio.ensure_future(anext(following))
            await asyncio.sleep(0.05)
            assert one.finish() == other.finish() == "flooded"
            one.append(append(draft("run-9")))
            assert (await waiting).stream == "run-9"


async def test_a_subscriber_hears_of_another_log_object_on_the_same_file(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/evrt.db"
    async with aclosing(await open_log(url)) as log, aclosing(await open_log(url)) as other:
        waiting = asyncio.ensure_future(take(log.subscribe(), 10))
        await write(other, 10)
        assert await waiting == list(range(1, 11))


async def test_closing_the_log_ends_its_subscriptions_cleanly(open_lasting: Open) -> None:
    async with open_lasting() as log:
        await write(log, 2)

        async def all_positions() -> list[int]:
            return [row.position async for row in log.subscribe()]

        readers = [asyncio.ensure_future(all_positions()) for _ in range(5)]
        await asyncio.sleep(0.05)
        await log.aclose()
        assert await asyncio.gather(*readers) == [[1, 2]] * 5


async def test_closing_the_log_at_any_moment_ends_its_subscriptions_cleanly(open_lasting: Open) -> None:
    for turns in range(12):
        async with open_lasting() as log:
            await write(log, 1)
            following = log.subscribe(await log.position())
            waiting = asyncio.ensure_future(anext(following))
            for _ in range(turns):
                await asyncio.sleep(0)
            await log.aclose()
            with pytest.raises(StopAsyncIteration):
                await waiting


async def test_closing_a_subscription_ends_whoever_waits_for_it(open_lasting: Open) -> None:
    async with open_lasting() as log:
        following, other = log.subscribe(), log.subscribe()
        waiting = asyncio.ensure_future(anext(following))
        still_waiting = asyncio.ensure_future(anext(other))
        await asyncio.sleep(0.01)
        await following.aclose()
        await following.aclose()
        with pytest.raises(StopAsyncIteration):
            await waiting
        with pytest.raises(StopAsyncIteration):
            await anext(following)
        await write(log, 1)
        assert (await still_waiting).position == 1


async def test_a_subscription_belongs_to_one_task(open_lasting: Open) -> None:
    async with open_lasting() as log:
        following = log.subscribe()
        waiting = asyncio.ensure_future(anext(following))
        await asyncio.sleep(0.01)
        with pytest.raises(UsageError, match="one task at a time"):
            await anext(following)
        await write(log, 1)
        assert (await waiting).position == 1


async def test_nothing_of_a_subscription_stays_behind(open_lasting: Open) -> None:
    async with open_lasting() as log:
        for end in ("close", "cancel", "drop"):
            following = log.subscribe()
            waiting = asyncio.ensure_future(anext(following))
            await asyncio.sleep(0.01)
            if end == "close":
                await following.aclose()
            if end == "drop":
                del following
            waiting.cancel()
            await asyncio.wait([waiting])
        bells: Bells = log._bells  # type: ignore[attr-defined]
        assert bells.heard_in() == []
        assert not bells.here().waited_for
        await log.aclose()
        assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_the_poller_runs_only_while_somebody_waits(tmp_path: Path) -> None:
    async with aclosing(await open_log(f"sqlite:///{tmp_path}/evrt.db")) as log:
        before = asyncio.all_tasks()
        waiting = [asyncio.ensure_future(anext(log.subscribe())) for _ in range(10)]
        await asyncio.sleep(3 * POLL_SECONDS)
        [poller] = asyncio.all_tasks() - before - set(waiting)
        await write(log, 1)
        await asyncio.gather(*waiting)
        # It looks a few times more, in case somebody comes back, and ends by itself.
        await asyncio.wait_for(poller, 100 * IDLE_POLLS_MAX * POLL_SECONDS)
