"""litellm's real path, over HTTP on loopback: what goes out, what comes back, what an error means."""

from __future__ import annotations

import asyncio
import copy
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import aclosing
from typing import Any

import pytest

from effects.server import (
    BROKEN_CALL,
    CLOCK_CALL,
    NOT_REPLIES,
    PIECES,
    TEXT,
    WEATHER_CALL,
    Provider,
    provider_on_loopback,
)
from evrt.effects.contract import ModelError, ModelReply, ModelRequest, OnDelta
from evrt.effects.models import LiteLLM, explain_model, missing_credentials
from evrt.errors import UsageError
from evrt.events import JsonObject
from evrt.events.calls import Usage

# litellm silences these itself when it is imported; pytest's own filters undo that.
pytestmark = [
    pytest.mark.filterwarnings(
        "ignore:Item '.*' on TypedDict class '.*' is using the `ReadOnly` qualifier:UserWarning"
    ),
    pytest.mark.filterwarnings(
        "ignore:Accessing the 'model_.*' attribute on the instance:DeprecationWarning:litellm"
    ),
]

KEY = "key-of-the-test"
QUESTION: list[JsonObject] = [
    {"role": "system", "content": "Sei höflich. 日本語 🌦"},
    {"role": "user", "content": "Weather in Zürich?"},
]
WEATHER_TOOL: JsonObject = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather in a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    with provider_on_loopback() as running:
        yield running


@pytest.fixture(autouse=True)
def no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "OPENAI_API_KEY",
        "ANTHROPIC_API_KEY",
        "ANTHROPIC_AUTH_TOKEN",
        "GEMINI_API_KEY",
        "GOOGLE_API_KEY",
    ):
        monkeypatch.delenv(name, raising=False)


async def complete(
    model: LiteLLM, scenario: str, on_delta: OnDelta | None = None, **fields: Any
) -> ModelReply:
    async with aclosing(model):
        return await model.complete(ModelRequest(f"openai/{scenario}", QUESTION, **fields), on_delta)


def reply_to(provider: Provider, scenario: str, **fields: Any) -> ModelReply:
    return asyncio.run(complete(LiteLLM(provider.url, KEY), scenario, **fields))


def streamed(provider: Provider, scenario: str, **fields: Any) -> tuple[ModelReply, list[str]]:
    deltas: list[str] = []
    return reply_to(provider, scenario, on_delta=deltas.append, **fields), deltas


def failure_of(provider: Provider, scenario: str, **fields: Any) -> ModelError:
    with pytest.raises(ModelError) as caught:
        reply_to(provider, scenario, **fields)
    assert "\n" not in caught.value.message
    assert caught.value.message.endswith(".")
    assert str(caught.value) == caught.value.message
    return caught.value


# What goes out


def test_the_provider_gets_exactly_the_messages_tools_and_parameters_of_the_request(
    provider: Provider,
) -> None:
    reply_to(provider, "plain", tools=[WEATHER_TOOL], parameters={"temperature": 0.2, "max_tokens": 100})
    assert provider.received[-1].body == {
        "model": "plain",
        "messages": QUESTION,
        "tools": [WEATHER_TOOL],
        "temperature": 0.2,
        "max_tokens": 100,
    }
    assert provider.received[-1].headers["authorization"] == f"Bearer {KEY}"


def test_a_stream_is_asked_for_with_its_usage(provider: Provider) -> None:
    streamed(provider, "plain")
    assert provider.received[-1].body == {
        "model": "plain",
        "messages": QUESTION,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def test_a_conversation_with_tool_calls_goes_out_as_it_came_in(provider: Provider) -> None:
    first = reply_to(provider, "tools", tools=[WEATHER_TOOL])
    result: JsonObject = {"role": "tool", "tool_call_id": "call_a1", "content": "26 °C"}
    messages = [*QUESTION, first.message, result]

    async def go_on() -> ModelReply:
        async with aclosing(LiteLLM(provider.url, KEY)) as model:
            return await model.complete(ModelRequest("openai/plain", messages, [WEATHER_TOOL]))

    asyncio.run(go_on())
    # litellm leaves out a content that is null; all else arrives as it was recorded.
    tool_calls = {"role": "assistant", "tool_calls": [WEATHER_CALL, CLOCK_CALL]}
    assert provider.received[-1].body["messages"] == [*QUESTION, tool_calls, result]


def test_messages_of_the_request_stay_as_they_are(provider: Provider) -> None:
    messages: list[JsonObject] = [*copy.deepcopy(QUESTION), {"role": "assistant", "content": "Hot. "}]
    before = copy.deepcopy(messages)

    async def ask_anthropic() -> None:
        async with aclosing(LiteLLM(provider.url, KEY)) as model:
            await model.complete(ModelRequest("anthropic/claude-3-haiku-20240307", messages))

    with pytest.raises(ModelError, match="HTTP 404"):
        asyncio.run(ask_anthropic())
    assert messages == before


def test_a_server_of_ones_own_needs_no_key(provider: Provider) -> None:
    assert asyncio.run(complete(LiteLLM(provider.url), "plain")).message["content"] == TEXT


# What comes back


def test_a_plain_reply(provider: Provider) -> None:
    assert reply_to(provider, "plain") == ModelReply(
        message={"role": "assistant", "content": TEXT},
        finish_reason="stop",
        provider="openai",
        model_returned="plain-2024-08-06",
        response_id="chatcmpl-1",
        usage=Usage(input_tokens=11, output_tokens=7),
    )


def test_tool_calls_come_back_in_plain_json(provider: Provider) -> None:
    reply = reply_to(provider, "tools")
    assert reply.message == {"role": "assistant", "content": None, "tool_calls": [WEATHER_CALL, CLOCK_CALL]}
    assert reply.finish_reason == "tool_calls"


def test_arguments_that_are_not_json_stay_the_text_they_are(provider: Provider) -> None:
    assert reply_to(provider, "broken-arguments").message["tool_calls"] == [BROKEN_CALL]


def test_text_streams_in_the_pieces_in_which_it_came(provider: Provider) -> None:
    _, deltas = streamed(provider, "plain")
    assert deltas == list(PIECES)


@pytest.mark.parametrize(
    "scenario", ["plain", "tools", "broken-arguments", "reasoning", "empty-text", "surrogates"]
)
def test_a_stream_comes_to_the_same_reply_as_the_whole(provider: Provider, scenario: str) -> None:
    reply, _ = streamed(provider, scenario)
    assert reply == reply_to(provider, scenario)


def test_reasoning_is_kept(provider: Provider) -> None:
    assert reply_to(provider, "reasoning").message == {
        "role": "assistant",
        "content": TEXT,
        "reasoning_content": "It is warm there.",
    }


def test_a_refusal_is_kept(provider: Provider) -> None:
    message = reply_to(provider, "refusal").message
    assert message == {"role": "assistant", "content": None, "refusal": "I will not."}


def test_an_empty_text_is_a_reply(provider: Provider) -> None:
    assert reply_to(provider, "empty-text").message == {"role": "assistant", "content": ""}


def test_halves_of_surrogate_pairs_do_not_get_into_a_reply(provider: Provider) -> None:
    reply, deltas = streamed(provider, "surrogates")
    assert reply.message["content"] == "🌦 and \ufffd"
    assert "".join(deltas).encode()


def test_the_cost_is_known_where_the_price_is(provider: Provider) -> None:
    reply, _ = streamed(provider, "gpt-4o")
    cost_usd = reply.usage.cost_usd
    assert cost_usd is not None
    assert cost_usd == reply_to(provider, "gpt-4o").usage.cost_usd
    assert 0 < cost_usd < 0.01


def test_calls_at_the_same_time_do_not_mix(provider: Provider) -> None:
    async def many() -> list[ModelReply]:
        async with aclosing(LiteLLM(provider.url, KEY)) as model:
            requests = [ModelRequest(f"openai/{name}", QUESTION) for name in ("plain", "tools", "reasoning")]
            return await asyncio.gather(
                *(
                    model.complete(request, on_delta)
                    for request in requests
                    for on_delta in (None, lambda _: None)
                )
            )

    assert [reply.model_returned for reply in asyncio.run(many())] == [
        f"{name}-2024-08-06" for name in ("plain", "plain", "tools", "tools", "reasoning", "reasoning")
    ]


def test_a_closed_model_can_be_called_again(provider: Provider) -> None:
    async def twice() -> None:
        model = LiteLLM(provider.url, KEY)
        for _ in range(2):
            assert (await complete(model, "plain")).message["content"] == TEXT

    asyncio.run(twice())


# What an error means


@pytest.mark.parametrize(
    "status, error_type, retriable",
    [
        (400, "bad_request", False),
        (401, "authentication", False),
        (402, "bad_request", False),
        (403, "permission", False),
        (404, "not_found", False),
        (408, "timeout", True),
        (409, "bad_request", True),
        (413, "bad_request", False),
        (422, "bad_request", False),
        (429, "rate_limit", True),
        (500, "server_error", True),
        (502, "server_error", True),
        (503, "server_error", True),
        (504, "timeout", True),
        (529, "server_error", True),
    ],
)
@pytest.mark.parametrize("on_delta", [None, lambda _: None], ids=["plain", "stream"])
def test_a_status_is_explained_and_litellm_does_not_try_again(
    provider: Provider, status: int, error_type: str, retriable: bool, on_delta: OnDelta | None
) -> None:
    before = len(provider.received)
    failure = failure_of(provider, f"status-{status}", on_delta=on_delta)
    assert (failure.error_type, failure.retriable) == (error_type, retriable)
    assert f"HTTP {status}" in failure.message
    assert len(provider.received) == before + 1


def test_a_key_that_the_server_repeats_is_not_in_the_error(provider: Provider) -> None:
    message = failure_of(provider, "status-401").message
    assert KEY not in message
    assert "Refused Bearer" in message


def test_a_request_that_is_too_long_is_told_from_other_bad_requests(provider: Provider) -> None:
    failure = failure_of(provider, "context-window")
    assert (failure.error_type, failure.retriable) == ("context_window", False)
    assert "9000 tokens" in failure.message


@pytest.mark.parametrize("scenario", NOT_REPLIES)
def test_what_is_no_chat_completion_is_refused(provider: Provider, scenario: str) -> None:
    failure = failure_of(provider, scenario)
    assert (failure.error_type, failure.retriable) == ("malformed_reply", True)


@pytest.mark.parametrize("scenario", NOT_REPLIES)
def test_a_stream_of_something_else_is_no_reply(provider: Provider, scenario: str) -> None:
    failure = failure_of(provider, scenario, on_delta=lambda _: None)
    assert (failure.error_type, failure.retriable) == ("incomplete_reply", True)


@pytest.mark.parametrize(
    "scenario, error_type",
    [
        ("cut", "connection"),
        ("unfinished", "incomplete_reply"),
        ("half-chunk", "malformed_reply"),
        ("error-chunk", "server_error"),
    ],
)
def test_a_stream_that_breaks_off_is_no_reply(provider: Provider, scenario: str, error_type: str) -> None:
    deltas: list[str] = []
    failure = failure_of(provider, scenario, on_delta=deltas.append)
    assert (failure.error_type, failure.retriable) == (error_type, True)
    assert deltas == list(PIECES[:2])


def test_a_connection_cut_in_the_middle_of_a_reply(provider: Provider) -> None:
    failure = failure_of(provider, "cut")
    assert (failure.error_type, failure.retriable) == ("connection", True)
    assert "hung up" in failure.message


def test_a_provider_that_does_not_reply_in_time(provider: Provider) -> None:
    with pytest.raises(ModelError, match="did not reply in time") as caught:
        asyncio.run(complete(LiteLLM(provider.url, KEY, timeout_seconds=0.2), "stall"))
    assert (caught.value.error_type, caught.value.retriable) == ("timeout", True)


def test_a_server_that_is_not_there() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        api_base = f"http://127.0.0.1:{unused.getsockname()[1]}/v1"
        with pytest.raises(ModelError, match="Connect call failed") as caught:
            asyncio.run(complete(LiteLLM(api_base, KEY), "plain"))
    assert (caught.value.error_type, caught.value.retriable) == ("connection", True)
    assert api_base in caught.value.message


def test_an_error_that_is_being_handled_is_not_the_cause_of_the_next() -> None:
    async def ask_a_dead_port_while_handling(provider: Provider) -> None:
        try:
            await complete(LiteLLM(provider.url, KEY), "status-401")
        except ModelError:
            await complete(LiteLLM("http://127.0.0.1:1/v1", KEY), "plain")

    with provider_on_loopback() as provider, pytest.raises(ModelError) as caught:
        asyncio.run(ask_a_dead_port_while_handling(provider))
    assert caught.value.error_type == "connection"


def test_an_address_that_is_none_is_refused_at_once() -> None:
    with pytest.raises(UsageError, match="'localhost:8000'"):
        LiteLLM("localhost:8000")


def test_what_on_delta_raises_is_not_the_models_failure(provider: Provider) -> None:
    def refuse(delta: str) -> None:
        raise LookupError(delta)

    with pytest.raises(LookupError, match=PIECES[0]):
        reply_to(provider, "plain", on_delta=refuse)


@pytest.mark.parametrize("on_delta", [None, lambda _: None], ids=["plain", "stream"])
def test_a_cancelled_call_ends_as_cancelled_and_hangs_up(
    provider: Provider, on_delta: OnDelta | None
) -> None:
    provider.stalling.clear()
    provider.left.clear()

    async def cancel_in_the_middle() -> None:
        task = asyncio.create_task(complete(LiteLLM(provider.url, KEY), "stall", on_delta))
        assert await asyncio.to_thread(provider.stalling.wait, 30)
        task.cancel()
        await task

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(cancel_in_the_middle())
    assert provider.left.wait(30)


# Which models can be called


@pytest.mark.parametrize("model", ["nonsense", "no-such-provider/model", "openai/", ""])
def test_a_model_of_no_known_provider_is_explained(model: str) -> None:
    explanation = explain_model(model)
    assert explanation is not None
    assert repr(model) in explanation
    assert "provider/model" in explanation


def test_an_unknown_model_says_the_same_when_it_is_called() -> None:
    with pytest.raises(ModelError) as caught:
        asyncio.run(LiteLLM().complete(ModelRequest("nonsense", QUESTION)))
    assert (caught.value.error_type, caught.value.retriable) == ("unknown_model", False)
    assert caught.value.message == explain_model("nonsense")


@pytest.mark.parametrize(
    "model, variables",
    [
        ("openai/gpt-4o", ["OPENAI_API_KEY"]),
        ("anthropic/claude-3-haiku-20240307", ["ANTHROPIC_API_KEY"]),
        ("gemini/gemini-1.5-pro", ["GOOGLE_API_KEY", "GEMINI_API_KEY"]),
    ],
)
def test_a_missing_key_is_named_before_and_at_the_call(model: str, variables: list[str]) -> None:
    assert missing_credentials(model) == variables
    explanation = explain_model(model)
    assert explanation is not None
    assert " or ".join(variables) in explanation
    with pytest.raises(ModelError) as caught:
        asyncio.run(LiteLLM().complete(ModelRequest(model, QUESTION)))
    assert (caught.value.error_type, caught.value.retriable) == ("missing_credentials", False)
    assert caught.value.message == explanation


def test_a_key_in_the_environment_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    assert explain_model("openai/gpt-4o") is None


@pytest.mark.parametrize("model", ["ollama/llama3", "bedrock/anthropic.claude-v2", "hosted_vllm/mine"])
def test_a_key_is_not_asked_for_where_there_may_be_none(model: str) -> None:
    assert missing_credentials(model) == []
    assert explain_model(model) is None


def test_with_a_server_of_ones_own_no_key_is_missing() -> None:
    assert missing_credentials("openai/mine", "http://127.0.0.1:8000/v1") == []
    assert explain_model("openai/mine", "http://127.0.0.1:8000/v1") is None


# How litellm is held


def test_importing_evrt_does_not_import_litellm() -> None:
    program = "import sys, evrt.effects.models, evrt.testing; print('litellm' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("False\n", "")


QUIET_PROGRAM = """
import asyncio, sys
elsewhere = set()
def watch(event, arguments):
    if event == "socket.connect" and arguments[1][0] != "127.0.0.1":
        elsewhere.add(str(arguments[1]))
    if event == "socket.getaddrinfo" and arguments[0] not in ("127.0.0.1", None):
        elsewhere.add(str(arguments[0]))
sys.addaudithook(watch)

from evrt.effects.contract import ModelError, ModelRequest
from evrt.effects.models import LiteLLM

async def ask(name, on_delta=None):
    try:
        await LiteLLM(sys.argv[1], "key-of-the-test").complete(ModelRequest(name, [{"role": "user", "content": "Hi"}]), on_delta)
    except ModelError as error:
        return error.error_type

async def first_call():
    ticks = 0
    task = asyncio.create_task(ask("openai/plain"))
    while not task.done():
        await asyncio.sleep(0.01)
        ticks += 1
    return ticks

ticks = asyncio.run(first_call())
assert "litellm" in sys.modules
outcomes = [
    asyncio.run(ask(name, on_delta))
    for name in ("openai/plain", "openai/status-500", "nonsense", "anthropic/claude-3-haiku-20240307")
    for on_delta in (None, lambda delta: None)
]
print(ticks, elsewhere, *outcomes)
"""


def test_litellm_prints_nothing_and_calls_nobody_else_and_loads_beside_the_loop(provider: Provider) -> None:
    done = subprocess.run(
        [sys.executable, "-c", QUIET_PROGRAM, provider.url], capture_output=True, text=True, check=True
    )
    ticks, rest = done.stdout.split(maxsplit=1)
    assert (
        rest == "set() None None server_error server_error unknown_model unknown_model not_found not_found\n"
    )
    assert done.stderr == ""
    # The loop turned while litellm was imported; blocked by it, it would have turned once or twice.
    assert int(ticks) > 10
