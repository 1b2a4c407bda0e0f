"""Runs of ten thousand events: each step costs what the first one did, in events, bytes, reads and what is kept.

Times are reported, never judged: the property ``cpu_seconds_per_1000`` of each test.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable
from typing import Any, cast

import evrt
from evrt.folds.journal import operation_of
from evrt.log import Log, Recorded
from evrt.testing import ScriptedModel, call
from runtime.logs import Ctx, cut_off, put, watch

STEPS = 5_000
TURNS = 400
PART = STEPS // 5

Report = Callable[[str, object], None]


class Reading:
    """Counts the rows that are read from a log, stream by stream."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self.rows = 0
        self.reads = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    async def read_stream(self, *args: Any, **kwargs: Any) -> list[Recorded]:
        rows = await self._log.read_stream(*args, **kwargs)
        self.reads += 1
        self.rows += len(rows)
        return rows


async def reading(app: evrt.App) -> Reading:
    counted = Reading(await app.log())
    put(app, cast(Log, counted))
    return counted


@evrt.tool(effect="read")
async def look(number: int) -> int:
    return number


def bytes_of(rows: list[Recorded]) -> int:
    return sum(row.payload_length for row in rows)


async def test_five_thousand_steps_start_die_resume_and_replay(
    file_url: str, record_property: Report
) -> None:
    marks: list[float] = []

    async def steps(ctx: Ctx) -> int:
        total = 0
        for number in range(STEPS):
            if number % PART == 0:
                marks.append(time.process_time())
            total += await ctx.step("add", int, 1)
        marks.append(time.process_time())
        return total

    async with evrt.App(file_url) as app:
        app.workflow(steps)
        log = await reading(app)
        run = await app.run("steps")
        assert run.output == STEPS
        record_property("cpu_seconds_per_1000", [round(b - a, 3) for a, b in itertools.pairwise(marks)])
        assert log.rows == 0
        rows = await log.read_stream(run.run_id)
        assert len(rows) == STEPS + 4
        assert bytes_of(rows[3 : 3 + PART]) + PART > bytes_of(rows[-PART - 1 : -1]) - PART
        killed = await cut_off(cast(Log, log), rows[STEPS * 4 // 5].position)
    after = put(evrt.App("memory://"), killed)
    async with after:
        after.workflow(steps)
        log = await reading(after)
        assert (await after.resume(run.run_id)).output == STEPS
        # Its end, to see where its last chapter begins; all before; what came between reading and claiming it.
        assert log.reads == 3
        assert log.rows == STEPS * 4 // 5 + 1 + 1
        assert (await after.replay(run.run_id)).complete


async def test_branches_and_races_by_the_thousand_leave_nothing_behind(record_property: Report) -> None:
    marks: list[float] = []
    kept: list[int] = []

    async def branching(ctx: Ctx) -> None:
        for number in range(1_000):
            if number % 200 == 0:
                marks.append(time.process_time())
            await ctx.gather(ctx.call(look, number), ctx.step("one", int, 1))
            await ctx.race(ctx.call(look, number), ctx.step("sleep", asyncio.sleep, 3_600))
        marks.append(time.process_time())
        execution = ctx._execution
        kept.append(len(execution.scopes) + len(execution.tasks) + len(execution.under_way))

    async with evrt.App("memory://") as app:
        app.workflow(branching)
        watched = await watch(app)
        run = await app.run("branching")
        assert run.status == "succeeded"
        assert kept[0] <= 1
        history = await app.get(run.run_id)
        assert len(history.journal.operations) == 5_000
        # In each round two intents, what came of each, who won, and what two steps came to.
        assert len(watched.appends) <= 7 * 1_000 + 2
        record_property("cpu_seconds_per_200", [round(b - a, 3) for a, b in itertools.pairwise(marks)])
        assert (await app.replay(run.run_id)).complete


async def test_an_agent_of_many_turns_records_and_reads_no_more_per_turn(
    file_url: str, record_property: Report
) -> None:
    def script(request: Any) -> Any:
        sent = len(request.messages)
        return call("look", number=10_000 + sent) if sent < 2 * TURNS else "Done."

    def make(app: evrt.App) -> evrt.App:
        app.models["m"] = ScriptedModel(script)
        app.agent("agent", model="m", tools=[look], model_turns_max=TURNS + 1, timeout=None)
        return app

    async with make(evrt.App(file_url)) as app:
        log = await reading(app)
        watched = await watch(app)
        began = time.process_time()
        run = await app.run("agent", "Look around.")
        record_property("cpu_seconds", round(time.process_time() - began, 3))
        assert run.output == "Done."
        assert (log.reads, log.rows) == (0, 0)
        rows = await log.read_stream(run.run_id)
        chapters = [row.payload_length for row in rows if row.type == "run.continued"]
        assert len(chapters) >= 2
        assert sum(chapters) < sum(row.payload_length for row in rows if row.type != "run.continued")
        rows = [row for row in rows if row.type not in ("run.continued", "guard.applied")]
        first, last = rows[20:220], rows[-420:-220]
        assert abs(bytes_of(first) - bytes_of(last)) < 0.02 * bytes_of(first)
        assert len(watched.appends) <= 2 * TURNS + 2 * len(chapters) + 2
        history = await app.get(run.run_id)
        [*_, last_asked] = [e for e in history.events if e.type == "model_call.requested"]
        request = history.request(operation_of(last_asked.event))
        assert len(cast(list[Any], request["messages"])) == 2 * TURNS + 1
        killed = await cut_off(cast(Log, log), rows[TURNS].position)
    async with put(make(evrt.App("memory://")), killed) as after:
        assert (await after.resume(run.run_id)).output == "Done."
        assert (await after.replay(run.run_id)).complete
