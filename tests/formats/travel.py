"""The app whose runs fill a log of each format: made once by the evrt of its time, opened by every later one."""

from __future__ import annotations

import evrt
from evrt.testing import ScriptedModel, call


@evrt.tool(effect="read")
def weather(city: str) -> str:
    """The weather in a city, now."""
    return f"26 °C and sunny in {city}"


@evrt.tool
def book(city: str) -> str:
    """Book a seat, once and never twice."""
    if city == "Atlantis":
        raise RuntimeError("There is no such place.")
    return f"a seat to {city}"


def travel_app(url: str) -> evrt.App:
    script = ScriptedModel([call("weather", city="Turin"), "No: 26 °C and sunny."])
    app = evrt.App(url, models={"script": script})
    app.agent("helper", model="script", instructions="Be brief.", tools=[weather])
    app.workflow(trip)
    return app


async def trip(ctx: evrt.Context[None], city: str) -> str:
    ctx.now()
    skies = await ctx.gather(ctx.call(weather, city=city), ctx.call(weather, city="Rome"))
    await ctx.memory.set("last.city", city, scope="user")
    await ctx.checkpoint({"skies": skies}, name="looked")
    seat = await ctx.call(book, city=city)
    answer = await ctx.ask("Go?", options=["yes", "no"])
    return f"{seat}: {answer}"


async def fill(app: evrt.App) -> None:
    """One run of an agent, three trips: one through, one that waits for an answer, one failed and in part erased."""
    async with app:
        await app.run("helper", "Umbrella?", conversation="c1", user="Zoë")
        through = await app.run("trip", "Turin", conversation="c2", user="Zoë")
        await app.answer(through.run_id, "yes", by="Ann")
        await app.resume(through.run_id)
        await app.run("trip", "Oslo", conversation="c2", user="Zoë")
        await app.run("trip", "Atlantis")
        log = await app.log()
        await log.erase_payload(await log.position())
