"""A run that fails with the error of an operation is attempted again, and only that operation is made again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

import evrt
from evrt.events.run import RunClaimed, RunFailed, RunRetryScheduled
from evrt.folds.run import fold_run
from evrt.retry import NO_RETRY, RUN_RETRY
from evrt.testing import ScriptedModel
from runtime.logs import Ctx, cut_off, put, until, watch

SOON = evrt.Retry(3, base_seconds=0.0)


@dataclass
class Weather:
    """How often each call still fails, and which calls were made."""

    fails: dict[str, int] = field(default_factory=dict)
    made: list[str] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    attempts: list[int] = field(default_factory=list)

    def call(self, name: str) -> str:
        self.made.append(name)
        left = self.fails.get(name, 0)
        if left:
            self.fails[name] = left - 1
            raise ConnectionError(f"{name} is down")
        return f"{name} is up"


@evrt.tool(effect="read")
async def read(name: str, context: evrt.ToolContext[Weather]) -> str:
    context.deps.attempts.append(context.attempt)
    return context.deps.call(name)


@evrt.tool(effect="read", retry=evrt.Retry(2, base_seconds=0.0))
async def patient(name: str, context: evrt.ToolContext[Weather]) -> str:
    context.deps.attempts.append(context.attempt)
    return context.deps.call(name)


@evrt.tool
async def keyed(name: str, idempotency_key: str, context: evrt.ToolContext[Weather]) -> str:
    context.deps.keys.append(idempotency_key)
    return context.deps.call(name)


@evrt.tool
async def unkeyed(name: str, context: evrt.ToolContext[Weather]) -> str:
    return context.deps.call(name)


@evrt.tool(effect="read")
async def hopeless(name: str, context: evrt.ToolContext[Weather]) -> str:
    context.deps.made.append(name)
    error = PermissionError(f"not for {name}")
    error.retriable = False  # type: ignore[attr-defined]  # What it is about: any exception may say so.
    raise error


Flow = Callable[[Ctx], Awaitable[Any]]


def running(url: str, flow: Flow, *, retry: evrt.Retry = SOON, **fails: int) -> evrt.App:
    app = evrt.App(url, deps=Weather(fails))
    app.workflow(name="flow", retry=retry)(flow)
    return app


async def retries(app: evrt.App, run: str) -> list[tuple[str, int]]:
    """Which operation each retry reopened, and after how many failed attempts."""
    found = [e.event for e in (await app.get(run)).events if isinstance(e.event, RunRetryScheduled)]
    return [(event.reopens, event.attempt) for event in found]


async def three(ctx: Ctx) -> list[Any]:
    return [await ctx.call(read, "a"), await ctx.call(read, "b"), await ctx.call(keyed, "c")]


async def test_only_the_operation_whose_error_escaped_is_made_again(url: str) -> None:
    async with running(url, three, b=2) as app:
        run = await app.run("flow")
        assert run.output == ["a is up", "b is up", "c is up"]
        assert app.deps.made == ["a", "b", "b", "b", "c"]
        assert await retries(app, run.run_id) == [("read#2", 1), ("read#2", 2)]
        claims = [e.event for e in (await app.get(run.run_id)).events if isinstance(e.event, RunClaimed)]
        assert [(claim.epoch, claim.reason) for claim in claims] == [(1, "start"), (2, "retry"), (3, "retry")]
        assert (await app.replay(run.run_id)).complete


async def test_after_the_last_attempt_the_run_has_failed(url: str) -> None:
    async with running(url, three, b=9) as app:
        run = await app.run("flow")
        assert run.status == "failed"
        assert app.deps.made == ["a", "b", "b", "b"]
        assert await retries(app, run.run_id) == [("read#2", 1), ("read#2", 2)]
        end = (await app.get(run.run_id)).events[-1].event
        assert isinstance(end, RunFailed)
        assert (end.operation, end.failure.message) == ("read#2", "read#2 failed: ConnectionError: b is down")
        assert (await app.replay(run.run_id)).complete


async def test_a_run_that_was_attempted_again_has_the_digest_of_one_that_was_not(url: str) -> None:
    async with running(url, three) as app:
        whole = (await app.get((await app.run("flow")).run_id)).digest
        app.deps.fails = {"a": 1, "b": 2, "c": 2}
        again = await app.get((await app.run("flow")).run_id)
        assert again.digest == whole


async def test_attempts_count_from_the_last_operation_that_came_to_a_result(url: str) -> None:
    """Each of the three may fail twice: that is six failed attempts in all, and never three in a row."""
    async with running(url, three, a=2, b=2, c=2) as app:
        run = await app.run("flow")
        assert run.status == "succeeded"
        assert [attempt for _, attempt in await retries(app, run.run_id)] == [1, 2] * 3
        assert len(set(app.deps.keys)) == 1


async def test_what_goes_on_beside_an_operation_that_fails_does_not_give_it_more_attempts(url: str) -> None:
    """Something that beats for as long as the work goes on comes to a result in every attempt."""

    @evrt.tool(effect="read")
    async def slow(name: str, context: evrt.ToolContext[Weather]) -> str:
        await asyncio.sleep(0.02)
        return context.deps.call(name)

    async def flow(ctx: Ctx) -> None:
        over = asyncio.Event()

        async def work() -> None:
            try:
                await ctx.call(slow, "a")
            finally:
                over.set()

        async def beat() -> None:
            while not over.is_set():
                await ctx.step("beat", asyncio.sleep, 0.002)

        await ctx.gather(work(), beat())

    async with running(url, flow, a=1_000) as app:
        run = await app.run("flow")
        assert run.status == "failed"
        # Fewer, where a beat began behind the failure: it might have been told of it.
        assert 1 <= len(app.deps.made) <= 3
        assert (await app.replay(run.run_id)).complete


async def test_every_attempt_has_the_tools_own_attempts(url: str) -> None:
    async def flow(ctx: Ctx) -> str:
        return str(await ctx.call(patient, "a"))

    async with running(url, flow, a=3) as app:
        run = await app.run("flow")
        assert run.output == "a is up"
        assert app.deps.attempts == [1, 2, 3, 4]
        assert await retries(app, run.run_id) == [("patient#1", 1)]
        assert (await app.replay(run.run_id)).complete


async def test_steps_and_model_calls_are_made_again_too(url: str) -> None:
    tries = {"pure": 0, "read": 0, "model": 0}

    def once(kind: str) -> str:
        tries[kind] += 1
        if tries[kind] == 1:
            raise ConnectionError(kind)
        return kind

    def reply(request: Any) -> Any:
        try:
            return once("model")
        except ConnectionError:
            return evrt.ModelError("overloaded", "Later.", retriable=True)

    async def flow(ctx: Ctx) -> list[Any]:
        pure = await ctx.step("pure", once, "pure")
        read = await ctx.step("read", once, "read", effect="read")
        return [pure, read, (await ctx.model("Hello", model="m", retry=NO_RETRY)).text]

    async with running(url, flow) as app:
        app.models["m"] = ScriptedModel(reply)
        run = await app.run("flow")
        assert run.output == ["pure", "read", "model"]
        assert tries == {"pure": 2, "read": 2, "model": 2}
        assert await retries(app, run.run_id) == [("pure#1", 1), ("read#1", 1), ("model#1", 1)]
        assert (await app.replay(run.run_id)).complete


async def test_branches_that_came_to_a_result_keep_it(url: str) -> None:
    async def flow(ctx: Ctx) -> list[Any]:
        return await ctx.gather(ctx.call(read, "a"), ctx.call(read, "b"), slow(ctx))

    async def slow(ctx: Ctx) -> Any:
        # With an intent, so that the history knows when it began.
        await ctx.step("slow", asyncio.sleep, 0.02, effect="read")
        return "slow"

    async with running(url, flow, a=1, b=1) as app:
        run = await app.run("flow")
        assert run.output == ["a is up", "b is up", "slow"]
        assert sorted(app.deps.made) == ["a", "a", "b", "b"]
        assert await retries(app, run.run_id) == [("gather#1:0/read#1", 1), ("gather#1:1/read#1", 1)]
        assert (await app.replay(run.run_id)).complete


async def test_a_run_whose_branches_may_have_told_each_other_of_a_failure_ends_with_it(url: str) -> None:
    """Made again, the call would wait for the past of a branch that waits for the call to fail."""

    async def flow(ctx: Ctx) -> None:
        failed = asyncio.Event()

        async def fails() -> None:
            try:
                await ctx.call(read, "a")
            finally:
                failed.set()

        async def goes_on_after_it() -> None:
            await failed.wait()
            await ctx.call(read, "b")

        await ctx.gather(fails(), goes_on_after_it())

    async with running(url, flow, a=1) as app:
        run = await app.run("flow")
        assert run.status == "failed"
        assert app.deps.made == ["a", "b"]
        assert (await app.replay(run.run_id)).complete


# What is not attempted again


async def acts(ctx: Ctx) -> None:
    try:
        await ctx.call(read, "a")
    except evrt.ToolFailed:
        await ctx.report_error("a is down")
        raise


async def loses_race(ctx: Ctx) -> None:
    await ctx.race(ctx.call(read, "a"), ctx.step("s", asyncio.sleep, 3600))


async def bug(ctx: Ctx) -> None:
    await ctx.call(read, "ok")
    raise KeyError("a bug")


NOT_AGAIN: dict[str, Flow] = {
    "a write without a key": lambda ctx: ctx.call(unkeyed, "a"),
    "an error that says so": lambda ctx: ctx.call(hopeless, "a"),
    "arguments that are wrong": lambda ctx: ctx.call(read, wrong=1),
    "a result that JSON cannot hold": lambda ctx: ctx.step("s", object),
    "an error that the code acted on": acts,
    "an error that decided a race": loses_race,
    "a bug of the code itself": bug,
}


@pytest.mark.parametrize("flow", NOT_AGAIN.values(), ids=NOT_AGAIN)
async def test_what_trying_again_cannot_mend_fails_at_once(url: str, flow: Flow) -> None:
    async def whole(ctx: Ctx) -> Any:
        return await flow(ctx)

    async with running(url, whole, a=1) as app:
        run = await app.run("flow")
        assert run.status == "failed"
        assert await retries(app, run.run_id) == []
        assert len(app.deps.made) <= 1
        assert (await app.replay(run.run_id)).complete


async def test_without_retry_a_run_has_one_attempt(url: str) -> None:
    async with running(url, three, retry=NO_RETRY, a=1) as app:
        run = await app.run("flow")
        assert run.status == "failed"
        assert app.deps.made == ["a"]


def test_a_run_has_three_attempts_unless_something_else_is_said() -> None:
    app = evrt.App("memory://")
    assert (
        app.workflow(three).retry == app.agent("helper").retry == RUN_RETRY == evrt.Retry(3, 1.0, 2.0, 300.0)
    )
    assert app.agent("once", retry=NO_RETRY).retry.attempts_max == 1


# Waiting for the next attempt


async def test_a_run_waits_for_its_next_attempt_and_any_process_can_go_on_with_it(url: str) -> None:
    async with running(url, three, retry=evrt.Retry(3, base_seconds=0.3, jitter=0.0), a=1) as app:
        running_ = await app.start("flow")
        await until(app, "run.retry_scheduled")
        state = (await app.get(running_.run_id)).state
        assert (state.status, state.reason, state.waiting_for) == ("waiting", "retry", ("read#1",))
        assert (await app.replay(running_.run_id)).ok
        other = put(evrt.App("memory://", deps=app.deps), await app.log())
        other.workflow(name="flow")(three)
        assert (await other.resume(running_.run_id)).status == "succeeded"
        with pytest.raises(evrt.Fenced, match="while it waited for its next attempt"):
            await running_
        assert app.deps.made == ["a", "a", "b", "c"]


async def test_the_wait_and_the_failure_are_recorded(url: str) -> None:
    async with running(url, three, retry=evrt.Retry(2, base_seconds=0.01, jitter=0.0), a=1) as app:
        run = await app.run("flow")
        history = await app.get(run.run_id)
        scheduled = next(e for e in history.events if isinstance(e.event, RunRetryScheduled))
        assert scheduled.event.model_dump() == {
            "reopens": "read#1",
            "attempt": 1,
            "delay_ms": 10.0,
            "failure": {"error_type": "ConnectionError", "message": "a is down"},
        }
        assert history.at(scheduled.version).state.reason == "retry"
        assert fold_run(run.run_id, history.events[: scheduled.version + 1]).status == "running"


async def test_each_attempt_has_the_runs_whole_time(url: str) -> None:
    async def flow(ctx: Ctx) -> str:
        await asyncio.sleep(0.15)
        return str(await ctx.call(read, "a"))

    app = evrt.App(url, deps=Weather({"a": 2}))
    async with app:
        app.workflow(name="flow", timeout=0.4, retry=SOON)(flow)
        assert (await app.run("flow")).output == "a is up"


@pytest.mark.parametrize("fails", [2, 9], ids=["succeeds", "fails"])
async def test_killed_at_any_boundary_a_run_makes_as_many_attempts(fails: int) -> None:
    async def flow(ctx: Ctx) -> list[Any]:
        return [await ctx.call(read, "a"), *await ctx.gather(ctx.call(read, "b"), ctx.call(read, "c"))]

    app = running("memory://", flow, b=fails)
    watched = await watch(app)
    run = await app.run("flow")
    whole = await app.get(run.run_id)
    log = await app.log()
    for position in watched.boundaries[:-1]:
        put(app, await cut_off(log, position))
        past = await app.get(run.run_id)
        failed = sum(e.type == "tool_call.failed" for e in past.events)
        app.deps.fails = {"b": fails - failed}
        assert (await app.replay(run.run_id)).ok
        resumed = await app.resume(run.run_id)
        assert (resumed.status, resumed.output) == (run.status, run.output)
        again = await app.get(run.run_id)
        assert again.digest == whole.digest
        assert await retries(app, run.run_id) == [("gather#1:0/read#1", 1), ("gather#1:0/read#1", 2)]
        assert (await app.replay(run.run_id)).complete
    await log.aclose()
