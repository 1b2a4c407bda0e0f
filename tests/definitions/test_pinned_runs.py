"""A run keeps to the revision that it was asked for with, in whatever process and whatever has been defined since."""

from __future__ import annotations

from typing import Any

import pytest

import evrt
from definitions.apps import app_with, system_prompt, weather
from evrt.effects.contract import ModelRequest
from evrt.errors import NotFound, UsageError
from evrt.testing import ScriptedModel, call
from evrt.worker.worker import Worker, working
from runtime.logs import Ctx, ended


async def requested(app: evrt.App, run: str) -> Any:
    """What asked for a run."""
    return (await app.get(run)).journal.requested


async def test_an_agent_that_is_defined_as_data_runs_by_its_key() -> None:
    """S0.25, S0.26, B5: configuration, tools by name and by group, knowledge; recorded with its revision."""
    app, model = app_with("memory://", [call("weather", city="Turin"), "18 C."])
    async with app:
        await app.agents.define(
            "support",
            {"model": "m", "instructions": "Be brief.", "toolgroups": ["outdoors"], "tools": ["prices"]},
        )
        run = await app.run("support", "Turin?")
        assert run.output == "18 C."
        assert [tool["function"]["name"] for tool in model.requests[0].tools] == [  # type: ignore[index, call-overload]
            *("remember", "recall", "forget"),
            *("prices", "weather"),
        ]
        asked = await requested(app, run.run_id)
        assert (asked.target, asked.revision, asked.defined_at) == ("support", 1, 1)
        assert (await app.replay(run.run_id)).complete


async def test_a_run_goes_on_and_replays_with_its_own_revision() -> None:
    """S0.25: resume and replay use the pinned revision, though another is active, the parent changed, the agent retired."""

    def script(request: ModelRequest) -> Any:
        return call("asks") if request.messages[-1]["role"] == "user" else "Done."

    app, model = app_with("memory://", script)

    @evrt.tool
    async def asks(ctx: Ctx) -> str:
        """Ask a person."""
        return str(await ctx.ask("Sure?"))

    app.add_tools(asks)
    async with app:
        await app.agents.define("base", {"model": "m", "instructions": "base one"})
        await app.agents.define("support", {"tools": ["asks"]}, parent="base")
        await app.systems.define("desk", prefix="desk one")
        await app.systems.add_member("desk", "support")
        run = await app.run("support", "hi")
        assert run.status == "waiting"
        await app.agents.revise("base", {"model": "n", "instructions": "base two"})
        await app.agents.revise("support", {"tools": [], "instructions": "two"})
        await app.systems.revise("desk", prefix="desk two")
        await app.agents.retire("support")
        app.agents.refresh()
        await app.answer(run.run_id, "yes")
        assert (await app.resume(run.run_id)).output == "Done."
        assert system_prompt(model) == "desk one\n\n---\n\nbase one"
        assert model.requests[-1].model == "m"
        assert (await app.replay(run.run_id)).complete
        await app.agents.activate("support", 2)
        assert (await app.run("support", "hi")).output == "Done."


async def test_workers_execute_agents_that_their_app_has_not_in_code(file_url: str) -> None:
    """S0.25: a worker finds the definition in the log, also of an agent that was defined after it began."""
    app, _ = app_with(file_url)
    other, model = app_with(file_url)
    async with app, other:
        async with working(Worker(other, poll_seconds=0.05)):
            await app.agents.define("support", {"model": "m", "instructions": "one"})
            queued = await app.enqueue("support", "hi")
            await app.agents.revise("support", {"model": "m", "instructions": "two"})
            await queued.result()
        assert (await ended(app, queued.run_id)).output == "Yes."
        assert system_prompt(model) == "one"


async def test_definitions_live_on_postgresql_as_well(empty_postgres: str) -> None:
    """S0.25: the same on the other store: defined, inherited, in a system, run, resumed by another app."""
    app, _ = app_with(empty_postgres)
    other, model = app_with(empty_postgres)
    async with app, other:
        await app.agents.define("base", {"model": "m", "instructions": "one"})
        await app.agents.define("support", {}, parent="base")
        await app.systems.define("desk", prefix="Desk.")
        await app.systems.add_member("desk", "support")
        queued = await app.enqueue("support", "hi")
        await app.agents.revise("base", {"model": "m", "instructions": "two"})
        assert (await other.agents.effective_config("support")).instructions == "two"
        assert (await other.resume(queued.run_id)).output == "Yes."
        assert system_prompt(model) == "Desk.\n\n---\n\none"
        assert [one.key for one in await other.agents.list()] == ["base", "support"]


async def test_a_worker_may_serve_some_of_them_only(file_url: str) -> None:
    """S1.32: --agents names agents that are defined as data as well."""
    app, _ = app_with(file_url)
    async with app:
        await app.agents.define("one", {"model": "m"})
        await app.agents.define("two", {"model": "m"})
        first, second = await app.enqueue("one", "hi"), await app.enqueue("two", "hi")
        with pytest.raises(UsageError, match="no agent or workflow named two"):
            Worker(app, targets=["two"])
        async with working(Worker(app, targets=["two"], defined=["two"])):
            await second.result()
        assert (await app.get(first.run_id)).status == "queued"


async def test_a_child_is_found_in_the_log_and_pinned_as_well() -> None:
    """S0.25: code starts an agent that is defined as data as a child, by its key."""
    app, model = app_with("memory://")

    @app.workflow
    async def parent(ctx: Ctx) -> Any:
        return await ctx.child("support", "hi")

    @app.workflow
    async def lost(ctx: Ctx) -> Any:
        return await ctx.child("nobody", "hi")

    async with app:
        await app.agents.define("support", {"model": "m", "instructions": "one"})
        run = await app.run(parent)
        await app.agents.revise("support", {"model": "m", "instructions": "two"})
        [child] = [one for one in await (await app.log()).streams("run-") if one != run.run_id]
        await app.resume(child)
        assert (await app.resume(run.run_id)).output == "Yes."
        assert (await requested(app, child)).revision == 1
        assert system_prompt(model) == "one"
        assert (await app.replay(run.run_id)).complete
        assert (await app.replay(child)).complete
        failed = await app.run(lost)
        assert failed.failure is not None
        assert failed.failure.error_type == "NotFound"


async def test_the_model_of_the_run_goes_before_the_agents_and_that_before_the_apps() -> None:
    """B9: params > config > default."""
    app, model = app_with("memory://", default_model="o")
    app.agent("coded", model="n")
    app.workflow(name="flow")(flow)
    async with app:
        await app.agents.define("plain", {})
        await app.agents.define("own", {"model": "m"})
        for target, asked, used in (
            ("plain", None, "o"),
            ("own", None, "m"),
            ("own", "n", "n"),
            ("plain", "n", "n"),
            ("coded", None, "n"),
            ("coded", "m", "m"),
        ):
            run = await app.run(target, "hi", model=asked)
            assert model.requests[-1].model == used, target
            assert (await requested(app, run.run_id)).model == asked
            assert (await app.replay(run.run_id)).complete
        with pytest.raises(UsageError, match="flow is a workflow, whose code says which models it calls"):
            await app.run("flow", model="m")


async def flow(ctx: Ctx) -> None:
    """Nothing."""


async def test_a_tool_that_the_app_does_not_have_is_named() -> None:
    """B51: unknown tools and groups are refused, by name, with those there are."""
    app, _ = app_with("memory://")
    async with app:
        for config, text in (
            (
                {"tools": ["rain"]},
                "names the tool 'rain', which the app does not have. It has: prices, weather",
            ),
            ({"tools": ["outdoors/rain"]}, "'outdoors/rain', .* The group 'outdoors' has: weather"),
            ({"tools": ["indoors/rain"]}, "names the group of tools 'indoors', .* It has: outdoors"),
            ({"toolgroups": ["string"]}, "names the group of tools 'string'"),
        ):
            key = f"agent {text}"[:40]
            await app.agents.define(key, {"model": "m", **config})
            with pytest.raises(NotFound, match=text):
                await app.run(key, "hi")


async def test_a_run_whose_tools_its_worker_does_not_have_waits_for_one_that_does(file_url: str) -> None:
    """S0.25: a deployment without the tool leaves the run to another."""
    app, _ = app_with(file_url)
    poor = evrt.App(file_url, models={"m": ScriptedModel(["Never."])})
    async with app, poor:
        await app.agents.define("support", {"model": "m", "tools": ["weather"]})
        queued = await app.enqueue("support", "hi")
        worker = Worker(poor, poll_seconds=0.05)
        async with working(worker):
            while not worker.figures.troubled:
                await (await poor.log()).watch().wait(0.05)
        assert (await app.get(queued.run_id)).status == "queued"
        assert (await app.resume(queued.run_id)).output == "Yes."


async def test_a_tool_that_is_named_has_a_time_limit_and_may_need_leave() -> None:
    """B10: confirmation, and 30 seconds where neither the agent nor the tool says otherwise."""
    from evrt.agents.config import config_of
    from evrt.definitions.building import tools_of
    from evrt.effects.tools import Tool

    app, _ = app_with("memory://")
    config = config_of(
        {"tools": ["weather", "prices", {"name": "outdoors/weather", "timeout_seconds": 2, "confirm": True}]}
    )
    first, second, third = (one for one in tools_of("support", config, app) if isinstance(one, Tool))
    assert [tool.timeout_seconds for tool in (first, second, third)] == [30.0, 5.0, 2.0]
    assert [tool.confirm for tool in (first, second, third)] == [False, False, True]
    assert weather.timeout_seconds is None


async def test_what_was_said_to_an_agent_that_is_defined_as_data_is_edited_and_asked_again() -> None:
    """B19: with the revision that it was asked for with."""
    app, _ = app_with("memory://", lambda request: str(request.messages[-1]["content"]))
    async with app:
        await app.agents.define("support", {"model": "m"})
        await app.run("support", "one", conversation="c", user="ann")
        await app.agents.revise("support", {"model": "n"})
        edited = await (await app.conversations.edit("c", 0, "two"))
        assert edited.output == "two"
        again = await (await app.conversations.retry("c"))
        assert again.output == "two"
        assert (await requested(app, again.run_id)).revision == 1
        assert [message["content"] for message in await app.message_history("c")] == ["two", "two"]  # type: ignore[index, call-overload]
