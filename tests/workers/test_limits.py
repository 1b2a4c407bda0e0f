"""Limits and order with real workers: caps, rates, priorities, lanes of conversations, keys, and times to begin at."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest

import evrt
from evrt.errors import InvalidInput
from evrt.limits import RateLimit
from evrt.log.coordination import OLDEST_FIRST_EVERY, State
from evrt.worker.worker import Worker, working
from workers.waits import Ctx, until, until_ended, until_entry

Register = Callable[[evrt.App], None]


class Seen:
    """What is under way in this process, counted from inside, and what was begun in which order."""

    def __init__(self) -> None:
        self.active: Counter[str] = Counter()
        self.most: Counter[str] = Counter()
        self.begun: list[object] = []

    async def work(self, what: str, number: object = None, together: int = 1) -> None:
        """Work for a moment, and not before so many have been at it at once."""
        self.begun.append(number)
        self.active[what] += 1
        self.most[what] = max(self.most[what], self.active[what])
        await until(lambda: self.most[what] >= together)
        await asyncio.sleep(0.01)
        self.active[what] -= 1


@pytest.fixture
def seen() -> Seen:
    return Seen()


@asynccontextmanager
async def crew(url: str, register: Register, size: int) -> AsyncIterator[list[evrt.App]]:
    """So many apps on one log, each with a worker and a writer of its own."""
    async with AsyncExitStack() as stack:
        apps = [await stack.enter_async_context(evrt.App(url)) for _ in range(size)]
        for app in apps:
            register(app)
        for app in apps:
            await stack.enter_async_context(working(Worker(app, poll_seconds=0.05)))
        yield apps


async def states(app: evrt.App) -> Counter[State]:
    return Counter(entry.state for entry in await (await app.log()).coordination.entries())


# ------------------------------------------------------------------------------------------- caps


async def test_no_more_runs_of_a_target_than_its_cap_are_executed_by_all_workers_together(
    shared_url: str, seen: Seen
) -> None:
    def register(app: evrt.App) -> None:
        @app.workflow(runs_max=2)
        async def capped(ctx: Ctx) -> None:
            await ctx.step("work", seen.work, "capped", None, 2)

        @app.workflow
        async def free(ctx: Ctx) -> None:
            await ctx.step("work", seen.work, "free", None, 3)

    async with evrt.App(shared_url) as before:
        register(before)
        runs = [await before.enqueue(name) for _ in range(8) for name in ("capped", "free")]
        async with crew(shared_url, register, 2):
            results = [await run.result() for run in runs]
    assert {result.status for result in results} == {"succeeded"}
    assert seen.most["capped"] == 2
    assert seen.most["free"] >= 3


async def test_a_worker_rests_where_a_cap_leaves_no_room_for_what_a_lost_one_had(url: str) -> None:
    async with evrt.App(url) as app:

        @app.workflow(runs_max=1)
        async def capped(ctx: Ctx) -> None: ...

        log = await app.log()
        queue = log.coordination
        await queue.renew("lost")
        await app.enqueue(capped)
        assert await queue.claim("lost", targets={"capped": None}, limit=1)
        await queue.renew("busy")
        await app.enqueue(capped)
        assert await queue.claim("busy", targets={"capped": None}, limit=1)
        await queue.renew("lost", seconds=0.001)
        while (await queue.outlook(["capped"])).due_in_seconds:  # noqa: ASYNC110  (a clock rings no bell)
            await asyncio.sleep(0.01)
        worker = Worker(app, poll_seconds=7.0)
        await queue.renew(worker.id)
        worker._log = log
        assert await worker._look() == 7.0
        assert not worker.running
        await queue.leave("busy")
        assert await worker._look() < 7.0
        assert len(worker.running) == 1
        await asyncio.gather(*(executing.task for executing in worker.running.values()))


async def test_a_run_that_waits_takes_no_room_of_a_cap(url: str) -> None:
    async with evrt.App(url) as app:

        @app.workflow(runs_max=1)
        async def asking(ctx: Ctx) -> str:
            return str(await ctx.ask("Well?"))

        log = await app.log()
        async with working(Worker(app)):
            runs = [await app.enqueue("asking") for _ in range(3)]
            for run in runs:
                await until_entry(log, run.run_id, "waiting")
            for run in runs:
                await app.answer(run.run_id, "yes")
            assert [(await run.result()).output for run in runs] == ["yes"] * 3


async def test_all_targets_together_have_a_cap_of_the_worker(url: str, seen: Seen) -> None:
    async with evrt.App(url) as app:
        for name in ("one", "other"):

            @app.workflow(name=name)
            async def work(ctx: Ctx) -> None:
                await ctx.step("work", seen.work, "any", None, 3)

        runs = [await app.enqueue(name) for _ in range(5) for name in ("one", "other")]
        async with working(Worker(app, claimed_max=3)):
            for run in runs:
                assert (await run.result()).status == "succeeded"
    assert seen.most["any"] == 3


# ------------------------------------------------------------------------------------------ rates


async def test_no_more_runs_begin_in_a_time_than_their_rate_says(url: str, seen: Seen) -> None:
    async with evrt.App(url) as app:

        @app.workflow(rate=RateLimit(3, "1h"))
        async def rare(ctx: Ctx, number: int) -> None:
            await ctx.step("work", seen.work, "rare", number)

        runs = [await app.enqueue("rare", number) for number in range(8)]
        async with working(Worker(app)) as worker:
            for run in runs[:3]:
                await run.result()
            assert worker.figures.claimed == 3
        assert set(seen.begun) == {0, 1, 2}
        assert await states(app) == {"delayed": 5}


async def test_a_rate_by_user_counts_each_user_alone(url: str) -> None:
    async with evrt.App(url) as app:

        @app.workflow(rate=RateLimit(1, "1h", by="user"))
        async def rare(ctx: Ctx) -> None: ...

        for _ in range(2):
            for user in ("ann", "bob"):
                await app.enqueue("rare", user=user)
        assert await states(app) == {"ready": 2, "delayed": 2}


async def test_what_a_rate_has_delayed_begins_when_it_is_due(url: str, seen: Seen) -> None:
    async with evrt.App(url) as app:

        @app.workflow(rate=RateLimit(2, "300ms"))
        async def rare(ctx: Ctx, number: int) -> None:
            await ctx.step("work", seen.work, "rare", number)

        runs = [await app.enqueue("rare", number) for number in range(5)]
        async with working(Worker(app)):
            for run in runs:
                assert (await run.result()).status == "succeeded"
    assert sorted(map(str, seen.begun)) == list("01234")


# ------------------------------------------------------------------------------------------ order


async def test_higher_priorities_go_first_and_nothing_starves(url: str, seen: Seen) -> None:
    async with evrt.App(url) as app:

        @app.workflow
        async def work(ctx: Ctx, number: int) -> None:
            await ctx.step("work", seen.work, "work", number)

        priorities = [(7 * number) % 5 - 2 for number in range(40)]
        runs = [
            await app.enqueue("work", number, priority=priority) for number, priority in enumerate(priorities)
        ]
        async with working(Worker(app, concurrency=1)):
            for run in runs:
                await run.result()
    left = set(range(40))
    out_of_turn = 0
    for number in seen.begun:
        assert isinstance(number, int)
        if number != min(left, key=lambda n: (-priorities[n], n)):
            assert number == min(left)
            out_of_turn += 1
        left.remove(number)
    assert left == set()
    assert 1 <= out_of_turn <= 40 // OLDEST_FIRST_EVERY + 1


async def test_runs_of_one_conversation_are_executed_one_at_a_time_in_their_order(
    shared_url: str, seen: Seen
) -> None:
    def register(app: evrt.App) -> None:
        @app.workflow
        async def talk(ctx: Ctx, said: tuple[str, int]) -> None:
            await ctx.step("work", seen.work, said[0], said)

    async with evrt.App(shared_url) as before:
        register(before)
        runs = [
            await before.enqueue("talk", [where, number], conversation=where)
            for number in range(5)
            for where in ("c1", "c2", "c3")
        ]
        async with crew(shared_url, register, 2):
            for run in runs:
                assert (await run.result()).status == "succeeded"
    assert seen.most == {"c1": 1, "c2": 1, "c3": 1}
    for where in ("c1", "c2", "c3"):
        of_it = [said for said in seen.begun if isinstance(said, tuple) and said[0] == where]
        assert of_it == [(where, number) for number in range(5)]


async def test_a_run_that_waits_holds_its_conversation_but_not_those_that_need_not_wait_for_it(
    url: str,
) -> None:
    async with evrt.App(url) as app:

        @app.workflow
        async def asking(ctx: Ctx) -> str:
            return str(await ctx.ask("Well?"))

        @app.workflow
        async def quick(ctx: Ctx) -> str:
            return "quick"

        log = await app.log()
        async with working(Worker(app)):
            first = await app.enqueue("asking", conversation="c1")
            await until_entry(log, first.run_id, "waiting")
            behind = await app.enqueue("quick", conversation="c1")
            beside = await app.enqueue("quick", conversation="c1", concurrent=True)
            assert (await beside.result()).output == "quick"
            entry = await log.coordination.entry(behind.run_id)
            assert entry is not None
            assert entry.state == "behind"
            await app.answer(first.run_id, "now")
            assert (await behind.result()).output == "quick"
            assert (await first.result()).output == "now"


async def test_the_next_of_a_conversation_moves_up_when_the_one_before_is_cancelled(url: str) -> None:
    async with evrt.App(url) as app:

        @app.workflow
        async def quick(ctx: Ctx) -> str:
            return "quick"

        first, second = [await app.enqueue("quick", conversation="c1") for _ in range(2)]
        assert await states(app) == {"ready": 1, "behind": 1}
        await app.cancel(first.run_id)
        assert await states(app) == {"ready": 1}
        async with working(Worker(app)):
            assert (await second.result()).status == "succeeded"


# -------------------------------------------------------------------------------- keys and delays


async def test_one_key_makes_one_run_however_many_ask_at_once(shared_url: str) -> None:
    def register(app: evrt.App) -> None:
        @app.workflow
        async def pay(ctx: Ctx, cents: int) -> int:
            return cents

    async with evrt.App(shared_url) as one, evrt.App(shared_url) as other:
        for app in (one, other):
            register(app)
        asked = await asyncio.gather(
            *(app.enqueue("pay", 42, idempotency_key="order-7") for _ in range(10) for app in (one, other))
        )
        assert len({queued.run_id for queued in asked}) == 1
        assert [queued.new for queued in asked].count(True) == 1
        assert len(await (await one.log()).streams("run-")) == 1
        with pytest.raises(evrt.Conflict):
            await other.enqueue("pay", 43, idempotency_key="order-7")
        assert (await other.enqueue("pay", 43, idempotency_key="order-7", user="ann")).new


@pytest.mark.parametrize(
    "when",
    [{"delay": "3000000d"}, {"delay": 1e300}, {"at": datetime.max.replace(tzinfo=UTC)}],
    ids=["delay", "delay beyond numbers", "at"],
)
async def test_a_run_that_is_to_begin_when_nobody_lives_any_more_is_refused(when: dict[str, Any]) -> None:
    async with evrt.App("memory://") as app:

        @app.workflow
        async def work(ctx: Ctx) -> None: ...

        with pytest.raises(InvalidInput, match="a hundred years is the most"):
            await app.enqueue(work, **when)
        assert await (await app.log()).coordination.entries() == []


async def test_a_key_that_is_no_text_is_refused() -> None:
    async with evrt.App("memory://") as app:

        @app.workflow
        async def work(ctx: Ctx) -> None: ...

        with pytest.raises(InvalidInput, match="An idempotency key is a text"):
            await app.enqueue(work, idempotency_key=cast(str, 7))


async def test_a_run_begins_no_earlier_than_it_may(url: str, seen: Seen) -> None:
    async with evrt.App(url) as app:

        @app.workflow
        async def work(ctx: Ctx, number: int) -> None:
            await ctx.step("work", seen.work, "work", number)

        log = await app.log()
        past, future = datetime(2020, 1, 1, tzinfo=UTC), datetime.now(UTC) + timedelta(days=1)
        later = await app.enqueue("work", 1, at=future, priority=9)
        soon = await app.enqueue("work", 2, delay="200ms")
        at_once = await app.enqueue("work", 3, at=past)
        async with working(Worker(app)):
            await until_ended(log, soon.run_id)
            await until_ended(log, at_once.run_id)
            await until(lambda: len(seen.begun) >= 2)
            entry = await log.coordination.entry(later.run_id)
            assert entry is not None
            assert (entry.state, entry.due) == ("delayed", round(future.timestamp() * 1_000_000))
    assert set(seen.begun) == {2, 3}
