"""The features that docs/compatibility.md says are covered: one test for each row, on a real log."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from evrt import App, Context, Result, Retry, StepFailed, Tool, tool
from evrt.effects.contract import ModelError, ModelReply, ModelRequest
from evrt.errors import UnusableLog
from evrt.events import JsonObject
from evrt.events.calls import Usage
from evrt.log import Append, Draft
from evrt.log.ids import new_event_id
from evrt.testing import Reply, ScriptedModel, call, calls

QUICK = Retry(3, base_seconds=0.001)


@tool(effect="read")
def weather(city: str, days: int = 1) -> str:
    """The weather in a city."""
    return f"sunny in {city} for {days}"


@pytest.fixture
def app(tmp_path: Path) -> App:
    return App(f"sqlite:///{tmp_path / 'evrt.db'}")


async def recorded(app: App, result: Result, *types: str) -> list[dict[str, Any]]:
    """The events of these types as plain data."""
    events = (await app.get(result.run_id)).events
    return [{"type": e.type, **e.event.model_dump()} for e in events if e.type in types]


async def test_code_sees_its_input_as_messages_and_emits_events(app: App) -> None:
    """S1.4"""

    @app.workflow
    async def reader(ctx: Context[Any], question: str) -> list[JsonObject]:
        await ctx.emit("progress", {"done": 1})
        return ctx.input_messages

    async with app:
        result = await app.run(reader, "Why?")
        assert result.output == [{"role": "user", "content": "Why?"}]
        [emitted] = await recorded(app, result, "run.emitted")
        assert (emitted["name"], emitted["payload"]) == ("progress", {"done": 1})


async def test_code_speaks_to_the_user_and_reports_errors_without_ending(app: App) -> None:
    """S1.5"""

    @app.workflow
    async def speaker(ctx: Context[Any]) -> str:
        await ctx.say("Nearly there.")
        await ctx.report_error("The oven is cold.", {"degrees": 20})
        return "done"

    async with app:
        result = await app.run(speaker)
        said, error = await recorded(app, result, "message.produced", "error.reported")
        assert (said["role"], said["content"]) == ("assistant", "Nearly there.")
        assert (error["message"], error["details"]) == ("The oven is cold.", {"degrees": 20})
        assert result.status == "succeeded"


async def test_a_run_comes_to_an_output_and_to_messages(app: App) -> None:
    """S1.6"""
    app.models["script"] = ScriptedModel(["Hello."])
    app.agent("greeter", model="script", instructions="Be polite.")
    async with app:
        result = await app.run("greeter", "Hi.")
        assert result.output == "Hello."
        assert (await app.get(result.run_id)).messages == [
            {"role": "user", "content": "Hi."},
            {"role": "assistant", "content": "Hello."},
        ]


async def test_code_calls_a_model_with_messages_and_tools(app: App) -> None:
    """S1.7"""
    model = app.models["script"] = ScriptedModel([calls(call("weather", city="Turin"), text="Let me look.")])

    @app.workflow
    async def asks(ctx: Context[Any]) -> Any:
        reply = await ctx.model([{"role": "user", "content": "Hi."}], model="script", tools=[weather])
        return [reply.text, reply.message["role"], [made["function"] for made in reply.tool_calls]]

    async with app:
        text, role, made = (await app.run(asks)).output
    assert (text, role) == ("Let me look.", "assistant")
    assert made == [{"name": "weather", "arguments": '{"city":"Turin"}'}]
    assert isinstance(model, ScriptedModel)
    assert model.requests[0].tools == [weather.to_openai_format()]


async def test_a_model_is_chosen_by_call_by_agent_or_by_app_and_never_guessed(tmp_path: Path) -> None:
    """S1.8"""
    models = {name: ScriptedModel(lambda request: request.model) for name in ("apps", "agents", "calls")}
    app = App(f"sqlite:///{tmp_path / 'evrt.db'}", models=models, default_model="apps")
    app.agent("plain")
    app.agent("choosy", model="agents")

    @app.workflow
    async def asks(ctx: Context[Any]) -> str:
        return (await ctx.model("Hi.", model="calls")).text

    async with app:
        runs = {"plain": "Hi.", "choosy": "Hi.", "asks": None}
        said = [(await app.run(target, given)).output for target, given in runs.items()]
        assert said == ["apps", "agents", "calls"]
        app.default_model = None
        failed = await app.run("plain", "Hi.")
        assert failed.failure is not None
        assert failed.failure.message.startswith("No model is named")


async def test_a_function_is_a_tool_by_signature_and_docstring(app: App) -> None:
    """S1.9"""
    made = Tool.from_function(weather._function, name="forecast", effect="read")
    function = made.to_openai_format()["function"]
    assert isinstance(function, dict)
    assert (function["name"], function["description"]) == ("forecast", "The weather in a city.")
    parameters = function["parameters"]
    assert parameters["required"] == ["city"]
    assert {name: field["type"] for name, field in parameters["properties"].items()} == {
        "city": "string",
        "days": "integer",
    }

    @app.workflow
    async def executes(ctx: Context[Any]) -> Any:
        wished = {"name": "forecast", "arguments": '{"city": "Turin", "days": 2}'}
        outcome = await ctx.perform({"id": "c1", "type": "function", "function": wished}, [made])
        return [outcome.value, outcome.tool_call_id, await ctx.call(made, "Rome")]

    async with app:
        assert (await app.run(executes)).output == ["sunny in Turin for 2", "c1", "sunny in Rome for 1"]


async def test_an_agent_calls_tools_until_the_model_calls_none(app: App) -> None:
    """S1.10"""
    model = ScriptedModel(
        [
            call("weather", city="Turin"),
            calls(call("weather", city="Rome"), call("nothing")),
            "Sunny in both.",
        ]
    )
    app.models["script"] = model
    app.agent("helper", model="script", tools=[weather])
    async with app:
        assert (await app.run("helper", "Weather?")).output == "Sunny in both."
    first = model.requests[1].messages[-1]
    assert first == {"role": "tool", "tool_call_id": "call_1_0", "content": "sunny in Turin for 1"}
    assert [message["role"] for message in model.requests[2].messages] == [
        *("user", "assistant", "tool"),
        *("assistant", "tool", "tool"),
    ]
    assert "There is no tool 'nothing'" in str(model.requests[2].messages[-1]["content"])


async def test_a_tool_call_and_its_result_are_events(app: App) -> None:
    """S1.11"""
    app.models["script"] = ScriptedModel([call("weather", city="Turin"), "Sunny."])
    app.agent("helper", model="script", tools=[weather])
    async with app:
        result = await app.run("helper", "Weather?")
        asked, came = await recorded(app, result, "tool_call.requested", "tool_call.completed")
    assert (asked["tool"], asked["arguments"]) == ("weather", {"city": "Turin"})
    assert asked["tool_call_id"] == "call_1_0"
    assert (came["operation"], came["result"]) == (asked["operation"], "sunny in Turin for 1")


async def test_an_agent_that_never_answers_ends_after_ten_turns_with_a_summary(app: App) -> None:
    """S4.8"""
    model = ScriptedModel(
        lambda request: call("weather", city="Turin") if request.tools else "It was sunny every time."
    )
    app.models["script"] = model
    app.agent("restless", model="script", tools=[weather])
    async with app:
        result = await app.run("restless", "Weather?")
    assert (result.status, result.output) == ("step_limit", "It was sunny every time.")
    assert len([request for request in model.requests if request.tools]) == 10


async def test_a_step_retries_times_out_and_is_not_made_again_on_resume(app: App) -> None:
    """B21"""
    made: list[str] = []

    def shaky() -> str:
        made.append("shaky")
        if len(made) < 3:
            raise ConnectionError("nobody there")
        return "there"

    @app.workflow
    async def steps(ctx: Context[Any]) -> Any:
        found = await ctx.step("look", shaky, effect="read", retry=QUICK)
        await ctx.emit("progress", {"half": True})
        slow = ""
        try:
            await ctx.step("wait", lambda: time.sleep(0.2), timeout="10ms")
        except StepFailed as error:
            slow = error.error_type
        return [found, slow, await ctx.ask("Go on?")]

    async with app:
        result = await app.run(steps)
        assert result.status == "waiting"
        await app.answer(result.run_id, "yes")
        result = await app.resume(result.run_id)
        assert result.output == ["there", "timeout", "yes"]
        assert made == ["shaky"] * 3
        happened = await recorded(app, result, "step.started", "step.failed", "step.completed", "run.emitted")
        assert [(event["type"], event.get("attempt")) for event in happened] == [
            ("step.started", None),
            ("step.failed", 1),
            ("step.failed", 2),
            ("step.completed", 3),
            ("run.emitted", None),
            ("step.failed", 1),
        ]


async def test_agents_are_tested_without_network_and_with_the_real_context() -> None:
    """B26"""
    model = ScriptedModel([call("weather", city="Turin"), "Sunny."])
    app = App("memory://", models={"script": model})
    app.agent("helper", model="script", tools=[weather])
    async with app:
        result = await app.run("helper", "Weather?")
        assert (await app.replay(result.run_id)).ok
    assert result.output == "Sunny."
    assert len(model.requests) == 2


async def test_a_run_has_three_attempts_by_itself(app: App) -> None:
    """S1.29"""
    made: list[str] = []

    def shaky() -> str:
        made.append("shaky")
        if len(made) < 3:
            raise ConnectionError("nobody there")
        return "there"

    @app.workflow
    async def looks(ctx: Context[Any]) -> Any:
        return [await ctx.step("first", lambda: 1), await ctx.step("look", shaky)]

    looks.retry = Retry(looks.retry.attempts_max, base_seconds=0.001)
    async with app:
        result = await app.run(looks)
        assert result.output == [1, "there"]
        retried = await recorded(app, result, "run.retry_scheduled")
        assert [(event["reopens"], event["attempt"]) for event in retried] == [("look#1", 1), ("look#1", 2)]


def test_the_waits_between_attempts_double_up_to_five_minutes() -> None:
    """B13"""
    retry = App("memory://").agent("helper").retry
    assert [retry.delay_seconds(attempt, 0.0) for attempt in range(1, 11)] == [
        *(1, 2, 4, 8, 16, 32, 64, 128, 256),
        300,
    ]


async def test_an_error_says_itself_that_trying_again_is_no_use(app: App) -> None:
    """B15"""
    made: list[str] = []

    class Refused(Exception):
        retriable = False

    @tool(effect="read", retry=QUICK)
    async def knock() -> None:
        made.append("knock")
        raise Refused("go away")

    @app.workflow(retry=QUICK)
    async def knocks(ctx: Context[Any]) -> None:
        await ctx.call(knock)

    async with app:
        result = await app.run(knocks)
        assert (result.status, len(made)) == ("failed", 1)
        [failed] = await recorded(app, result, "tool_call.failed")
        assert failed["retriable"] is False


@pytest.fixture
def talking(app: App) -> App:
    """An app with an agent that calls a tool before it answers, and fails when told to."""

    def reply(request: ModelRequest) -> Reply:
        said = request.messages[-1]
        if said["content"] == "fail":
            raise ModelError(
                "overloaded", "too much", retriable=False, usage=Usage(input_tokens=3, cost_usd=0.5)
            )
        if said["role"] == "user":
            return call("weather", city="Turin")
        message: JsonObject = {"role": "assistant", "content": str(said["content"])}
        return ModelReply(message, usage=Usage(input_tokens=10, output_tokens=4, cost_usd=0.25))

    app.models["script"] = ScriptedModel(reply)
    app.agent("helper", model="script", tools=[weather])
    return app


async def test_a_conversation_groups_the_runs_of_a_user_with_an_agent(talking: App) -> None:
    """S1.12"""
    async with talking as app:
        runs = [await app.run("helper", "Weather?", conversation="c", user="ann") for _ in range(2)]
        ref = (await app.get(runs[0].run_id)).state.conversation
        assert ref is not None
        header = (await (await app.views()).view("conversations", ref)).value
        assert await (await app.log()).external(header.owner) == "ann"
        assert (header.target, header.runs, header.last_run) == ("helper", 2, runs[1].run_id)


async def test_the_messages_of_a_conversation_are_those_of_its_runs_and_of_failed_ones_if_asked(
    talking: App,
) -> None:
    """S1.13"""
    async with talking as app:
        await app.run("helper", "Weather?", conversation="c")
        await app.run("helper", "fail", conversation="c")
        await app.run("helper", "Weather?", conversation="c")
        history = await app.message_history("c")
        assert [message["role"] for message in history if isinstance(message, dict)] == 2 * [
            "user",
            "assistant",
            "tool",
            "assistant",
        ]
        assert {"role": "user", "content": "fail"} in await app.message_history("c", include_failed_runs=True)


async def test_the_last_message_of_an_assistant_can_be_asked_for(talking: App) -> None:
    """S1.14"""
    async with talking as app:
        await app.run("helper", "Weather?", conversation="c")
        last = await app.last_assistant_message("c")
        assert last == {"role": "assistant", "content": "sunny in Turin for 1"}


async def test_a_run_may_belong_to_a_conversation_and_knows_its_messages(talking: App) -> None:
    """S1.15"""
    async with talking as app:
        alone = await app.run("helper", [{"role": "user", "content": "Weather?"}])
        history = await app.get(alone.run_id)
        assert (history.state.target, history.state.conversation) == ("helper", None)
        assert history.messages[0] == {"role": "user", "content": "Weather?"}
        assert history.messages[-1]["content"] == alone.output


async def test_events_of_a_run_are_read_in_their_order(talking: App) -> None:
    """S1.16"""
    async with talking as app:
        result = await app.run("helper", "Weather?")
        events = (await app.get(result.run_id)).events
        assert [event.version for event in events] == list(range(1, len(events) + 1))
        assert {event.stream for event in events} == {result.run_id}
        assert (events[0].type, events[-1].type) == ("run.requested", "run.succeeded")


async def test_tokens_and_cost_are_counted_failed_attempts_included(talking: App) -> None:
    """B23"""
    async with talking as app:
        result = await app.run("helper", "Weather?", user="ann")
        await app.run("helper", "fail", user="ann")
        page = await (await app.views()).list("usage", where={"actor": "agent:helper"})
        assert sum(document.value.cost_usd or 0 for document in page.documents) == 0.75
        assert sum(document.value.input_tokens for document in page.documents) == 13
        assert (await app.get(result.run_id)).state.cost_usd == 0.25


async def test_who_did_what_and_what_went_wrong_is_on_record(talking: App) -> None:
    """B24"""
    async with talking as app:
        failed = await app.run("helper", "fail", user="ann")
        trail = (
            await (await app.views()).list("audit", where={"run": failed.run_id}, oldest_first=True)
        ).documents
        assert [fact.value.what for fact in trail] == ["run.requested", "run.claimed", "run.failed"]
        assert {fact.value.who for fact in trail} == {"agent:helper"}
        assert trail[-1].value.details["failure"]["error_type"] == "ModelFailed"


async def test_an_agent_whose_memory_cannot_be_read_does_not_answer_without_it(app: App) -> None:
    """Fault 7"""
    model = app.models["script"] = ScriptedModel(["I know nothing of you."])
    app.agent("helper", model="script", memory=True)

    @app.workflow
    async def learn(ctx: Context[Any]) -> None:
        await ctx.memory.set("name", "Ann", scope="user")

    async with app:
        await app.run(learn, user="ann")
        log = await app.log()
        [memory] = await log.streams("memory-user-")
        damaged = Draft(memory, "memory.set", new_event_id(), memory, b"{}", b'{"key":')
        await log.append(Append([damaged], {}))
        with pytest.raises(UnusableLog, match=r"memory\.set"):
            await app.run("helper", "Who am I?", user="ann")
        assert isinstance(model, ScriptedModel)
        assert model.requests == []
