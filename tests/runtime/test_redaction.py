"""What must not be recorded is taken out before the code or the log sees it."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest

import evrt
from evrt.effects.contract import ModelRequest
from evrt.events import JsonValue
from evrt.testing import ScriptedModel, call
from runtime.logs import Ctx

CARD = "4111-1111-2222-3333"
MASKED = "****-****-****-****"
got_by_tool: list[str] = []
keys: list[str | None] = []


def mask(value: JsonValue) -> JsonValue:
    """Puts a star in the place of every digit of a card's number."""
    if isinstance(value, str):
        return re.sub(r"\d{4}(-\d{4}){3}", MASKED, value)
    if isinstance(value, dict):
        return {key: mask(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [mask(inner) for inner in value]
    return value


@evrt.tool(effect="read")
async def fetch(card: str) -> str:
    got_by_tool.append(card)
    return f"balance of {CARD}"


@evrt.tool(key=lambda card: f"pay-{card}")
async def pay(card: str, context: evrt.ToolContext[Any]) -> str:
    keys.append(context.idempotency_key)
    return "paid"


@evrt.tool(effect="read")
async def refuse(card: str) -> str:
    raise ValueError(f"card {card} is not known")


def raise_secret() -> None:
    raise ValueError(CARD)


async def everything(ctx: Ctx, card: str) -> list[Any]:
    """Puts the secret through every opening there is; gives what the code got to see."""
    assert ctx.input == card
    seen: list[Any] = [card, await ctx.call(fetch, CARD), await ctx.call(pay, CARD)]
    seen.append(await ctx.step("step", lambda given: f"{given} and {CARD}", CARD))
    for failing in (ctx.call(refuse, CARD), ctx.step("secret", raise_secret)):
        try:
            await failing
        except evrt.errors.OperationFailed as error:
            seen.append(error.message)
    await ctx.memory.set("card", CARD)
    seen.append(await ctx.memory.get("card"))
    await ctx.emit("event", {"card": [CARD]})
    await ctx.say(f"Your card is {CARD}.")
    await ctx.report_error(f"Bad card {CARD}", {"card": CARD})
    await ctx.checkpoint({"card": CARD})
    seen.append((await ctx.model(f"My card is {CARD}", model="m", note=CARD)).text)
    seen.append(await ctx.ask(f"Is {CARD} right?", options=[CARD, "no"]))
    return [*seen, CARD]


@pytest.fixture(autouse=True)
def _fresh() -> None:
    got_by_tool.clear()
    keys.clear()


def model() -> ScriptedModel:
    def reply(request: ModelRequest) -> str:
        assert CARD not in str(request)
        return f"Thanks for {CARD}"

    return ScriptedModel(reply)


async def test_tools_get_what_the_code_passes_and_log_and_code_see_it_masked(url: str) -> None:
    async with evrt.App(url, redact=mask, models={"m": model()}) as app:
        app.workflow(everything)
        run = await app.run("everything", CARD, user="ann")
        await app.answer(run.run_id, CARD)
        run = await app.resume(run.run_id)
        assert run.output == [
            MASKED,
            f"balance of {MASKED}",
            "paid",
            f"{MASKED} and {MASKED}",
            f"card {MASKED} is not known",
            MASKED,
            MASKED,
            f"Thanks for {MASKED}",
            MASKED,
            MASKED,
        ]
        assert got_by_tool == [CARD]
        assert keys == [f"pay-{CARD}"]
        assert (await app.replay(run.run_id)).complete


async def test_no_row_and_no_page_of_the_file_holds_the_secret(file_url: str) -> None:
    async with evrt.App(file_url, redact=mask, models={"m": model()}) as app:
        app.workflow(everything)

        @app.workflow
        async def fails(ctx: Ctx) -> None:
            raise ValueError(CARD)

        @evrt.tool
        async def doubtful() -> str:
            return "never asked"

        agent = app.agent("agent", model="agent-model", tools=[fetch, doubtful])
        app.models["agent-model"] = ScriptedModel(
            [call("fetch", card=CARD), call("nope", card=CARD), f"It is {CARD}."]
        )
        run = await app.run("everything", CARD, user="ann")
        await app.answer(run.run_id, f"No, {CARD} is")
        await app.resume(run.run_id)
        await app.run(fails)
        assert (await app.run(agent, CARD)).output == f"It is {MASKED}."
        log = await app.log()
        for row in await log.read():
            assert CARD.encode() not in (row.payload or b"") + row.meta
    path = Path(file_url.removeprefix("sqlite:///"))
    for file in path.parent.iterdir():
        assert CARD.encode() not in file.read_bytes(), file.name


async def test_settlements_are_masked_too(url: str) -> None:
    @evrt.tool(timeout=0.01)
    async def slow() -> str:
        await asyncio.Event().wait()
        return ""

    async with evrt.App(url, redact=mask) as app:

        @app.workflow
        async def two(ctx: Ctx) -> list[str]:
            seen = []
            for _ in range(2):
                try:
                    seen.append(await ctx.call(slow))
                except evrt.ToolFailed as error:
                    seen.append(error.message)
            return seen

        run = await app.run(two)
        await app.settle(run.run_id, result=f"paid with {CARD}")
        await app.resume(run.run_id)
        await app.settle(run.run_id, error=f"refused {CARD}")
        run = await app.resume(run.run_id)
        assert run.output == [f"paid with {MASKED}", f"refused {MASKED}"]
