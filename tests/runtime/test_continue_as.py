"""Long runs: code that begins anew with a state, in the same run, and is led through its last chapter only."""

from __future__ import annotations

import asyncio
import time
from typing import Any, cast

import pytest

import evrt
from evrt.events.run import ChildEnded, RunContinued, RunEmitted
from evrt.folds.digest import history_digest
from evrt.history import TAIL_EVENTS, load_last_chapter, load_run
from evrt.log import Append, Draft, Log
from evrt.log.contract import PAYLOAD_BYTES_MAX, Appended, Landing
from evrt.log.ids import new_event_id
from runtime.logs import Ctx, Watched, cut_off, put, same_after_every_crash, until, watch


@evrt.tool(effect="read")
async def look(number: int) -> int:
    return number


@evrt.tool(effect="read")
async def say(number: int) -> str:
    return f"said {number}"


async def counting(ctx: Ctx, upto: int) -> dict[str, Any]:
    """Three chapters or more: each looks twice, and hands its number on."""
    number = ctx.state or 0
    seen = [await ctx.call(look, number), await ctx.call(look, number + 10)]
    await ctx.emit("chapter", number)
    if number < upto:
        ctx.continue_as(number + 1)
    return {"seen": seen, "input": ctx.input, "said": await ctx.call(say, number)}


async def test_code_begins_anew_with_its_state_and_the_same_input(url: str) -> None:
    async with evrt.App(url) as app:
        app.workflow(counting)
        watched = await watch(app)
        run = await app.run("counting", 2)
        assert run.output == {"seen": [2, 12], "input": 2, "said": "said 2"}
        history = await app.get(run.run_id)
        assert [chapter.state for chapter in history.chapters] == [None, 1, 2]
        assert [list(chapter.operations) for chapter in history.chapters] == [
            ["look#1", "look#2", "emit#1"],
            ["look#1", "look#2", "emit#1"],
            ["look#1", "look#2", "emit#1", "say#1"],
        ]
        marks = [cast(int, event.meta.get("continued", 0)) for event in history.events]
        versions = [event.version for event in history.events if event.type == "run.continued"]
        assert sorted(set(marks)) == [0, *versions]
        assert marks == sorted(marks)
        report = await app.replay(run.run_id)
        assert (report.complete, report.operations) == (True, 10)
        await same_after_every_crash(app, watched, run.run_id)


async def test_what_a_chapter_did_counts_for_the_digest(url: str) -> None:
    digests = set()
    async with evrt.App(url) as app:
        app.workflow(counting)
        for upto in (0, 1, 2, 2):
            history = await app.get((await app.run("counting", upto)).run_id)
            digests.add(history.digest)
            last = history_digest(history.chapters[-1:])
            assert (history.digest == last) == (upto == 0)
    assert len(digests) == 3


async def test_only_the_run_s_own_code_can_continue_and_with_nothing_under_way(url: str) -> None:
    async with evrt.App(url) as app:
        refusals: list[str] = []

        @app.workflow
        async def inner(ctx: Ctx) -> None:
            ctx.continue_as(1)

        @app.workflow
        async def refused(ctx: Ctx) -> int:
            async def branch() -> None:
                ctx.continue_as(1)

            async def scoped() -> None:
                async with ctx.scope("key"):
                    ctx.continue_as(1)

            async def stray() -> None:
                async with ctx.scope("stray"):
                    await asyncio.Event().wait()

            for attempt in (ctx.gather(branch()), scoped(), ctx.call(inner, None)):
                try:
                    await attempt
                except evrt.UsageError as error:
                    refusals.append(str(error))
            for state in (object(), "x" * PAYLOAD_BYTES_MAX):
                try:
                    ctx.continue_as(state)
                except evrt.InvalidInput as error:
                    refusals.append(type(error).__name__)
            task = asyncio.create_task(stray())
            await asyncio.sleep(0)
            try:
                ctx.continue_as(1)
            except evrt.UsageError as error:
                refusals.append(str(error))
            task.cancel()
            await asyncio.wait([task])
            return int(await ctx.call(look, 1))

        run = await app.run(refused)
        assert run.output == 1
        assert [refusals[index][:22] for index in (0, 1, 2, 5)] == ["Only the run's own cod"] * 4
        assert refusals[3:5] == ["InvalidInput", "PayloadTooLarge"]
        assert len((await app.get(run.run_id)).chapters) == 1
        assert (await app.replay(run.run_id)).complete


async def test_code_that_catches_everything_cannot_go_on_after_it_has_continued(url: str) -> None:
    async with evrt.App(url) as app:

        @app.workflow
        async def stubborn(ctx: Ctx) -> Any:
            if ctx.state:
                return ctx.state
            try:
                ctx.continue_as("anew")
            except BaseException:  # noqa: BLE001  (this is what nobody should do)
                await ctx.call(look, 1)
            return "went on"

        run = await app.run(stubborn)
        assert run.output == "anew"
        history = await app.get(run.run_id)
        assert not any(chapter.operations for chapter in history.chapters)
        assert (await app.replay(run.run_id)).complete


async def test_the_time_out_counts_anew_in_each_chapter(url: str) -> None:
    async with evrt.App(url) as app:

        @app.workflow(timeout=1.0)
        async def patient(ctx: Ctx) -> int:
            number = ctx.state or 0
            await ctx.step("sleep", asyncio.sleep, 0.3)
            if number < 4:
                ctx.continue_as(number + 1)
            return int(number)

        assert (await app.run(patient)).output == 4  # After 1.5 s at least.


async def test_a_replay_reports_what_differs_in_any_chapter(url: str) -> None:
    async with evrt.App(url) as app:
        change: list[str] = []

        @app.workflow
        async def looking(ctx: Ctx) -> Any:
            number = ctx.state or 0
            if number == 1 and "argument" in change:
                await ctx.call(look, 99)
            await ctx.call(look, number)
            if number == 1 and "more" in change:
                await ctx.call(look, 5)
            if number == 1 and "ends" in change:
                return "early"
            if number < 2:
                ctx.continue_as(7 if number == 0 and "state" in change else number + 1)
            if "too often" in change:
                ctx.continue_as(3)
            return number

        run = await app.run(looking)
        assert (await app.replay(run.run_id)).complete
        for way, said in (
            ("argument", "other arguments"),
            ("more", "ends with run.continued"),
            ("ends", "recorded run.continued with 2, replayed run.succeeded with 'early'"),
            ("state", "recorded run.continued with 1, replayed run.continued with 7"),
            ("too often", "replayed run.continued with 3"),
        ):
            change[:] = [way]
            report = await app.replay(run.run_id)
            assert not report.ok
            assert report.divergence is not None
            assert said in str(report.divergence), way


async def test_code_that_would_continue_before_its_history_does_is_parked(url: str) -> None:
    async with evrt.App(url) as app:
        early: list[bool] = []

        @app.workflow
        async def asking(ctx: Ctx) -> Any:
            if ctx.state:
                return ctx.state
            if early:
                ctx.continue_as("early")
            await ctx.call(look, 1)
            return await ctx.ask("Well?")

        run = await app.run(asking)
        early.append(True)
        assert (await app.resume(run.run_id)).reason == "diverged"
        assert len((await app.get(run.run_id)).chapters) == 1


# What comes from outside, around the moment


async def test_what_a_child_of_an_earlier_chapter_comes_to_is_no_news_for_a_later_one(url: str) -> None:
    async with evrt.App(url) as app:

        @app.workflow
        async def double(ctx: Ctx, number: int) -> int:
            return number * 2

        @app.workflow
        async def starts(ctx: Ctx) -> Any:
            child = await ctx.start_child("double", 10 if ctx.state is None else 20)
            if ctx.state is None:
                ctx.continue_as(child.run)
            return [ctx.state, child.run, await child]

        run = await app.run(starts)
        assert run.reason == "child"
        history = await app.get(run.run_id)
        [first, second] = list(history.journal.children)
        await app.resume(first)
        # Its end has the identity that the second child has in this chapter, and is not its own.
        history = await app.get(run.run_id)
        assert history.events[-1].type == "child.ended"
        assert list(history.journal.children) == [second]
        assert (await app.resume(run.run_id)).reason == "child"
        await app.resume(second)
        assert (await app.resume(run.run_id)).output == [first, second, 40]
        report = await app.replay(run.run_id)
        assert report.complete, report.divergence


class Meddling(Watched):
    """Writes something from outside just before the run's own ``run.continued``, as another process could."""

    meddle: list[Draft]

    def append(self, request: Append) -> Landing[Appended]:
        if self.meddle and any(draft.type == "run.continued" for draft in request.drafts):
            self._log.append(Append([self.meddle.pop()], {}))
        return super().append(request)


async def test_what_came_just_before_the_code_continued_is_taken_in_first(url: str) -> None:
    async with evrt.App(url) as app:

        @app.workflow
        async def double(ctx: Ctx, number: int) -> int:
            return number * 2

        @app.workflow
        async def starts(ctx: Ctx) -> Any:
            if ctx.state is None:
                child = await ctx.start_child("double", 1)
                ended = ChildEnded(operation="double#1", child=child.run, status="succeeded", output=2)
                payload = ended.model_dump_json(exclude_none=True).encode()
                meddling.meddle = [Draft(ctx.run_id, ended.type, new_event_id(), ctx.run_id, b"{}", payload)]
                ctx.continue_as("anew")
            return ctx.state

        meddling = Meddling(await app.log())
        meddling.meddle = []
        put(app, cast(Log, meddling))
        run = await app.run(starts)
        assert run.output == "anew"
        types = [event.type for event in (await app.get(run.run_id)).events]
        assert types[-3:] == ["child.ended", "run.continued", "run.succeeded"]
        continued = (await app.get(run.run_id)).events[-2].event
        assert isinstance(continued, RunContinued)
        assert continued.children == ()  # The one that it had started has ended.


async def test_signals_that_a_chapter_has_not_received_are_there_for_the_next(url: str) -> None:
    async with evrt.App(url) as app:

        @app.workflow
        async def listens(ctx: Ctx) -> Any:
            heard = [*(ctx.state or ()), await ctx.wait_for_signal("news")]
            if len(heard) < 3:
                await ctx.ask("Go on?")
                ctx.continue_as(heard)
            return [*heard, await ctx.wait_for_signal("other")]

        run = (await app.run(listens)).run_id
        watched = await watch(app)
        for name, payload in (("news", 1), ("other", "x"), ("news", 2), ("news", 3)):
            await app.signal(run, name, payload)
        assert (await app.resume(run)).reason == "question"
        await app.answer(run, "yes")
        assert (await app.resume(run)).reason == "question"
        continued = [
            event.event for event in (await app.get(run)).events if isinstance(event.event, RunContinued)
        ]
        assert [len(event.kept) for event in continued] == [3]
        await app.answer(run, "yes")
        assert (await app.resume(run)).output == [1, 2, 3, "x"]
        report = await app.replay(run)
        assert report.complete, report.divergence
        # Whoever takes it over at any moment after the first chapter hears the same.
        log, whole = watched._log, await app.get(run)
        first = next(event.position for event in whole.events if event.type == "run.continued")
        for position in (one for one in watched.boundaries[:-1] if one >= first):
            put(app, await cut_off(log, position))
            result = await app.resume(run)
            while result.status == "waiting":
                if (await app.get(run)).journal.waiting_for_answer():
                    await app.answer(run, "yes")
                result = await app.resume(run)
            assert result.output == [1, 2, 3, "x"]
            assert (await app.get(run)).digest == whole.digest
        put(app, log)


async def test_a_run_that_is_to_be_cancelled_ends_where_it_continues(url: str) -> None:
    async with evrt.App(url) as app:
        ready, go = asyncio.Event(), asyncio.Event()

        @app.workflow
        async def busy(ctx: Ctx) -> Any:
            if ctx.state is None:
                ready.set()
                await go.wait()
                ctx.continue_as("anew")
            return await ctx.call(look, 1)

        running = await app.start(busy)
        await ready.wait()
        await until(app, "run.started")
        assert await app.cancel(running.run_id) == "requested"
        go.set()
        assert (await running).status == "cancelled"
        assert (await app.get(running.run_id)).events[-1].type == "run.cancelled"


# How much a resume reads


class Reading:
    """Counts the rows that a log is asked for; passes everything on."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self.rows = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    async def read_stream(self, stream: str, **bounds: Any) -> Any:
        rows = await self._log.read_stream(stream, **bounds)
        self.rows += len(rows)
        return rows


@pytest.mark.parametrize("earlier", [10_000, pytest.param(200_000, marks=pytest.mark.soak)])
async def test_a_resume_reads_from_where_the_code_continued(
    file_url: str, earlier: int, record_property: Any
) -> None:
    async with evrt.App(file_url) as app:

        @app.workflow
        async def long(ctx: Ctx) -> Any:
            if ctx.state is None:
                for number in range(earlier):
                    await ctx.emit("n", number)
                ctx.continue_as("anew")
            return [ctx.state, await ctx.ask("Well?")]

        run = await app.run(long)
        await app.answer(run.run_id, "yes")
        log = await app.log()
        began = time.process_time()
        chapter = await load_last_chapter(log, run.run_id)
        record_property("load_cpu_ms", round((time.process_time() - began) * 1_000, 2))
        assert chapter.journal.state == "anew"
        counted = Reading(log)
        put(app, cast(Log, counted))
        began = time.process_time()
        result = await app.resume(run.run_id)
        record_property("resume_cpu_ms", round((time.process_time() - began) * 1_000, 2))
        assert result.output == ["anew", "yes"]
        # A tail, the request, and what was written between reading and claiming.
        assert counted.rows <= TAIL_EVENTS + 3


@pytest.mark.parametrize("later", [0, TAIL_EVENTS - 1, TAIL_EVENTS, 3 * TAIL_EVENTS])
async def test_the_last_chapter_is_found_however_long_it_is(url: str, later: int) -> None:
    async with evrt.App(url) as app:

        @app.workflow
        async def long(ctx: Ctx) -> Any:
            for number in range(150 if ctx.state != 2 else later):
                await ctx.emit("n", number)
            if ctx.state != 2:
                ctx.continue_as(2 if ctx.state else 1)
            return await ctx.ask("Well?")

        run = await app.run(long)
        await app.answer(run.run_id, "yes")
        log = await app.log()
        chapter = await load_last_chapter(log, run.run_id)
        whole = await load_run(log, run.run_id)
        assert chapter.journal == whole.journal
        assert chapter.state.status == whole.state.status
        emitted = [event for event in chapter.events if isinstance(event.event, RunEmitted)]
        assert len(emitted) == later
        assert (await app.resume(run.run_id)).output == "yes"


async def test_a_chapter_of_which_only_what_others_wrote_is_near_the_end_is_found_too(url: str) -> None:
    async with evrt.App(url) as app:
        app.workflow(counting)

        @app.workflow
        async def asks(ctx: Ctx) -> Any:
            if ctx.state is None:
                ctx.continue_as("anew")
            return await ctx.ask("Well?")

        run = await app.run(asks)
        log = await app.log()
        strange = [
            Draft(run.run_id, "run.noted", new_event_id(), run.run_id, b"{}", b"{}") for _ in range(150)
        ]
        await log.append(Append(strange, {}))
        whole = await load_run(log, run.run_id)
        assert (await load_last_chapter(log, run.run_id)).journal == whole.journal
        await app.answer(run.run_id, "yes")
        assert (await app.resume(run.run_id)).output == "yes"


async def test_events_that_the_code_has_not_received_are_found_with_its_last_chapter(url: str) -> None:
    """Whatever a chapter keeps for the next is named where that begins."""
    async with evrt.App(url) as app:
        log = await app.log()

        def draft(type_: str, payload: bytes, meta: bytes = b"{}") -> Draft:
            return Draft("run-a", type_, new_event_id(), "run-a", meta, payload)

        await log.append(
            Append(
                [
                    draft("run.requested", b'{"target":"x","kind":"workflow"}'),
                    *(draft("run.signalled", b'{"name":"s","payload":%d}' % number) for number in range(200)),
                    draft("run.continued", b'{"state":1,"kept":[7,90]}', b'{"epoch":0}'),
                    *(draft("run.started", b"{}", b'{"continued":202}') for _ in range(120)),
                ],
                {},
            )
        )
        chapter = await load_last_chapter(log, "run-a")
        assert [event.version for event in chapter.events[:4]] == [1, 7, 90, 202]
        assert len(chapter.events) == 4 + 120
