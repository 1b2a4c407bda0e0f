"""Programs drawn at random, with children and chapters: cut off anywhere, they come to the same, and replay."""

from __future__ import annotations

import asyncio
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

import evrt
from runtime.logs import Ctx, cut_off, ended, put, watch, work_off

EXAMPLES = settings().max_examples // 4
CUTS_MAX = 4


@evrt.tool(effect="read")
async def look(number: int) -> int:
    if number == 3:
        raise ValueError("three")
    return number


async def execute(ctx: Ctx, chapters: list[Any]) -> list[Any]:
    """Do what the chapters say, one after another; the state is how many are done, and what they came to."""
    done, seen = ctx.state or (0, [])
    seen = [*seen, await perform(ctx, chapters[done])]
    if done + 1 < len(chapters):
        ctx.continue_as([done + 1, seen])
    return seen


async def perform(ctx: Ctx, actions: list[Any]) -> list[Any]:
    seen: list[Any] = []
    started = []
    for kind, what in actions:
        match kind:
            case "look":
                seen.append(await failing(ctx.call(look, what)))
            case "step":
                seen.append(await ctx.step("step", int, what))
            case "child":
                seen.append(await failing(ctx.child("execute", what)))
            case "start":
                started.append(await ctx.start_child("execute", what))
            case "forget":
                await ctx.start_child("execute", what)
            case "fail":
                seen.append(await failing(ctx.child("broken", what)))
            case "branches":
                seen.append(await ctx.gather(*(perform(ctx, branch) for branch in what)))
            case "patched":
                seen.append(ctx.patched(what))
            case "emit":
                await ctx.emit("seen", len(seen))
    return [*seen, *await ctx.gather(*started)]


async def failing(work: Any) -> Any:
    try:
        return await work
    except (evrt.ToolFailed, evrt.ChildFailed) as error:
        return [error.operation, error.error_type]


async def broken(ctx: Ctx, number: int) -> None:
    await ctx.call(look, 3)


numbers = st.integers(0, 4)
simple = st.one_of(
    st.tuples(st.sampled_from(["look", "step", "fail"]), numbers),
    st.tuples(st.just("patched"), st.sampled_from(["a", "b"])),
    st.tuples(st.just("emit"), st.none()),
)
leaves = st.lists(simple, max_size=2)
starts = st.tuples(st.sampled_from(["child", "start", "forget"]), st.lists(leaves, min_size=1, max_size=2))
branches = st.tuples(st.just("branches"), st.lists(st.lists(simple | starts, max_size=2), max_size=3))
programs = st.lists(st.lists(simple | starts | branches, max_size=3), min_size=1, max_size=3)


@settings(max_examples=EXAMPLES)
@given(program=programs, data=st.data())
def test_a_family_cut_off_anywhere_comes_to_the_same_and_replays(
    program: list[Any], data: st.DataObject
) -> None:
    asyncio.run(come_to_the_same(program, data))


async def come_to_the_same(program: list[Any], data: st.DataObject) -> None:
    async with evrt.App("memory://") as app:
        app.workflow(execute)
        app.workflow(name="broken", retry=evrt.Retry(1))(broken)
        watched = await watch(app)
        run = (await app.run("execute", program)).run_id
        await work_off(app)
        whole = await ended(app, run)
        log = await app.log()
        families = await digests(app)
        boundaries = watched.boundaries[:-1]
        cuts = data.draw(
            st.lists(st.sampled_from(boundaries), max_size=CUTS_MAX, unique=True)
            if boundaries
            else st.just([])
        )
        for position in cuts:
            put(app, await cut_off(log, position))
            await work_off(app)
            assert (await ended(app, run)).output == whole.output
            assert sorted((await digests(app)).values()) == sorted(families.values())
        put(app, log)


async def digests(app: evrt.App) -> dict[str, str]:
    """The digest of every run, each of which replays."""
    found = {}
    for run in await (await app.log()).streams("run-"):
        report = await app.replay(run)
        assert report.complete, report.divergence
        found[run] = report.digest
    return found
