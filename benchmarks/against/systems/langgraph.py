"""LangGraph with its AsyncSqliteSaver: a step is a node run once, or with variant ``tasks`` a task.

As it comes, durability is "async": the next step starts while the last one's checkpoint is being written,
so a crash can lose steps that were followed by others. The variant ``sync`` waits for each checkpoint, as
every other system here does. ``delta`` is ``sync`` with the results in a DeltaChannel (beta), which stores
what was added and not the whole. ``tasks`` is the functional API: a task's result is written in the background,
and nothing waits for it.

The state holds all results so far where they are wanted later (resuming, states, bytes), else the last one.
"""

from __future__ import annotations

import asyncio
import operator
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Annotated, Any, TypedDict

from langgraph.channels import DeltaChannel
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.func import entrypoint, task
from langgraph.graph import END, START, StateGraph

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

FILE = "langgraph.db"
RUN = "the-run"
# A node's write counts when the checkpoint that it goes on from is there too; the input's is no node's.
NODES_STORED = """
SELECT count(*) FROM writes JOIN checkpoints USING (thread_id, checkpoint_ns, checkpoint_id)
WHERE channel = 'step' AND json_extract(CAST(metadata AS TEXT), '$.step') >= 0
"""
TASKS_STORED = "SELECT count(*) FROM writes WHERE channel = '__return__'"


def extended(results: list[str], added: Sequence[list[str]]) -> list[str]:
    return [*results, *(result for some in added for result in some)]


class Last(TypedDict):
    step: int
    result: str


class All(TypedDict):
    step: int
    results: Annotated[list[str], operator.add]


class AllDelta(TypedDict):
    step: int
    results: Annotated[list[str], DeltaChannel(extended)]


class Bench:
    """The graph, or the flow of tasks, that is measured."""

    def __init__(self, saver: AsyncSqliteSaver, variant: str, *, crash: bool = False) -> None:
        self.until = 0.0
        self.live_at = 0.0
        self.saver = saver
        self.variant = variant
        self.crash = crash
        self.written: Callable[[], bool] = lambda: True
        self.durability = "sync" if variant in ("sync", "delta") else "async"

    def mark(self) -> None:
        """The first live step: where the process dies the first time."""
        if self.crash:
            die()
        self.live_at = now()

    def wait_for_writes(self) -> None:
        while self.crash and not self.written():
            time.sleep(0.05)

    def for_a_while(self) -> Any:
        if self.variant == "tasks":
            return self._tasks(None)

        async def step(state: Any) -> Any:
            return {"step": state["step"] + 1, "result": text(state["step"])}

        return self._graph(Last, step, lambda _: time.perf_counter() < self.until)

    def so_many(self, steps: int) -> Any:
        if self.variant == "tasks":
            return self._tasks(steps)

        async def step(state: Any) -> Any:
            number = state["step"]
            if number == steps:
                self.mark()
            return {"step": number + 1, "results": [text(number)]}

        return self._graph(
            AllDelta if self.variant == "delta" else All, step, lambda state: state["step"] <= steps
        )

    def _graph(self, state: Any, step: Any, more: Any) -> Any:
        graph = StateGraph(state)
        graph.add_node("step", step, input_schema=state)
        graph.add_edge(START, "step")
        graph.add_conditional_edges("step", lambda state: "step" if more(state) else END)
        return graph.compile(checkpointer=self.saver)

    def _tasks(self, steps: int | None) -> Any:
        @task
        async def look(n: int) -> str:
            return text(n)

        @task
        async def last() -> None:
            await asyncio.to_thread(self.wait_for_writes)
            self.mark()

        @entrypoint(checkpointer=self.saver)
        async def flow(_: object) -> dict[str, int]:
            done = 0
            while done < steps if steps is not None else time.perf_counter() < self.until:
                await look(done)
                done += 1
            if steps is not None:
                await last()
            return {"step": done}

        return flow

    async def invoke(self, graph: Any, given: object, thread: str = RUN, durability: str = "") -> Any:
        config = {"configurable": {"thread_id": thread}, "recursion_limit": 10**9}
        return await graph.ainvoke(given, config, durability=durability or self.durability)


@asynccontextmanager
async def opened(task: Task, *, crash: bool = False) -> AsyncIterator[Bench]:
    async with AsyncSqliteSaver.from_conn_string(str(task.folder / FILE)) as saver:
        await saver.setup()
        yield Bench(saver, task.variant, crash=crash)


def stored(task: Task) -> int:
    query = TASKS_STORED if task.variant == "tasks" else NODES_STORED
    return count(sqlite3, task.folder / FILE, query)


async def rate(task: Task, runs: int) -> Sample:
    """The time ends when everything is written: with "async" and tasks that is later than the last step."""
    async with opened(task) as bench:
        graph = bench.for_a_while()
        bench.until = time.perf_counter() + WARM_SECONDS
        given = {"step": 0, "result": ""}
        warmed = (await bench.invoke(graph, given, "warm"))["step"]
        start = time.perf_counter()
        bench.until = start + task.seconds
        ended = await asyncio.gather(*(bench.invoke(graph, given, str(run)) for run in range(runs)))
        spent = time.perf_counter() - start
    steps = sum(state["step"] for state in ended)
    behind = {"seconds of writing behind after the last step": spent - task.seconds}
    extra = {} if bench.durability == "sync" else behind
    return Sample(steps / spent, steps, stored(task) - warmed, extra)


async def crash(task: Task) -> None:
    async with opened(task, crash=True) as bench:
        await bench.invoke(bench.so_many(task.steps), {"step": 0, "results": []})


async def prepare(task: Task) -> None:
    """As ``crash``, but with every finished step on disk when the process dies."""
    async with opened(task, crash=True) as bench:
        bench.written = lambda: stored(task) == task.steps
        await bench.invoke(bench.so_many(task.steps), {"step": 0, "results": []}, durability="sync")


async def resume(task: Task) -> Sample:
    start = now()
    async with opened(task) as bench:
        await bench.invoke(bench.so_many(task.steps), None)
    return Sample(1_000 * (bench.live_at - start), task.steps, stored(task) - 1)


async def states(task: Task) -> Sample:
    async with opened(task) as bench:
        graph = bench.so_many(task.steps)
        start = now()
        config = {"configurable": {"thread_id": RUN}}
        kept = [state.values async for state in graph.aget_state_history(config)]
        spent = now() - start
    kept = [state for state in kept if state.get("step", 0) > 0]
    assert kept[0]["results"] == [text(n) for n in range(task.steps)]
    return Sample(spent, task.steps, len(kept))


def kept(task: Task) -> Sample:
    found = stored(task)
    return Sample(found, task.steps, found)


def size(task: Task) -> Sample:
    return Sample(checkpointed_bytes(sqlite3, task.folder / FILE), task.steps, stored(task))


if __name__ == "__main__":
    serve(
        {
            "prepare": lambda task: asyncio.run(prepare(task)),
            "crash": lambda task: asyncio.run(crash(task)),
            "steps": lambda task: asyncio.run(rate(task, 1)),
            "many": lambda task: asyncio.run(rate(task, RUNS)),
            "resume": lambda task: asyncio.run(resume(task)),
            "states": lambda task: asyncio.run(states(task)),
            "kept": kept,
            "bytes": size,
        },
        ["langgraph", "langgraph-checkpoint-sqlite"],
        sqlite=sqlite3.sqlite_version,
    )
