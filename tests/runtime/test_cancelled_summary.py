"""What is kept of how far a cancelled run had got."""

from __future__ import annotations

import asyncio
from typing import Any

import evrt
from evrt.events.run import RunCancelled
from evrt.testing import ScriptedModel, call, calls


def desk(script: list[Any]) -> evrt.App:
    app = evrt.App("memory://", models={"m": ScriptedModel(script)})
    begun = asyncio.Event()

    @evrt.tool(effect="read")
    async def look(place: str) -> str:
        if place == "far":
            begun.set()
            await asyncio.sleep(30)
        return f"nothing at {place}"

    app.agent("helper", model="m", tools=[look], questions=evrt.Questions())
    app.deps = begun
    return app


async def cancelled(app: evrt.App, run: str) -> RunCancelled:
    event = (await app.get(run)).events[-1].event
    assert isinstance(event, RunCancelled)
    return event


async def test_a_run_that_waits_keeps_what_its_model_said_last() -> None:
    """B40: salvage on cancel."""
    app = desk(
        [calls(call("look", place="here"), text="Two of three are done."), call("ask_user", question="And?")]
    )
    async with app:
        parked = await app.run("helper", "Go.")
        assert parked.reason == "question"
        await app.cancel(parked.run_id, by="ann")
        assert (await cancelled(app, parked.run_id)).summary == "Two of three are done."
        assert (await app.get(parked.run_id)).state.output == "Two of three are done."


async def test_a_run_that_is_cancelled_while_it_works_keeps_it_too() -> None:
    """B40, S2.12"""
    app = desk([call("look", place="here"), call("look", place="here too"), call("look", place="far")])
    async with app:
        running = await app.start("helper", "Go.")
        await app.deps.wait()
        await app.cancel(running.run_id)
        result = await running
        assert (result.status, result.output) == ("cancelled", "It had called look (3 times).")
        assert (await app.replay(running.run_id)).ok


async def test_one_that_had_done_nothing_keeps_nothing() -> None:
    """B40"""
    app = desk([])
    async with app:
        queued = await app.enqueue("helper", "Go.")
        await app.cancel(queued.run_id)
        assert (await cancelled(app, queued.run_id)).summary is None
