"""Every setting of a configuration reaches the agent that a run executes."""

from __future__ import annotations

from typing import Any

import pytest

from definitions.apps import app_with, system_prompt
from evrt.agents.agent import Agent
from evrt.agents.approving import Approvals
from evrt.agents.compaction import Compaction
from evrt.agents.config import AgentConfig, Limits, config_of
from evrt.agents.limits import LoopLimits
from evrt.agents.questions import Questions
from evrt.definitions.building import agent_of
from evrt.events import JsonObject
from evrt.requesting import Pin
from evrt.testing import call


def built(config: JsonObject) -> Agent:
    """The agent of a configuration."""
    app, _ = app_with("memory://")
    return agent_of("support", config_of(config), None, Pin(1), app)


@pytest.mark.parametrize(
    "config, field, value",
    [
        ({"model": "m"}, "model", "m"),
        ({"instructions": "Be kind."}, "instructions", "Be kind."),
        ({"parameters": {"seed": 1}}, "parameters", {"seed": 1}),
        ({}, "memory", True),
        ({"memory_enabled": False}, "memory", False),
        ({"extra": {"memory_enabled": False}}, "memory", False),
        ({"extra": {"memory_enabled": True, "x": 1}}, "memory", True),
        ({}, "limits", LoopLimits()),
        (
            {"limits": {"model_turns_max": 2, "tool_rounds_max": 3, "tokens_max": 4, "cost_usd_max": 0.5}},
            "limits",
            LoopLimits(model_turns_max=2, tool_rounds_max=3, tokens_max=4, cost_usd_max=0.5),
        ),
        (
            {"limits": {"wall_clock": "10m", "tool_errors_max": None}},
            "limits",
            LoopLimits(wall_clock="10m", tool_errors_max=None),
        ),
        ({}, "timeout_seconds", 900.0),
        ({"limits": {"timeout": "2m"}}, "timeout_seconds", 120.0),
        ({"limits": {"timeout": None}}, "timeout_seconds", None),
        ({"input_shields": ["a"]}, "input_shields", ("a",)),
        ({"output_shields": ["b"]}, "output_shields", ("b",)),
        ({"approvals": {}}, "approvals", Approvals()),
        (
            {"approvals": {"writes": "always", "tools": {"x": "never"}, "expires": "2d"}},
            "approvals",
            Approvals("always", {"x": "never"}, "2d"),
        ),
        ({"questions": {"autonomy": "low"}}, "questions", Questions("low")),
        ({}, "questions", None),
        ({"tier": "small", "tiers": {"small": "m"}}, "tier", "small"),
        ({"compaction": {"budget": 500}}, "compaction", Compaction(500)),
        ({"history_messages_max": 0}, "history_messages_max", 0),
        ({"tools": ["weather"], "terminal_tools": ["weather"]}, "terminal_tools", ("weather",)),
        ({"tools": ["weather"], "tool_choice": "required"}, "require_tool_call", True),
        ({"tools": ["weather"], "tool_choice": "none"}, "tools", ()),
        ({"tool_choice": "required"}, "require_tool_call", False),
    ],
)
def test_a_setting_reaches_the_agent(config: JsonObject, field: str, value: object) -> None:
    """S0.21, S0.25, S3.6, S3.7: each field, and its default."""
    assert getattr(built(config), field) == value


def test_sub_agents_tiers_and_client_tools_are_made_of_their_entries() -> None:
    """S3.5, B59: what is more than a value."""
    agent = built(
        {
            "sub_agents": [
                "a",
                {"agent": "b", "mode": "handoff", "context": "message_only", "description": "d"},
            ],
            "tiers": {"small": "m", "frontier": {"model": "n", "parameters": {"seed": 1}}},
            "client_tools": [{"name": "pick", "description": "Pick.", "parameters": {"type": "object"}}],
            "output_schema": {"type": "object"},
        }
    )
    first, second = agent.sub_agents
    assert (first.key, first.mode, first.context) == ("a", "delegate", "full")
    assert (second.key, second.mode, second.context, second.description) == (
        "b",
        "handoff",
        "message_only",
        "d",
    )
    assert agent.tiers is not None
    client: Any = agent.tools[0]
    assert (client.name, client.client) == ("pick", True)
    assert agent.output is not None
    assert agent.output.schema == {"type": "object"}


def test_the_defaults_are_those_of_agents_in_code() -> None:
    """S0.25: a configuration that says nothing is an agent that says nothing, but for memory."""
    limits = Limits()
    assert LoopLimits(**limits.model_dump(exclude={"timeout"})) == LoopLimits()
    said_nothing, code = built({}), Agent(name="support")
    for field in (
        "input_shields",
        "tools",
        "terminal_tools",
        "history_messages_max",
        "stop_on_text",
        "markers",
        "tier",
        "parameters",
    ):
        assert getattr(said_nothing, field) == getattr(code, field)
    assert AgentConfig() == config_of({})


async def test_an_agent_that_is_defined_as_data_remembers_unless_it_is_told_not_to() -> None:
    """S0.21, S0.26: memory is on by default; off, there are no tools and nothing is recalled."""
    app, model = app_with(
        "memory://", [call("remember", key="user.name", value="Ann"), "Noted.", "Hello Ann.", "Who?"]
    )
    async with app:
        await app.agents.define("support", {"model": "m"})
        await app.agents.define("forgetful", {"model": "m", "extra": {"memory_enabled": False}})
        await app.run("support", "I am Ann.", user="ann")
        await app.run("support", "Hello", user="ann")
        assert "- **User > Name**: Ann" in system_prompt(model)
        names = [tool["function"]["name"] for tool in model.requests[-1].tools]  # type: ignore[index, call-overload]
        assert names == ["remember", "recall", "forget"]
        await app.run("forgetful", "Hello", user="ann")
        assert system_prompt(model) == ""
        assert not model.requests[-1].tools


async def test_agents_of_one_system_share_what_they_remember_of_a_user() -> None:
    """S0.5, S0.24: the system that a run works in is that of its shared memory."""
    app, model = app_with(
        "memory://", [call("remember", key="size", value="L", scope="system"), "Noted.", "L."]
    )
    async with app:
        await app.systems.define("desk", prefix="Desk.")
        for key in ("first", "second"):
            await app.agents.define(key, {"model": "m"})
            await app.systems.add_member("desk", key)
        await app.run("first", "I wear L.", user="ann")
        run = await app.run("second", "My size?", user="ann")
        assert run.output == "L."
        prompt = system_prompt(model)
        assert prompt.startswith("Desk.\n\n")
        assert "## Shared Knowledge" in prompt
        assert "- **Size**: L" in prompt
        assert (await app.replay(run.run_id)).complete


async def test_a_sub_agent_is_found_by_its_key() -> None:
    """S0.25, B7: an agent that is defined as data asks another one, which is defined as data too."""
    from evrt.worker.worker import Worker, working

    app, model = app_with(
        "memory://", [call("delegate_to_expert", message="What is it?"), "It is a cup.", "A cup."]
    )
    async with app:
        await app.agents.define("expert", {"model": "n", "memory_enabled": False})
        await app.agents.define("support", {"model": "m", "sub_agents": ["expert"], "memory_enabled": False})
        async with working(Worker(app, poll_seconds=0.05)):
            queued = await app.enqueue("support", "This?")
            result = await queued.result()
        assert result.output == "A cup."
        assert [request.model for request in model.requests] == ["m", "n", "m"]
