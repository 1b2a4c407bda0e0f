"""The agent loop: the model calls tools until it answers in text, or its turns are used up."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import evrt
from evrt.effects.contract import ModelError, ModelReply, ModelRequest
from evrt.events import JsonObject
from evrt.events.calls import ModelCallFailed, Usage
from evrt.events.run import GuardApplied
from evrt.retry import NO_RETRY
from evrt.testing import ScriptedModel, call, calls
from runtime.logs import Ctx


@evrt.tool(effect="read")
async def weather(city: str, days: int = 1) -> str:
    """The weather in a city."""
    return f"{18 * days} C in {city}"


@evrt.tool(effect="read")
async def broken(city: str) -> str:
    raise OSError(f"no line to {city}")


forbidden_calls: list[str] = []


@evrt.tool
async def forbidden(city: str) -> str:
    forbidden_calls.append(city)
    return "never"


def app_with(
    url: str, script: Any, tools: Any = (weather,), **options: Any
) -> tuple[evrt.App, ScriptedModel]:
    model = ScriptedModel(script)
    app = evrt.App(url, models={"m": model})
    app.agent("agent", model="m", instructions="Be brief.", tools=tools, **options)
    return app, model


def tool_messages(model: ScriptedModel) -> list[str]:
    """What the model read of its tool calls, in its last request."""
    return [str(m["content"]) for m in model.requests[-1].messages if m["role"] == "tool"]


async def test_the_model_calls_tools_until_it_answers_in_text(url: str) -> None:
    app, model = app_with(
        url, [call("weather", city="Turin"), call("weather", city="Rome", days=2), "Go to Rome."]
    )
    async with app:
        run = await app.run("agent", "Where to?")
        assert run.output == "Go to Rome."
        assert [message["role"] for message in model.requests[-1].messages] == [
            "system",
            "user",
            "assistant",
            "tool",
            "assistant",
            "tool",
        ]
        assert tool_messages(model) == ["18 C in Turin", "36 C in Rome"]
        assert model.requests[0].tools == [weather.to_openai_format()]
        assert (await app.replay(run.run_id)).complete
        assert len(model.requests) == 3
        assert (await app.get(run.run_id)).messages[-1] == {"role": "assistant", "content": "Go to Rome."}


async def test_tool_calls_of_one_reply_are_made_at_the_same_time(url: str) -> None:
    app, model = app_with(
        url, [calls(*(call("weather", city=c) for c in "abc"), text="Let me see."), "Done."]
    )
    async with app:
        run = await app.run("agent", "Compare.")
        operations = list((await app.get(run.run_id)).journal.operations)
        assert operations[1:4] == [f"gather#1:{n}/weather#1" for n in range(3)]
        assert tool_messages(model) == ["18 C in a", "18 C in b", "18 C in c"]
        assert (await app.replay(run.run_id)).complete


def wire(name: str, arguments: Any, identifier: str | None = "c1") -> JsonObject:
    """An assistant's message that calls a tool, as a model may send it."""
    one: JsonObject = {"type": "function", "function": {"name": name, "arguments": arguments}}
    if identifier is not None:
        one["id"] = identifier
    return {"role": "assistant", "content": None, "tool_calls": [one]}


@pytest.mark.parametrize(
    "message, expected",
    [
        (wire("delete_all", "{}"), "There is no tool 'delete_all'. Tools: weather, broken."),
        (wire("forbidden", '{"city":"x"}'), "There is no tool 'forbidden'. Tools: weather, broken."),
        (wire("__class__", "{}"), "There is no tool '__class__'"),
        (wire("", "{}"), "There is no tool ''"),
        (wire("weather", '{"city": "Tur'), "The arguments are not JSON"),
        (wire("weather", '["Turin"]'), "The arguments are not a JSON object."),
        (wire("weather", "{}"), "The arguments of weather are not valid. city: Field required"),
        (wire("weather", '{"city":"Turin","days":"many"}'), "days: Input should be a valid integer"),
        (wire("weather", '{"city":"Turin","colour":1}'), "colour: Extra inputs are not permitted"),
        (wire("broken", '{"city":"Turin"}'), "no line to Turin"),
        ({"role": "assistant", "tool_calls": [{"id": "c1", "type": "function"}]}, "There is no tool ''"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_what_goes_wrong_with_a_call_is_an_outcome_that_the_model_reads(
    message: JsonObject, expected: str
) -> None:
    app, model = app_with("memory://", [message, "I see."], [weather, broken])
    async with app:
        run = await app.run("agent", "Try.")
        assert run.output == "I see."
        assert expected in tool_messages(model)[0]
        assert model.requests[-1].messages[-1]["tool_call_id"] == "c1"
        assert (await app.replay(run.run_id)).complete
    assert forbidden_calls == []


@pytest.mark.parametrize("arguments", ['{"city":"Turin"}', {"city": "Turin"}], ids=["text", "object"])
async def test_arguments_may_come_as_text_or_as_an_object(arguments: Any) -> None:
    app, model = app_with("memory://", [wire("weather", arguments), "Done."])
    async with app:
        await app.run("agent", "Go")
    assert tool_messages(model) == ["18 C in Turin"]


@pytest.mark.parametrize("arguments", ["", None, "{}", "  "], ids=["empty", "null", "object", "blank"])
async def test_a_tool_without_arguments_may_be_called_with_nothing(arguments: Any) -> None:
    @evrt.tool(effect="read")
    async def today() -> str:
        return "Saturday"

    app, model = app_with("memory://", [wire("today", arguments), "Done."], [today])
    async with app:
        await app.run("agent", "Go")
    assert tool_messages(model) == ["Saturday"]


async def test_a_call_without_an_id_still_gets_its_result() -> None:
    app, model = app_with("memory://", [wire("weather", '{"city":"Turin"}', None), "Done."])
    async with app:
        assert (await app.run("agent", "Go")).output == "Done."
    assert tool_messages(model) == ["18 C in Turin"]


# The step limit


def tireless(request: ModelRequest) -> Any:
    """Calls a tool whenever it may."""
    return call("weather", city="Turin") if request.tools else f"I asked {len(request.messages)} times."


async def test_ten_turns_are_the_limit_and_a_summary_is_asked_for(url: str) -> None:
    app, model = app_with(url, tireless)
    async with app:
        run = await app.run("agent", "Go on and on.")
        assert run.status == "step_limit"
        assert run.output == "I asked 26 times."
        assert len(model.requests) == 11
        assert model.requests[-1].tools == []
        assert "its 10 model turns are used up" in str(model.requests[-1].messages[-1]["content"])
        history = await app.get(run.run_id)
        assert history.state.status == "step_limit"
        assert history.events[-1].event.model_dump() == {
            "model_turns_max": 10,
            "summary": "I asked 26 times.",
            "limit": None,
        }
        assert [e.event.guard for e in history.events if isinstance(e.event, GuardApplied)] == [
            *["stuck"] * 3,
            "model_turns",
        ]
        assert history.request("summary#1")["messages"] == list(model.requests[-1].messages)
        assert (await app.replay(run.run_id)).complete
        with pytest.raises(evrt.StepLimitReached):
            run.unwrap()


async def test_the_limit_is_the_agent_s_to_set() -> None:
    app, model = app_with("memory://", tireless, model_turns_max=2)
    async with app:
        run = await app.run("agent", "Go on.")
    assert (run.status, len(model.requests)) == ("step_limit", 3)


async def test_an_answer_in_the_last_turn_is_in_time() -> None:
    app, _ = app_with("memory://", [call("weather", city="a"), "In time."], model_turns_max=2)
    async with app:
        assert (await app.run("agent", "Go")).output == "In time."


@pytest.mark.parametrize(
    "failure",
    [ModelError("context_window", "too long", retriable=False), ValueError("a bug in the model's code")],
    ids=["model error", "bug"],
)
async def test_a_summary_that_fails_leaves_the_outcome_as_it_is(failure: Exception) -> None:
    app, _ = app_with("memory://", [call("weather", city="a"), failure], model_turns_max=1)
    async with app:
        run = await app.run("agent", "Go")
        assert (run.status, run.output) == ("step_limit", None)
        assert (await app.replay(run.run_id)).complete


async def test_a_workflow_may_catch_the_limit_of_an_agent_it_calls() -> None:
    app, _ = app_with("memory://", tireless, model_turns_max=1)
    async with app:

        @app.workflow
        async def careful(ctx: Ctx) -> Any:
            try:
                return await ctx.call(app.targets["agent"], "Go")
            except evrt.StepLimitReached as limit:
                return [limit.model_turns_max, limit.summary]

        run = await app.run(careful)
        assert run.output == [1, "I asked 5 times."]
        assert (await app.replay(run.run_id)).complete


# Failures of the model


def error(retriable: bool) -> ModelError:
    return ModelError("rate_limit", "slow down", retriable=retriable)


@pytest.fixture
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Attempts follow each other at once."""
    soon = evrt.Retry(3, base_seconds=0.0)
    monkeypatch.setattr("evrt.runtime.context.Context.model.__kwdefaults__", {**DEFAULTS, "retry": soon})


DEFAULTS = evrt.Context.model.__kwdefaults__ or {}


@pytest.mark.usefixtures("no_waiting")
async def test_errors_that_may_pass_are_tried_again(url: str) -> None:
    app, model = app_with(url, [error(True), error(True), "There."])
    async with app:
        run = await app.run("agent", "Go")
        assert run.output == "There."
        assert len(model.requests) == 3
        history = await app.get(run.run_id)
        failed = [e.event for e in history.events if isinstance(e.event, ModelCallFailed)]
        assert [(f.attempt, f.final, f.failure.error_type) for f in failed] == [
            (1, False, "rate_limit"),
            (2, False, "rate_limit"),
        ]
        assert (await app.replay(run.run_id)).complete


@pytest.mark.usefixtures("no_waiting")
async def test_after_three_attempts_the_run_fails(url: str) -> None:
    app, model = app_with(url, [error(True)] * 9, retry=NO_RETRY)
    async with app:
        run = await app.run("agent", "Go")
        assert run.status == "failed"
        assert str(run).endswith("model#1 failed: rate_limit: slow down")
        assert len(model.requests) == 3
        assert (await app.replay(run.run_id)).complete


@pytest.mark.usefixtures("no_waiting")
@pytest.mark.parametrize("failure", [error(False), TypeError("a bug")], ids=["not retriable", "bug"])
async def test_errors_that_will_not_pass_are_not_tried_again(failure: Exception) -> None:
    app, model = app_with("memory://", [failure, "too late"])
    async with app:
        run = await app.run("agent", "Go")
        assert run.status == "failed"
        assert len(model.requests) == 1
        assert (await app.replay(run.run_id)).complete


async def test_a_model_call_can_have_a_time_out(url: str) -> None:
    async def silent(request: ModelRequest) -> str:
        await asyncio.Event().wait()
        return ""

    async with evrt.App(url, models={"m": ScriptedModel(silent)}) as app:

        @app.workflow
        async def asks(ctx: Ctx) -> str:
            with pytest.raises(evrt.ModelFailed) as failed:
                await ctx.model("Hello?", model="m", timeout=0.01, retry=evrt.Retry(2, base_seconds=0))
            return failed.value.message

        run = await app.run(asks)
        assert run.output == "No reply within 0.01 s."
        assert (await app.replay(run.run_id)).complete


async def test_a_model_s_own_time_out_is_told_apart() -> None:
    app, _ = app_with("memory://", [TimeoutError("the socket")])
    async with app:
        run = await app.run("agent", "Go")
    assert run.failure is not None
    assert run.failure.message == "model#1 failed: TimeoutError: the socket"


async def test_without_a_model_the_call_is_refused() -> None:
    async with evrt.App("memory://") as app:
        app.agent("agent")
        run = await app.run("agent", "Go")
        assert run.failure is not None
        assert run.failure.message.startswith("No model is named")


async def test_the_default_model_serves_agents_that_name_none() -> None:
    app = evrt.App("memory://", models={"m": ScriptedModel(["Hello."])}, default_model="m")
    app.agent("agent")
    async with app:
        assert (await app.run("agent", "Hi")).output == "Hello."


async def test_usage_and_names_are_recorded_and_counted(url: str) -> None:
    def reply(request: ModelRequest) -> ModelReply:
        message: JsonObject = {"role": "assistant", "content": "Hi."}
        usage = Usage(input_tokens=10, output_tokens=2, cost_usd=0.25)
        return ModelReply(message, "stop", "acme", "m-2026-01", "id-1", usage)

    app, _ = app_with(url, reply)
    async with app:

        @app.workflow
        async def twice(ctx: Ctx) -> list[Any]:
            one = await ctx.model("Hello", model="m", temperature=0.5, parameters={"seed": 1})
            other = await ctx.model("Hello", model="m")
            return [one.text, one.finish_reason, one.model, one.usage.input_tokens, other.tool_calls]

        run = await app.run(twice)
        assert run.output == ["Hi.", "stop", "m-2026-01", 10, []]
        state = (await app.get(run.run_id)).state
        assert (state.model_calls, state.input_tokens, state.output_tokens, state.cost_usd) == (2, 20, 4, 0.5)
        request = (await app.get(run.run_id)).request("model#1")
        assert (request["temperature"], request["seed"]) == (0.5, 1)
        assert (await app.replay(run.run_id)).complete


async def test_text_streams_live_and_not_on_replay(url: str) -> None:
    heard: list[tuple[str, str]] = []
    model = ScriptedModel(["It is sunny."])
    app = evrt.App(
        url, models={"m": model}, on_delta=lambda run, operation, text: heard.append((operation, text))
    )
    app.agent("agent", model="m")
    async with app:
        run = await app.run("agent", "Weather?")
        assert "".join(text for _, text in heard) == "It is sunny."
        assert {operation for operation, _ in heard} == {"model#1"}
        heard.clear()
        await app.replay(run.run_id)
        assert heard == []


# Agents within agents and workflows


async def test_agents_run_side_by_side_in_a_workflow(url: str) -> None:
    def script(request: ModelRequest) -> Any:
        question = str(request.messages[1]["content"])
        if request.messages[-1]["role"] == "tool":
            return f"{request.messages[-1]['content']}!"
        return call("weather", city=question)

    app, _ = app_with(url, script)
    async with app:

        @app.workflow
        async def tour(ctx: Ctx, cities: list[str]) -> list[str]:
            agent = app.targets["agent"]
            return await ctx.gather(*(ctx.call(agent, city) for city in cities))

        run = await app.run(tour, ["Turin", "Rome", "Bari"])
        assert run.output == ["18 C in Turin!", "18 C in Rome!", "18 C in Bari!"]
        operations = (await app.get(run.run_id)).journal.operations
        assert "gather#1:2/agent#1/model#2" in operations
        assert (await app.replay(run.run_id)).complete


@pytest.mark.parametrize(
    "given, expected",
    [
        ("Hello", [{"role": "user", "content": "Hello"}]),
        ([{"role": "user", "content": "Hi"}], [{"role": "user", "content": "Hi"}]),
        ({"messages": [{"role": "user", "content": "Hi"}]}, [{"role": "user", "content": "Hi"}]),
        ({"b": 1, "a": [2]}, [{"role": "user", "content": '{"a":[2],"b":1}'}]),
        (None, [{"role": "user", "content": "null"}]),
    ],
    ids=["text", "messages", "object with messages", "json", "nothing"],
)
async def test_an_agent_takes_text_messages_or_any_json(given: Any, expected: list[JsonObject]) -> None:
    app, model = app_with("memory://", ["Hi."])
    async with app:
        await app.run("agent", given)
    assert list(model.requests[0].messages[1:]) == expected


async def test_what_is_not_a_chat_message_is_refused() -> None:
    app, _ = app_with("memory://", ["Hi."])
    async with app:
        run = await app.run("agent", {"messages": ["Hello"]})
        assert run.failure is not None
        assert "A chat message is an object with a role" in run.failure.message


def test_two_tools_of_one_name_cannot_serve_one_agent() -> None:
    other = evrt.tool(effect="read", name="weather")(broken._function)
    with pytest.raises(evrt.UsageError, match="two tools named weather"):
        evrt.Agent(name="a", model="m", tools=[weather, other])


def test_an_agent_needs_at_least_one_turn() -> None:
    with pytest.raises(evrt.UsageError, match="model_turns_max has to be a whole number of at least 1"):
        evrt.Agent(name="a", model="m", limits=evrt.LoopLimits(model_turns_max=0))
