"""Code that changes while runs go on: ``ctx.patched`` tells each of them which way is its own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

import evrt
from evrt.events.calls import ValueRecorded
from runtime.logs import Ctx, cut_off, put, watch

Code = Callable[[Ctx], Awaitable[Any]]


@evrt.tool(effect="read")
async def look(number: int) -> int:
    return number


@evrt.tool(effect="read")
async def look_closer(number: int) -> int:
    return 100 + number


async def before(ctx: Ctx) -> Any:
    first = await ctx.call(look, 1)
    await ctx.ask("Go on?")
    return [first, await ctx.call(look, 2)]


async def after(ctx: Ctx) -> Any:
    first = await ctx.call(look_closer, 1) if ctx.patched("closer") else await ctx.call(look, 1)
    await ctx.ask("Go on?")
    second = await ctx.call(look_closer, 2) if ctx.patched("closer-again") else await ctx.call(look, 2)
    return [first, second]


async def later(ctx: Ctx) -> Any:
    """When the last run from before has ended, the old ways go, and what asked for them."""
    first = await ctx.call(look_closer, 1)
    await ctx.ask("Go on?")
    return [first, await ctx.call(look_closer, 2)]


def deploy(app: evrt.App, code: Code) -> evrt.App:
    """An app that has this code as ``flow``, on the same log."""
    fresh = put(evrt.App("memory://"), app._log)  # type: ignore[arg-type]  # It is open.
    fresh.workflow(name="flow")(code)
    return fresh


def marks(run: evrt.Run) -> list[object]:
    return [event.event.value for event in run.events if isinstance(event.event, ValueRecorded)]


async def finish(app: evrt.App, run: str) -> Any:
    await app.answer(run, "yes")
    return (await app.resume(run)).output


async def test_a_run_from_before_goes_on_as_before_and_turns_where_its_history_ends(url: str) -> None:
    async with evrt.App(url) as app:
        app.workflow(name="flow")(before)
        old = await app.run("flow")
        new_code = deploy(app, after)
        # Its first look has happened as before. What comes after the question has not, so that is done anew.
        assert await finish(new_code, old.run_id) == [1, 102]
        assert marks(await app.get(old.run_id)) == ["closer-again"]
        assert (await new_code.replay(old.run_id)).complete


async def test_a_new_run_goes_the_new_way_and_says_so_once(url: str) -> None:
    async with evrt.App(url) as app:
        app.workflow(name="flow")(after)
        new = await app.run("flow")
        assert await finish(app, new.run_id) == [101, 102]
        assert marks(await app.get(new.run_id)) == ["closer", "closer-again"]
        assert (await app.replay(new.run_id)).complete


async def test_runs_that_have_ended_replay_with_the_changed_code_whichever_way_they_went(url: str) -> None:
    async with evrt.App(url) as app:
        app.workflow(name="flow")(before)
        old = (await app.run("flow")).run_id
        assert await finish(app, old) == [1, 2]
        new_code = deploy(app, after)
        new = (await new_code.run("flow")).run_id
        await finish(new_code, new)
        for run in (old, new):
            report = await new_code.replay(run)
            assert report.complete, report.divergence


async def test_runs_that_have_ended_replay_with_a_question_at_their_end(url: str) -> None:
    async def new(ctx: Ctx) -> Any:
        seen = [await ctx.call(look, 1), await ctx.ask("Go on?"), await ctx.call(look, 2)]
        return [*seen, await ctx.call(look, 3)] if ctx.patched("once-more") else [seen[0], seen[2]]

    async with evrt.App(url) as app:
        app.workflow(name="flow")(before)
        old = (await app.run("flow")).run_id
        assert await finish(app, old) == [1, 2]
        report = await deploy(app, new).replay(old)
        assert report.complete, report.divergence


async def test_what_asked_for_a_change_can_go_when_no_run_from_before_is_left(url: str) -> None:
    async with evrt.App(url) as app:
        app.workflow(name="flow")(after)
        run = (await app.run("flow")).run_id
        cleaned = deploy(app, later)
        assert await finish(cleaned, run) == [101, 102]
        assert (await cleaned.replay(run)).complete


async def test_without_it_the_same_change_parks_the_run(url: str) -> None:
    async with evrt.App(url) as app:
        app.workflow(name="flow")(before)
        old = (await app.run("flow")).run_id
        await app.answer(old, "yes")
        assert (await deploy(app, later).resume(old)).reason == "diverged"


async def test_cut_off_anywhere_a_changed_run_goes_the_same_way(url: str) -> None:
    async with evrt.App(url) as app:
        app.workflow(name="flow")(before)
        old = (await app.run("flow")).run_id
        new_code = deploy(app, after)
        watched = await watch(new_code)
        new = (await new_code.run("flow")).run_id
        output = await finish(new_code, old), await finish(new_code, new)
        for position in watched.boundaries[1:]:
            cut = put(evrt.App("memory://"), await cut_off(watched._log, position))
            cut.workflow(name="flow")(after)
            for run, said in zip((old, new), output, strict=True):
                history = await cut.get(run)
                if history.state.ended:
                    continue
                if history.journal.waiting_for_answer() or history.status == "running":
                    result = await cut.resume(run)
                    if result.reason == "question":
                        await finish(cut, run)
                else:
                    await cut.resume(run)
                assert (await cut.get(run)).state.output == said
                assert (await cut.replay(run)).complete


async def test_every_place_that_asks_gets_the_same_answer_whichever_asks_first(url: str) -> None:
    """In one branch nothing is left of the past, and the other is in the middle of it: both go the old way."""

    async def old(ctx: Ctx) -> Any:
        async def second() -> list[int]:
            return [await ctx.call(look, 1), await ctx.call(look, 2)]

        async def first() -> int:
            return 0

        seen: list[Any] = await ctx.gather(first(), second())
        return [*seen, await ctx.ask("Go on?")]

    async def new(ctx: Ctx) -> Any:
        async def first() -> list[Any]:
            return [0, ctx.patched("closer")]

        async def second() -> list[Any]:
            closer = ctx.patched("closer")
            seen = [await ctx.call(look_closer if closer else look, number) for number in (1, 2)]
            return [*seen, ctx.patched("closer")]

        seen = await ctx.gather(first(), second())
        return [*seen, await ctx.ask("Go on?"), ctx.patched("closer")]

    async with evrt.App(url) as app:
        app.workflow(name="flow")(old)
        run = (await app.run("flow")).run_id
        new_code = deploy(app, new)
        assert await finish(new_code, run) == [[0, False], [1, 2, False], "yes", False]
        assert (await new_code.replay(run)).complete
        fresh = (await new_code.run("flow")).run_id
        assert await finish(new_code, fresh) == [[0, True], [101, 102, True], "yes", True]
        assert marks(await app.get(fresh)) == ["closer"]
        assert (await new_code.replay(fresh)).complete


@pytest.mark.parametrize("rounds", [1, 2, 3])
async def test_in_a_loop_that_was_cut_off_in_the_middle_every_round_goes_one_way(
    url: str, rounds: int
) -> None:
    asked: list[int] = []

    async def old(ctx: Ctx) -> Any:
        seen = []
        for number in range(4):
            seen.append(await ctx.call(look, number))
            if number + 1 == rounds and not asked:
                await ctx.ask("Go on?")
        return seen

    async def new(ctx: Ctx) -> Any:
        seen = []
        for number in range(4):
            seen.append(await ctx.call(look_closer if ctx.patched("closer") else look, number))
            if number + 1 == rounds:
                await ctx.ask("Go on?")
        return seen

    async with evrt.App(url) as app:
        app.workflow(name="flow")(old)
        run = (await app.run("flow")).run_id
        new_code = deploy(app, new)
        assert await finish(new_code, run) == [0, 1, 2, 3]
        assert (await new_code.replay(run)).complete


async def test_each_chapter_of_a_long_run_turns_for_itself(url: str) -> None:
    async def old(ctx: Ctx) -> Any:
        seen = [*(ctx.state or ()), await ctx.call(look, 1)]
        await ctx.ask("Go on?")
        ctx.continue_as(seen)

    async def new(ctx: Ctx) -> Any:
        seen = [*(ctx.state or ())]
        seen.append(await ctx.call(look_closer if ctx.patched("closer") else look, 1))
        if len(seen) < 3:
            await ctx.ask("Go on?")
            ctx.continue_as(seen)
        return seen

    async with evrt.App(url) as app:
        app.workflow(name="flow")(old)
        run = (await app.run("flow")).run_id
        new_code = deploy(app, new)
        assert await finish(new_code, run) is None
        assert await finish(new_code, run) == [1, 101, 101]
        assert (await new_code.replay(run)).complete


async def test_what_a_branch_that_has_lost_its_race_is_told_binds_nobody(url: str) -> None:
    async with evrt.App(url) as app:

        @app.workflow
        async def races(ctx: Ctx) -> Any:
            async def loser() -> str:
                await ctx.ask("Anybody?")
                return str(ctx.patched("closer"))

            won = await ctx.race(loser(), ctx.call(look, 1))
            return [won.result, ctx.patched("closer")]

        run = await app.run(races)
        assert run.output == [1, True]
        assert (await app.replay(run.run_id)).complete
