"""What text and sizes can be recorded, and that what cannot is refused clearly and loses nothing."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

import evrt
from evrt.errors import PayloadTooLarge
from evrt.log import PAYLOAD_BYTES_MAX
from evrt.testing import ScriptedModel, call
from runtime.logs import Ctx

TEXTS = {
    "empty": "",
    "astral": "🌡 72 °F, naïve, 漢字, \U0001f469‍\U0001f4bb",
    "nul": "before\x00after",
    "controls": "\x01\x1f\x7f\u0085\u2028\ufeff",
    "right to left": "\u202eabc\u202c",
    "json in text": '{"a": "\\ud83d"}',
}
LONE = "half a pair: \ud83d"
OVER = "x" * PAYLOAD_BYTES_MAX


@evrt.tool(effect="read")
async def echo(text: str) -> str:
    return text


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
async def test_text_of_any_script_comes_back_as_it_was(url: str, text: str) -> None:
    model = ScriptedModel(lambda request: str(request.messages[-1]["content"]))
    async with evrt.App(url, models={"m": model}) as app:

        @app.workflow
        async def through(ctx: Ctx, given: str) -> list[Any]:
            await ctx.memory.set("k", given)
            await ctx.emit("e", {given: given})
            await ctx.checkpoint(given)
            return [
                given,
                await ctx.call(echo, given),
                await ctx.step("echo", lambda: given),
                (await ctx.model(given, model="m")).text,
                await ctx.memory.get("k"),
                await ctx.ask("?"),
            ]

        run = await app.run(through, text, user="ann")
        said = text or "An empty text would be no answer."
        await app.answer(run.run_id, said)
        run = await app.resume(run.run_id)
        assert run.output == [*[text] * 5, said]
        assert (await app.replay(run.run_id)).complete
        assert (await app.get(run.run_id)).state.input == text


async def test_half_a_surrogate_pair_is_refused_wherever_it_comes_from(url: str) -> None:
    """No UTF-8 can hold it. It comes from file names, and from text cut in the middle."""

    @evrt.tool(effect="read")
    async def gives() -> str:
        return LONE

    @evrt.tool(effect="read")
    async def raises() -> str:
        raise FileNotFoundError(LONE)

    async with evrt.App(url) as app:

        @app.workflow
        async def tries(ctx: Ctx) -> list[str]:
            texts = []
            works: dict[str, Callable[[], Awaitable[Any]]] = {
                "call": lambda: ctx.call(echo, LONE),
                "result": lambda: ctx.call(gives),
                "error": lambda: ctx.call(raises),
                "step result": lambda: ctx.step("s", lambda: LONE),
                "emit": lambda: ctx.emit("e", LONE),
                "emit name": lambda: ctx.emit(LONE),
                "say": lambda: ctx.say(LONE),
                "checkpoint": lambda: ctx.checkpoint(LONE),
                "ask": lambda: ctx.ask(LONE),
                "memory": lambda: ctx.memory.set("k", LONE),
                "model": lambda: ctx.model(LONE, model="m"),
            }
            for name, work in works.items():
                try:
                    await work()
                except (evrt.InvalidInput, evrt.errors.OperationFailed) as error:
                    texts.append(name)
                    str(error).encode()
            return texts

        run = await app.run(tries, user="ann")
        assert run.output == [
            "call",
            "result",
            "error",
            "step result",
            "emit",
            "emit name",
            "say",
            "checkpoint",
            "ask",
            "memory",
            "model",
        ]
        assert (await app.replay(run.run_id)).complete
        with pytest.raises(evrt.InvalidInput, match="cannot be recorded as JSON"):
            await app.run(tries, LONE)


@pytest.mark.parametrize("text", [LONE, "x" * 3_000_000], ids=["lone surrogate", "very long"])
async def test_an_error_s_text_never_keeps_a_failure_from_being_recorded(url: str, text: str) -> None:
    @evrt.tool
    async def raises() -> str:
        raise ValueError(text)

    async with evrt.App(url) as app:

        @app.workflow
        async def fails(ctx: Ctx) -> None:
            try:
                await ctx.call(raises)
            except evrt.ToolFailed as error:
                raise RuntimeError(text) from error

        run = await app.run(fails)
        assert run.status == "failed"
        assert run.failure is not None
        assert run.failure.error_type == "RuntimeError"
        assert 10 < len(run.failure.message) <= 10_001
        assert (await app.get(run.run_id)).status == "failed"
        assert (await app.replay(run.run_id)).complete


def result_of(size: int) -> str:
    """A result that makes the event of its tool call ``size`` bytes, give or take the digits of a latency."""
    return "x" * (
        size - len('{"operation":"give#1","result":"","attempt":1,"final":true,"latency_ms":0.123}')
    )


@pytest.mark.parametrize("spare", [0, 100], ids=["under the limit", "well under"])
async def test_a_result_up_to_the_limit_is_recorded(url: str, spare: int) -> None:
    @evrt.tool(effect="read")
    async def give() -> str:
        return result_of(PAYLOAD_BYTES_MAX - spare)

    async with evrt.App(url) as app:

        @app.workflow
        async def takes(ctx: Ctx) -> int:
            return len(await ctx.call(give))

        run = await app.run(takes)
        assert run.output == len(result_of(PAYLOAD_BYTES_MAX - spare))
        assert (await app.replay(run.run_id)).complete


async def test_an_input_of_exactly_the_limit_is_taken_and_one_byte_more_leaves_nothing(url: str) -> None:
    async with evrt.App(url) as app:

        @app.workflow
        async def measures(ctx: Ctx, text: str) -> int:
            return len(text)

        first = await app.run(measures, "", conversation="c")
        log = await app.log()
        empty = (await log.read_stream(first.run_id))[0].payload_length
        exactly = "x" * (PAYLOAD_BYTES_MAX - empty)
        run = await app.run(measures, exactly, conversation="c")
        assert run.output == len(exactly)
        assert (await log.read_stream(run.run_id))[0].payload_length == PAYLOAD_BYTES_MAX
        before = await log.position()
        with pytest.raises(PayloadTooLarge, match="over the limit of 1,048,576 bytes"):
            await app.run(measures, exactly + "x", conversation="new")
        assert await log.position() == before


async def test_what_is_over_the_limit_is_an_error_that_the_code_can_handle(url: str) -> None:
    @evrt.tool(effect="read")
    async def give() -> str:
        return OVER

    @evrt.tool
    async def write(text: str) -> str:
        return "written"

    async with evrt.App(url, models={"m": ScriptedModel(lambda request: OVER)}) as app:

        @app.workflow
        async def tries(ctx: Ctx) -> list[str]:
            texts = []
            works: dict[str, Callable[[], Awaitable[Any]]] = {
                "argument": lambda: ctx.call(write, OVER),
                "result": lambda: ctx.call(give),
                "step result": lambda: ctx.step("s", lambda: OVER),
                "checkpoint": lambda: ctx.checkpoint(OVER),
                "emit": lambda: ctx.emit("e", OVER),
                "say": lambda: ctx.say(OVER),
                "report": lambda: ctx.report_error("r", OVER),
                "question": lambda: ctx.ask(OVER),
                "reply": lambda: ctx.model("Hello", model="m"),
            }
            for name, work in works.items():
                try:
                    await work()
                except (evrt.InvalidInput, evrt.errors.OperationFailed) as error:
                    texts.append(name if "over the limit" in str(error) else str(error))
            await ctx.call(echo, "and on it goes")
            return texts

        run = await app.run(tries)
        assert run.output == [
            "argument",
            "result",
            "step result",
            "checkpoint",
            "emit",
            "say",
            "report",
            "question",
            "reply",
        ]
        assert (await app.replay(run.run_id)).complete


async def test_an_output_over_the_limit_fails_the_run_and_keeps_its_history(url: str) -> None:
    async with evrt.App(url) as app:

        @app.workflow
        async def boasts(ctx: Ctx) -> str:
            await ctx.call(echo, "done")
            return OVER

        run = await app.run(boasts)
        assert run.status == "failed"
        assert run.failure is not None
        assert run.failure.error_type == "PayloadTooLarge"
        assert "return a reference" in run.failure.message
        assert (await app.get(run.run_id)).journal.operations["echo#1"].outcome is not None
        assert (await app.replay(run.run_id)).complete


async def test_an_answer_over_the_limit_is_refused_and_the_question_stays_open(url: str) -> None:
    async with evrt.App(url) as app:

        @app.workflow
        async def asks(ctx: Ctx) -> Any:
            return await ctx.ask("?")

        run = await app.run(asks)
        with pytest.raises(PayloadTooLarge):
            await app.answer(run.run_id, OVER)
        await app.answer(run.run_id, "short")
        assert (await app.resume(run.run_id)).output == "short"


NOT_JSON = {"a big number": 2**64, "an object": object(), "bytes": b"\xff", "a cycle": []}
NOT_JSON["a cycle"].append(NOT_JSON["a cycle"])  # type: ignore[attr-defined]


@pytest.mark.parametrize("value", NOT_JSON.values(), ids=NOT_JSON)
async def test_what_is_not_json_is_refused_clearly(url: str, value: Any) -> None:
    @evrt.tool(effect="read")
    async def give() -> Any:
        return value

    async with evrt.App(url) as app:

        @app.workflow
        async def tries(ctx: Ctx) -> list[str]:
            texts = []
            for work in (
                ctx.call(give),
                ctx.step("s", lambda: value),
                ctx.emit("e", value),
                ctx.memory.set("k", value),
            ):
                try:
                    await work
                except (evrt.InvalidInput, evrt.errors.OperationFailed) as error:
                    texts.append(str(error))
            return texts

        run = await app.run(tries, user="ann")
        assert len(run.output) == 4
        assert all("cannot be recorded" in text for text in run.output)
        assert (await app.replay(run.run_id)).complete


async def test_bytes_that_a_tool_declares_but_that_are_no_text_are_a_failure(url: str) -> None:
    @evrt.tool(effect="read")
    async def give() -> bytes:
        return b"\xff"

    async with evrt.App(url, models={"m": ScriptedModel([call("give"), "I see."])}) as app:
        agent = app.agent("agent", model="m", tools=[give])
        run = await app.run(agent, "Go")
        assert run.output == "I see."
        assert "cannot be recorded" in str((await app.get(run.run_id)).messages)


async def test_not_a_number_becomes_null_and_counts_as_such_everywhere() -> None:
    async with evrt.App("memory://") as app:

        @app.workflow
        async def odd(ctx: Ctx) -> Any:
            return await ctx.step("nan", lambda: [float("nan"), float("inf"), 1.5])

        run = await app.run(odd)
        assert run.output == [None, None, 1.5]
        assert (await app.replay(run.run_id)).complete
