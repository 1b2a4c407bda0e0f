"""litellm's real path, over HTTP on loopback: what goes out and what comes back."""

from __future__ import annotations

import asyncio
import copy
import subprocess
import sys
from contextlib import aclosing

import pytest

from effects.asking import KEY, QUESTION, QUIETED, complete, reply_to, streamed
from effects.server import BROKEN_CALL, CLOCK_CALL, PIECES, TEXT, WEATHER_CALL, Provider
from evrt.effects.contract import ModelReply, ModelRequest
from evrt.effects.models import LiteLLM
from evrt.events import JsonObject
from evrt.events.calls import Usage

pytestmark = QUIETED

WEATHER_TOOL: JsonObject = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather in a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


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


def test_what_evrt_notes_beside_a_message_does_not_go_out(provider: Provider) -> None:
    """S2.26: providers refuse fields that they do not know"""
    summary: JsonObject = {"role": "system", "content": "Earlier", "metadata": {"kind": "step_compaction"}}
    messages = [summary, *QUESTION]

    async def ask() -> None:
        async with aclosing(LiteLLM(provider.url, KEY)) as model:
            await model.complete(ModelRequest("openai/plain", messages))

    asyncio.run(ask())
    assert provider.received[-1].body["messages"] == [{"role": "system", "content": "Earlier"}, *QUESTION]
    assert summary["metadata"] == {"kind": "step_compaction"}


def test_messages_of_the_request_stay_as_they_are(provider: Provider) -> None:
    # litellm's adapter for vLLM puts another item into the very list that it is given.
    film: JsonObject = {"type": "file", "file": {"file_data": "data:video/mp4;base64,AAAA"}}
    messages: list[JsonObject] = [{"role": "user", "content": [film]}]
    before = copy.deepcopy(messages)

    async def ask_vllm() -> None:
        async with aclosing(LiteLLM(provider.url, KEY)) as model:
            await model.complete(ModelRequest("hosted_vllm/plain", messages))

    asyncio.run(ask_vllm())
    assert provider.received[-1].body["messages"][0]["content"][0]["type"] == "video_url"
    assert messages == before


def test_a_server_of_ones_own_needs_no_key(provider: Provider) -> None:
    assert asyncio.run(complete(LiteLLM(provider.url), "plain")).message["content"] == TEXT


def test_hugging_face_is_not_sent_litellms_own_options(provider: Provider) -> None:
    asyncio.run(LiteLLM(provider.url, KEY).complete(ModelRequest("huggingface/plain", QUESTION)))
    assert provider.received[-1].body == {"model": "plain", "messages": QUESTION, "stream": False}


def test_parameters_do_not_turn_a_plain_call_into_a_stream(provider: Provider) -> None:
    assert reply_to(provider, "plain", parameters={"stream": True}).message["content"] == TEXT


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
from evrt.effects.models import LiteLLM, _load

async def ask(name, on_delta=None):
    request = ModelRequest(
        name,
        [{"role": "user", "content": "Hi"}],
        parameters={"extra_headers": {"anthropic-beta": "any"}} if name.startswith("anthropic") else {},
    )
    try:
        await LiteLLM(sys.argv[1], "key-of-the-test").complete(request, on_delta)
    except ModelError as error:
        return error.error_type

async def first_call():
    ticks = 0
    task = asyncio.create_task(ask("openai/plain"))
    while not _load.cache_info().currsize:
        await asyncio.sleep(0.01)
        ticks += 1
    await task
    return ticks

ticks = asyncio.run(first_call())
assert "litellm" in sys.modules
outcomes = [
    asyncio.run(ask(name, on_delta))
    for name in ("openai/plain", "openai/status-500", "nonsense", "anthropic/claude-3-haiku", "openai/odd-finish")
    for on_delta in (None, lambda delta: None)
]
print(ticks, elsewhere, *outcomes)
"""
QUIET_PROGRAM_OUTCOMES = (
    "None None server_error server_error unknown_model unknown_model not_found not_found None None"
)


def test_litellm_prints_nothing_and_calls_nobody_else_and_loads_beside_the_loop(provider: Provider) -> None:
    done = subprocess.run(
        [sys.executable, "-c", QUIET_PROGRAM, provider.url], capture_output=True, text=True, check=True
    )
    ticks, rest = done.stdout.split(maxsplit=1)
    assert rest == f"set() {QUIET_PROGRAM_OUTCOMES}\n"
    assert done.stderr == ""
    # The loop turned while litellm was imported; blocked by it, it would have turned once or twice.
    assert int(ticks) > 10
