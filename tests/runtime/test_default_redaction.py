"""An app that says nothing of redaction keeps no secret that has a pattern, in any file, by any way in."""

from __future__ import annotations

from pathlib import Path

import evrt
from evrt.testing import ScriptedModel, call
from runtime.logs import Ctx

KEY = "sk-proj-4f9Zq2Lw8Xv6Bn1Mc3Td5Ry7Up0Ka"
PLACED = "[redacted api key]"
got: list[str] = []


@evrt.tool(effect="read")
async def fetch(key: str) -> dict[str, str]:
    got.append(key)
    return {"password": "correct horse", "text": f"Use {key}."}


@evrt.tool(effect="read")
async def refuse(key: str) -> str:
    raise ValueError(f"{key} is not valid")


async def everything(ctx: Ctx, given: str) -> list[object]:
    seen: list[object] = [given, await ctx.call(fetch, KEY)]
    try:
        await ctx.call(refuse, KEY)
    except evrt.ToolFailed as error:
        seen.append(error.message)
    seen.append(await ctx.step("step", lambda key: f"{key}!", KEY))
    await ctx.memory.set("key", KEY)
    await ctx.emit("key", {"key": [KEY]})
    await ctx.say(f"It is {KEY}.")
    await ctx.checkpoint({"key": KEY})
    seen.append((await ctx.model(f"Mind {KEY}", model="m")).text)
    seen.append(await ctx.ask(f"Is it {KEY}?"))
    return [*seen, KEY]


def scripted() -> dict[str, ScriptedModel]:
    return {
        "m": ScriptedModel(lambda request: f"I saw {request.messages[-1]['content']} and {KEY}"),
        "agent": ScriptedModel([call("fetch", key=KEY), call("nope", key=KEY), f"It is {KEY}."]),
    }


async def test_no_file_of_the_log_holds_it_and_the_run_resumes_and_replays(file_url: str) -> None:
    got.clear()
    async with evrt.App(file_url, models={**scripted()}) as app:
        app.workflow(everything)
        agent = app.agent("helper", model="agent", tools=[fetch])
        run = await app.run("everything", f"My key is {KEY}", user="ann")
        await app.answer(run.run_id, f"{KEY}, yes", by=KEY)
        run = await app.resume(run.run_id)
        assert run.output == [
            f"My key is {PLACED}",
            {"password": "[redacted password]", "text": f"Use {PLACED}."},
            f"{PLACED} is not valid",
            f"{PLACED}!",
            f"I saw Mind {PLACED} and {PLACED}",
            f"{PLACED}, yes",
            PLACED,
        ]
        assert got == [KEY]  # The tool itself is given what the code passed.
        assert (await app.replay(run.run_id)).complete
        assert (await app.run(agent, KEY)).output == f"It is {PLACED}."
    files = list(Path(file_url.removeprefix("sqlite:///")).parent.iterdir())
    assert len(files) >= 2
    for file in files:
        assert KEY.encode() not in file.read_bytes(), file.name


async def test_none_keeps_everything(url: str) -> None:
    async with evrt.App(url, redact=None) as app:

        @app.workflow
        async def echo(ctx: Ctx, text: str) -> str:
            return text

        assert (await app.run(echo, KEY)).output == KEY
