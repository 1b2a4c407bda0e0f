"""Runs whose code is drawn by lot: a program is nested lists, the run's input, and ``perform`` executes it.

Seven runs that somebody thought of cannot hold every way in which branches, errors, time-outs and
memory meet. A program is a list of statements, each a name with its arguments; ``draw`` makes one from a
seed. What branches learn goes into one list that they share, in the order in which they learn it, and
that list is what the run returns: a replay in another order comes to another end.
"""

from __future__ import annotations

import asyncio
from random import Random
from typing import Any, TypeAlias

from crash import apps
from crash.world import World
from evrt import Conflict, Context, ToolFailed
from evrt.errors import StepFailed

Statement: TypeAlias = list[Any]
Program: TypeAlias = list[Statement]

LEAVES = (
    *("look", "peer", "shout", "fetch", "refuse", "recover", "book", "pay", "send", "wire", "linger"),
    *(
        "step",
        "weigh",
        "values",
        "set",
        "get",
        "forget",
        "claim",
        "emit",
        "checkpoint",
        "ask",
        "model",
        "nap",
    ),
)
"""The last of them sleeps by itself, which the context knows nothing of."""

DEPTH_MAX = 3
KEYS = ("a", "b")


def draw(seed: int, *, impatient: bool = False) -> Program:
    """A program from a seed. An ``impatient`` one cuts things off with ``asyncio.timeout``, too."""
    return _block(Random(seed), DEPTH_MAX, impatient=impatient, length=5)


def _block(chance: Random, depth: int, *, impatient: bool, length: int, limited: bool = False) -> Program:
    return [
        _statement(chance, depth, impatient=impatient, limited=limited)
        for _ in range(chance.randint(1, length))
    ]


def _statement(chance: Random, depth: int, *, impatient: bool, limited: bool) -> Statement:
    """``limited``: inside a time-out, where nothing may sleep by itself, for only operations are cut off again."""
    lot = chance.random()
    if depth > 0 and lot < 0.3:
        branches = [
            _block(chance, depth - 1, impatient=impatient, length=3, limited=limited)
            for _ in range(chance.randint(2, 4))
        ]
        return ["race" if chance.random() < 0.3 else "gather", branches]
    if depth > 0 and lot < 0.4:
        return ["try", _block(chance, depth - 1, impatient=impatient, length=3, limited=limited)]
    if impatient and depth > 0 and lot < 0.55:
        block = _block(chance, depth - 1, impatient=False, length=3, limited=True)
        return ["within", chance.randint(1, 8), block]
    name = chance.choice(LEAVES[:-1] if limited else LEAVES)
    return [name, chance.choice(KEYS), chance.randint(0, 5)]


async def perform(ctx: Context[World], program: Program) -> list[Any]:
    learned: list[Any] = []
    await _perform(ctx, program, learned)
    return learned


async def _perform(ctx: Context[World], program: Program, learned: list[Any]) -> None:
    for statement in program:
        match statement:
            case ["gather", branches]:
                await ctx.gather(*(_perform(ctx, branch, learned) for branch in branches))
            case ["race", branches]:
                won = await ctx.race(*(_perform(ctx, branch, learned) for branch in branches))
                learned.append(won.branch)
            case ["try", block]:
                try:
                    await _perform(ctx, block, learned)
                except (ToolFailed, StepFailed, Conflict) as error:
                    learned.append(type(error).__name__)
            case ["within", milliseconds, block]:
                try:
                    async with asyncio.timeout(milliseconds / 1000):
                        await _perform(ctx, block, learned)
                except TimeoutError:
                    learned.append("too late")
            case ["nap", _, milliseconds]:
                await asyncio.sleep(milliseconds / 1000)
            case [name, key, number]:
                learned.append(await _leaf(ctx, name, key, number))


async def _leaf(ctx: Context[World], name: str, key: str, number: int) -> Any:
    match name:
        case "look" | "peer":
            return await ctx.call(getattr(apps, name), where=key)
        case "shout":
            return await ctx.call(apps.shout, text=key)
        case "fetch" | "recover":
            return await ctx.call(getattr(apps, name), page=number)
        case "refuse":
            return await ctx.call(apps.refuse, why=key)
        case "book":
            return await ctx.call(apps.book, item=key)
        case "pay" | "wire":
            return await ctx.call(getattr(apps, name), amount=number)
        case "send":
            return await ctx.call(apps.send, letter=key)
        case "linger":
            return await ctx.call(apps.linger, where=key, milliseconds=number)
        case "step":
            return await ctx.step(name, lambda text: text * 2, key)
        case "weigh":
            return await ctx.step(name, asyncio.sleep, number / 1000, key, effect="read")
        case "values":
            return [str(ctx.now()), str(ctx.uuid()), ctx.random()]
        case "emit":
            return await ctx.emit("progress", number)
        case "checkpoint":
            return await ctx.checkpoint({"number": number}, name=key)
        case "ask":
            return await ctx.ask("How much?")
        case "model":
            return (await ctx.model(key, model="moody", retry=apps.QUICK)).text
        case _:
            return await _remember(ctx, name, key, number)


async def _remember(ctx: Context[World], name: str, key: str, number: int) -> Any:
    match name:
        case "set":
            return await ctx.memory.set(key, number)
        case "get":
            return await ctx.memory.get(key)
        case "forget":
            return await ctx.memory.forget(key)
        case "claim":
            return await ctx.memory.set(key, number, scope="conversation", if_version=number)
    raise ValueError(f"No statement is called {name!r}.")
