"""The service that Restate's server calls: it keeps the handlers that are measured in a process of its own.

    python -m against.systems.restate_service PORT FOLDER

A file named ``crash`` in the folder makes the process die in the first step after so many.
"""

import asyncio
import sys
from pathlib import Path

import restate
from hypercorn.asyncio import serve
from hypercorn.config import Config

from against.systems.worker import die, now, text

service = restate.Service("against")


async def look(n: int) -> str:
    return text(n)


def mark(crash: str) -> float:
    if Path(crash).exists():
        die()
    return now()


@service.handler()
async def for_a_while(ctx: restate.Context, until: float) -> int:
    done = 0
    while now() < until:
        await ctx.run_typed("look", look, restate.RunOptions(), done)
        done += 1
    return done


@service.handler()
async def so_many(ctx: restate.Context, steps: int) -> float:
    for n in range(steps):
        await ctx.run_typed("look", look, restate.RunOptions(), n)
    live_at: float = await ctx.run_typed("mark", mark, restate.RunOptions(), f"{sys.argv[2]}/crash")
    return live_at


if __name__ == "__main__":
    config = Config()
    config.bind = [f"127.0.0.1:{int(sys.argv[1])}"]
    config.h2_max_concurrent_streams = 1_000
    config.loglevel = "ERROR"
    asyncio.run(serve(restate.app([service]), config))
