"""Schedules with workers: each tick starts one run, whoever is there, and what was missed is made up for as asked."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Unpack

import pytest

import evrt
from evrt.events.run import RunRequested
from evrt.log import Log
from evrt.log.coordination import Tick
from evrt.log.envelopes import envelopes
from evrt.registry import ScheduleArguments
from evrt.schedules import MISSED_MAX, SECOND, Missed, next_ticks
from evrt.worker.schedules import Ticker
from evrt.worker.worker import Worker, working

MINUTE = 60 * SECOND
RUN_SECONDS_MAX = 60.0


def reporting(url: str, when: str = "* * * * *", **how: Unpack[ScheduleArguments]) -> evrt.App:
    """An app with one scheduled workflow."""
    app = evrt.App(url)
    all_of_it: ScheduleArguments = {"name": "reports", **how}

    @app.schedule(when, **all_of_it)
    @app.workflow
    async def report(ctx: evrt.Context[None], day: str | None) -> str:
        return f"reported {day}"

    return app


@dataclass(frozen=True)
class Given:
    """These ticks and no others."""

    ticks: Sequence[int]

    def next(self, after: int) -> int | None:
        return next((tick for tick in self.ticks if tick > after), None)


async def requests(log: Log) -> list[RunRequested]:
    return [e.event for e in envelopes(await log.read(limit=10_000)) if isinstance(e.event, RunRequested)]


async def ticks_started(log: Log) -> list[int | None]:
    return [requested.tick for requested in await requests(log)]


async def come_to(log: Log, minutes_ago: float) -> int:
    """Have the schedule stand where it stood so long ago; returns the present."""
    now = await log.coordination.now()
    await log.coordination.change(Tick("reports", now - round(minutes_ago * MINUTE)))
    return now


# ------------------------------------------------------------------------------------------ ticks


async def test_a_worker_starts_runs_as_they_come_due(url: str) -> None:
    async with reporting(url, "every 1s", input="today") as app:
        log = await app.log()
        async with asyncio.timeout(RUN_SECONDS_MAX):
            async with working(Worker(app)) as worker:
                while worker.figures.ended < 2:
                    await log.watch().wait(1.0)
        started = await requests(log)
    ticks = [requested.tick for requested in started]
    assert len(ticks) >= 2
    assert [requested.schedule for requested in started] == ["reports"] * len(started)
    assert [requested.input for requested in started] == ["today"] * len(started)
    assert all(tick is not None and tick % SECOND == 0 for tick in ticks)
    assert len(set(ticks)) == len(ticks)


async def test_two_workers_at_once_start_one_run_for_each_tick(shared_url: str) -> None:
    async with reporting(shared_url, missed="all") as one, reporting(shared_url, missed="all") as other:
        log = await one.log()
        now = await come_to(log, minutes_ago=40.5)
        tickers = [Ticker(one, log), Ticker(other, await other.log())]
        await asyncio.gather(*(ticker.look() for ticker in tickers))
        expected = [
            tick
            for tick in next_ticks(one.schedules["reports"].times, now - round(40.5 * MINUTE), 41)
            if tick <= now
        ]
        assert len(expected) >= 40
        # A tick may have come due meanwhile.
        assert Counter(await ticks_started(log)) - Counter(dict.fromkeys(expected, 1)) <= Counter(
            dict.fromkeys(next_ticks(one.schedules["reports"].times, now, 2), 1)
        )
        assert set(expected) <= set(await ticks_started(log))


async def test_a_schedule_seen_for_the_first_time_begins_now(url: str) -> None:
    async with reporting(url, "@yearly", missed="all") as app:
        log = await app.log()
        before = await log.coordination.now()
        await Ticker(app, log).look()
        assert await ticks_started(log) == []
        assert before <= (await log.coordination.ticks())["reports"] <= await log.coordination.now()


@pytest.mark.parametrize("missed, runs", [("last", 1), ("all", 3), ("none", 0)])
async def test_what_was_missed_is_made_up_for_once_as_asked(url: str, missed: Missed, runs: int) -> None:
    async with reporting(url, missed=missed) as app:
        log = await app.log()
        now = await log.coordination.now()
        hour = 60 * MINUTE
        ticks = (now - 3 * hour, now - 2 * hour, now - hour)
        app._schedules["reports"] = replace(app.schedules["reports"], times=Given(ticks))
        await log.coordination.change(Tick("reports", now - 4 * hour))
        ticker = Ticker(app, log)
        await ticker.look()
        assert len(await ticks_started(log)) == runs
        await ticker.look()
        assert len(await ticks_started(log)) == runs
        assert await log.coordination.ticks() == {"reports": ticks[-1]}


async def test_not_more_is_made_up_for_than_the_limit_and_that_is_said(
    url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with reporting(url, "every 1m", missed="all") as app:
        log = await app.log()
        await come_to(log, minutes_ago=MISSED_MAX + 20)
        with caplog.at_level(logging.WARNING, "evrt.worker"):
            await Ticker(app, log).look()
        assert len(await ticks_started(log)) == MISSED_MAX
    assert "missed more ticks than are made up for" in caplog.text


async def test_a_clock_that_is_put_back_starts_nothing_twice(url: str) -> None:
    async with reporting(url, missed="all") as app:
        log = await app.log()
        await come_to(log, minutes_ago=-90)
        seconds = await Ticker(app, log).look()
        assert await ticks_started(log) == []
        assert seconds <= 60.1


async def test_a_tick_is_skipped_while_a_run_of_an_earlier_one_goes_on(url: str) -> None:
    async with reporting(url, missed="all", overlap="skip") as app:
        log = await app.log()
        now = await come_to(log, minutes_ago=3.5)
        await Ticker(app, log).look()
        [first] = await ticks_started(log)
        assert first is not None
        assert first < now - 2 * MINUTE
        assert (await log.coordination.ticks())["reports"] > first
        [run] = await log.streams("run-")
        await app.cancel(run)
        await log.coordination.change(Tick("reports", now + 10 * MINUTE))
        await app.trigger("reports", tick=now + 11 * MINUTE)
        assert len(await ticks_started(log)) == 2


async def test_a_schedule_in_trouble_keeps_no_other_waiting(
    url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with reporting(url) as app:
        app.schedule("* * * * *", "report", name="bad", conversation="much too long " * 5_000)
        app._schedules = dict(reversed(app._schedules.items()))
        log = await app.log()
        await log.coordination.change(Tick("bad", 1))
        await come_to(log, minutes_ago=2)
        with caplog.at_level(logging.WARNING, "evrt.worker"):
            seconds = await Ticker(app, log).look()
        assert [requested.schedule for requested in await requests(log)] == ["reports"]
        assert seconds <= 5.0
    assert "The schedule bad could not be attended to" in caplog.text


async def test_a_ticker_whose_log_fails_tries_again(url: str, caplog: pytest.LogCaptureFixture) -> None:
    app = reporting(url)
    log = await app.log()
    await app.aclose()
    assert await Ticker(app, log).look() > 0
    assert "It cannot be seen how far schedules have come" in caplog.text


# ---------------------------------------------------------------------------------------- by hand


async def test_a_schedule_is_run_by_hand_beside_its_ticks(url: str) -> None:
    async with reporting(url, "@yearly", input="now", user="ann", conversation="c1") as app:
        log = await app.log()
        queued = await app.trigger("reports")
        [requested] = await requests(log)
        assert (requested.schedule, requested.tick, requested.input) == ("reports", None, "now")
        assert requested.user == await log.ref("user", "ann")
        assert requested.conversation == await log.ref("conversation", "c1")
        assert "reports" not in await log.coordination.ticks()
        async with working(Worker(app)):
            assert (await queued.result()).output == "reported now"


async def test_a_tick_has_one_run_however_often_it_is_asked_for(url: str) -> None:
    async with reporting(url) as app:
        await app.trigger("reports", tick=60 * SECOND)
        with pytest.raises(evrt.Conflict):
            await app.trigger("reports", tick=60 * SECOND)
        assert await ticks_started(await app.log()) == [60 * SECOND]


async def test_a_schedule_nobody_knows_is_not_found() -> None:
    async with reporting("memory://") as app:
        with pytest.raises(evrt.NotFound, match="It has: reports"):
            await app.trigger("weekly")


# ------------------------------------------------------------------------------------ registering


def test_agents_and_workflows_are_scheduled_by_their_names_too() -> None:
    app = reporting("memory://")
    agent = app.agent("helper", model="m")
    assert app.schedule("0 9 * * *", agent, input="Good morning").name == "helper"
    assert app.schedule("0 9 * * *", "report", name="daily", zone="Europe/Rome").target == "report"
    assert sorted(app.schedules) == ["daily", "helper", "reports"]


def test_names_of_schedules_are_unique() -> None:
    app = reporting("memory://")
    with pytest.raises(evrt.UsageError, match="Two schedules are named 'reports'"):
        app.schedule("0 9 * * *", "report", name="reports")


def test_a_schedule_below_the_workflow_says_where_it_belongs() -> None:
    app = evrt.App("memory://")
    with pytest.raises(evrt.UsageError, match=r"Write @app.schedule\(…\) above @app.workflow"):

        @app.workflow  # type: ignore[type-var]
        @app.schedule("0 9 * * *")
        async def report(ctx: evrt.Context[None]) -> None: ...


def test_what_cannot_be_is_refused_when_it_is_registered() -> None:
    app = reporting("memory://")
    with pytest.raises(evrt.UsageError, match="is no cron line"):
        app.schedule("9 o'clock", "report", name="a")
    with pytest.raises(evrt.UsageError, match="There is no time zone"):
        app.schedule("0 9 * * *", "report", name="b", zone="Rome")
    with pytest.raises(evrt.NotFound, match="It has: report"):
        app.schedule("0 9 * * *", "reprot")
    with pytest.raises(evrt.InvalidInput):
        app.schedule("0 9 * * *", "report", name="c", input=9)
    with pytest.raises(evrt.UsageError, match="missed is 'some'"):
        app.schedule("0 9 * * *", "report", name="d", missed="some")  # type: ignore[call-overload]
    assert list(app.schedules) == ["reports"]


def test_ticks_are_moments_in_utc() -> None:
    app = reporting("memory://", "0 9 * * *", zone="Europe/Rome")
    noon = int(datetime(2026, 11, 28, 12, tzinfo=UTC).timestamp()) * SECOND
    assert next_ticks(app.schedules["reports"].times, noon, 1) == [
        int(datetime(2026, 11, 29, 8, tzinfo=UTC).timestamp()) * SECOND
    ]
