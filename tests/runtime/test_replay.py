"""A replay leads the code through its history: no model, no tool, nothing written; and it notices differences."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

import evrt
from evrt.effects.contract import ModelRequest
from evrt.events.run import RunDiverged, RunWaiting
from evrt.testing import ScriptedModel
from runtime.logs import Ctx, cut_off, put, until, watch

touched: list[str] = []


@evrt.tool(effect="read")
async def look(number: int) -> int:
    touched.append("look")
    return number


@evrt.tool
async def pay(number: int) -> int:
    touched.append("pay")
    return number


def reply(request: ModelRequest) -> str:
    touched.append("model")
    return "Hello."


def compute() -> int:
    touched.append("step")
    return 1


async def everything(ctx: Ctx) -> list[Any]:
    """Every operation there is, a failure and a refused write among them."""
    ctx.log("begins")
    seen: list[Any] = [await ctx.call(look, 1), await ctx.call(pay, 2), await ctx.step("step", compute)]
    seen.append(await ctx.step("read", compute, effect="read"))
    seen.append((await ctx.model("Hello", model="m")).text)
    await ctx.memory.set("k", 1)
    seen.append(await ctx.memory.get("k"))
    seen.append(await ctx.memory.forget("k"))
    try:
        await ctx.memory.set("k", 2, if_version=99)
    except evrt.Conflict:
        seen.append("conflict")
    seen += [str(ctx.now()), str(ctx.uuid()), ctx.random()]
    await ctx.emit("e", 1)
    await ctx.say("s")
    await ctx.report_error("r")
    await ctx.checkpoint("c")
    seen += await ctx.gather(ctx.call(look, 3), ctx.call(pay, 4))
    seen.append(await ctx.ask("Well?"))
    return seen


async def test_a_replay_touches_nothing_and_writes_nothing(url: str) -> None:
    async with evrt.App(url, models={"m": ScriptedModel(reply)}) as app:
        flow = app.workflow(everything)
        run = await app.run(flow, user="ann")
        await app.answer(run.run_id, "yes")
        run = await app.resume(run.run_id)
        assert run.status == "succeeded"
        touched.clear()
        before = await (await app.log()).position()
        (await watch(app)).sealed = True
        report = await app.replay(run.run_id)
        assert report.ok
        assert report.complete
        assert report.recorded_output == report.replayed_output == run.output
        assert report.operations == 19
        assert report.digest == (await app.get(run.run_id)).digest
        assert touched == []
        assert await (await app.log()).position() == before


async def test_a_replay_needs_no_model_and_no_dependencies(url: str) -> None:
    async with evrt.App(url, models={"m": ScriptedModel(reply)}) as app:
        app.workflow(everything)
        run = await app.run("everything", user="ann")
        bare = put(evrt.App("memory://"), await app.log())
        bare.workflow(everything)
        assert (await bare.replay(run.run_id)).ok


async def test_at_every_event_a_replay_follows_as_far_as_the_history_goes(url: str) -> None:
    async with evrt.App(url, models={"m": ScriptedModel(reply)}) as app:
        app.workflow(everything)
        watched = await watch(app)
        run = await app.run("everything", user="ann")
        log = await app.log()
        touched.clear()
        for position in watched.boundaries:
            put(app, await cut_off(log, position))
            report = await app.replay(run.run_id)
            assert report.ok
            assert not report.complete
            assert report.divergence is None
        assert touched == []
        await log.aclose()


# Divergence. Each change is made to the code after it has run; then the history has something else.

Flow = Callable[[Ctx, str], Awaitable[Any]]


async def original(ctx: Ctx, variant: str) -> Any:
    first = await ctx.call(look, 1)
    await ctx.emit("progress", {"done": 1})
    second = await ctx.step("compute", compute)
    third = await ctx.call(look, 3)
    if variant == "waits":
        await ctx.ask("Go on?")
    return [first, second, third]


async def changed_argument(ctx: Ctx, variant: str) -> Any:
    await ctx.call(look, 2)


async def changed_kind(ctx: Ctx, variant: str) -> Any:
    await ctx.step("look", compute)


async def changed_note(ctx: Ctx, variant: str) -> Any:
    await ctx.call(look, 1)
    await ctx.emit("progress", {"done": 2})


async def missing_first(ctx: Ctx, variant: str) -> Any:
    await ctx.step("compute", compute)


async def missing_in_between(ctx: Ctx, variant: str) -> Any:
    await ctx.call(look, 1)
    await ctx.emit("progress", {"done": 1})
    await ctx.call(look, 3)


async def missing_note(ctx: Ctx, variant: str) -> Any:
    await ctx.call(look, 1)
    await ctx.step("compute", compute)
    await ctx.call(look, 3)
    if variant == "waits":
        await ctx.ask("Go on?")


async def missing_last(ctx: Ctx, variant: str) -> Any:
    await ctx.call(look, 1)
    await ctx.emit("progress", {"done": 1})
    await ctx.step("compute", compute)


async def extra_call(ctx: Ctx, variant: str) -> Any:
    await ctx.call(pay, 9)
    return await original(ctx, variant)


async def extra_step(ctx: Ctx, variant: str) -> Any:
    await ctx.step("new", compute)
    return await original(ctx, variant)


async def extra_clock(ctx: Ctx, variant: str) -> Any:
    await ctx.call(look, 1)
    ctx.now()
    await ctx.emit("progress", {"done": 1})
    await ctx.step("compute", compute)


async def extra_note(ctx: Ctx, variant: str) -> Any:
    await ctx.say("Something new")
    return await original(ctx, variant)


async def extra_memory(ctx: Ctx, variant: str) -> Any:
    await ctx.memory.set("k", 1)
    return await original(ctx, variant)


async def extra_branch(ctx: Ctx, variant: str) -> Any:
    await ctx.gather(original(ctx, variant), ctx.call(look, 1))


async def other_order(ctx: Ctx, variant: str) -> Any:
    await ctx.step("compute", compute)
    await ctx.emit("progress", {"done": 1})
    await ctx.call(look, 1)


async def raises_early(ctx: Ctx, variant: str) -> Any:
    await ctx.call(look, 1)
    raise AttributeError("a bad deploy")


CHANGES: list[Flow] = [
    changed_argument,
    changed_kind,
    changed_note,
    missing_first,
    missing_in_between,
    missing_note,
    missing_last,
    extra_call,
    extra_step,
    extra_clock,
    extra_note,
    extra_memory,
    extra_branch,
    other_order,
    raises_early,
]


def switching(app: evrt.App) -> list[Flow]:
    """A workflow whose code can be exchanged, as a deploy does."""
    code: list[Flow] = [original]

    @app.workflow
    async def flow(ctx: Ctx, variant: str) -> Any:
        return await code[0](ctx, variant)

    return code


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
@pytest.mark.parametrize("variant", ["ends", "waits"])
async def test_a_replay_tells_where_changed_code_leaves_its_history(change: Flow, variant: str) -> None:
    async with evrt.App("memory://") as app:
        code = switching(app)
        run = await app.run("flow", variant, user="ann")
        code[0] = change
        touched.clear()
        report = await app.replay(run.run_id)
        assert not report.ok
        assert not report.complete
        assert report.divergence is not None
        assert report.divergence.operation
        assert report.divergence.position is not None
        assert str(report.divergence).startswith(f"The code diverges from the history of {run.run_id} at ")
        assert "pay" not in touched


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
async def test_a_run_of_changed_code_is_parked_not_failed_and_goes_on_once_the_code_is_mended(
    url: str, change: Flow
) -> None:
    async with evrt.App(url) as app:
        code = switching(app)
        run = await app.run("flow", "waits", user="ann")
        await app.answer(run.run_id, "yes")
        code[0] = change
        touched.clear()
        parked = await app.resume(run.run_id)
        assert (parked.status, parked.reason) == ("waiting", "diverged")
        assert "pay" not in touched
        history = await app.get(run.run_id)
        diverged, waiting = (e.event for e in history.events[-2:])
        assert isinstance(diverged, RunDiverged)
        assert isinstance(waiting, RunWaiting)
        assert waiting.operations == (diverged.operation,)
        assert history.state.status == "waiting"
        code[0] = original
        mended = await app.resume(run.run_id)
        assert mended.output == [1, 1, 3]
        assert (await app.replay(run.run_id)).complete


async def other_output(ctx: Ctx, variant: str) -> Any:
    await original(ctx, variant)
    return "something else"


async def other_error(ctx: Ctx, variant: str) -> Any:
    await original(ctx, variant)
    raise ValueError("something else")


@pytest.mark.parametrize("change", [other_output, other_error], ids=lambda change: change.__name__)
async def test_another_end_is_a_difference_too(change: Flow) -> None:
    async with evrt.App("memory://") as app:
        code = switching(app)
        run = await app.run("flow", "ends")
        code[0] = change
        report = await app.replay(run.run_id)
        assert report.divergence is not None
        assert "comes to another end than its history" in str(report.divergence)
        assert "something else" in str(report.divergence)


async def test_a_failed_run_replays_to_the_same_failure() -> None:
    texts = ["the first"]
    async with evrt.App("memory://") as app:

        @app.workflow
        async def fails(ctx: Ctx) -> None:
            await ctx.call(look, 1)
            raise ValueError(texts[0])

        run = await app.run(fails)
        assert (await app.replay(run.run_id)).complete
        texts[0] = "another"
        assert not (await app.replay(run.run_id)).ok


async def test_code_that_goes_on_where_the_history_ended_diverges() -> None:
    more = [False]
    async with evrt.App("memory://") as app:

        @app.workflow
        async def grows(ctx: Ctx) -> None:
            await ctx.call(look, 1)
            if more[0]:
                await ctx.call(look, 2)

        run = await app.run(grows)
        more[0] = True
        report = await app.replay(run.run_id)
        assert report.divergence is not None
        assert report.divergence.operation == "look#2"
        assert "ends with run.succeeded (event 6)" in str(report.divergence)


async def test_a_divergence_in_a_branch_stops_the_others_without_a_trace(url: str) -> None:
    arguments = [1, 2, 3]
    async with evrt.App(url) as app:

        @app.workflow
        async def branches(ctx: Ctx) -> list[Any]:
            return await ctx.gather(*(ctx.call(look, argument) for argument in arguments))

        run = await app.run(branches)
        arguments[0] = 9
        report = await app.replay(run.run_id)
        assert report.divergence is not None
        assert report.divergence.operation == "gather#1:0/look#1"


async def test_replaying_a_run_that_is_under_way_follows_it_so_far(url: str) -> None:
    gate = asyncio.Event()

    @evrt.tool(effect="read")
    async def hold() -> None:
        await gate.wait()

    async with evrt.App(url) as app:

        @app.workflow
        async def held(ctx: Ctx) -> None:
            await ctx.call(look, 1)
            await ctx.call(hold)

        running = await app.start(held)
        await until(app, "tool_call.requested", 2)
        report = await app.replay(running.run_id)
        assert report.ok
        assert not report.complete
        gate.set()
        await running


async def test_there_is_no_replay_of_a_run_whose_events_were_erased(url: str) -> None:
    async with evrt.App(url) as app:
        code = switching(app)
        assert code == [original]
        run = await app.run("flow", "waits")
        history = await app.get(run.run_id)
        await (await app.log()).erase_payload(history.events[5].position)
        with pytest.raises(evrt.Conflict, match=r"1 of the events of run-\w+ have been erased"):
            await app.replay(run.run_id)
        with pytest.raises(evrt.Conflict, match="cannot be executed any more"):
            await app.resume(run.run_id)
