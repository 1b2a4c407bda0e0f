"""Conversations in tests: turns of a journey, and how it stands after them."""

from __future__ import annotations

from typing import Any

import evrt
from evrt.effects.contract import Model
from evrt.events import Envelope
from evrt.folds.journeys import Standing
from evrt.log.envelopes import envelopes
from evrt.registry import Target
from evrt.testing import ScriptedModel
from journeys.obedient import obey

CHAT = "chat"


def app_with(*targets: Target, model: Model | None = None, url: str = "memory://", **more: Any) -> evrt.App:
    """An app with these, whose model does what the user's words say."""
    app = evrt.App(url, models={"script": model or ScriptedModel(obey)}, **more)
    for target in targets:
        app.add(target)
    return app


async def talk(app: evrt.App, target: Target, *turns: Any, conversation: str = CHAT) -> list[evrt.Result]:
    """One turn after another."""
    return [await app.run(target, turn, conversation=conversation) for turn in turns]


async def standing(app: evrt.App, key: str, conversation: str = CHAT) -> Standing:
    return await app.journeys.standing(key, conversation=conversation)


async def state_of(app: evrt.App, key: str, conversation: str = CHAT) -> dict[str, Any]:
    found = (await standing(app, key, conversation)).state
    assert found is not None
    return found


async def events_of(app: evrt.App, run: str, *types: str) -> list[Any]:
    return [e.event for e in (await app.get(run)).events if e.type in types]


async def journey_events(app: evrt.App) -> list[Envelope]:
    """The events of all journey streams, in the order of the log."""
    log = await app.log()
    streams = [envelopes(await log.read_stream(stream)) for stream in await log.streams("journey-")]
    return sorted((event for stream in streams for event in stream), key=lambda event: event.position)


async def replays(app: evrt.App, *results: evrt.Result) -> None:
    """Every run comes to the same from its history alone."""
    for result in results:
        report = await app.replay(result.run_id)
        assert report.complete, report.divergence
        assert report.ok, report
