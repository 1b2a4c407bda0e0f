"""Branches share what they please: a replay gives them their outcomes in the order of the first execution."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

import evrt
from runtime.logs import Ctx, cut_off, put, watch

Diary = list[str]


@dataclass(frozen=True)
class Work:
    """One operation that takes so many turns of the event loop, or thousandths of a second."""

    kind: str
    turns: int
    milliseconds: int


@dataclass(frozen=True)
class Branches:
    """Several sequences of things to do at the same time."""

    each: Sequence[Plan]


Plan = Sequence[Work | Branches]

works = st.builds(
    Work,
    kind=st.sampled_from(["step", "read", "tool", "write", "memory", "emit", "value"]),
    turns=st.integers(0, 3),
    milliseconds=st.sampled_from([0, 0, 0, 1, 2]),
)
plans = st.recursive(
    st.lists(works, min_size=1, max_size=3),
    lambda inner: st.lists(works | st.builds(Branches, st.lists(inner, max_size=3)), min_size=1, max_size=3),
    max_leaves=8,
)


async def dawdle(turns: int, milliseconds: int) -> str:
    for _ in range(turns):
        await asyncio.sleep(0)
    if milliseconds:
        await asyncio.sleep(milliseconds / 1000)
    return "done"


@evrt.tool(effect="read")
async def look(turns: int, milliseconds: int) -> str:
    return await dawdle(turns, milliseconds)


@evrt.tool
async def write(turns: int, milliseconds: int, idempotency_key: str) -> str:
    return await dawdle(turns, milliseconds)


async def do(ctx: Ctx, plan: Plan, name: str, diary: Diary) -> None:
    diary.append(f"{name} begins")
    for place, work in enumerate(plan):
        await one(ctx, work, f"{name}.{place}", diary)
        diary.append(f"{name}.{place}")


async def one(ctx: Ctx, work: Work | Branches, name: str, diary: Diary) -> None:
    if isinstance(work, Branches):
        await ctx.gather(*(do(ctx, plan, f"{name}/{i}", diary) for i, plan in enumerate(work.each)))
        return
    kinds: dict[str, Callable[[], Awaitable[Any]]] = {
        "step": lambda: ctx.step("dawdle", dawdle, work.turns, work.milliseconds),
        "read": lambda: ctx.step("dawdle", dawdle, work.turns, work.milliseconds, effect="read"),
        "tool": lambda: ctx.call(look, turns=work.turns, milliseconds=work.milliseconds),
        "write": lambda: ctx.call(write, turns=work.turns, milliseconds=work.milliseconds),
        "memory": lambda: ctx.memory.set(name, work.turns, if_version=0),
        "emit": lambda: ctx.emit("at", list(diary)),
        "value": lambda: ctx.step("value", ctx.random),
    }
    if work.kind == "value":
        ctx.random()
        return
    await kinds[work.kind]()


def application(plan: Plan) -> tuple[evrt.App, evrt.Workflow, list[Diary]]:
    """An app whose workflow follows the plan, and one diary for each time it is executed."""
    app = evrt.App("memory://")
    diaries: list[Diary] = []

    @app.workflow
    async def follow(ctx: Ctx) -> int:
        diary: Diary = []
        diaries.append(diary)
        await do(ctx, plan, "", diary)
        return len(diary)

    return app, follow, diaries


@given(plan=plans)
def test_a_replay_goes_through_the_branches_in_the_order_of_the_first_execution(plan: Plan) -> None:
    async def main() -> None:
        app, follow, diaries = application(plan)
        async with app:
            run = await app.run(follow, user="ann")
            assert run.status == "succeeded"
            report = await app.replay(run.run_id)
            assert report.divergence is None
            assert report.complete
        assert diaries[0] == diaries[1]

    asyncio.run(main())


@settings(max_examples=30)
@given(plan=plans, moment=st.integers(0, 1_000))
def test_a_run_killed_anywhere_goes_on_along_its_recorded_past(plan: Plan, moment: int) -> None:
    async def main() -> None:
        app, follow, diaries = application(plan)
        whole = await watch(app)
        run = await app.run(follow, user="ann")
        first = await app.get(run.run_id)
        cut = whole.boundaries[moment % len(whole.boundaries)]
        put(app, await cut_off(whole, cut))
        history = await app.get(run.run_id)
        assert (await app.replay(run.run_id)).divergence is None
        if history.journal.terminal is None:
            resumed = await app.resume(run.run_id)
            assert resumed.status == "succeeded"
        report = await app.replay(run.run_id)
        assert report.divergence is None
        assert report.complete
        if "emit" not in str(
            plan
        ):  # What it emits is the order in which things happened, free after the cut.
            assert report.digest == first.digest
        assert diaries[-1] == diaries[-2]
        await app.aclose()
        await whole.aclose()

    asyncio.run(main())
