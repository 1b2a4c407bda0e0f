"""Hooks: a run that is asked for in the append with which another ends, however that ends."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

import evrt
from evrt.events.run import TERMINAL, ClaimReason, RunRequested
from evrt.history import load_run
from evrt.limits import RunPolicy
from evrt.log.contract import PAYLOAD_BYTES_MAX
from evrt.log.envelopes import envelopes
from evrt.runtime.runner import Runner
from evrt.testing import ScriptedModel, call
from evrt.worker.worker import Worker, working
from runtime.logs import Ctx, cut_off, put, same_after_every_crash, until, watch, work_off

TOLD = ("run", "status", "output", "failure")


@evrt.tool(effect="read")
async def look() -> str:
    """Look around."""
    return "nothing"


def hooked(app: evrt.App) -> None:
    """Runs that end in every way, each with the same hook."""

    @app.workflow(timeout="1h")
    async def tidy(ctx: Ctx, run: str, status: str, output: Any, failure: Any) -> str:
        return str(await ctx.step("tidied", str, status))

    @app.workflow(on_end=tidy)
    async def fine(ctx: Ctx, number: int) -> int:
        return 2 * int(await ctx.step("number", int, number))

    @app.workflow(on_end="tidy")
    async def broken(ctx: Ctx) -> None:
        raise ValueError("no luck")

    @app.workflow(on_end="tidy", timeout=0.05)
    async def slow(ctx: Ctx) -> None:
        await asyncio.sleep(60)

    @app.workflow(on_end="tidy")
    async def asking(ctx: Ctx) -> str:
        return str(await ctx.ask("Well?"))

    app.models["wanderer"] = ScriptedModel(
        lambda request: (
            "I only looked."
            if request.messages[-1]["role"] == "user" and len(request.messages) > 1
            else call("look")
        )
    )
    app.agent("lost", model="wanderer", tools=[look], model_turns_max=1, policy=RunPolicy(on_end="tidy"))


async def hooks_of(app: evrt.App, run: str) -> list[str]:
    """The runs that were asked for because this one ended."""
    rows = envelopes(await (await app.log()).read(limit=10_000))
    return [
        envelope.stream
        for envelope in rows
        if isinstance(envelope.event, RunRequested)
        and envelope.event.target == "tidy"
        and isinstance(envelope.event.input, dict)
        and envelope.event.input["run"] == run
    ]


async def ends(app: evrt.App) -> None:
    """Wait until the runs of this process have ended, hooks included."""
    while app._running:
        await asyncio.wait(app._running)


async def told(app: evrt.App, run: str) -> tuple[Any, ...]:
    """What the one hook of a run was told, with how it ended itself."""
    [hook] = await hooks_of(app, run)
    history = await app.get(hook)
    assert history.journal.requested is not None
    given = history.journal.requested.input
    assert isinstance(given, dict)
    assert list(given) == list(TOLD)
    return (given["status"], given["output"], given["failure"], history.status)


@pytest.mark.parametrize(
    "target, input, status, output, failure",
    [
        ("fine", 4, "succeeded", 8, None),
        ("broken", None, "failed", None, {"error_type": "ValueError", "message": "no luck"}),
        ("slow", None, "timed_out", None, {"error_type": "timeout", "message": "It took longer than its time-out of 0.05 s."}),
        ("lost", "Go", "step_limit", "I only looked.", {"error_type": "step_limit", "message": "It used up its 1 model turns without an answer."}),
    ],
)  # fmt: skip
async def test_a_hook_is_told_how_a_run_ended(
    url: str, target: str, input: object, status: str, output: object, failure: object
) -> None:
    async with evrt.App(url) as app:
        hooked(app)
        result = await app.run(target, input)
        assert result.status == status
        await ends(app)
        assert await told(app, result.run_id) == (status, output, failure, "succeeded")


async def test_end_and_request_of_the_hook_are_one_append(url: str) -> None:
    async with evrt.App(url) as app:
        hooked(app)
        watched = await watch(app)
        run = (await app.run("fine", 1)).run_id
        [append] = [request for request in watched.appends if any(d.type in TERMINAL and d.stream == run for d in request.drafts)]  # fmt: skip
        assert watched.types_of(append)[-2:] == ["run.succeeded", "run.requested"]
        await ends(app)
        history = await app.get((await hooks_of(app, run))[0])
        assert history.events[0].correlation == run
        assert (history.events[0].meta["root"], history.events[0].meta["parent"]) == (run, run)
        assert history.journal.requested is not None
        assert history.journal.requested.timeout_seconds == 3_600


async def test_a_hook_has_no_hook(url: str) -> None:
    async with evrt.App(url) as app:

        @app.workflow(on_end="tidy")
        async def tidy(ctx: Ctx, run: str, status: str, output: Any, failure: Any) -> str:
            return status

        first = await app.run("tidy", {"run": "r", "status": "s", "output": None, "failure": None})
        await ends(app)
        [hook] = await hooks_of(app, first.run_id)
        assert await hooks_of(app, hook) == []
        assert len(await (await app.log()).streams("run-")) == 2


async def test_a_hook_that_fails_changes_nothing_of_the_run(url: str) -> None:
    async with evrt.App(url) as app:

        @app.workflow
        async def tidy(ctx: Ctx, told: dict[str, Any]) -> None:
            raise ValueError("cannot tidy")

        @app.workflow(on_end=tidy)
        async def fine(ctx: Ctx) -> str:
            return "fine"

        result = await app.run("fine")
        await ends(app)
        assert (await app.get(result.run_id)).status == result.status == "succeeded"
        assert (await told(app, result.run_id))[3] == "failed"


async def test_after_a_crash_anywhere_there_is_one_hook_for_each_end(url: str) -> None:
    async with evrt.App(url) as app:
        hooked(app)
        watched = await watch(app)
        run = (await app.run("fine", 4)).run_id
        await ends(app)
        boundaries = watched.boundaries
        await same_after_every_crash(app, watched, run)
        log = await app.log()
        assert len(boundaries) >= 4
        for position in boundaries:
            put(app, await cut_off(log, position))
            if await (await app.log()).streams(run):
                await work_off(app)
                await ends(app)
                assert (await told(app, run))[0] == "succeeded"
                assert (await told(app, run))[3] == "succeeded"
        put(app, log)


async def test_a_replay_asks_for_no_hook(url: str) -> None:
    async with evrt.App(url) as app:
        hooked(app)
        run = (await app.run("broken")).run_id
        await ends(app)
        report = await app.replay(run)
        assert report.complete, report.divergence
        assert len(await hooks_of(app, run)) == 1


async def test_a_hook_is_told_of_an_output_that_is_too_large_for_its_input(url: str) -> None:
    async with evrt.App(url) as app:

        @app.workflow
        async def tidy(ctx: Ctx, run: str, status: str, output: Any, failure: Any) -> str:
            return f"{status} {output}"

        @app.workflow(on_end=tidy)
        async def long(ctx: Ctx) -> str:
            return "x" * (PAYLOAD_BYTES_MAX - 100)

        result = await app.run("long")
        await ends(app)
        assert result.status == "succeeded"
        assert await told(app, result.run_id) == ("succeeded", None, None, "succeeded")


async def test_what_a_hook_is_told_is_no_message_of_the_conversation(url: str) -> None:
    async with evrt.App(url) as app:
        hooked(app)
        result = await app.run("fine", 4, conversation="c1", user="ann")
        await ends(app)
        [hook] = await hooks_of(app, result.run_id)
        history = await app.get(hook)
        assert history.events[0].correlation == result.run_id
        assert history.state.user == (await app.get(result.run_id)).state.user
        assert [m["content"] for m in await app.message_history("c1") if isinstance(m, dict)] == ["4"]


async def test_an_on_end_that_names_no_workflow_is_refused_before_anything_is_recorded() -> None:
    async with evrt.App("memory://") as app:
        app.agent("helper", model="m")

        @app.workflow(on_end="tidi")
        async def fine(ctx: Ctx) -> None: ...

        @app.workflow(on_end="helper")
        async def worse(ctx: Ctx) -> None: ...

        @app.workflow
        async def parent(ctx: Ctx) -> None:
            await ctx.child("fine")

        with pytest.raises(evrt.UsageError, match="fine cannot be run: its on_end names 'tidi'"):
            await app.run("fine")
        with pytest.raises(evrt.UsageError, match="which is an agent"):
            await app.enqueue("worse")
        assert await (await app.log()).position() == 0
        assert (await app.run("parent")).status == "failed"


# ------------------------------------------------------------------------------------ with workers


async def test_a_run_that_is_cancelled_from_outside_has_its_hook(url: str) -> None:
    async with evrt.App(url) as app:
        hooked(app)
        waiting = await app.run("asking")
        await app.cancel(waiting.run_id, reason="no longer needed")
        async with working(Worker(app)):
            await until(app, "run.succeeded")
        failure = {"error_type": "cancelled", "message": "no longer needed"}
        assert await told(app, waiting.run_id) == ("cancelled", None, failure, "succeeded")


async def test_a_run_that_its_worker_cancels_has_its_hook(url: str) -> None:
    async with evrt.App(url) as app:
        hooked(app)
        begun = asyncio.Event()

        @app.workflow(on_end="tidy")
        async def endless(ctx: Ctx) -> None:
            begun.set()
            while True:
                await ctx.step("pause", asyncio.sleep, 0.01)

        async with working(Worker(app)):
            queued = await app.enqueue("endless")
            await begun.wait()
            await app.cancel(queued.run_id)
            assert (await queued.result()).status == "cancelled"
            await until(app, "run.succeeded")
        assert (await told(app, queued.run_id))[::3] == ("cancelled", "succeeded")


async def test_a_run_whose_workers_are_lost_again_and_again_has_its_hook(url: str) -> None:
    async with evrt.App(url) as app:
        hooked(app)
        queued = await app.enqueue("broken")
        log = await app.log()
        reasons: tuple[ClaimReason, ...] = ("start", "takeover", "takeover")
        for reason in reasons:  # Each claims, and is never heard of again.
            journal = (await load_run(log, queued.run_id)).journal
            assert journal.requested is not None
            runner = Runner(app.make_world(log), app.target("broken"), journal, requested=journal.requested)
            writer, first = runner._claim(reason)
            writer.record(*first)
            await writer.barrier()
        async with working(Worker(app)):
            result = await queued.result()
            await until(app, "run.succeeded")
        assert result.failure is not None
        assert result.failure.error_type == "worker_lost"
        assert (await told(app, queued.run_id))[::3] == ("failed", "succeeded")


async def test_a_hook_is_executed_once_where_workers_are_there_too(
    url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with evrt.App(url) as app:
        hooked(app)
        with caplog.at_level(logging.WARNING):
            async with working(Worker(app)):
                runs = [(await app.run("fine", number)).run_id for number in range(5)]
                await ends(app)
                await until(app, "run.succeeded", 10)
        for run in runs:
            [hook] = await hooks_of(app, run)
            history = await app.get(hook)
            assert history.status == "succeeded"
            assert history.journal.epoch == 1
    assert caplog.text == ""
