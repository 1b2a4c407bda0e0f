"""Timers: the code sleeps for a length of time or until a moment, and a replay does not."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

import evrt
from evrt.events import Event
from evrt.events.calls import ValueRecorded
from evrt.events.run import RunSucceeded, TimerFired, TimerSet
from evrt.runtime import parking
from runtime.clocks import DAY, HOUR, Clocked, as_worker, clocked, taken
from runtime.logs import Ctx, cut_off, put, until, watch


async def events(app: evrt.App, run: str) -> list[Event]:
    return [envelope.event for envelope in (await app.get(run)).events]


async def types(app: evrt.App, run: str) -> list[str]:
    return [event.type for event in await events(app, run)]


async def set_on(app: evrt.App, log: Clocked, seconds: float) -> None:
    """Set the log's clock on once a timer has been set, and let the run look at it."""
    await until(app, "timer.set")
    log.ahead_seconds += seconds


@evrt.tool(effect="read")
async def look(number: int) -> int:
    return number


async def test_a_sleep_is_an_intent_with_a_moment_and_an_outcome(url: str) -> None:
    async with evrt.App(url) as app:

        @app.workflow
        async def naps(ctx: Ctx) -> bool:
            before = ctx.now()
            await ctx.sleep("20ms")
            return ctx.now() - before >= timedelta(milliseconds=20)

        run = await app.run(naps)
        assert run.output is True
        happened = await events(app, run.run_id)
        [timer] = [event for event in happened if isinstance(event, TimerSet)]
        before, after = [event.value for event in happened if isinstance(event, ValueRecorded)]
        assert float(str(before)) + 0.0199 < timer.due / 1_000_000 < float(str(after)) + 0.0001
        assert [type_ for type_ in await types(app, run.run_id) if type_ != "value.recorded"] == [
            "run.requested",
            "run.claimed",
            "run.started",
            "timer.set",
            "timer.fired",
            "run.succeeded",
        ]
        assert (await app.replay(run.run_id)).complete


async def test_a_replay_of_a_sleep_of_a_hundred_years_sleeps_not_at_all() -> None:
    async with evrt.App("memory://") as app:
        log = await clocked(app)

        @app.workflow
        async def hibernates(ctx: Ctx) -> str:
            await ctx.sleep("36525d")
            return "good morning"

        as_worker(app)
        run = await app.run(hibernates)
        assert (run.status, run.reason, run.waiting_for) == ("waiting", "timer", ("sleep#1",))
        log.ahead_seconds = 36_525 * DAY
        run = await taken(app, run.run_id)
        assert run.output == "good morning"
        assert (await app.replay(run.run_id)).complete


@pytest.mark.parametrize("length", [0.001, 1, "1ms", "0.5ms"])
async def test_a_length_is_a_number_of_seconds_or_a_text(length: str | float) -> None:
    async with evrt.App("memory://") as app:

        @app.workflow
        async def naps(ctx: Ctx) -> str:
            await ctx.sleep(length)
            return "awake"

        assert (await app.run(naps)).output == "awake"


@pytest.mark.parametrize("length", [0, -1, "0s", "soon", "2 days", None, True, float("nan"), "36526d", 1e300])
async def test_what_is_no_length_of_time_is_refused_before_anything_is_recorded(length: Any) -> None:
    async with evrt.App("memory://") as app:

        @app.workflow
        async def naps(ctx: Ctx) -> str:
            try:
                await ctx.sleep(length)
            except evrt.InvalidInput:
                return "refused"
            return "slept"

        run = await app.run(naps)
        assert run.output == "refused"
        assert "timer.set" not in await types(app, run.run_id)
        assert (await app.replay(run.run_id)).complete


async def test_sleep_until_wakes_at_the_moment_in_whatever_zone_it_is_given(url: str) -> None:
    async with evrt.App(url) as app:
        rome = timezone(timedelta(hours=2))

        @app.workflow
        async def waits(ctx: Ctx) -> bool:
            moment = (ctx.now() + timedelta(milliseconds=20)).astimezone(rome)
            await ctx.sleep_until(moment)
            return ctx.now() >= moment

        run = await app.run(waits)
        assert run.output is True
        assert (await app.replay(run.run_id)).complete


async def test_a_moment_that_has_passed_is_not_waited_for(url: str) -> None:
    async with evrt.App(url) as app:

        @app.workflow
        async def late(ctx: Ctx) -> str:
            await ctx.sleep_until(datetime(1969, 7, 20, tzinfo=UTC))
            return "there"

        run = await app.run(late)
        assert run.output == "there"
        assert [e for e in await events(app, run.run_id) if isinstance(e, TimerFired)]
        assert (await app.replay(run.run_id)).complete


@pytest.mark.parametrize(
    "moment", [datetime(2030, 1, 1, tzinfo=UTC).replace(tzinfo=None), "2030-01-01", 5, None]
)
async def test_a_moment_without_a_zone_is_refused(moment: Any) -> None:
    async with evrt.App("memory://") as app:

        @app.workflow
        async def late(ctx: Ctx) -> None:
            await ctx.sleep_until(moment)

        run = await app.run(late)
        assert run.failure is not None
        assert "with its time zone" in run.failure.message


async def test_code_that_sleeps_for_another_time_than_it_did_has_diverged(url: str) -> None:
    length = "1ms"
    async with evrt.App(url) as app:

        @app.workflow
        async def naps(ctx: Ctx) -> None:
            await ctx.sleep(length)

        run = await app.run(naps)
        assert (await app.replay(run.run_id)).complete
        length = "2ms"
        report = await app.replay(run.run_id)
        assert report.divergence is not None
        assert report.divergence.operation == "sleep#1"


async def test_when_a_timer_is_due_is_decided_once(url: str) -> None:
    """A run that is resumed sleeps the rest, not all of it again."""
    async with evrt.App(url) as app:
        log = await clocked(app)
        as_worker(app)

        @app.workflow
        async def naps(ctx: Ctx) -> str:
            await ctx.sleep("2h")
            return "awake"

        run = await app.run(naps)
        for _ in range(3):
            log.ahead_seconds += HOUR / 2
            run = await taken(app, run.run_id)
            assert run.reason == "timer"
        log.ahead_seconds += HOUR / 2
        run = await taken(app, run.run_id)
        assert run.output == "awake"
        dues = {park.due for park in log.parks}
        assert dues == {e.due for e in await events(app, run.run_id) if isinstance(e, TimerSet)}
        assert (await app.replay(run.run_id)).complete


async def test_sleeps_at_the_same_time_wake_each_at_its_own(url: str) -> None:
    async with evrt.App(url) as app:

        @app.workflow
        async def choir(ctx: Ctx) -> list[int]:
            woken: list[int] = []

            async def voice(number: int) -> None:
                await ctx.sleep(f"{number * 100}ms")
                woken.append(number)

            await ctx.gather(*(voice(number) for number in (3, 1, 2)))
            return woken

        run = await app.run(choir)
        assert run.output == [1, 2, 3]
        assert (await app.replay(run.run_id)).complete


async def test_of_two_sleeps_that_race_the_shorter_wins_and_the_other_is_cut_off(url: str) -> None:
    async with evrt.App(url) as app:

        @app.workflow
        async def first(ctx: Ctx) -> int:
            return (await ctx.race(ctx.sleep("1d"), ctx.sleep("1ms"))).branch

        run = await app.run(first)
        assert run.output == 1
        history = await app.get(run.run_id)
        assert {
            identity: known.outcome and known.outcome.type
            for identity, known in history.journal.operations.items()
        } == {
            "race#1:0/sleep#1": "wait.cancelled",
            "race#1:1/sleep#1": "timer.fired",
            "race#1": "race.won",
        }
        assert (await app.replay(run.run_id)).complete


async def test_a_sleep_that_the_code_cuts_off_by_itself_is_cut_off_on_replay_too(url: str) -> None:
    async with evrt.App(url) as app:

        @app.workflow
        async def impatient(ctx: Ctx) -> str:
            try:
                async with asyncio.timeout(0.02):
                    await ctx.sleep("1d")
            except TimeoutError:
                return str(await ctx.call(look, 1))
            return "slept"

        run = await app.run(impatient)
        assert run.output == "1"
        assert "wait.cancelled" in await types(app, run.run_id)
        assert (await app.replay(run.run_id)).complete


async def test_the_time_out_of_a_run_does_not_count_what_it_sleeps() -> None:
    async with evrt.App("memory://") as app:

        @app.workflow(timeout="500ms")
        async def sleeper(ctx: Ctx) -> str:
            await ctx.sleep("600ms")
            return "rested"

        @app.workflow(timeout="20ms")
        async def worker(ctx: Ctx) -> None:
            await ctx.sleep("1ms")
            await asyncio.sleep(60)

        assert (await app.run(sleeper)).output == "rested"
        assert (await app.run(worker)).status == "timed_out"


async def test_in_a_process_of_its_own_a_run_that_only_sleeps_is_waited_for(url: str) -> None:
    async with evrt.App(url) as app:
        log = await clocked(app)

        @app.workflow
        async def naps(ctx: Ctx) -> str:
            await ctx.sleep("30ms")
            return "awake"

        assert (await app.run(naps)).output == "awake"
        assert log.parks == []


async def test_a_clock_that_is_set_on_while_a_run_sleeps_is_noticed(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("evrt.runtime.execution.LOOK_AT_CLOCK_SECONDS", 0.01)
    async with evrt.App(url) as app:
        log = await clocked(app)

        @app.workflow
        async def naps(ctx: Ctx) -> str:
            await ctx.sleep("2d")
            return "awake"

        running = await app.start(naps)
        await set_on(app, log, 2 * DAY)
        assert (await running).output == "awake"


async def test_a_worker_keeps_what_is_due_within_a_second_and_parks_the_rest(url: str) -> None:
    async with evrt.App(url) as app:
        log = await clocked(app)
        as_worker(app)

        @app.workflow
        async def naps(ctx: Ctx, length: str) -> str:
            await ctx.sleep(length)
            return "awake"

        assert (await app.run(naps, "20ms")).output == "awake"
        assert log.parks == []
        assert parking.PARK_AFTER_SECONDS == 1.0
        run = await app.run(naps, "1h")
        assert run.reason == "timer"
        [park] = log.parks
        assert (park.run, park.target) == (run.run_id, "naps")


async def test_what_was_set_before_a_crash_fires_after_it(url: str) -> None:
    """Killed after any append, the run comes to the same end, and so does each of its replays."""
    async with evrt.App("memory://") as app:

        @app.workflow
        async def naps(ctx: Ctx) -> list[int]:
            await ctx.sleep("1ms")
            first = await ctx.call(look, 1)
            await ctx.gather(ctx.sleep("1ms"), ctx.sleep_until(ctx.now()))
            return [first, await ctx.call(look, 2)]

        log = await watch(app)
        run = await app.run(naps)
        digest = (await app.get(run.run_id)).digest
        for position in log.boundaries[:-1]:
            put(app, await cut_off(log, position))
            assert (await app.replay(run.run_id)).ok
            resumed = await app.resume(run.run_id)
            assert (resumed.output, (await app.get(run.run_id)).digest) == (run.output, digest)
            assert (await app.replay(run.run_id)).complete
            assert [e for e in await events(app, run.run_id) if isinstance(e, RunSucceeded)]
        put(app, log)
