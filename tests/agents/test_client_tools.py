"""Tools that the client of a run executes: the run waits for what it sends."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from evrt import App, Conflict, NotFound, UsageError, client_tool, tool
from evrt.effects.contract import ModelRequest
from evrt.events.calls import QuestionAsked
from evrt.testing import Reply, ScriptedModel, call, calls
from runtime.logs import Ctx, same_after_every_crash, watch

CITY: Any = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
show_map = client_tool("show_map", "Shows a map to the user.", CITY)
locate = client_tool("locate", "Where the user is.")

made: list[str] = []


@tool(effect="read")
def weather(city: str) -> str:
    made.append(city)
    return f"{city}: 26 °C"


def answers_with_results(wanted: Reply) -> ScriptedModel:
    def says(request: ModelRequest) -> Reply:
        results = [str(m["content"]) for m in request.messages if m["role"] == "tool"]
        return " | ".join(results) or wanted

    return ScriptedModel(says)


def guide(app: App, wanted: Reply) -> None:
    made.clear()
    app.models["script"] = answers_with_results(wanted)
    app.agent("guide", model="script", tools=[weather, show_map, locate])


async def test_a_run_waits_for_its_client_with_the_tool_and_its_arguments_there_to_be_read() -> None:
    """S3.5, S3.17, B52"""
    async with App("memory://") as app:
        guide(app, call("show_map", city="Turin"))
        run = await app.run("guide", "Where am I?")
        assert (run.reason, run.waiting_for) == ("question", ("show_map#1/client#1",))
        [waiting] = (await app.get(run.run_id)).journal.waiting_for_answer()
        asked = waiting.intent.event if waiting.intent else None
        assert isinstance(asked, QuestionAsked)
        assert (asked.tool, asked.arguments, asked.tool_call_id) == (
            "show_map",
            {"city": "Turin"},
            "call_1_0",
        )
        assert asked.question == 'The client is to execute show_map with {"city":"Turin"}'
        await app.tool_result(run.run_id, "call_1_0", {"shown": True}, by="browser")
        ended = await app.resume(run.run_id)
        assert ended.output == '{"shown":true}'
        assert (await app.replay(run.run_id)).complete
        trusted = [e.event.model_dump() for e in (await app.get(run.run_id)).events if "completed" in e.type]
        assert trusted[1]["result"] == {"shown": True}


async def test_the_servers_tools_of_a_round_have_their_results_before_the_run_waits_for_its_client() -> None:
    """B52"""
    async with App("memory://") as app:
        guide(app, calls(call("show_map", city="Turin"), call("weather", city="Turin"), call("locate")))
        watched = await watch(app)
        run = await app.run("guide", "Go.")
        types = [e.type for e in (await app.get(run.run_id)).events]
        assert made == ["Turin"]
        assert types.index("tool_call.completed") < types.index("question.asked")
        first, second = (each.rpartition("/")[0].rpartition("/")[2] for each in run.waiting_for)
        assert {first, second} == {"show_map#1", "locate#1"}
        # Results come in any order.
        await app.tool_result(run.run_id, "call_1_2", "in Turin")
        assert (await app.resume(run.run_id)).status == "waiting"
        await app.tool_result(run.run_id, "call_1_0", "shown")
        ended = await app.resume(run.run_id)
        assert ended.output == "shown | Turin: 26 °C | in Turin"
        assert made == ["Turin"]
        assert (await app.replay(run.run_id)).complete
        assert sum("question.asked" in each for each in watched.types) >= 1


async def test_what_a_client_could_not_do_is_an_error_the_model_reads() -> None:
    """B52"""
    async with App("memory://") as app:
        guide(app, call("show_map", city="Turin"))
        run = await app.run("guide", "Go.")
        await app.tool_result(run.run_id, "call_1_0", error="no screen")
        ended = await app.resume(run.run_id)
        assert "ClientToolFailed" in ended.output
        assert "no screen" in ended.output
        assert (await app.replay(run.run_id)).complete


async def test_arguments_that_do_not_fit_never_reach_the_client() -> None:
    """S3.5"""
    async with App("memory://") as app:
        guide(app, call("show_map", town="Turin"))
        run = await app.run("guide", "Go.")
        assert run.status == "succeeded"
        assert "'city' is a required property" in run.output


async def test_a_result_is_for_a_call_that_waits_and_each_takes_one() -> None:
    """B52"""
    async with App("memory://") as app:
        guide(app, call("show_map", city="Turin"))
        run = await app.run("guide", "Go.")
        with pytest.raises(NotFound, match=r"has no call 'call_9' .* It waits for: call_1_0\."):
            await app.tool_result(run.run_id, "call_9", 1)
        with pytest.raises(UsageError, match="to a result or to an error"):
            await app.tool_result(run.run_id, "call_1_0", 1, error="both")
        await app.tool_result(run.run_id, "show_map#1/client#1", None)
        with pytest.raises(Conflict, match=r"The call call_1_0 of .* has its result already"):
            await app.tool_result(run.run_id, "call_1_0", 1)
        assert (await app.resume(run.run_id)).output == "null"
        with pytest.raises(Conflict, match=r"has ended \(succeeded\)"):
            await app.tool_result(run.run_id, "call_1_0", 1)


async def test_calls_that_a_model_gave_one_id_are_told_apart_by_their_operations() -> None:
    """B52"""
    async with App("memory://") as app:

        @app.workflow
        async def asks(ctx: Ctx) -> list[Any]:
            same: Any = {"id": "x", "function": {"name": "locate", "arguments": "{}"}}
            both = await ctx.gather(ctx.perform(same, [locate]), ctx.perform(same, [locate]))
            return [one.value for one in both]

        run = await app.run(asks)
        with pytest.raises(UsageError, match="several calls with the id x: name one of gather#1:0/locate#1"):
            await app.tool_result(run.run_id, "x", 1)
        for number, operation in enumerate(run.waiting_for):
            await app.tool_result(run.run_id, operation, number)
        ended = await app.resume(run.run_id)
        assert sorted(ended.output) == [0, 1]


async def test_what_a_client_sends_makes_the_run_distrusted_unless_it_is_trusted() -> None:
    """B52"""
    sure = client_tool("sure", "Of our own making.", trusted=True)
    async with App("memory://") as app:

        @app.workflow
        async def asks(ctx: Ctx) -> list[Any]:
            await ctx.call(sure)
            before = ctx.untrusted
            await ctx.call(locate)
            return [before, ctx.untrusted]

        run = await app.run(asks)
        await app.answer(run.run_id, "as a plain answer")
        run = await app.resume(run.run_id)
        await app.tool_result(run.run_id, run.waiting_for[0], 1)
        assert (await app.resume(run.run_id)).output == [[], ["tool:locate"]]


async def test_a_run_that_waited_for_its_client_is_the_same_after_every_crash() -> None:
    """B52"""
    async with App("memory://") as app:
        guide(app, calls(call("show_map", city="Turin"), call("weather", city="Turin")))
        watched = await watch(app)
        run = await app.run("guide", "Go.")
        await app.tool_result(run.run_id, "call_1_0", "shown")
        ended = await app.resume(run.run_id)
        assert ended.status == "succeeded"
        positions = watched.boundaries
        answered = next(
            e.position for e in (await app.get(run.run_id)).events if e.type == "question.answered"
        )
        watched.landed = [one for one in watched.landed if one.result().position >= answered]
        assert len(watched.landed) < len(positions)
        await same_after_every_crash(app, watched, run.run_id)


async def test_the_command_line_says_which_tool_waits_with_what(tmp_path: Path) -> None:
    """B52"""
    from evrt.cli.waiting import wait_text

    async with App(f"sqlite:///{tmp_path}/evrt.db") as app:
        guide(app, call("show_map", city="Turin"))
        run = await app.run("guide", "Go.")
        [waiting] = (await app.get(run.run_id)).journal.waiting_for_answer()
        assert 'The client is to execute show_map with {"city":"Turin"}' in wait_text(waiting)
        views = await app.views()
        found = (await views.view("questions", run.run_id, "show_map#1/client#1")).value
        assert found.question.startswith("The client is to execute show_map")
        assert found.details == {
            "tool": "show_map",
            "arguments": {"city": "Turin"},
            "tool_call_id": "call_1_0",
        }
