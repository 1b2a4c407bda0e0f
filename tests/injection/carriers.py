"""The ways by which text from outside can reach a prompt, each as what has to happen for it to do so."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeAlias

import evrt
from evrt.agents.knowledge import Knowledge
from injection.stage import NEWS, Part, Stage, raising, returning
from runtime.logs import Ctx

Carrier: TypeAlias = Callable[[Stage, str], Awaitable[evrt.Result]]
"""Brings a text to the assistant; gives the run that has read it."""

CARRIERS: dict[str, Carrier] = {}


def carrier(bring: Carrier) -> Carrier:
    CARRIERS[bring.__name__.replace("_", " ")] = bring
    return bring


# -------------------------------------------------------------------------------------------- memory


def _remembered(scope: str) -> Carrier:
    async def bring(stage: Stage, text: str) -> evrt.Result:
        who = stage.somebody()
        await stage.write(who, "notes.city", text, scope)
        return await stage.assist(who)

    return bring


CARRIERS["memory of the user"] = _remembered("user")
CARRIERS["memory of the conversation"] = _remembered("conversation")
CARRIERS["memory of the system"] = _remembered("system")


@carrier
async def key_of_a_memory(stage: Stage, text: str) -> evrt.Result:
    who = stage.somebody()
    await stage.write(who, text, "Turin", "user")
    return await stage.assist(who)


@carrier
async def memory_recalled_by_the_model(stage: Stage, text: str) -> evrt.Result:
    who = stage.somebody()
    await stage.write(who, "notes.city", text, "user")
    return await stage.assist(who, "Where? CALL recall(key=notes)", Part(memory=False))


@carrier
async def key_recalled_by_the_model(stage: Stage, text: str) -> evrt.Result:
    who = stage.somebody()
    await stage.write(who, f"notes.{text}", "Turin", "user")
    return await stage.assist(who, "Where? CALL recall(key=notes)", Part(memory=False))


@carrier
async def source_of_a_memory(stage: Stage, text: str) -> evrt.Result:
    who = stage.somebody()
    await stage.write(who, "notes.city", "Turin", "user", source=text)
    return await stage.assist(who, "Where? CALL recall(key=notes)", Part(memory=False))


# --------------------------------------------------------------------------------------------- tools


@carrier
async def result_of_a_tool(stage: Stage, text: str) -> evrt.Result:
    return await stage.assist(stage.somebody(), NEWS, Part([returning(f"News of today: {text}")]))


@carrier
async def deep_in_a_result(stage: Stage, text: str) -> evrt.Result:
    found = {"hits": [{"title": "Sun", "tags": ["a", {"note": text}]}]}
    return await stage.assist(stage.somebody(), NEWS, Part([returning(found)]))


@carrier
async def name_of_a_field(stage: Stage, text: str) -> evrt.Result:
    return await stage.assist(stage.somebody(), NEWS, Part([returning({text: 1})]))


@carrier
async def name_of_a_file(stage: Stage, text: str) -> evrt.Result:
    names = ["a.txt", f"{text}.txt", "b.txt"]
    return await stage.assist(stage.somebody(), NEWS, Part([returning(names)]))


@carrier
async def error_of_a_tool(stage: Stage, text: str) -> evrt.Result:
    return await stage.assist(stage.somebody(), NEWS, Part([raising(f"503: {text}")]))


# ------------------------------------------------------------------------------- conversation and runs


@carrier
async def history_of_the_conversation(stage: Stage, text: str) -> evrt.Result:
    who = stage.somebody()

    first = await stage.assist(who, "CALL search(query=old)", Part([returning(text)]))
    assert first.status in ("succeeded", "waiting"), first
    return await stage.assist(who)


@carrier
async def what_the_code_was_signalled(stage: Stage, text: str) -> evrt.Result:
    async def signalled(ctx: Ctx) -> list[str]:
        said = await ctx.wait_for_signal("news")
        ctx.distrust("signal:news")
        return [said]

    run = await stage.assist(stage.somebody(), part=Part(before=signalled))
    await stage.app.signal(run.run_id, "news", text)
    return await stage.app.resume(run.run_id)


@carrier
async def what_the_code_read_with_a_tool(stage: Stage, text: str) -> evrt.Result:
    tool = returning(text)

    async def read(ctx: Ctx) -> list[str]:
        return [await ctx.call(tool, query="x")]

    return await stage.assist(stage.somebody(), part=Part(before=read))


# ----------------------------------------------------------------------------------------- knowledge


@carrier
async def knowledge_that_is_always_there(stage: Stage, text: str) -> evrt.Result:
    known = Knowledge("handbook", text, trusted=False)
    return await stage.assist(stage.somebody(), part=Part(knowledge=[known]))


@carrier
async def knowledge_in_the_context(stage: Stage, text: str) -> evrt.Result:
    known = Knowledge("handbook", text, trusted=False, inject="context")
    return await stage.assist(stage.somebody(), part=Part(knowledge=[known]))


@carrier
async def knowledge_before_the_prompt(stage: Stage, text: str) -> evrt.Result:
    known = Knowledge("handbook", text, trusted=False, inject="system")
    return await stage.assist(stage.somebody(), part=Part(knowledge=[known]))


@carrier
async def knowledge_that_was_looked_for(stage: Stage, text: str) -> evrt.Result:
    known = Knowledge("handbook", f"Turin. {text}", "rag", trusted=False)
    return await stage.assist(stage.somebody(), "What of Turin?", Part(knowledge=[known]))
