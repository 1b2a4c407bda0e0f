"""Nothing happens in the world before the log knows that it was about to."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import suppress
from typing import Any

import orjson

import evrt
from evrt.log import Append, Appended
from evrt.log.contract import Landing
from evrt.testing import ScriptedModel, call
from runtime.logs import Ctx, Watched, until, watch


def recorded(path: str) -> list[tuple[str, dict[str, Any]]]:
    """Types and payloads in the file, as a connection that knows nothing of evrt finds them now."""
    with sqlite3.connect(path) as connection:
        tables = [
            name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        ]
        assert "events" in tables
        rows = connection.execute("SELECT type, payload FROM events ORDER BY position").fetchall()
    connection.close()
    return [(str(type_), orjson.loads(payload)) for type_, payload in rows]


async def test_a_tool_starts_only_when_its_intent_is_in_the_file(file_url: str) -> None:
    path = file_url.removeprefix("sqlite:///")
    found: list[Any] = []

    @evrt.tool
    async def pay(amount: int) -> int:
        found.append(recorded(path)[-1])
        return amount

    @evrt.tool(effect="read")
    def look(number: int) -> int:
        found.append(recorded(path)[-1])
        return number

    async with evrt.App(file_url) as app:

        @app.workflow
        async def works(ctx: Ctx) -> None:
            for number in range(3):
                await ctx.step("pure", lambda n: n, number)
                await ctx.call(pay, number)
                await ctx.call(look, number)

        assert (await app.run(works)).status == "succeeded"
    seen = [(type_, payload["operation"], payload["arguments"]) for type_, payload in found]
    assert seen == [
        ("tool_call.requested", f"{name}#{number + 1}", {argument: number})
        for number in range(3)
        for name, argument in (("pay", "amount"), ("look", "number"))
    ]


async def test_a_reading_step_and_a_model_start_only_when_their_intent_is_in_the_file(file_url: str) -> None:
    path = file_url.removeprefix("sqlite:///")
    found: list[tuple[str, str]] = []

    def last() -> tuple[str, str]:
        type_, payload = recorded(path)[-1]
        found.append((type_, payload["operation"]))
        return found[-1]

    model = ScriptedModel(lambda request: " ".join(last()))
    async with evrt.App(file_url, models={"m": model}) as app:

        @app.workflow
        async def works(ctx: Ctx) -> None:
            await ctx.step("read", last, effect="read")
            await ctx.model("Hello", model="m")

        assert (await app.run(works)).status == "succeeded"
    assert found == [("step.started", "read#1"), ("model_call.requested", "model#1")]


@evrt.tool(effect="read")
async def look(number: int) -> int:
    return number


async def test_k_calls_one_after_another_make_k_and_one_appends(url: str) -> None:
    async with evrt.App(url) as app:

        @app.workflow
        async def sequence(ctx: Ctx, count: int) -> None:
            for number in range(count):
                await ctx.call(look, number)

        await app.run(sequence, 0)
        watched = await watch(app)
        await app.run(sequence, 4)
        assert watched.types == [
            ["run.requested", "run.claimed", "run.started", "tool_call.requested"],
            ["tool_call.completed", "tool_call.requested"],
            ["tool_call.completed", "tool_call.requested"],
            ["tool_call.completed", "tool_call.requested"],
            ["tool_call.completed", "run.succeeded"],
        ]


async def test_what_needs_no_intent_rides_with_the_next_append(url: str) -> None:
    async with evrt.App(url) as app:

        @app.workflow
        async def mixed(ctx: Ctx) -> None:
            ctx.now()
            await ctx.emit("a")
            await ctx.call(look, 1)
            ctx.random()
            await ctx.checkpoint("b")
            await ctx.call(look, 2)

        await app.run(mixed)
        watched = await watch(app)
        await app.run(mixed)
        assert [len(types) for types in watched.types] == [6, 4, 2]


async def test_an_agent_turn_with_one_tool_call_makes_two_appends(url: str) -> None:
    def script(request: Any) -> Any:
        return call("look", number=len(request.messages)) if len(request.messages) < 6 else "done"

    async with evrt.App(url, models={"m": ScriptedModel(script)}) as app:
        agent = app.agent("agent", model="m", tools=[look])
        watched = await watch(app)
        assert (await app.run(agent, "Go")).output == "done"
        assert watched.types[1:] == [
            ["model_call.completed", "tool_call.requested"],
            ["tool_call.completed", "model_call.requested"],
            ["model_call.completed", "tool_call.requested"],
            ["tool_call.completed", "model_call.requested"],
            ["model_call.completed", "tool_call.requested"],
            ["tool_call.completed", "model_call.requested"],
            ["model_call.completed", "run.succeeded"],
        ]


async def test_a_resume_claims_durably_before_any_code_runs(url: str) -> None:
    seen: list[int] = []
    async with evrt.App(url) as app:

        @app.workflow
        async def asks(ctx: Ctx) -> Any:
            seen.append(len((await app.get(ctx.run_id)).events) if ctx.replaying else 0)
            return await ctx.ask("Go on?")

        run = await app.run(asks)
        await app.answer(run.run_id, "yes")
        before = len((await app.get(run.run_id)).events)
        assert (await app.resume(run.run_id)).output == "yes"
        assert seen[-1] in (0, before + 1)


async def test_the_result_is_durable_when_the_caller_gets_it(file_url: str) -> None:
    path = file_url.removeprefix("sqlite:///")
    async with evrt.App(file_url) as app:

        @app.workflow
        async def quick(ctx: Ctx) -> str:
            return "done"

        running = await app.start(quick)
        assert (await running).output == "done"
        assert recorded(path)[-1] == ("run.succeeded", {"output": "done"})


async def test_runs_of_one_app_share_their_appends_but_never_wait_for_each_other(url: str) -> None:
    slow = asyncio.Event()

    @evrt.tool(effect="read")
    async def hold() -> None:
        await slow.wait()

    async with evrt.App(url) as app:

        @app.workflow
        async def held(ctx: Ctx) -> None:
            await ctx.call(hold)

        @app.workflow
        async def quick(ctx: Ctx) -> None:
            await ctx.call(look, 1)

        waiting = await app.start(held)
        assert (await app.run(quick)).status == "succeeded"
        slow.set()
        assert (await waiting).status == "succeeded"


class Late(Watched):
    """Answers every append a while after it was written."""

    def append(self, request: Append) -> Landing[Appended]:
        written = super().append(request)
        answer: Landing[Appended] = Landing()
        loop = asyncio.get_running_loop()
        written.add_done_callback(
            lambda _: loop.call_later(0.05, lambda: answer.set_result(written.result()))
        )
        return answer


async def test_what_follows_a_call_that_was_cut_off_while_its_intent_was_written_is_written_too(
    url: str,
) -> None:
    """Nobody waits for the log any more, and still the next append has to go out."""

    @evrt.tool(effect="read")
    async def look() -> None: ...

    async with evrt.App(url) as app:
        late = Late(await app.log())
        app._log = late

        @app.workflow
        async def impatient(ctx: Ctx) -> None:
            with suppress(TimeoutError):
                async with asyncio.timeout(0.01):
                    await ctx.call(look)
            await ctx.emit("given up")
            await until(app, "run.emitted")

        assert (await app.run(impatient)).status == "succeeded"
        assert late.types == [
            ["run.requested", "run.claimed", "run.started", "tool_call.requested"],
            ["tool_call.failed", "run.emitted"],
            ["run.succeeded"],
        ]
