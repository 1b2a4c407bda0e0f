"""Signals: messages to a run from outside, received in their order, each once, whenever the code asks for them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import evrt
from evrt.errors import Conflict, NotFound
from evrt.events import JsonObject
from evrt.events.run import InputReceived, RunSignalled, TimerSet
from runtime.clocks import DAY, as_worker, clocked, taken
from runtime.logs import Ctx, cut_off, put, until, watch


@evrt.tool(effect="read")
async def look(number: int) -> int:
    return number


async def dumped(app: evrt.App, run: str, type_: type) -> list[JsonObject]:
    events = [envelope.event for envelope in (await app.get(run)).events]
    return [event.model_dump() for event in events if isinstance(event, type_)]


async def test_a_run_waits_for_a_signal_and_goes_on_with_its_payload(url: str) -> None:
    async with evrt.App(url) as app:

        @app.workflow
        async def ships(ctx: Ctx) -> Any:
            return await ctx.wait_for_signal("paid")

        run = await app.run(ships)
        assert (run.status, run.reason, run.waiting_for) == ("waiting", "signal", ("signal.paid#1",))
        await app.signal(run.run_id, "paid", {"eur": 5}, by="till")
        run = await app.resume(run.run_id)
        assert run.output == {"eur": 5}
        [sent] = await dumped(app, run.run_id, RunSignalled)
        assert sent == {"name": "paid", "payload": {"eur": 5}, "by": "till"}
        [received] = await dumped(app, run.run_id, InputReceived)
        assert (received["operation"], received["signal"]) == ("signal.paid#1", "paid")
        assert (await app.replay(run.run_id)).complete


async def test_signals_that_come_before_anybody_waits_are_kept_in_their_order(url: str) -> None:
    async with evrt.App(url) as app:

        @app.workflow
        async def counts(ctx: Ctx) -> list[Any]:
            await ctx.ask("Ready?")
            return [await ctx.wait_for_signal("n") for _ in range(3)] + [await ctx.wait_for_signal("m")]

        run = await app.run(counts)
        for number in range(3):
            await app.signal(run.run_id, "n", number)
            await app.signal(run.run_id, "m", number)
        await app.answer(run.run_id, "yes")
        run = await app.resume(run.run_id)
        assert run.output == [0, 1, 2, 0]
        assert (await app.replay(run.run_id)).complete
        journal = (await app.get(run.run_id)).journal
        assert [len(kept) for kept in journal.signals.values()] == [0, 2]


async def test_what_is_there_already_is_received_without_parking_and_without_a_timer(url: str) -> None:
    async with evrt.App(url) as app:
        log = await clocked(app)

        @app.workflow
        async def counts(ctx: Ctx) -> list[Any]:
            first = await ctx.wait_for_signal("n")
            return [first, await ctx.wait_for_signal("n", timeout="1d")]

        run = await app.run(counts)
        for number in range(2):
            await app.signal(run.run_id, "n", number)
        parks = len(log.parks)
        run = await app.resume(run.run_id)
        assert run.output == [0, 1]
        assert len(log.parks) == parks
        assert await dumped(app, run.run_id, TimerSet) == []
        assert (await app.replay(run.run_id)).complete


async def test_two_that_wait_for_one_name_get_one_each(url: str) -> None:
    async with evrt.App(url) as app:

        @app.workflow
        async def both(ctx: Ctx) -> list[Any]:
            return await ctx.gather(ctx.wait_for_signal("n"), ctx.wait_for_signal("n"))

        run = await app.run(both)
        assert run.waiting_for == ("gather#1:0/signal.n#1", "gather#1:1/signal.n#1")
        await app.signal(run.run_id, "n", "a")
        run = await app.resume(run.run_id)
        assert run.waiting_for == ("gather#1:1/signal.n#1",)
        await app.signal(run.run_id, "n", "b")
        run = await app.resume(run.run_id)
        assert run.output == ["a", "b"]
        assert (await app.replay(run.run_id)).complete


async def test_a_signal_that_its_wait_was_cut_off_for_is_there_for_the_next(url: str) -> None:
    async with evrt.App(url) as app:

        @app.workflow
        async def impatient(ctx: Ctx) -> list[Any]:
            won = await ctx.race(ctx.wait_for_signal("slow"), ctx.wait_for_signal("quick"))
            return [won.branch, await ctx.wait_for_signal("slow")]

        run = await app.run(impatient)
        await app.signal(run.run_id, "quick")
        run = await app.resume(run.run_id)
        assert run.waiting_for == ("signal.slow#1",)
        await app.signal(run.run_id, "slow", 1)
        run = await app.resume(run.run_id)
        assert run.output == [1, 1]
        operations = (await app.get(run.run_id)).journal.operations
        cut = operations["race#1:0/signal.slow#1"]
        assert cut.outcome is not None
        assert (cut.kind, cut.outcome.type) == ("signal", "wait.cancelled")
        assert (await app.replay(run.run_id)).complete


async def test_a_wait_that_nothing_came_for_in_time_raises_what_code_can_catch(url: str) -> None:
    async with evrt.App(url) as app:
        log = await clocked(app)
        as_worker(app)

        @app.workflow
        async def patient(ctx: Ctx) -> list[Any]:
            first: list[str] = []
            try:
                await ctx.wait_for_signal("paid", timeout="2d")
            except evrt.TimedOut as error:
                first = [error.operation, error.error_type, error.message]
            return [first, await ctx.wait_for_signal("paid", timeout="2d")]

        run = await app.run(patient)
        assert (run.reason, run.waiting_for) == ("signal", ("signal.paid#1",))
        [set_to] = await dumped(app, run.run_id, TimerSet)
        assert (set_to["signal"], log.parks[-1].due) == ("paid", set_to["due"])
        log.ahead_seconds = 2 * DAY
        run = await taken(app, run.run_id)
        assert run.waiting_for == ("signal.paid#2",)
        await app.signal(run.run_id, "paid", "at last")
        assert (await log.coordination.entry(run.run_id)).state == "ready"
        run = await taken(app, run.run_id, due=False)
        expected = ["signal.paid#1", "timeout", "No signal paid came in the time that was given."]
        assert run.output == [expected, "at last"]
        assert (await app.replay(run.run_id)).complete


async def test_what_came_in_time_is_received_though_the_time_is_over_by_now(url: str) -> None:
    async with evrt.App(url) as app:
        log = await clocked(app)

        @app.workflow
        async def patient(ctx: Ctx) -> Any:
            return await ctx.wait_for_signal("paid", timeout="2d")

        run = await app.run(patient)
        await app.signal(run.run_id, "paid", 1)
        log.ahead_seconds = 3 * DAY
        run = await app.resume(run.run_id)
        assert run.output == 1
        assert (await app.replay(run.run_id)).complete


async def test_a_time_out_that_nobody_catches_fails_the_run(url: str) -> None:
    async with evrt.App(url) as app:

        @app.workflow
        async def brief(ctx: Ctx) -> None:
            await ctx.sleep("1ms")
            await ctx.wait_for_signal("paid", timeout="1ms")

        run = await app.run(brief)
        while run.status == "waiting":
            run = await app.resume(run.run_id)
        assert run.status == "failed"
        assert run.failure is not None
        assert run.failure.error_type == "TimedOut"
        assert (await app.replay(run.run_id)).complete


async def test_code_that_waits_for_another_signal_than_it_did_has_diverged(url: str) -> None:
    name = "paid"
    async with evrt.App(url) as app:

        @app.workflow
        async def ships(ctx: Ctx) -> Any:
            return await ctx.wait_for_signal(name)

        run = await app.run(ships)
        await app.signal(run.run_id, "paid")
        assert (await app.resume(run.run_id)).status == "succeeded"
        name = "sent"
        report = await app.replay(run.run_id)
        assert report.divergence is not None
        assert report.divergence.operation == "signal.sent#1"


async def test_who_signals_wakes_the_run(url: str) -> None:
    async with evrt.App(url) as app:
        log = await clocked(app)

        @app.workflow
        async def ships(ctx: Ctx) -> Any:
            return await ctx.wait_for_signal("paid")

        run = await app.run(ships)
        assert (await log.coordination.entry(run.run_id)).state == "waiting"
        await app.signal(run.run_id, "paid")
        assert log.wakes == [run.run_id]
        assert (await log.coordination.entry(run.run_id)).state == "ready"


async def test_there_is_no_signal_to_a_run_that_has_ended_or_never_was(url: str) -> None:
    async with evrt.App(url) as app:

        @app.workflow
        async def ends(ctx: Ctx) -> None: ...

        run = await app.run(ends)
        with pytest.raises(Conflict, match="has ended"):
            await app.signal(run.run_id, "paid")
        with pytest.raises(NotFound):
            await app.signal("run-nobody", "paid")


@pytest.mark.parametrize("name", ["", "  ", "two\nlines", "x" * 201, 5, None])
async def test_what_is_no_name_is_refused_on_both_sides(name: Any) -> None:
    async with evrt.App("memory://") as app:

        @app.workflow
        async def ships(ctx: Ctx) -> Any:
            return await ctx.wait_for_signal(name)

        run = await app.run(ships)
        assert run.failure is not None
        assert "A signal's name is text" in run.failure.message

        @app.workflow
        async def waits(ctx: Ctx) -> Any:
            return await ctx.ask("Well?")

        waiting = await app.run(waits)
        with pytest.raises(evrt.InvalidInput, match="A signal's name is text"):
            await app.signal(waiting.run_id, name)


@pytest.mark.parametrize("name", ["a/b", "50%", "order #1", "a:b", "é…"])
async def test_a_name_may_hold_what_identities_are_made_of(name: str) -> None:
    async with evrt.App("memory://") as app:

        @app.workflow
        async def ships(ctx: Ctx) -> Any:
            return await ctx.wait_for_signal(name)

        run = await app.run(ships)
        await app.signal(run.run_id, name, 1)
        assert (await app.resume(run.run_id)).output == 1


async def test_a_signal_that_comes_while_other_branches_run_is_taken_in_at_once(url: str) -> None:
    signalled = asyncio.Event()

    @evrt.tool(effect="read")
    async def hold() -> None:
        await signalled.wait()

    async with evrt.App(url) as app:

        @app.workflow
        async def both(ctx: Ctx) -> list[Any]:
            async def works() -> str:
                await ctx.call(hold)
                await ctx.call(look, 1)
                return "worked"

            return await ctx.gather(ctx.wait_for_signal("go"), works())

        running = await app.start(both)
        await until(app, "tool_call.requested")
        await app.signal(running.run_id, "go", "went")
        signalled.set()
        run = await running
        assert run.output == ["went", "worked"]
        assert "run.waiting" not in [e.type for e in (await app.get(run.run_id)).events]
        assert (await app.replay(run.run_id)).complete


async def test_killed_after_any_append_a_run_receives_each_signal_once() -> None:
    async with evrt.App("memory://") as app:

        @app.workflow
        async def sums(ctx: Ctx) -> int:
            total = 0
            for number in range(3):
                total += await ctx.call(look, await ctx.wait_for_signal("n"))
                await ctx.sleep("1ms")
                total += number
            return total

        log = await watch(app)
        run = await app.run(sums)
        for number in (10, 20, 30):
            await app.signal(run.run_id, "n", number)
        run = await app.resume(run.run_id)
        assert run.output == 63
        digest = (await app.get(run.run_id)).digest
        for position in log.boundaries[:-1]:
            put(app, await cut_off(log, position))
            assert (await app.replay(run.run_id)).ok
            sent = len(await dumped(app, run.run_id, RunSignalled))
            for number in (10, 20, 30)[sent:]:
                await app.signal(run.run_id, "n", number)
            resumed = await app.resume(run.run_id)
            assert (resumed.output, (await app.get(run.run_id)).digest) == (63, digest)
            assert (await app.replay(run.run_id)).complete
        put(app, log)
