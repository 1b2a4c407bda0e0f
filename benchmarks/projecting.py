"""A log of agents at work, as the benchmarks of views read it: model calls, tool calls, memory, conversations."""

from __future__ import annotations

from typing import Any

import evrt
from evrt.testing import ScriptedModel, call

TURNS = 10
"""Model calls of a run, each but the last with one tool call."""

RUNS_OF_CONVERSATION = 20


def agents(url: str) -> evrt.App:
    """An app with an agent that calls a tool nine times and then answers, and remembers something."""

    def script(request: Any) -> Any:
        results = sum(message["role"] == "tool" for message in request.messages)
        if results < TURNS - 1:
            return call("look_up", city=f"city {results}")
        return "It is sunny, and has been so for a week in all of these places."

    @evrt.tool(effect="read")
    async def look_up(city: str) -> str:
        """The weather of a city."""
        return f"sunny in {city}, 23 degrees, wind from the west"

    app = evrt.App(url, models={"m": ScriptedModel(script)})
    app.agent("helper", model="m", tools=[look_up], model_turns_max=TURNS + 1)

    @app.workflow
    async def works(ctx: evrt.Context[Any], number: int) -> str:
        await ctx.memory.set(f"topic {number % 50}", number, scope="user")
        return await ctx.step("double", lambda: str(number * 2))  # type: ignore[no-any-return]

    return app


async def fill(url: str, events: int) -> int:
    """Write at least so many events; returns how many."""
    import asyncio

    async with agents(url) as app:
        log = await app.log()
        number = 0
        while await log.position() < events:
            # Fifty at a time, as runs are interleaved in a log of many.
            await asyncio.gather(
                *(
                    app.run(
                        *(("helper", "What is the weather?") if n % 5 else ("works", n)),
                        conversation=f"c{n // RUNS_OF_CONVERSATION}",
                        user=f"u{n % 7}",
                    )
                    for n in range(number, number + 50)
                )
            )
            number += 50
        return await log.position()
