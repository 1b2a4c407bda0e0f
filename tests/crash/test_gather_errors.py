"""Time-outs, cancellation and errors among branches, with the run cut off in the middle of them."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

import evrt
from crash.harness import SITES, Crew, Death
from crash.judge import Story, violations
from evrt.events.calls import ToolCallInDoubt

Ctx = evrt.Context[Any]


@pytest.fixture(scope="module")
def whole(crew: Crew) -> Story:
    with crew.trial("hurried") as trial:
        story = trial.finish()
    assert violations(story, story) == []
    return story


@pytest.mark.parametrize("site", SITES)
def test_what_was_cut_off_or_failed_among_branches_stays_so_after_a_kill(
    crew: Crew, whole: Story, site: str
) -> None:
    def kill(nth: int) -> list[str]:
        with crew.trial("hurried") as trial:
            trial.die_at(Death(site, nth))
            return [f"{site} {nth}: {violation}" for violation in violations(trial.finish(), whole)]

    found = crew.each(kill, range(1, whole.facts["passed"][site] + 1))
    assert [violation for each in found for violation in each] == []


# A resume must not lose a doubt, however short the code's patience is.


async def forever() -> str:
    await asyncio.Event().wait()
    return "never"


async def cut_short(app: evrt.App, running: evrt.Running, *, types: list[str]) -> None:
    """Stop a run as a crash would, once its history ends with these types."""
    seen: list[str] = []
    async with aclosing((await app.log()).subscribe()) as events:
        while seen[-len(types) :] != types:
            row = await anext(events)
            seen += [row.type] if row.stream == running.run_id else []
    running._task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


@evrt.tool(effect="read")
async def look() -> str:
    return "seen"


write = evrt.tool(name="write")(forever)


async def test_a_write_left_open_is_in_doubt_though_the_code_gives_it_up_before_its_past_is_complete(
    tmp_path: Path,
) -> None:
    patience: list[float | None] = [None]
    async with evrt.App(f"sqlite:///{tmp_path / 'log.db'}") as app:

        @app.workflow
        async def impatient(ctx: Ctx) -> list[Any]:
            async def slow() -> str:
                # The resumed code is as slow as it was, and only then asks for what the past still holds.
                await asyncio.sleep(0.1)
                return str(await ctx.call(look))

            async def hasty() -> str:
                try:
                    async with asyncio.timeout(patience[0]):
                        return str(await ctx.call(write))
                except TimeoutError:
                    return "given up"

            return await ctx.gather(slow(), hasty())

        running = await app.start(impatient)
        await cut_short(app, running, types=["tool_call.requested", "tool_call.completed"])
        patience[0] = 0.001
        run = await app.resume(running.run_id)
        assert (run.status, run.reason, run.waiting_for) == ("waiting", "in_doubt", ("gather#1:1/write#1",))
        doubts = [e.event for e in (await app.get(run.run_id)).events if isinstance(e.event, ToolCallInDoubt)]
        assert [doubt.operation for doubt in doubts] == ["gather#1:1/write#1"]
        await app.settle(run.run_id, result="written")
        # What is settled is handed over, for it is there, however little patience there is.
        run = await app.resume(run.run_id)
        assert run.output == ["seen", "written"]
        assert (await app.replay(run.run_id)).complete


async def test_a_run_whose_time_is_up_before_it_comes_back_to_an_open_write_is_in_doubt(
    tmp_path: Path,
) -> None:
    delay = [0.0]
    async with evrt.App(f"sqlite:///{tmp_path / 'log.db'}") as app:

        @app.workflow(timeout="200ms")
        async def slow(ctx: Ctx) -> None:
            await asyncio.sleep(delay[0])
            await ctx.call(write)

        running = await app.start(slow)
        await cut_short(app, running, types=["tool_call.requested"])
        delay[0] = 10.0
        run = await app.resume(running.run_id)
        assert (run.status, run.reason, run.waiting_for) == ("waiting", "in_doubt", ("write#1",))


async def test_an_outcome_that_waits_for_its_turn_is_kept_when_the_code_gives_up(tmp_path: Path) -> None:
    """It is known what the write came to: nobody has to be asked, and the next operation is cut off instead."""
    limit = asyncio.timeout(None)

    @evrt.tool
    async def quick() -> str:
        return "written"

    async with evrt.App(f"sqlite:///{tmp_path / 'log.db'}") as app:

        @app.workflow
        async def impatient(ctx: Ctx) -> list[Any]:
            nonlocal limit
            seen: list[Any] = []

            async def busy() -> None:
                # While this blocks the loop's turn, the write comes back, and then the time is up.
                await ctx.call(look)
                for _ in range(50):
                    await asyncio.sleep(0)
                limit.reschedule(0)
                for _ in range(50):
                    await asyncio.sleep(0)

            async def writes() -> None:
                seen.append(await ctx.call(quick))
                seen.append(await ctx.call(look))

            try:
                limit = asyncio.timeout(None)
                async with limit:
                    await ctx.gather(busy(), writes())
            except TimeoutError:
                seen.append("too late")
            return seen

        run = await app.run(impatient)
        assert run.output == ["written", "too late"]
        assert (await app.replay(run.run_id)).complete
