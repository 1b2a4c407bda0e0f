"""evrt, from this checkout: a step is a call of a tool that reads, its intent durable before the call.

A step's outcome is written together with the next step's intent, so a step costs one commit, and no step
begins before the outcome of the last one is on disk.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from pathlib import Path

import evrt
from against.systems.worker import (
    RUNS,
    WARM_SECONDS,
    Sample,
    Task,
    checkpointed_bytes,
    count,
    die,
    now,
    serve,
    text,
)
from evrt.events.calls import ToolCallCompleted
from evrt.folds.run import RunState, evolve_run, fold_run

FILE = "evrt.db"
STEPS_STORED = "SELECT count(*) FROM events WHERE type = 'tool_call.completed'"


@evrt.tool(effect="read")
async def look(n: int) -> str:
    """Give back a text."""
    return text(n)


class Bench:
    """An app with the workflows that are measured."""

    def __init__(self, folder: Path, *, crash: bool = False) -> None:
        self.app = evrt.App(f"sqlite:///{folder / FILE}")
        self.live_at = 0.0

        @evrt.tool(effect="read")
        async def mark() -> None:
            """The first live step: where the process dies the first time."""
            if crash:
                die()
            self.live_at = now()

        @self.app.workflow(timeout=None)
        async def for_a_while(ctx: evrt.Context[None], until: float) -> int:
            done = 0
            while now() < until:
                await ctx.call(look, n=done)
                done += 1
            return done

        @self.app.workflow(timeout=None)
        async def so_many(ctx: evrt.Context[None], steps: int) -> None:
            for n in range(steps):
                await ctx.call(look, n=n)
            await ctx.call(mark)


async def rate(task: Task, runs: int) -> Sample:
    async with Bench(task.folder).app as app:
        warmed = (await app.run("for_a_while", now() + WARM_SECONDS)).unwrap()
        start = now()
        until = start + task.seconds
        results = await asyncio.gather(*(app.run("for_a_while", until) for _ in range(runs)))
        spent = now() - start
    steps = sum(result.unwrap() for result in results)
    stored = count(sqlite3, task.folder / FILE, STEPS_STORED) - warmed
    return Sample(steps / spent, steps, stored)


async def prepare(task: Task) -> None:
    async with Bench(task.folder, crash=True).app as app:
        await app.run("so_many", task.steps)


async def the_run(app: evrt.App) -> str:
    [run] = await (await app.log()).streams("run-")
    return str(run)


async def resume(task: Task) -> Sample:
    bench = Bench(task.folder)
    start = now()
    async with bench.app as app:
        await app.resume(await the_run(app))
    stored = count(sqlite3, task.folder / FILE, STEPS_STORED) - 1  # The first live step is stored by now.
    return Sample(1_000 * (bench.live_at - start), task.steps, stored)


async def states(task: Task) -> Sample:
    """After each step: status, figures, and all results so far, each state kept."""
    async with Bench(task.folder).app as app:
        run = await the_run(app)
        start = now()
        state, results = RunState(run=run), tuple[object, ...]()
        kept = []
        for envelope in (await app.get(run)).events:
            state = evolve_run(state, envelope)
            if isinstance(envelope.event, ToolCallCompleted):
                results = (*results, envelope.event.result)
                kept.append((state, results))
        spent = now() - start
    assert kept[-1][1] == tuple(text(n) for n in range(task.steps))
    return Sample(spent, task.steps, len(kept))


async def fold(task: Task) -> Sample:
    """From the file to the run's state: read, decoded, folded."""
    async with Bench(task.folder).app as app:
        run = await the_run(app)
        history, folded = await app.get(run), 0
        start = time.perf_counter()
        while time.perf_counter() - start < task.seconds:
            history = await app.get(run)
            folded += fold_run(run, history.events).events
        spent = time.perf_counter() - start
        start = time.perf_counter()
        again = fold_run(run, history.events).events
        alone = again / (time.perf_counter() - start)
    stored = count(sqlite3, task.folder / FILE, STEPS_STORED)
    return Sample(folded / spent, task.steps, stored, {"events/s of those decoded already": alone})


def kept(task: Task) -> Sample:
    stored = count(sqlite3, task.folder / FILE, STEPS_STORED)
    return Sample(stored, task.steps, stored)


def size(task: Task) -> Sample:
    stored = count(sqlite3, task.folder / FILE, STEPS_STORED)
    return Sample(checkpointed_bytes(sqlite3, task.folder / FILE), task.steps, stored)


if __name__ == "__main__":
    serve(
        {
            "prepare": lambda task: asyncio.run(prepare(task)),
            "crash": lambda task: asyncio.run(prepare(task)),
            "steps": lambda task: asyncio.run(rate(task, 1)),
            "many": lambda task: asyncio.run(rate(task, RUNS)),
            "resume": lambda task: asyncio.run(resume(task)),
            "states": lambda task: asyncio.run(states(task)),
            "fold": lambda task: asyncio.run(fold(task)),
            "kept": kept,
            "bytes": size,
        },
        ["evrt"],
        sqlite=sqlite3.sqlite_version,
    )
