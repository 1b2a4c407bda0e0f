"""An app that agents defined as data can run in: two tools, and models that do as a test says."""

from __future__ import annotations

from typing import Any

import evrt
from evrt.events import JsonObject
from evrt.testing import ScriptedModel


@evrt.tool(effect="read", trusted=True)
async def weather(city: str) -> str:
    """The weather in a city."""
    return f"18 C in {city}"


@evrt.tool(effect="read", timeout="5s")
async def prices(item: str) -> str:
    """What something costs."""
    return f"{item}: 3 EUR"


def app_with(url: str, script: Any = "Yes.", **options: Any) -> tuple[evrt.App, ScriptedModel]:
    """An app without agents in code. Model ``m`` follows the script; every other name is the same one."""
    model = ScriptedModel(script if not isinstance(script, str) else lambda request: script)
    app = evrt.App(url, models=dict.fromkeys(("m", "n", "o", "string"), model), **options)
    app.add_tools(weather, prices)
    app.add_tools(weather, group="outdoors")
    return app, model


def system_prompt(model: ScriptedModel, request: int = -1) -> str:
    """What the model was told first."""
    first: JsonObject = model.requests[request].messages[0]
    return str(first["content"]) if first["role"] == "system" else ""
