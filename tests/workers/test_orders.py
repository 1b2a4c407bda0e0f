"""Runs are cancelled, paused, unpaused and tried again from outside, whatever they are doing."""

from __future__ import annotations

import asyncio
import threading

import pytest

import evrt
from evrt.errors import Conflict, NotFound
from evrt.worker.worker import Worker, working
from workers.waits import Ctx, types_of, until, until_ended, until_entry, until_written


async def test_a_queued_run_is_cancelled_by_one_append_of_claim_and_end(url: str) -> None:
    async with evrt.App(url) as app:

        @app.workflow
        async def never(ctx: Ctx) -> None:
            raise AssertionError("It was cancelled before anybody executed it.")

        queued = await app.enqueue(never)
        assert await app.cancel(queued.run_id, by="ada", reason="not needed") == "cancelled"
        log = await app.log()
        assert await types_of(log, queued.run_id) == [
            "run.requested",
            "run.cancel_requested",
            "run.claimed",
            "run.cancelled",
        ]
        assert await log.coordination.entries() == []
        result = await queued.result()
        assert result.status == "cancelled"
        assert (await app.get(queued.run_id)).state.reason == "not needed"
        with pytest.raises(Conflict, match="has ended"):
            await app.cancel(queued.run_id)


async def test_a_waiting_run_is_cancelled_at_once(url: str) -> None:
    async with evrt.App(url) as app:

        @app.workflow
        async def asks(ctx: Ctx) -> object:
            return await ctx.ask("Go on?")

        log = await app.log()
        queued = await app.enqueue(asks)
        async with working(Worker(app)):
            await until_entry(log, queued.run_id, "waiting")
            assert await app.cancel(queued.run_id) == "cancelled"
        assert await log.coordination.entry(queued.run_id) is None
        assert (await app.replay(queued.run_id)).ok


async def test_a_running_run_ends_at_its_next_operation(url: str) -> None:
    async with evrt.App(url) as app:
        looked: list[int] = []

        @evrt.tool(effect="read")
        async def look(number: int) -> int:
            looked.append(number)
            await asyncio.sleep(0.01)
            return number

        @app.workflow
        async def walks(ctx: Ctx) -> None:
            for number in range(10_000):
                await ctx.call(look, number=number)

        log = await app.log()
        queued = await app.enqueue(walks)
        async with working(Worker(app)) as worker:
            await until_written(log, queued.run_id, "tool_call.completed")
            assert await app.cancel(queued.run_id) == "requested"
            result = await queued.result()
            assert result.status == "cancelled"
            await until(lambda: not worker.running)
            calls = len(looked)
            await asyncio.sleep(0.05)
            assert len(looked) == calls < 10_000
        assert await log.coordination.entries() == []


async def test_a_write_without_a_key_that_is_being_made_comes_to_its_end_before_the_run_is_cancelled(
    url: str,
) -> None:
    async with evrt.App(url) as app:
        go_on = asyncio.Event()
        begun = 0

        @evrt.tool
        async def write() -> str:
            nonlocal begun
            begun += 1
            await go_on.wait()
            return "written"

        @app.workflow
        async def writes(ctx: Ctx) -> list[str]:
            return [str(await ctx.call(write)) for _ in range(2)]

        log = await app.log()
        queued = await app.enqueue(writes)
        async with working(Worker(app)):
            await until_written(log, queued.run_id, "tool_call.requested")
            assert await app.cancel(queued.run_id) == "requested"
            await asyncio.sleep(0.05)
            assert "run.cancelled" not in await types_of(log, queued.run_id)
            go_on.set()
            assert (await queued.result()).status == "cancelled"
        assert begun == 1
        types = await types_of(log, queued.run_id)
        assert "tool_call.in_doubt" not in types
        assert types.index("tool_call.completed") < types.index("run.cancelled")


async def test_a_paused_run_begins_nothing_more_until_it_is_unpaused(url: str) -> None:
    async with evrt.App(url) as app:
        steps = 0

        @evrt.tool(effect="read")
        async def look() -> int:
            nonlocal steps
            steps += 1
            await asyncio.sleep(0.01)
            return steps

        @app.workflow
        async def walks(ctx: Ctx) -> int:
            return sum([await ctx.call(look) for _ in range(30)])

        log = await app.log()
        queued = await app.enqueue(walks)
        async with working(Worker(app)):
            await until_written(log, queued.run_id, "tool_call.completed")
            await app.pause(queued.run_id)
            await until_entry(log, queued.run_id, "paused")
            assert (await app.get(queued.run_id)).state.reason == "paused"
            with pytest.raises(Conflict, match="paused already"):
                await app.pause(queued.run_id)
            await app.unpause(queued.run_id)
            assert (await queued.result()).status == "succeeded"
        assert (await app.replay(queued.run_id)).ok
        with pytest.raises(Conflict, match="has ended"):
            await app.unpause(queued.run_id)


async def test_a_queued_run_that_is_paused_waits_and_a_run_that_is_not_paused_cannot_be_unpaused(
    url: str,
) -> None:
    async with evrt.App(url) as app:

        @app.workflow
        async def one(ctx: Ctx) -> int:
            return 1

        log = await app.log()
        queued = await app.enqueue(one)
        with pytest.raises(Conflict, match="is not paused"):
            await app.unpause(queued.run_id)
        await app.pause(queued.run_id)
        other = await app.enqueue(one)
        async with working(Worker(app)):
            await other.result()
            entry = await log.coordination.entry(queued.run_id)
            assert entry is not None
            assert entry.state == "paused"
            await app.unpause(queued.run_id)
            assert (await queued.result()).output == 1


async def test_what_comes_while_a_run_is_paused_is_there_when_it_goes_on(url: str) -> None:
    async with evrt.App(url) as app:

        @app.workflow
        async def asks(ctx: Ctx) -> object:
            return await ctx.ask("Go on?")

        log = await app.log()
        queued = await app.enqueue(asks)
        async with working(Worker(app)):
            await until_entry(log, queued.run_id, "waiting")
            await app.pause(queued.run_id)
            await app.answer(queued.run_id, "yes")
            entry = await log.coordination.entry(queued.run_id)
            assert entry is not None
            assert entry.state == "paused"
            await app.unpause(queued.run_id)
            assert (await queued.result()).output == "yes"


async def test_a_run_that_is_paused_goes_on_here_when_it_is_resumed_here(url: str) -> None:
    async with evrt.App(url) as app:

        @app.workflow
        async def one(ctx: Ctx) -> int:
            return 1

        queued = await app.enqueue(one)
        await app.pause(queued.run_id)
        assert (await app.resume(queued.run_id)).output == 1
        log = await app.log()
        assert await log.coordination.entries() == []


async def test_a_run_that_has_ended_is_tried_again_as_a_new_run_that_supersedes_it(url: str) -> None:
    async with evrt.App(url) as app:
        good = False

        @app.workflow
        async def learns(ctx: Ctx, number: int) -> int:
            if not good:
                raise ValueError("not yet")
            return number

        queued = await app.enqueue(learns, 7)
        async with working(Worker(app)):
            assert (await queued.result()).status == "failed"
            good = True
            again = await app.retry(queued.run_id)
            assert again != queued.run_id
            log = await app.log()
            await until_ended(log, again)
        assert (await app.get(again)).state.output == 7
        old = await app.get(queued.run_id)
        assert old.events[-1].type == "run.superseded"
        assert old.status == "failed"
        requested = (await app.get(again)).journal.requested
        assert requested is not None
        assert requested.supersedes == queued.run_id
        assert await log.coordination.entries() == []


async def test_a_run_that_waits_for_its_next_attempt_makes_it_at_once(url: str) -> None:
    async with evrt.App(url) as app:
        tries = 0

        @app.workflow(retry=evrt.Retry(2, base_seconds=300.0, cap_seconds=300.0), on_error=lambda error: True)
        async def flaky(ctx: Ctx) -> int:
            nonlocal tries
            tries += 1
            if tries == 1:
                raise OSError("away")
            return tries

        log = await app.log()
        queued = await app.enqueue(flaky)
        async with working(Worker(app)):
            await until_entry(log, queued.run_id, "delayed")
            assert await app.retry(queued.run_id) == queued.run_id
            assert (await queued.result()).output == 2


async def test_a_run_that_is_cancelled_while_its_attempt_fails_waits_for_no_other(url: str) -> None:
    """The order comes when its worker has no ear for it: the code holds up everything beside it."""
    async with evrt.App(url) as app:
        log = await app.log()
        asked: list[str] = []

        async def cancel() -> None:
            if url == "memory://":
                await app.cancel(asked[0])
                return
            async with evrt.App(url) as outside:
                await outside.cancel(asked[0])

        @evrt.tool(effect="read")
        async def flaky() -> None:
            outside = threading.Thread(target=lambda: asyncio.run(cancel()))
            outside.start()
            outside.join()
            raise OSError("away")

        @app.workflow(retry=evrt.Retry(2, base_seconds=300.0, cap_seconds=300.0), on_error=lambda error: True)
        async def tries(ctx: Ctx) -> None:
            await ctx.call(flaky)

        queued = await app.enqueue(tries)
        asked.append(queued.run_id)
        async with working(Worker(app)):
            assert (await queued.result()).status == "cancelled"
        assert "run.retry_scheduled" not in await types_of(log, queued.run_id)
        assert await log.coordination.entries() == []


async def test_orders_about_unknown_runs_say_so(url: str) -> None:
    async with evrt.App(url) as app:
        for order in (app.cancel, app.pause, app.unpause, app.retry):
            with pytest.raises(NotFound, match="no run"):
                await order("run-aaaaaaaaaaaaaaaa")


async def test_whoever_cancels_a_run_cancels_what_it_has_started_down_to_the_last(url: str) -> None:
    async with evrt.App(url) as app:

        @app.workflow
        async def leaf(ctx: Ctx, number: int) -> object:
            return await ctx.ask(f"Go on with {number}?")

        @app.workflow
        async def branch(ctx: Ctx, number: int) -> object:
            return await ctx.gather(*(ctx.child("leaf", 10 * number + one) for one in range(3)))

        @app.workflow
        async def trunk(ctx: Ctx) -> object:
            return await ctx.gather(*(ctx.child("branch", number) for number in range(3)))

        log = await app.log()
        queued = await app.enqueue(trunk)
        async with working(Worker(app)):
            while len(await log.coordination.entries(state="waiting")) < 13:
                await log.watch().wait(0.05)
            entries = await log.coordination.entries()
            leaf_run = next(entry.run for entry in entries if entry.target == "leaf")
            await app.pause(leaf_run)
            assert await app.cancel(queued.run_id, by="ada") == "cancelled"
            for entry in entries:
                await until_ended(log, entry.run)
        assert {(await app.get(entry.run)).status for entry in entries} == {"cancelled"}
        assert len(entries) == 13
        assert await log.coordination.entries() == []
        for entry in entries:
            assert (await app.replay(entry.run)).ok


async def test_children_of_a_run_that_ends_otherwise_go_on(url: str) -> None:
    async with evrt.App(url) as app:

        @app.workflow
        async def child(ctx: Ctx) -> object:
            return await ctx.ask("Go on?")

        @app.workflow
        async def parent(ctx: Ctx) -> str:
            return (await ctx.start_child("child")).run

        log = await app.log()
        async with working(Worker(app)):
            started = (await (await app.enqueue(parent)).result()).output
            await until_entry(log, started, "waiting")
            await app.answer(started, "yes")
            await until_ended(log, started)
        assert (await app.get(started)).state.output == "yes"
