"""Agents as classes, whatever is inside; and exceptions that come through where somebody looks for a bug."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import pytest

from evrt import App, Context, NotFound, Retry, RunResult, ToolContext, UsageError, tool
from evrt.errors import WrongTask
from evrt.testing import ScriptedModel
from runtime.logs import Ctx


class Greeter:
    key = "greeter"

    async def run(self, ctx: Ctx) -> RunResult:
        [asked] = ctx.input_messages
        text = f"Hello, {asked['content']}."
        return RunResult(text, [asked, {"role": "assistant", "content": text}])


class Plain:
    key = "plain"

    async def run(self, ctx: Context[Any]) -> Any:
        return {"seen": await ctx.step("look", lambda: 7)}


async def test_a_class_with_a_key_and_a_run_is_an_agent() -> None:
    """S1.1, S1.2, S1.6"""
    async with App("memory://") as app:
        agent = app.register(Greeter())
        assert (agent.name, agent.kind, app.target("greeter")) == ("greeter", "agent", agent)
        run = await app.run("greeter", "Ann")
        assert run.output == {
            "final_output": "Hello, Ann.",
            "final_messages": [
                {"role": "user", "content": "Ann"},
                {"role": "assistant", "content": "Hello, Ann."},
            ],
        }
        assert (await app.get(run.run_id)).journal.requested.kind == "agent"  # type: ignore[union-attr]
        assert (await app.replay(run.run_id)).complete


async def test_what_it_returns_otherwise_is_its_output_as_it_is() -> None:
    """S1.1"""
    async with App("memory://") as app:
        app.register(Plain())
        run = await app.run("plain")
        assert run.output == {"seen": 7}


async def test_whoever_calls_it_from_code_gets_the_same() -> None:
    """S1.3"""
    async with App("memory://") as app:
        greeter = app.register(Greeter())

        @app.workflow
        async def calls(ctx: Ctx) -> Any:
            return (await ctx.call(greeter, "Bo"))["final_output"]

        assert (await app.run(calls)).output == "Hello, Bo."


@pytest.mark.parametrize(
    "made, said",
    [
        (Greeter, r"Register an instance: app.register\(Greeter\(\)\)"),
        (object(), "is no agent: one has a text `key`"),
        (type("Nameless", (), {"run": lambda self, ctx: None})(), "is no agent"),
        (type("Idle", (), {"key": "idle"})(), "is no agent"),
    ],
)
def test_what_is_no_agent_is_refused(made: Any, said: str) -> None:
    """S1.2"""
    with pytest.raises(UsageError, match=said):
        App("memory://").register(made)


def test_two_agents_of_one_key_are_refused() -> None:
    """S1.1"""
    app = App("memory://")
    app.register(Greeter())
    with pytest.raises(UsageError, match="registered twice"):
        app.register(Greeter())


def test_functions_named_in_a_list_register_what_they_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S1.2"""
    (tmp_path / "my_agents.py").write_text(
        "from agents.test_class_agents import Greeter\n\ndef register(app):\n    app.register(Greeter())\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    app = App("memory://")
    app.register_all(["my_agents:register"])
    assert "greeter" in app.targets
    for name, said in [
        ("my_agents", "write module:function"),
        ("my_agents:nothing", "the module my_agents has no function 'nothing'"),
        ("no_such_module:register", "there is no module 'no_such_module'"),
    ]:
        with pytest.raises(UsageError, match=said):
            app.register_all([name])
    sys.modules.pop("my_agents")


@tool(effect="read")
async def weather(city: str, context: ToolContext[Any]) -> str:
    if city == "Turin":
        await asyncio.sleep(0)  # So that the others come in between.
    return f"{city} by {context.operation}"


async def test_tool_calls_in_tasks_of_their_own_keep_their_places_by_the_scopes_they_name() -> None:
    """S1.3"""

    async def one(ctx: Ctx, city: str) -> str:
        async with ctx.scope(city):
            return str(await ctx.call(weather, city))

    class Tasks:
        key = "tasks"

        async def run(self, ctx: Ctx) -> list[str]:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(one(ctx, city)) for city in ("Turin", "Rome")]
            return [task.result() for task in tasks]

    class Careless:
        key = "careless"

        async def run(self, ctx: Ctx) -> Any:
            return await asyncio.create_task(ctx.call(weather, "Turin"))

    async with App("memory://") as app:
        app.register(Tasks())
        app.register(Careless())
        run = await app.run("tasks")
        assert run.output == ["Turin by scope%3ATurin/weather#1", "Rome by scope%3ARome/weather#1"]
        assert (await app.replay(run.run_id)).complete
        careless = await app.run("careless")
        assert careless.failure is not None
        assert careless.failure.error_type == WrongTask.__name__
        assert "ctx.scope(key)" in careless.failure.message


class Broken(Exception):
    pass


async def test_in_debug_an_exception_of_the_code_comes_through_once_it_is_recorded() -> None:
    """B28"""

    class Fails:
        key = "fails"

        async def run(self, ctx: Ctx) -> None:
            raise Broken("a bug")

    async with App("memory://", debug=True) as app:
        app.register(Fails())
        app.register(Greeter())
        with pytest.raises(Broken, match="a bug") as raised:
            await app.run("fails")
        assert any(entry.name == "run" for entry in raised.traceback), (
            "The line of the bug is in the traceback."
        )
        [run] = await (await app.log()).streams("run-")
        assert (await app.get(run)).status == "failed"
        assert (await app.run("greeter", "Ann")).status == "succeeded"
    async with App("memory://") as app:
        app.register(Fails())
        assert (await app.run("fails")).status == "failed"


async def test_in_debug_an_error_that_is_tried_again_comes_through_when_it_is_the_last() -> None:
    """B28"""
    tries: list[int] = []

    @tool(effect="read")
    def flaky() -> str:
        tries.append(1)
        raise ConnectionError("nobody there")

    class Patient:
        key = "patient"

        async def run(self, ctx: Ctx) -> Any:
            return await ctx.call(flaky)

    async with App("memory://", debug=True) as app:
        app.register(Patient(), retry=Retry(2, base_seconds=0.001))
        with pytest.raises(Exception, match="nobody there"):
            await app.run("patient")
        assert len(tries) == 2


async def test_an_agent_without_a_model_of_its_own_is_replayed_with_the_apps() -> None:
    """S1.8"""
    async with App("memory://", default_model="script", models={"script": ScriptedModel(["Hello."])}) as app:
        app.agent("helper")
        run = await app.run("helper", "Hi.")
        assert (await app.replay(run.run_id)).complete
        with pytest.raises(NotFound):
            await app.run("nobody")
