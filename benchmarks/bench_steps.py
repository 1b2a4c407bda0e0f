"""How many durable steps per second, one after another and with 50 runs at once, against raw SQLite?

A step is a call of a tool that reads: an intent that is durable before the call, an outcome after it.
Raw is the sqlite3 module alone, WAL and synchronous=FULL, one row in a commit or a hundred. A step
one after another costs one sync, so it is compared with one-row commits in steps; 50 runs at once
share commits, so they are compared with hundred-row commits in events.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from pathlib import Path

import evrt
from bench_append import raw
from harness import Bench, Case, Ratio

EVENTS_PER_STEP = 2
RUNS = 50


@evrt.tool(effect="read")
async def look(n: int) -> int:
    """Give back what was given."""
    return n


def make_app(url: str) -> evrt.App:
    app = evrt.App(url)

    @app.workflow
    async def steps(ctx: evrt.Context[None], until: float) -> int:
        done = 0
        while time.perf_counter() < until:
            await ctx.call(look, n=done)
            done += 1
        return done

    return app


async def measure(runs: int, seconds: float) -> float:
    """Steps per second of so many runs at once."""
    with tempfile.TemporaryDirectory() as folder:
        async with make_app(f"sqlite:///{Path(folder) / 'bench.db'}") as app:
            start = time.perf_counter()
            results = await asyncio.gather(*(app.run("steps", start + seconds) for _ in range(runs)))
            spent = time.perf_counter() - start
            steps: int = sum(result.unwrap() for result in results)
            return steps / spent


def main() -> None:
    Bench(__doc__, "per second").run(
        cases=[
            Case("raw, 1-row commits", lambda seconds: raw(1, seconds)),
            Case("steps, one after another", lambda seconds: asyncio.run(measure(1, seconds))),
            Case("raw, rows in commits of 100", lambda seconds: raw(100, seconds)),
            Case(
                "events of 50 runs at once",
                lambda seconds: EVENTS_PER_STEP * asyncio.run(measure(RUNS, seconds)),
            ),
        ],
        ratios=[
            Ratio("steps, one after another", "raw, 1-row commits", 0.5),
            Ratio("events of 50 runs at once", "raw, rows in commits of 100", 0.4),
        ],
    )


if __name__ == "__main__":
    main()
