"""The scripted model: it says what the script says, the same again after a crash."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evrt.effects.contract import Model, ModelError, ModelReply, ModelRequest
from evrt.errors import UsageError
from evrt.events import JsonObject
from evrt.events.calls import Usage
from evrt.testing import Reply, ScriptedModel, call, calls

HELLO: JsonObject = {"role": "user", "content": "Hello"}


def request(*messages: JsonObject) -> ModelRequest:
    return ModelRequest("scripted/any", messages or (HELLO,))


def reply_to(model: Model, *messages: JsonObject) -> ModelReply:
    return asyncio.run(model.complete(request(*messages)))


def tool_call(id: str, name: str, arguments: str) -> JsonObject:  # As the field is called.
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}


def test_a_text_is_a_message_that_stops() -> None:
    assert reply_to(ScriptedModel(["Good day."])) == ModelReply(
        message={"role": "assistant", "content": "Good day."},
        finish_reason="stop",
        provider="script",
        model_returned="scripted/any",
    )


def test_replies_are_used_up_in_order() -> None:
    model = ScriptedModel(["one", "two"])
    assert [reply_to(model).message["content"] for _ in range(2)] == ["one", "two"]


def test_a_call_is_a_message_with_a_tool_call() -> None:
    reply = reply_to(ScriptedModel([call("weather", city="Zürich", days=2)]))
    assert reply.finish_reason == "tool_calls"
    assert reply.message == {
        "role": "assistant",
        "content": None,
        "tool_calls": [tool_call("call_1_0", "weather", '{"city":"Zürich","days":2}')],
    }


@pytest.mark.parametrize("reply", [[call("a"), call("b", name="x")], calls(call("a"), call("b", name="x"))])
def test_several_calls_are_one_message(reply: Reply) -> None:
    assert reply_to(ScriptedModel([reply])).message["tool_calls"] == [
        tool_call("call_1_0", "a", "{}"),
        tool_call("call_1_1", "b", '{"name":"x"}'),
    ]


def test_calls_may_come_with_a_text() -> None:
    assert reply_to(ScriptedModel([calls(call("a"), text="Let me see.")])).message["content"] == "Let me see."


def test_ids_of_tool_calls_follow_from_the_request_alone() -> None:
    def script(request: ModelRequest) -> Reply:
        return [call("a"), call("b")]

    first, resumed = ScriptedModel(script), ScriptedModel(script)
    reply_to(first)
    assert reply_to(first, HELLO, HELLO, HELLO) == reply_to(resumed, HELLO, HELLO, HELLO)
    assert reply_to(first, HELLO, HELLO, HELLO) != reply_to(first, HELLO)


def test_a_message_is_given_as_it_is() -> None:
    message: JsonObject = {"content": "So.", "reasoning_content": "Why not."}
    assert reply_to(ScriptedModel([message])).message == {"role": "assistant", **message}


def test_a_script_does_not_change_with_what_becomes_of_its_messages() -> None:
    model = ScriptedModel(lambda _: scripted)
    scripted: JsonObject = {"role": "assistant", "content": None, "tool_calls": [tool_call("x", "a", "{}")]}
    reply_to(model).message["tool_calls"].clear()  # type: ignore[union-attr]
    assert reply_to(model).message["tool_calls"] == [tool_call("x", "a", "{}")]


def test_a_whole_reply_is_given_as_it_is() -> None:
    reply = ModelReply({"role": "assistant", "content": "So."}, usage=Usage(input_tokens=3, output_tokens=1))
    assert reply_to(ScriptedModel([reply])) is reply


def test_an_exception_is_raised() -> None:
    overloaded = ModelError("rate_limit", "Too many.", retriable=True)
    model = ScriptedModel([overloaded, "Now."])
    with pytest.raises(ModelError) as caught:
        reply_to(model)
    assert caught.value is overloaded
    assert reply_to(model).message["content"] == "Now."


def test_a_function_sees_the_request() -> None:
    model = ScriptedModel(lambda request: f"{len(request.messages)} messages for {request.model}")
    assert reply_to(model, HELLO, HELLO).message["content"] == "2 messages for scripted/any"


def test_a_function_may_be_async() -> None:
    async def script(request: ModelRequest) -> Reply:
        await asyncio.sleep(0)
        return call("echo", text=request.messages[-1]["content"])

    [echo] = reply_to(ScriptedModel(script)).message["tool_calls"]  # type: ignore[misc, str-unpack]
    assert echo == tool_call("call_1_0", "echo", '{"text":"Hello"}')


def test_requests_are_kept_as_they_were() -> None:
    model = ScriptedModel(["one"])
    messages = [HELLO]
    asyncio.run(model.complete(ModelRequest("m", messages, parameters={"temperature": 0})))
    messages.append(HELLO)
    assert model.requests == [ModelRequest("m", (HELLO,), parameters={"temperature": 0})]


def test_an_exhausted_script_says_so() -> None:
    model = ScriptedModel(["one"])
    reply_to(model)
    with pytest.raises(ModelError, match="has 1 replies, and this is request number 2") as caught:
        reply_to(model)
    assert (caught.value.error_type, caught.value.retriable) == ("script_exhausted", False)


@pytest.mark.parametrize("script", ["a text", {"role": "assistant"}, 7])
def test_a_script_is_a_list_or_a_function(script: object) -> None:
    with pytest.raises(UsageError, match="takes a list of replies, or a function"):
        ScriptedModel(script)  # type: ignore[arg-type]


@pytest.mark.parametrize("reply", [None, 7, [], ["a text"], [call("a"), "a text"]])
def test_what_is_no_reply_is_refused(reply: object) -> None:
    with pytest.raises(UsageError, match="none of these"):
        reply_to(ScriptedModel([reply]))  # type: ignore[list-item]


def test_arguments_that_are_not_json_are_refused_where_they_are_written() -> None:
    with pytest.raises(UsageError, match=r"call\('a', …\) are not JSON"):
        call("a", when={1, 2})  # type: ignore[arg-type]


@given(text=st.text())
def test_the_pieces_that_stream_are_the_text(text: str) -> None:
    pieces: list[str] = []
    reply = asyncio.run(ScriptedModel([text]).complete(request(), pieces.append))
    assert "".join(pieces) == text == reply.message["content"]
    assert len(pieces) == min(3, len(text)) or len(text) == 4
    assert all(pieces)


def test_only_text_streams() -> None:
    pieces: list[str] = []
    asyncio.run(ScriptedModel([call("a")]).complete(request(), pieces.append))
    assert pieces == []
