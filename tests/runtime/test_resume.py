"""Killed at every boundary of every kind of run and resumed: the same happened in the end, and nothing twice."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

import evrt
from evrt.effects.contract import ModelRequest
from evrt.testing import ScriptedModel, call, calls
from runtime.logs import Ctx, cut_off, put, watch


@dataclass
class Ledger:
    """What a service with idempotency keys keeps: one entry for each key."""

    entries: dict[str, str] = field(default_factory=dict)
    unkeyed: list[str] = field(default_factory=list)


@evrt.tool(effect="read")
async def look(number: int) -> int:
    return number


@evrt.tool(effect="read")
async def fail(number: int) -> int:
    raise ValueError(f"no {number}")


@evrt.tool
async def book(name: str, idempotency_key: str, context: evrt.ToolContext[Ledger]) -> str:
    return context.deps.entries.setdefault(idempotency_key, name)


@evrt.tool
async def pay(name: str, context: evrt.ToolContext[Ledger]) -> str:
    context.deps.unkeyed.append(name)
    return f"paid {name}"


SOON = evrt.Retry(3, base_seconds=0.0)


async def sequence(ctx: Ctx) -> list[Any]:
    first = await ctx.step("one", lambda: 1)
    second = await ctx.step("read", lambda: 2, effect="read")
    await ctx.emit("half", [first, second])
    return [first, second, await ctx.call(look, 3), await ctx.call(book, "a"), await ctx.call(book, "b")]


async def branches(ctx: Ctx) -> list[Any]:
    async def branch(number: int) -> list[Any]:
        await ctx.checkpoint(number, name=f"b{number}")
        return [
            await ctx.call(look, number),
            *await ctx.gather(ctx.call(book, str(number)), ctx.call(look, 9)),
        ]

    return await ctx.gather(*(branch(number) for number in range(3)))


async def failures(ctx: Ctx) -> list[str]:
    texts: list[str] = []
    for number in range(2):
        try:
            await ctx.gather(ctx.call(fail, number), ctx.call(look, number))
        except evrt.ToolFailed as error:
            texts.append(str(error))
    return texts


async def escaping(ctx: Ctx) -> None:
    await ctx.call(book, "before")
    await ctx.call(fail, 1)


async def remembering(ctx: Ctx) -> Any:
    await ctx.gather(ctx.memory.set("a", 1), ctx.memory.set("b", 2))
    await ctx.memory.set("a", 3, if_version=1 if await ctx.memory.get("b") == 2 else 0)
    try:
        await ctx.memory.set("a", 4, if_version=0)
    except evrt.Conflict:
        await ctx.memory.forget("b")
    return [await ctx.memory.get("a"), await ctx.memory.get("b")]


async def agents(ctx: Ctx) -> list[Any]:
    return await ctx.gather(*(ctx.call(AGENT, name) for name in ("ann", "bob")))


async def chance(ctx: Ctx) -> bool:
    identifier = ctx.uuid()
    await ctx.call(book, "fixed")
    return ctx.now().year > 2000 and identifier.version == 4 and ctx.random() < 1


def script(request: ModelRequest) -> Any:
    turn = len([m for m in request.messages if m["role"] == "assistant"])
    name = str(request.messages[1]["content"])
    if turn == 0:
        return calls(call("book", name=name), call("look", number=1), call("nope"))
    return call("book", name=f"{name} again") if turn == 1 else f"{name} is booked."


AGENT = evrt.Agent(name="agent", model="m", instructions="Book.", tools=(book, look))

Program = Callable[[Ctx], Awaitable[Any]]
PROGRAMS: list[Program] = [sequence, branches, failures, escaping, remembering, agents, chance]


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
async def test_killed_at_any_boundary_a_run_ends_as_if_nothing_had_been(program: Program) -> None:
    ledger = Ledger()
    app = evrt.App("memory://", deps=ledger, models={"m": ScriptedModel(script)})
    app.workflow(name="program", retry=SOON)(program)
    watched = await watch(app)
    run = await app.run("program", user="ann")
    whole = await app.get(run.run_id)
    entries = dict(ledger.entries)
    log = await app.log()
    assert len(watched.boundaries) >= 2
    for position in watched.boundaries[:-1]:
        put(app, await cut_off(log, position))
        assert (await app.replay(run.run_id)).ok
        resumed = await app.resume(run.run_id)
        assert (resumed.status, resumed.failure) == (run.status, run.failure)
        again = await app.get(run.run_id)
        assert again.digest == whole.digest
        assert ledger.entries == entries
        assert (await app.replay(run.run_id)).complete
        # And killed once more, on the way: at every event of what was written since.
        mended = await app.log()
        for later in range(position + 2, await mended.position()):
            put(app, await cut_off(mended, later))
            if again.events[-1].position > later and not await _halved(app, later):
                await app.resume(run.run_id)
                assert (await app.get(run.run_id)).digest == whole.digest
                assert ledger.entries == entries
    await log.aclose()


async def _halved(app: evrt.App, position: int) -> bool:
    """Whether a log was cut between a fact of a memory and the run's note of it, which are written together."""
    row = (await (await app.log()).read(after=position - 1, upto=position))[0]
    return row.stream.startswith("memory-")


async def test_a_write_without_a_key_is_made_at_most_once_wherever_the_run_is_killed() -> None:
    ledger = Ledger()
    app = evrt.App("memory://", deps=ledger)

    @app.workflow
    async def pays(ctx: Ctx) -> list[Any]:
        return [await ctx.call(pay, "a"), *await ctx.gather(ctx.call(pay, "b"), ctx.call(look, 1))]

    watched = await watch(app)
    run = await app.run(pays)
    whole = await app.get(run.run_id)
    log = await app.log()
    for position in watched.boundaries[:-1]:
        put(app, await cut_off(log, position))
        done = [e.event for e in (await app.get(run.run_id)).events if e.type == "tool_call.completed"]
        before = [
            f"{getattr(event, 'result', '')}" for event in done if "pay" in getattr(event, "operation", "")
        ]
        ledger.unkeyed.clear()
        result = await app.resume(run.run_id)
        doubts = 0
        while result.status == "waiting":
            assert result.reason == "in_doubt"
            for operation in result.waiting_for:
                doubts += 1
                await app.settle(run.run_id, operation, result="paid a" if operation == "pay#1" else "paid b")
            result = await app.resume(run.run_id)
        assert result.output == ["paid a", "paid b", 1]
        assert len(ledger.unkeyed) + doubts + len(before) == 2
        assert (await app.get(run.run_id)).digest == whole.digest
    await log.aclose()


async def test_a_run_killed_while_it_waits_for_a_person_goes_on_waiting() -> None:
    app = evrt.App("memory://")

    @app.workflow
    async def asks(ctx: Ctx) -> list[Any]:
        return [await ctx.call(look, 1), await ctx.ask("Well?"), await ctx.call(look, 2)]

    watched = await watch(app)
    run = await app.run(asks)
    await app.answer(run.run_id, "yes")
    run = await app.resume(run.run_id)
    whole = await app.get(run.run_id)
    log = await app.log()
    for position in watched.boundaries[:-1]:
        put(app, await cut_off(log, position))
        result = await app.resume(run.run_id)
        if result.status == "waiting":
            await app.answer(run.run_id, "yes")
            result = await app.resume(run.run_id)
        assert result.output == [1, "yes", 2]
        assert (await app.get(run.run_id)).digest == whole.digest
    await log.aclose()
