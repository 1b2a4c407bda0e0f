"""The tools by which a model remembers, recalls and forgets."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from typing import Any

import orjson
import pytest

import evrt
from evrt.agents.memory_tools import memory_tools
from runtime.logs import Ctx, place_in

NOT_AVAILABLE = {"error": "Memory not available", "hint": "Memory requires a logged-in user"}
Call = tuple[str, Any]
MEMBER: dict[str, Any] = {"user": "ann", "conversation": "c1"}


def new_app(**more: Any) -> evrt.App:
    """An app of agents that make the calls they are given, in a system and out of one."""
    app = evrt.App("memory://", **more)

    async def calls(ctx: Ctx, wanted: list[Any]) -> list[Any]:
        answers, transcript = [], ctx.transcript()
        for number, (name, arguments) in enumerate(wanted):
            text = arguments if isinstance(arguments, str) else json.dumps(arguments)
            call: Any = {"id": f"call_{number}", "function": {"name": name, "arguments": text}}
            outcome = await ctx.perform(call, memory_tools())
            transcript.add_result(outcome)
            answers.append(transcript.messages[-1]["content"])
        return answers

    for name, system in (("helper", "office"), ("clerk", "office"), ("spy", "elsewhere"), ("loner", None)):
        app.workflow(name=name)(calls)
        place_in(app, name, system)
    return app


async def ask(app: evrt.App, *wanted: Call, agent: str = "helper", **whose: Any) -> list[Any]:
    """What the model is answered to these calls, as JSON."""
    run = await app.run(agent, list(wanted), **(whose or MEMBER))
    assert run.status == "succeeded", run.failure
    report = await app.replay(run.run_id)
    assert report.complete, report.divergence
    return [orjson.loads(answer) for answer in run.output]


# ------------------------------------------------------------------------------------------- schemas


def test_the_model_is_shown_three_tools_with_their_parameters_scopes_and_defaults() -> None:
    """S0.1, S0.2, S0.3"""
    shown = {}
    for tool in memory_tools():
        function: Any = tool.to_openai_format()["function"]
        parameters = function["parameters"]
        assert parameters["type"] == "object"
        assert function["description"]
        shown[tool.name] = (
            {name: one["type"] for name, one in parameters["properties"].items()},
            parameters["required"],
            parameters["properties"]["scope"]["enum"],
            parameters["properties"]["scope"]["default"],
        )
    three = ["conversation", "user", "system"]
    texts = {"key": "string", "scope": "string"}
    assert shown == {
        "remember": (
            {"key": "string", "value": "string", "scope": "string"},
            ["key", "value"],
            three,
            "user",
        ),
        "recall": (texts, ["key"], [*three, "all"], "all"),
        "forget": (texts, ["key"], three, "user"),
    }
    assert all(tool.in_run for tool in memory_tools())


# ------------------------------------------------------------------------------------------- answers

K = {"key": "user.name"}
KV = {**K, "value": "Ann"}
AGENT = "agent:helper"


@pytest.mark.parametrize(
    "calls, answer",
    [
        # S0.1, S0.10: without a scope it is the user's, and set again it is replaced.
        ([("remember", KV)], {"success": True, "message": "Remembered: user.name (scope: user)"}),
        (
            [("remember", {**KV, "scope": "conversation"})],
            {"success": True, "message": "Remembered: user.name (scope: conversation)"},
        ),
        (
            [("remember", {**KV, "scope": "system"})],
            {"success": True, "message": "Remembered: user.name (scope: system)"},
        ),
        (
            [("remember", KV), ("remember", {**K, "value": "Bea"}), ("recall", K)],
            {"memories": [{"key": "user.name", "value": "Bea", "scope": "user", "source": AGENT}]},
        ),
        # S0.9, S0.13
        ([("recall", {"key": "tea"})], {"memories": [], "message": "No memories found for key: tea"}),
        (
            [("remember", KV), ("recall", {"key": "user"})],
            {"memories": [{"key": "user.name", "value": "Ann", "scope": "user", "source": AGENT}]},
        ),
        # S0.14
        ([("remember", KV), ("forget", K)], {"success": True, "message": "Forgot: user.name"}),
        ([("forget", K)], {"success": False, "message": "No memory found with key: user.name"}),
        (
            [("remember", {**KV, "scope": "conversation"}), ("forget", K)],
            {"success": False, "message": "No memory found with key: user.name"},
        ),
        # S0.6
        (
            [("remember", {"key": "  tea ", "value": " green\n", "scope": " user "})],
            {"success": True, "message": "Remembered: tea (scope: user)"},
        ),
        (
            [
                ("remember", {"key": " tea ", "value": " green\n"}),
                ("recall", {"key": " tea", "scope": " all "}),
            ],
            {"memories": [{"key": "tea", "value": "green", "scope": "user", "source": AGENT}]},
        ),
        ([("remember", {})], {"error": "Missing required parameter: key"}),
        ([("remember", {"value": "x"})], {"error": "Missing required parameter: key"}),
        ([("remember", {"key": " ", "value": "x"})], {"error": "Missing required parameter: key"}),
        ([("remember", {"key": None, "value": "x"})], {"error": "Missing required parameter: key"}),
        ([("remember", {"key": "k"})], {"error": "Missing required parameter: value"}),
        ([("remember", {"key": "k", "value": "\t "})], {"error": "Missing required parameter: value"}),
        ([("recall", {"key": ""})], {"error": "Missing required parameter: key"}),
        ([("forget", {"scope": "user"})], {"error": "Missing required parameter: key"}),
        # S0.7, fault 3
        ([("remember", {**KV, "scope": "team"})], {"error": "Invalid scope: team"}),
        ([("remember", {**KV, "scope": "all"})], {"error": "Invalid scope: all"}),
        ([("remember", {**KV, "scope": " "})], {"error": "Invalid scope: "}),
        ([("forget", {**K, "scope": "all"})], {"error": "Invalid scope: all"}),
        ([("recall", {**K, "scope": "team"})], {"error": "Invalid scope: team"}),
        ([("recall", {**K, "scope": "USER"})], {"error": "Invalid scope: USER"}),
        ([("recall", {**K, "scope": 7})], {"error": "Invalid scope: 7"}),
        # fault 5
        ([("remember", {"key": 5, "value": "x"})], {"error": "Invalid parameter: key must be a string"}),
        ([("remember", {"key": "k", "value": 5})], {"error": "Invalid parameter: value must be a string"}),
        (
            [("remember", {"key": "k", "value": ["a"]})],
            {"error": "Invalid parameter: value must be a string"},
        ),
        ([("recall", {"key": {"a": 1}})], {"error": "Invalid parameter: key must be a string"}),
        ([("forget", {"key": False})], {"error": "Invalid parameter: key must be a string"}),
        # What the schema does not know is passed over, as a model may make up parameters.
        (
            [("remember", {**KV, "scope": None, "importance": "high"})],
            {"success": True, "message": "Remembered: user.name (scope: user)"},
        ),
        # fault 4
        (
            [("remember", {"key": "user.nameplate", "value": "x"}), ("recall", K)],
            {"memories": [], "message": "No memories found for key: user.name"},
        ),
    ],
)
async def test_the_model_is_answered_word_for_word(calls: list[Call], answer: Any) -> None:
    """S0.1, S0.6, S0.7, S0.9, S0.10, S0.13, S0.14, faults 3, 4, 5"""
    async with new_app() as app:
        assert (await ask(app, *calls))[-1] == answer


async def test_what_memory_refuses_is_an_answer_and_the_run_goes_on() -> None:
    """S0.15"""
    async with new_app(memory_policy=evrt.MemoryPolicy(memories_max=1)) as app:
        long, missed, after = await ask(
            app,
            ("remember", {"key": "k" * 10_000, "value": "x"}),
            ("recall", {"key": "k" * 10_000}),
            ("remember", KV),
        )
        assert long == missed
        assert long["error"].startswith("A memory key is text of 1 to 512 characters")
        assert after["success"] is True
        [second] = await ask(app, ("remember", {"key": "b", "value": "x"}))
        assert second["error"].startswith("This memory holds 1 of the 1 keys that it may hold")
        assert [item.key for item in await app.memory.list(user="ann")] == ["user.name"]


async def test_arguments_that_are_not_json_leave_memory_as_it_was() -> None:
    """S0.15"""
    async with new_app() as app:
        run = await app.run("helper", [("remember", "{nonsense")], **MEMBER)
        assert "not JSON" in run.output[0]
        assert await app.memory.list(user="ann") == ()


async def test_recall_searches_the_user_then_the_system_then_the_conversation() -> None:
    """S0.5, S0.11, S0.12"""
    async with new_app() as app:
        await ask(
            app,
            ("remember", {"key": "goal", "value": "3", "scope": "conversation"}),
            ("remember", {"key": "goal.second", "value": "2", "scope": "system"}),
            ("remember", {"key": "goal", "value": "1"}),
            ("remember", {"key": "goal.first", "value": "not found, as there is a goal"}),
        )
        [found] = await ask(app, ("recall", {"key": "goal"}))
        assert [(one["scope"], one["key"], one["value"]) for one in found["memories"]] == [
            ("user", "goal", "1"),
            ("system", "goal.second", "2"),
            ("conversation", "goal", "3"),
        ]
        [only] = await ask(app, ("recall", {"key": "goal", "scope": "system"}))
        assert [one["value"] for one in only["memories"]] == ["2"]


async def test_recall_finds_at_most_twenty_items_of_each_scope() -> None:
    """S0.12"""
    async with new_app() as app:
        values = {f"list.{number}": str(number) for number in range(21)}
        await app.memory.set_many(values, user="ann")
        await app.memory.set_many(values, conversation="c1")
        [found] = await ask(app, ("recall", {"key": "list"}))
        scopes = [one["scope"] for one in found["memories"]]
        assert (scopes.count("user"), scopes.count("conversation"), len(scopes)) == (20, 20, 40)


async def test_memory_crosses_conversations_only_in_the_scopes_that_say_so() -> None:
    """S0.5, S0.8, S0.17, fault 1"""
    async with new_app() as app:
        for scope in ("user", "conversation"):
            await ask(app, ("remember", {"key": scope, "value": "here", "scope": scope}))
        elsewhere = {"user": "ann", "conversation": "c2"}
        found = await ask(app, ("recall", {"key": "user"}), ("recall", {"key": "conversation"}), **elsewhere)
        assert [len(one["memories"]) for one in found] == [1, 0]
        # Without a conversation there is none, and never all of the user's.
        calls: Sequence[Call] = [
            ("recall", {"key": "conversation"}),
            ("recall", {"key": "user"}),
            ("recall", {"key": "conversation", "scope": "conversation"}),
            ("remember", {**KV, "scope": "conversation"}),
            ("forget", {"key": "conversation", "scope": "conversation"}),
        ]
        missed, known, *refused = await ask(app, *calls, user="ann")
        assert (missed["memories"], len(known["memories"])) == ([], 1)
        assert all(one["error"].startswith("This run has no conversation") for one in refused)
        assert await app.memory.get("conversation", conversation="c1") == "here"


async def test_the_system_s_memory_is_shared_by_its_agents_and_by_nobody_else() -> None:
    """S0.5, fault 2"""
    async with new_app() as app:
        await ask(app, ("remember", {**KV, "scope": "system"}))
        look = ("recall", {**K, "scope": "system"})
        [[shared], [other_system], [other_user]] = [
            await ask(app, look, agent="clerk", user="ann"),
            await ask(app, look, agent="spy", user="ann"),
            await ask(app, look, agent="clerk", user="bob"),
        ]
        assert [one["value"] for one in shared["memories"]] == ["Ann"]
        assert (other_system["memories"], other_user["memories"]) == ([], [])


@pytest.mark.parametrize("name, arguments", [("remember", KV), ("recall", K), ("forget", K)])
async def test_an_agent_in_no_system_has_no_memory_of_one(name: str, arguments: dict[str, str]) -> None:
    """S0.7"""
    async with new_app() as app:
        [answer] = await ask(app, (name, {**arguments, "scope": "system"}), agent="loner", user="ann")
        assert answer == {"error": "Invalid scope: system"}
        [found] = await ask(app, ("recall", K), agent="loner", user="ann")
        assert found["memories"] == []


# -------------------------------------------------------------------------------------------- principals

EVERY_CALL = [
    (name, {**KV, "scope": scope})
    for name in ("remember", "recall", "forget")
    for scope in ("user", "system", "conversation")
]


async def test_without_a_user_every_call_is_answered_with_the_reason() -> None:
    """S0.16, fault 6"""
    async with new_app() as app:
        scenes: list[dict[str, Any]] = [{"conversation": "c1"}, {"conversation": None}]
        for whose in scenes:
            calls = [*EVERY_CALL, ("recall", K), ("remember", {})]
            assert await ask(app, *calls, **whose) == [NOT_AVAILABLE] * len(calls)
        log = await app.log()
        assert await log.streams("memory-") == []


async def test_somebody_who_has_not_logged_in_has_the_memory_of_the_conversation_only() -> None:
    """S0.16"""
    visitor = evrt.Anonymous("session 1")
    async with new_app() as app:
        answers = await ask(app, *EVERY_CALL, user=visitor, conversation="c1")
        assert answers == [
            NOT_AVAILABLE,
            NOT_AVAILABLE,
            {"success": True, "message": "Remembered: user.name (scope: conversation)"},
            NOT_AVAILABLE,
            NOT_AVAILABLE,
            {"memories": [{"key": "user.name", "value": "Ann", "scope": "conversation", "source": AGENT}]},
            NOT_AVAILABLE,
            NOT_AVAILABLE,
            {"success": True, "message": "Forgot: user.name"},
        ]
        await ask(app, ("remember", {**KV, "scope": "conversation"}), user=visitor, conversation="c1")
        [everywhere] = await ask(app, ("recall", K), user=visitor, conversation="c1")
        assert [one["scope"] for one in everywhere["memories"]] == ["conversation"]
        assert await ask(app, ("recall", K), user=visitor) == [NOT_AVAILABLE]
        # A user of the same name is somebody else.
        [none] = await ask(app, ("recall", K), user="session 1")
        assert none["memories"] == []


# ------------------------------------------------------------------------------------------------- logs


async def test_the_log_names_key_and_scope_and_never_a_value(caplog: pytest.LogCaptureFixture) -> None:
    """S0.29"""
    async with new_app() as app:
        with caplog.at_level(logging.INFO, "evrt.run"):
            secret = {"key": "user.diagnosis", "value": "flu-7301"}
            await ask(
                app, ("remember", secret), ("recall", {"key": "user"}), ("forget", {"key": secret["key"]})
            )
    lines = [record.getMessage() for record in caplog.records if "user" in record.getMessage()]
    assert lines == [
        "Remembered 'user.diagnosis' (scope: user)",
        "Recalled 1 memories for 'user' (scope: all)",
        "Forgot 'user.diagnosis' (scope: user)",
    ]
    assert "flu-7301" not in caplog.text
