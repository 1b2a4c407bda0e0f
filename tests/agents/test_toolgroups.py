"""Tools under one name, chosen by an agent or by a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from evrt import App, NotFound, Tool, ToolGroup, UsageError, tool
from evrt.agents.toolgroups import Choice, ToolGroups, check_choices, resolve
from evrt.definitions.building import groups_of, tools_of
from evrt.errors import EvrtError
from evrt.events.run import RunRequested
from evrt.testing import ScriptedModel, call
from runtime.logs import Ctx


@tool(effect="pure")
def read(name: str) -> str:
    return f"what {name} says"


@tool(effect="pure")
def count(name: str) -> int:
    return len(name)


@tool(effect="pure")
def forecast(city: str) -> str:
    return f"rain in {city}"


def two(*, name: str = "files") -> ToolGroup:
    return ToolGroup(name, [read, count])


class Asking:
    """A group whose tools are only known by asking, as those of a server are."""

    name = "asked"
    known: Mapping[str, Tool] = {}

    def __init__(self) -> None:
        self.asked = 0
        self.closed = 0

    def check(self, tool: str) -> None:
        """Anything might be there."""

    async def tools(self, ctx: Ctx) -> Mapping[str, Tool]:
        async def ask() -> list[str]:
            self.asked += 1
            return ["forecast"]

        return dict.fromkeys(await ctx.step("ask", ask, effect="read"), forecast)

    async def aclose(self) -> None:
        self.closed += 1


def offering(app: App, tools: list[Choice]) -> list[list[str]]:
    """An agent that answers at once, and what its model was offered at each of its requests."""
    offered: list[list[str]] = []

    def says(request: Any) -> str:
        offered.append([each["function"]["name"] for each in request.tools])
        return "done"

    app.models["script"] = ScriptedModel(says)
    app.agent("helper", model="script", tools=tools)
    return offered


async def test_an_agent_names_a_group_or_a_tool_of_it() -> None:
    """S3.5, B51"""
    async with App("memory://") as app:
        app.toolgroup(two())
        app.toolgroup(ToolGroup("weather", [forecast]))
        offered = offering(app, ["files/count", "weather"])
        await app.run("helper", "Hello.")
        assert offered == [["count", "forecast"]]


async def test_a_run_has_groups_of_its_own_choice_in_place_of_its_agents() -> None:
    """B51"""
    async with App("memory://") as app:
        app.toolgroup(two())
        app.toolgroup(Asking())
        offered = offering(app, [forecast, "files"])
        await app.run("helper", "Hello.")
        run = await app.run("helper", "Hello.", toolgroups=["files/read"])
        await app.run("helper", "Hello.", toolgroups=[])
        assert offered == [["forecast", "read", "count"], ["forecast", "read"], ["forecast"]]
        requested = (await app.get(run.run_id)).events[0].event
        assert isinstance(requested, RunRequested)
        assert requested.toolgroups == ("files/read",)
        assert (await app.replay(run.run_id)).ok


async def test_the_choice_of_a_run_is_its_own_and_not_of_those_it_calls() -> None:
    """B51"""
    async with App("memory://") as app:
        app.toolgroup(two())
        offered = offering(app, ["files"])

        @app.workflow
        async def asks(ctx: Ctx) -> Any:
            return await ctx.call(app.target("helper"), "Hello.")

        await app.run(asks, toolgroups=["files/read"])
        assert offered == [["read", "count"]]


async def test_whoever_has_to_be_asked_is_asked_once_in_each_run_and_not_on_a_replay() -> None:
    """B51"""
    async with App("memory://") as app:
        group = app.toolgroup(Asking())
        app.models["script"] = ScriptedModel(
            lambda r: "done" if r.messages[-1]["role"] == "tool" else call("forecast", city="Turin")
        )
        app.agent("helper", model="script", tools=["asked/forecast"])
        run = await app.run("helper", "Hello.")
        assert (run.output, group.asked) == ("done", 1)
        assert (await app.replay(run.run_id)).ok
        assert group.asked == 1
    assert group.closed == 1


async def test_an_agent_that_is_defined_as_data_has_groups_that_have_to_be_asked() -> None:
    """B51"""
    async with App("memory://") as app:
        group = app.toolgroup(Asking())
        app.toolgroup(two())
        offered: list[list[str]] = []

        def says(request: Any) -> str:
            offered.append([each["function"]["name"] for each in request.tools])
            return "done"

        app.models["script"] = ScriptedModel(says)
        plain: Any = {"model": "script", "memory_enabled": False}
        await app.agents.define("whole", {**plain, "toolgroups": ["asked", "files"], "tools": ["read"]})
        one = {"name": "asked/forecast", "confirm": True}
        await app.agents.define("single", {**plain, "tools": [one, "files/count"]})
        for key in ("whole", "single"):
            run = await app.run(key, "Hello.")
            assert (await app.replay(run.run_id)).ok
        await app.run("whole", "Hello.", toolgroups=["files/count"])
        assert offered == [["read", "forecast", "count"], ["forecast", "count"], ["read", "count"]]
        assert group.asked == 2

        @app.workflow
        async def tells(ctx: Ctx) -> list[Any]:
            config = await app.agents.effective_config("single")
            tools = tools_of("single", config, app)
            found = await resolve(ctx, tools, groups_of(config, tools, app))
            return [[each.name, each.confirm, each.timeout_seconds] for each in found]

        assert (await app.run(tells)).output == [["forecast", True, 30.0], ["count", False, 30.0]]


@pytest.mark.parametrize(
    "choices, error, said",
    [
        (["file"], NotFound, "no toolgroup 'file'. It has: files, weather."),
        (["files/write"], NotFound, "Toolgroup files has no tool 'write'. It has: count, read."),
        (["files", "files"], UsageError, "name files twice"),
        (["files", "files/read"], UsageError, "name files/read twice"),
        (["files/read", "files/read"], UsageError, "name files/read twice"),
        (["weather", forecast], UsageError, "Two of the tools are named forecast"),
    ],
)
async def test_what_is_unknown_or_there_twice_is_refused_by_name(
    choices: list[Choice], error: type[EvrtError], said: str
) -> None:
    """B51"""
    async with App("memory://") as app:
        app.toolgroup(two())
        app.toolgroup(ToolGroup("weather", [forecast]))
        with pytest.raises(error) as refused:
            app.agent("helper", tools=choices)
        assert said in str(refused.value)
        app.agent("other")
        if all(isinstance(choice, str) for choice in choices):
            with pytest.raises(error) as refused:
                await app.run("other", "Hello.", toolgroups=choices)  # type: ignore[arg-type]
            assert said in str(refused.value)
            assert await (await app.log()).streams("run-") == []


async def test_a_tool_that_turns_out_not_to_be_there_fails_the_run_by_name() -> None:
    """B51"""
    async with App("memory://") as app:
        app.toolgroup(Asking())
        offering(app, ["asked/rain"])
        run = await app.run("helper", "Hello.")
        assert run.failure is not None
        assert run.failure.message == "Toolgroup asked has no tool 'rain'. It has: forecast."


def test_names_of_groups_and_tools_are_unique() -> None:
    """B51"""
    app = App("memory://")
    app.toolgroup(two())
    with pytest.raises(UsageError, match="Two toolgroups are named 'files'"):
        app.toolgroup(ToolGroup("files", []))
    with pytest.raises(UsageError, match="has read twice"):
        ToolGroup("more", [read, read])
    other = Tool.from_function(lambda name: name, name="read", effect="pure")
    with pytest.raises(UsageError, match="rename the one given to toolgroup 'other'"):
        app.toolgroup(ToolGroup("other", [other]))
    with pytest.raises(UsageError, match="a text without a /, not 'a/b'"):
        ToolGroup("a/b", [])


async def test_resolving_keeps_the_order_in_which_tools_are_named() -> None:
    groups = ToolGroups()
    groups.add(two())
    check_choices(["files/count", forecast, "files/read"], groups)
    async with App("memory://") as app:
        seen: list[str] = []

        @app.workflow
        async def asks(ctx: Ctx) -> None:
            seen.extend(
                each.name for each in await resolve(ctx, ["files/count", forecast, "files/read"], groups)
            )

        await app.run(asks)
        assert seen == ["count", "forecast", "read"]
