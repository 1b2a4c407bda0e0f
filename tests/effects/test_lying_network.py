"""A network that lies on every layer, through litellm's real path: a reply, or a failure that says what it is."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import socket
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import evrt
from effects.asking import QUIETED
from effects.lied_to import ALONE, KEY, NAME, ask, spent
from effects.lying import (
    DONE,
    GOOD,
    GOOD_BODY,
    GOOD_STREAM,
    HANG,
    KEEP,
    PIECES,
    RESET,
    REST,
    SOON,
    STOP,
    STREAM_HEAD,
    TEXT,
    USAGE,
    USED,
    Answer,
    Pause,
    chunk,
    event,
    http,
    lying,
    refusal,
    reply_of,
    stream,
)
from evrt.effects.models import LiteLLM
from evrt.events.calls import Usage

pytestmark = QUIETED

BUSY: Answer = (refusal("429 Too Many Requests"),)
CHUNKED_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
CUT_IN_CHARACTER = REST[: REST.index("🌦".encode()) + 2]


def used(**counts: Any) -> Answer:
    return reply_of(usage={**USAGE, **counts})


def tool_call(**fields: Any) -> dict[str, Any]:
    return {
        "id": "call_1",
        "type": "function",
        "function": {"name": "weather", "arguments": "{}"},
    } | fields


def calling(*calls: Any) -> Answer:
    return reply_of(message={"role": "assistant", "content": None, "tool_calls": list(calls)})


def stream_of(head: str, *events: bytes) -> Answer:
    """A stream with another header in the place of the one that lets it end with its connection."""
    return (STREAM_HEAD.replace(b"Connection: close", head.encode()) + b"".join(events),)


def calling_in_stream(*deltas: Any, finish_reason: str = "tool_calls") -> Answer:
    events = [event(chunk({"tool_calls": [delta]})) for delta in deltas]
    return (stream(*events, event(chunk(finish_reason=finish_reason)), DONE),)


# What the provider sends, in one piece and as a stream

BOTH: dict[str, tuple[Answer, str]] = {
    "too many requests": (BUSY, "rate_limit"),
    "server error": ((refusal("500 Internal Server Error"),), "server_error"),
    "error page of a proxy": (
        (http("<html>Bad gateway", status="502 Bad", type_="text/html"),),
        "server_error",
    ),
    "cut before the headers": ((), "connection"),
    "reset before the headers": ((RESET,), "connection"),
    "cut within the headers": ((b"HTTP/1.1 200 OK\r\nContent-Ty",), "connection"),
    "not HTTP at all": ((b"SSH-2.0-OpenSSH_9.6\r\n",), "connection"),
    "bytes that mean nothing": ((b"\x00\xff\x01\r\n\r\n",), "connection"),
    "header without end": ((b"HTTP/1.1 200 OK\r\nX-Long: " + b"a" * 100_000 + b"\r\n\r\n",), "connection"),
    "a length below zero": ((http(GOOD_BODY, length=-5),), "connection"),
    "two lengths": ((http(GOOD_BODY, headers=["Content-Length: 5"]),), "connection"),
    "chunks of no size": ((CHUNKED_HEAD + b"zz\r\n" + GOOD_BODY,), "connection"),
    "not what its encoding says": (
        (http(GOOD_BODY, headers=["Content-Encoding: gzip"]),),
        "connection",
    ),
}
"""The answer, and the type of failure it has to come to: each of these may pass, so it is tried again."""

WHOLE: dict[str, tuple[Answer, str]] = {
    "malformed JSON": ((http('{"id": oops}'),), "malformed_reply"),
    "truncated JSON": ((http(GOOD_BODY[:-20]),), "malformed_reply"),
    "text": ((http("I am fine, thank you.", type_="text/plain"),), "malformed_reply"),
    "not Unicode": ((http(b'{"id": "\xff\xfe"}'),), "malformed_reply"),
    "nested too deeply": ((http('{"choices":' + "[" * 100_000),), "malformed_reply"),
    "a number too long": ((http('{"choices":' + "9" * 5_000 + "}"),), "malformed_reply"),
    "no content": ((b"HTTP/1.1 204 No Content\r\n\r\n",), "malformed_reply"),
    "an error with status 200": ((http('{"error": {"message": "Overloaded"}}'),), "server_error"),
    "an overload with status 200": (
        (http('{"error": {"message": "Overloaded", "code": 503}}'),),
        "server_error",
    ),
    "choices are null": (reply_of(choices=None), "malformed_reply"),
    "choices are a number": (reply_of(choices=7), "malformed_reply"),
    "a choice is null": (reply_of(choices=[None]), "malformed_reply"),
    "the message is null": (
        reply_of(choices=[{"index": 0, "message": None, "finish_reason": "stop"}]),
        "malformed_reply",
    ),
    "the role is a number": (reply_of(message={"role": 7, "content": "x"}), "malformed_reply"),
    "the text is a number": (reply_of(message={"role": "assistant", "content": 7}), "malformed_reply"),
    "the text is an object": (reply_of(message={"role": "assistant", "content": {}}), "malformed_reply"),
    "tool calls are a text": (
        reply_of(message={"role": "assistant", "content": None, "tool_calls": "all"}),
        "malformed_reply",
    ),
    "a tool call is null": (calling(None), "malformed_reply"),
    "a tool call of no function": (calling(tool_call(function=None)), "malformed_reply"),
    "tools are called, but none": (
        reply_of(choices=[{"index": 0, "message": {"content": None}, "finish_reason": "tool_calls"}]),
        "malformed_reply",
    ),
    "usage is a number": (reply_of(usage=7), "malformed_reply"),
    "tokens are a text": (used(prompt_tokens="many"), "malformed_reply"),
    "tokens are not a number": (used(prompt_tokens=float("nan")), "malformed_reply"),
    "tokens are without end": (used(total_tokens=float("inf")), "malformed_reply"),
    "cut within the body": ((http(GOOD_BODY)[:-20],), "connection"),
    "reset within the body": ((http(GOOD_BODY)[:-20], SOON, RESET), "connection"),
    "longer than its length": ((http(GOOD_BODY, length=len(GOOD_BODY) - 10),), "connection"),
    "shorter than its length": ((http(GOOD_BODY, length=len(GOOD_BODY) + 10),), "connection"),
    "cut between two chunks": ((CHUNKED_HEAD + b"9\r\n" + GOOD_BODY[:9] + b"\r\n",), "connection"),
}

STREAMED: dict[str, tuple[Answer, str]] = {
    "nothing": ((stream(),), "incomplete_reply"),
    "an end without a beginning": ((stream(DONE),), "incomplete_reply"),
    "a page": ((http("<html>", type_="text/html"),), "incomplete_reply"),
    "a whole reply": (GOOD, "incomplete_reply"),
    "no end": ((stream(*PIECES, REST),), "incomplete_reply"),
    "an end before the reply had one": ((stream(*PIECES, REST, DONE),), "incomplete_reply"),
    "usage, but no end": ((stream(*PIECES, REST, USED),), "incomplete_reply"),
    "cut within an event": ((stream(*PIECES, REST[:20]),), "incomplete_reply"),
    "reset": ((stream(*PIECES), SOON, RESET), "incomplete_reply"),
    "an error under another name": (
        (stream(*PIECES, b"event: error\n", event({"message": "Overloaded"})),),
        "incomplete_reply",
    ),
    "a line without end": ((stream(b"data: " + b"x" * 1_000_000),), "incomplete_reply"),
    "a broken event": ((stream(*PIECES, b'data: {"id": \n\n', REST, STOP, DONE),), "malformed_reply"),
    "an event that is no JSON": ((stream(*PIECES, b"data: hello\n\n", REST, STOP),), "malformed_reply"),
    "cut within a character": ((stream(*PIECES, CUT_IN_CHARACTER),), "malformed_reply"),
    "half a character": (
        (stream(*PIECES, REST.replace("🌦".encode(), b"\xf0\x9f"), STOP, DONE),),
        "malformed_reply",
    ),
    "choices are a number": ((stream(event(chunk(choices=7)), STOP, DONE),), "malformed_reply"),
    "the same without end": ((stream(*PIECES[:1], *PIECES[1:] * 200, STOP, DONE),), "malformed_reply"),
    "tokens are a text": (
        (stream(*PIECES, REST, STOP, event(chunk(choices=[], usage={**USAGE, "prompt_tokens": "x"}))),),
        "malformed_reply",
    ),
    "a tool call without an id": (calling_in_stream({"index": 0, **tool_call(id=None)}), "malformed_reply"),
    "a tool call without a name": (
        calling_in_stream({"index": 0, **tool_call(function={"arguments": "{}"})}),
        "malformed_reply",
    ),
    "one tool call of two without a name": (
        calling_in_stream(
            {"index": 0, **tool_call()}, {"index": 1, **tool_call(id="b", function={"arguments": "{}"})}
        ),
        "malformed_reply",
    ),
    "a tool call that is a text": (calling_in_stream("weather"), "malformed_reply"),
    "a tool call that is null": (calling_in_stream(None), "malformed_reply"),
    "an error in the middle": (
        (stream(*PIECES, event({"error": {"message": "Overloaded", "code": 503}}), DONE),),
        "server_error",
    ),
    "an error at first": ((stream(event({"error": {"message": "Overloaded"}}), DONE),), "server_error"),
    "an error after the end": (
        (stream(*PIECES, REST, STOP, event({"error": {"message": "Overloaded"}})),),
        "server_error",
    ),
    "cut within a chunk": (stream_of("Transfer-Encoding: chunked", b"ff\r\n", *PIECES), "connection"),
    "shorter than its length": (stream_of("Content-Length: 9999", *PIECES), "connection"),
    "longer than its length": (stream_of("Content-Length: 300", GOOD_STREAM), "connection"),
}

LIES = [
    pytest.param(answer, error_type, streaming, id=f"{'stream' if streaming else 'whole'}: {name}")
    for table, ways in ((BOTH, (False, True)), (WHOLE, (False,)), (STREAMED, (True,)))
    for name, (answer, error_type) in table.items()
    for streaming in ways
]


@pytest.mark.parametrize("answer, error_type, streaming", LIES)
async def test_a_lie_is_a_failure_that_is_tried_again(
    answer: Answer, error_type: str, streaming: bool
) -> None:
    came = await ask(answer, streaming=streaming)
    assert [failed.failure.error_type for failed in came.failures] == [error_type, error_type]
    assert len(came.liar.requests) == 2


# What is a reply all the same

REPLIES: dict[str, tuple[Answer, bool]] = {
    "whole": (GOOD, False),
    "kept open": ((*GOOD, KEEP), False),
    "after a continue": ((b"HTTP/1.1 100 Continue\r\n\r\n" + http(GOOD_BODY),), False),
    "packed": ((http(gzip.compress(GOOD_BODY), headers=["Content-Encoding: gzip"]),), False),
    "called a page": ((http(GOOD_BODY, type_="text/html"),), False),
    "one byte after another": (tuple(bytes([byte]) for byte in http(GOOD_BODY)), False),
    "stream": ((stream(GOOD_STREAM),), True),
    "stream without the last word": ((stream(*PIECES, REST, STOP, USED),), True),
    "stream with more after the last word": ((stream(GOOD_STREAM, event(chunk({"content": "!"}))),), True),
    "stream with CRLF": ((stream(GOOD_STREAM.replace(b"\n", b"\r\n")),), True),
    "stream with comments": (
        (stream(b": hello\n\n", *PIECES, b": still here\n", REST, STOP, USED, DONE),),
        True,
    ),
    "stream paused within a character": (
        (
            stream(*PIECES, CUT_IN_CHARACTER),
            SOON,
            REST.removeprefix(CUT_IN_CHARACTER) + STOP + USED + DONE,
        ),
        True,
    ),
    "stream packed": (stream_of("Content-Encoding: gzip", gzip.compress(GOOD_STREAM)), True),
    "stream cut after it was complete": (stream_of("Content-Length: 9999", GOOD_STREAM), True),
}


@pytest.mark.parametrize("name", REPLIES)
async def test_what_is_only_odd_is_a_reply(name: str) -> None:
    answer, streaming = REPLIES[name]
    came = await ask(answer, streaming=streaming)
    assert came.failures == []
    assert came.message == {"role": "assistant", "content": TEXT}
    assert (came.state.input_tokens, came.state.output_tokens) == (11, 7)
    assert "".join(came.deltas) == (TEXT if streaming else "")


async def test_what_is_said_twice_in_a_stream_is_in_the_reply_twice() -> None:
    # Nothing in an event says which it is, so that nobody can tell.
    came = await ask((stream(*PIECES, PIECES[1], REST, STOP, USED, DONE),), streaming=True)
    assert came.message == {"role": "assistant", "content": f"{TEXT[:6]}{TEXT}"}


@pytest.mark.parametrize(
    "usage, counted",
    [
        (None, Usage()),
        ({**USAGE, "prompt_tokens": -5}, Usage(output_tokens=7)),
        ({**USAGE, "completion_tokens": 10**30}, Usage(input_tokens=11)),
        (
            {**USAGE, "prompt_tokens_details": {"cached_tokens": -900_000}},
            Usage(input_tokens=11, output_tokens=7),
        ),
    ],
    ids=["none", "negative", "enormous", "negative details"],
)
@pytest.mark.parametrize("streaming", [False, True], ids=["whole", "stream"])
async def test_counts_that_cannot_be_are_not_counted_and_have_no_price(
    usage: Any, counted: Usage, streaming: bool
) -> None:
    last = [event(chunk(choices=[], usage=usage))] if usage else []
    answer = (stream(*PIECES, REST, STOP, *last, DONE),) if streaming else reply_of(usage=usage)
    came = await ask(answer, streaming=streaming)
    assert came.completed is not None
    assert came.completed.usage == counted


# Tool calls


TOLD_TOOLS: dict[str, tuple[Answer, bool, str]] = {
    "arguments cut off": (
        calling(tool_call(function={"name": "weather", "arguments": '{"ci'})),
        False,
        '{"ci',
    ),
    "arguments cut off in a stream": (
        calling_in_stream(
            {"index": 0, **tool_call(function={"name": "weather", "arguments": '{"ci'})},
            finish_reason="length",
        ),
        True,
        '{"ci',
    ),
    "arguments that are a list": (
        calling(tool_call(function={"name": "weather", "arguments": "[1]"})),
        False,
        "[1]",
    ),
    "numbers with gaps": (calling_in_stream({"index": 5, **tool_call()}), True, "{}"),
    "no id": (calling(tool_call(id=None)), False, "{}"),
}


@pytest.mark.parametrize("name", TOLD_TOOLS)
async def test_a_tool_call_is_given_as_the_model_wrote_it(name: str) -> None:
    answer, streaming, arguments = TOLD_TOOLS[name]
    came = await ask(answer, streaming=streaming)
    assert came.message is not None
    calls: Any = came.message["tool_calls"]
    (call,) = calls
    assert call["id"]  # litellm gives one to a call that has none, and it is recorded with the reply.
    assert call["function"] == {"name": "weather", "arguments": arguments}


async def test_a_tool_is_never_called_with_arguments_that_were_cut_off() -> None:
    half = tool_call(function={"name": "weather", "arguments": '{"city": "Turin", "sen'})
    answer = calling_in_stream({"index": 0, **half}, finish_reason="length")
    called: list[str] = []

    async with lying(answer, (stream(GOOD_STREAM),)) as liar:
        model = LiteLLM(liar.url, KEY)
        app = evrt.App("memory://", models={NAME: model}, on_delta=lambda *_: None)

        @evrt.tool(effect="read")
        async def weather(city: str) -> str:
            """The weather."""
            called.append(city)
            return "sunny"

        async with app:
            result = await app.run(app.agent("agent", model=NAME, tools=[weather]), "Weather?")
        await model.aclose()
    assert called == []
    assert result.output == TEXT
    assert b"was cut off at the limit of its length" in liar.requests[1]


# Too much


@pytest.mark.parametrize("streaming", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("in_arguments", [False, True], ids=["text", "arguments"])
async def test_a_reply_beyond_the_payload_limit_is_a_failure_that_was_paid_for(
    streaming: bool, in_arguments: bool
) -> None:
    much = "x" * 1_100_000
    function = {"name": "weather", "arguments": json.dumps({"city": much})}
    message: dict[str, Any] = {"role": "assistant", "content": None if in_arguments else much}
    if in_arguments:
        message["tool_calls"] = [tool_call(function=function)]
    if streaming:
        delta = (
            {**message, "tool_calls": [{"index": 0, **tool_call(function=function)}]}
            if in_arguments
            else message
        )
        last = event(chunk(finish_reason="tool_calls" if in_arguments else "stop"))
        answer: Answer = (stream(event(chunk(delta)), last, USED, DONE),)
    else:
        answer = reply_of(message=message)
    came = await ask(answer, streaming=streaming)
    assert came.outcome == "PayloadTooLarge"
    assert len(came.liar.requests) == 1  # The same question will hardly be answered in fewer words.
    assert spent(came.failures) == [(11, 7)]
    assert (came.state.input_tokens, came.state.output_tokens) == (11, 7)
    assert came.state.cost_usd is not None


# Silence


def trickle(piece: bytes) -> Answer:
    """Half a minute of it."""
    return (piece, Pause(0.01)) * 3_000


SILENCES: dict[str, Answer] = {
    "no answer": (HANG,),
    "headers and no body": (http(b"", length=100), HANG),
    "half a body": (http(GOOD_BODY)[:-20], HANG),
    "half a stream": (stream(*PIECES), HANG),
    "a trickle": (http(b"", length=100_000), *trickle(b" ")),
    "a trickle of comments": (stream(), *trickle(b": still here\n\n")),
    "a trickle of headers": (b"HTTP/1.1 200 OK\r\n", *trickle(b"X: y\r\n")),
}


@pytest.mark.parametrize("name", SILENCES)
@pytest.mark.parametrize("streaming", [False, True], ids=["whole", "stream"])
async def test_the_calls_own_time_limit_ends_every_silence(name: str, streaming: bool) -> None:
    came = await ask(SILENCES[name], streaming=streaming, retry=ALONE, timeout=0.15)
    assert came.outcome == "timeout"
    assert came.text == "No reply within 0.15 s."


async def test_a_silence_is_tried_again() -> None:
    came = await ask((HANG,), GOOD, timeout=1.0)
    assert [failed.failure.error_type for failed in came.failures] == ["timeout"]
    assert came.completed is not None


async def test_a_refused_connection_is_tried_again() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        nobody = LiteLLM(f"http://127.0.0.1:{unused.getsockname()[1]}/v1", KEY)
        came = await ask(GOOD, model=nobody)
    assert [failed.failure.error_type for failed in came.failures] == ["connection", "connection"]
    assert came.liar.requests == []


# Elsewhere


async def test_a_redirect_does_not_take_the_key_to_another_server() -> None:
    async with lying(GOOD) as other:
        moved = f"HTTP/1.1 307 Moved\r\nLocation: {other.url}/x\r\nContent-Length: 0\r\n\r\n".encode()
        came = await ask((moved, KEEP))
    # litellm follows it, and has no setting against that.
    assert came.completed is not None
    assert KEY.encode() in came.liar.requests[0]
    assert KEY.encode() not in other.requests[0]


async def test_a_redirect_in_a_circle_is_a_failed_connection() -> None:
    async with lying(()) as circle:
        moved = f"HTTP/1.1 307 Moved\r\nLocation: {circle.url}/x\r\nContent-Length: 0\r\n\r\n".encode()
        circle.answers = [(moved, KEEP)]
        came = await ask((moved, KEEP), retry=ALONE)
    assert came.outcome == "connection"
    assert len(circle.requests) <= 21


# Whatever else


SEED_WHOLE, SEED_STREAM = http(GOOD_BODY), stream(GOOD_STREAM)


@st.composite
def spoiled(draw: st.DrawFn, good: bytes) -> bytes:
    """A good answer with bytes flipped, cut out, said twice, or its end missing."""
    answer = bytearray(good)
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, max(0, len(answer) - 1)))
        length = draw(st.integers(1, 60))
        match draw(st.sampled_from(["flip", "byte", "cut", "twice", "end"])):
            case "flip" if answer:
                answer[place] ^= 1 << draw(st.integers(0, 7))
            case "byte" if answer:
                answer[place] = draw(st.integers(0, 255))
            case "cut":
                del answer[place : place + length]
            case "twice":
                answer[place:place] = answer[place : place + length]
            case "end":
                del answer[place:]
    return bytes(answer)


MUTATIONS = settings(max_examples=1_000 if os.environ.get("EVRT_SOAK") == "1" else 40)


@MUTATIONS
@given(spoiled(SEED_WHOLE))
@example(b"")
def test_a_spoiled_answer_is_a_reply_or_a_failure(answer: bytes) -> None:
    asyncio.run(_is_a_reply_or_a_failure(answer, streaming=False))


@MUTATIONS
@given(spoiled(SEED_STREAM))
@example(b"")
def test_a_spoiled_stream_is_a_reply_or_a_failure(answer: bytes) -> None:
    asyncio.run(_is_a_reply_or_a_failure(answer, streaming=True))


async def _is_a_reply_or_a_failure(answer: bytes, *, streaming: bool) -> None:
    # The connection ends with the answer, so that a length that became longer is not waited for.
    came = await ask((answer,), streaming=streaming, retry=ALONE)
    if came.completed is None:
        assert came.outcome in {
            "connection",
            "malformed_reply",
            "incomplete_reply",
            "server_error",
            "bad_request",
            "rate_limit",
            "timeout",
            "authentication",
            "permission",
            "not_found",
        }
