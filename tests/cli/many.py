"""A log with many runs, made in one stroke: what it takes years of use to come to."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from pathlib import Path

import orjson

from evrt.codec import encode
from evrt.events import Event
from evrt.events.run import Failure, RunClaimed, RunFailed, RunRequested, RunSucceeded
from evrt.log import Append, Draft, open_log
from evrt.log.ids import new_event_id, new_ref

RUNS_AT_ONCE = 2_000
AGENTS = ("helper", "parrot", "writer", "judge")
USERS = 50
FAILS_EACH = 40
"""One of so many runs fails, and one of so many goes on."""


def make_runs(path: Path, count: int) -> int:
    """Append runs of several agents for several users, by three events each; returns how many events there are."""
    return asyncio.run(_make_runs(path, count))


async def _make_runs(path: Path, count: int) -> int:
    async with aclosing(await open_log(f"sqlite:///{path}")) as log:
        users = [await log.ref("user", f"user {number}") for number in range(USERS)]
        for start in range(0, count, RUNS_AT_ONCE):
            runs = range(start, min(count, start + RUNS_AT_ONCE))
            drafts = [draft for number in runs for draft in _run(number, users[number % USERS])]
            await log.append(Append(drafts, {}))
        return await log.position()


def _run(number: int, user: str | None) -> list[Draft]:
    run, agent = new_ref("run"), AGENTS[number % len(AGENTS)]
    events: list[Event] = [
        RunRequested(target=agent, kind="agent", input=f"Request {number}", user=user),
        RunClaimed(worker="here:1", reason="start", epoch=1),
    ]
    if number % FAILS_EACH == 1:
        events.append(RunFailed(failure=Failure(error_type="KeyError", message="no such thing")))
    elif number % FAILS_EACH != 2:
        events.append(RunSucceeded(output=f"Answer {number}"))
    meta = orjson.dumps({"run": run, "actor": f"agent:{agent}", "on_behalf_of": user})
    return [Draft(run, event.type, new_event_id(), run, meta, encode(event)) for event in events]
