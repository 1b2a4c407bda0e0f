"""A small OpenAI-compatible provider on loopback; the model's name says how it behaves.

``openai/plain`` replies, ``openai/status-429`` is over its limit, ``openai/cut`` hangs up in the
middle. Everything received is kept, so that a test can look at what really went over the wire.
"""

from __future__ import annotations

import json
import logging
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

STOP_SECONDS_MAX = 30.0

PIECES = ("Grüße ", "aus Turin: ", "26 °C, ", "日本語 🌦")
TEXT = "".join(PIECES)
USAGE = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}

WEATHER_CALL = {
    "id": "call_a1",
    "type": "function",
    "function": {"name": "weather", "arguments": '{"city": "Zürich"}'},
}
CLOCK_CALL = {"id": "call_b2", "type": "function", "function": {"name": "clock", "arguments": "{}"}}
BROKEN_CALL = {
    "id": "call_c3",
    "type": "function",
    "function": {"name": "weather", "arguments": '{"city": "Zü'},
}

MESSAGES: dict[str, dict[str, Any]] = {
    "tools": {"role": "assistant", "content": None, "tool_calls": [WEATHER_CALL, CLOCK_CALL]},
    "broken-arguments": {"role": "assistant", "content": None, "tool_calls": [BROKEN_CALL]},
    "reasoning": {"role": "assistant", "content": TEXT, "reasoning_content": "It is warm there."},
    "refusal": {"role": "assistant", "content": None, "refusal": "I will not."},
    "empty-text": {"role": "assistant", "content": ""},
    "surrogates": {"role": "assistant", "content": "\ud83c\udf26 and \ud83c"},
}
"""What a scenario replies, where it is not TEXT."""

TEXT_DELTAS = [{"role": "assistant", "content": ""}, *({"content": piece} for piece in PIECES)]
DELTAS: dict[str, list[dict[str, Any]]] = {
    "tools": [
        {"role": "assistant", "content": ""},
        {"tool_calls": [{"index": 0, **WEATHER_CALL, "function": {"name": "weather", "arguments": ""}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": '{"city": '}}]},
        {"tool_calls": [{"index": 1, **CLOCK_CALL, "function": {"name": "clock", "arguments": ""}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": '"Zürich"}'}}]},
        {"tool_calls": [{"index": 1, "function": {"arguments": "{}"}}]},
    ],
    "broken-arguments": [
        {"role": "assistant", "content": None},
        {"tool_calls": [{"index": 0, **BROKEN_CALL}]},
    ],
    "reasoning": [
        {"role": "assistant", "reasoning_content": "It is "},
        {"reasoning_content": "warm there."},
        *({"content": piece} for piece in PIECES),
    ],
    "empty-text": [{"role": "assistant", "content": ""}],
    "surrogates": [{"role": "assistant", "content": "\ud83c"}, {"content": "\udf26 and \ud83c"}],
}
"""What a scenario streams, where it is not TEXT in its PIECES."""

NOT_REPLIES: dict[str, bytes] = {
    "html": b"<html>Bad gateway</html>",
    "half-json": b'{"id": "chatcmpl-1", "choices": [',
    "no-choices": b'{"id": "chatcmpl-1", "object": "chat.completion", "model": "no-choices", "choices": []}',
    "no-message": b'{"id": "chatcmpl-1", "object": "chat.completion", "choices": [{"index": 0}]}',
    "other-json": b'{"hello": "world"}',
    "json-list": b"[1, 2]",
    "json-null": b"null",
    "nothing": b"",
}
"""Sent with status 200."""

ERRORS = {413: "Request too large", 429: "Rate limit reached"}
CONTEXT_WINDOW = (
    "This model's maximum context length is 8192 tokens. However, your messages resulted in 9000 tokens."
)


@dataclass(frozen=True, slots=True)
class Received:
    """One request as it came over the wire."""

    headers: dict[str, str]
    body: dict[str, Any]


@dataclass(slots=True)
class Provider:
    """A running server. ``stalling`` is set when it keeps a client waiting, ``left`` when that client hung up."""

    url: str
    received: list[Received] = field(default_factory=list)
    stalling: threading.Event = field(default_factory=threading.Event)
    left: threading.Event = field(default_factory=threading.Event)

    async def chat_completions(self, request: Request) -> Response:
        body = json.loads(await request.body())
        self.received.append(Received(dict(request.headers), body))
        scenario = body["model"]
        if scenario.startswith("status-"):
            status = int(scenario.removeprefix("status-"))
            return _error(status, ERRORS.get(status) or f"Refused {request.headers['authorization']}")
        if scenario == "context-window":
            return _error(400, CONTEXT_WINDOW, code="context_length_exceeded")
        if scenario in NOT_REPLIES:
            return Response(NOT_REPLIES[scenario], media_type="application/json")
        if body.get("stream"):
            return StreamingResponse(self._stream(scenario, body, request), media_type="text/event-stream")
        if scenario == "stall":
            await self._stall(request)
        if scenario == "cut":
            # Promises more than it sends, whereupon uvicorn closes the connection.
            return Response(b'{"id": "chatcmpl-1", ', headers={"content-length": "1000"})
        message = MESSAGES.get(scenario, {"role": "assistant", "content": TEXT})
        choice = {"index": 0, "message": message, "finish_reason": _finish_reason(scenario)}
        completion = _fields(scenario, object="chat.completion", choices=[choice], usage=USAGE)
        return Response(_json(scenario, completion), media_type="application/json")

    async def _stream(self, scenario: str, body: dict[str, Any], request: Request) -> AsyncIterator[str]:
        for index, delta in enumerate(DELTAS.get(scenario, TEXT_DELTAS)):
            if index == 3:
                match scenario:
                    case "stall":
                        await self._stall(request)
                    case "cut":
                        raise ConnectionAbortedError
                    case "unfinished":
                        return
                    case "half-chunk":
                        yield 'data: {"id": "chatcmpl-1", "choices": [\n\n'
                    case "error-chunk":
                        yield _event(
                            scenario, error={"message": "Overloaded", "type": "server_error", "code": 503}
                        )
            yield _event(scenario, choices=[{"index": 0, "delta": delta, "finish_reason": None}])
        last = {"index": 0, "delta": {}, "finish_reason": _finish_reason(scenario)}
        yield _event(scenario, choices=[last])
        if (body.get("stream_options") or {}).get("include_usage"):
            yield _event(scenario, choices=[], usage=USAGE)
        yield "data: [DONE]\n\n"

    async def _stall(self, request: Request) -> None:
        self.stalling.set()
        while (await request.receive())["type"] != "http.disconnect":
            pass
        self.left.set()


def _finish_reason(scenario: str) -> str:
    if scenario == "odd-finish":
        return "tired"
    return "tool_calls" if MESSAGES.get(scenario, {}).get("tool_calls") else "stop"


def _error(status: int, text: str, code: str | None = None) -> Response:
    error = {"message": text, "type": "error", "param": None, "code": code}
    return Response(json.dumps({"error": error}), status_code=status, media_type="application/json")


def _event(scenario: str, **fields: Any) -> str:
    return f"data: {_json(scenario, _fields(scenario, object='chat.completion.chunk', **fields))}\n\n"


def _fields(scenario: str, **fields: Any) -> dict[str, Any]:
    return {"id": "chatcmpl-1", "created": 1_700_000_000, "model": f"{scenario}-2024-08-06", **fields}


def _json(scenario: str, value: Any) -> str:
    # Halves of a surrogate pair exist only as escapes; everything else goes out as UTF-8.
    return json.dumps(value, ensure_ascii=scenario == "surrogates")


@contextmanager
def provider_on_loopback() -> Iterator[Provider]:
    """A provider on a free port, served from a thread until the block ends."""
    # The protocol is named because asyncio sets TCP_NODELAY only then; without it each reply takes 40 ms.
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        provider = Provider(f"http://127.0.0.1:{listener.getsockname()[1]}/v1")
        routes = [Route("/v1/chat/completions", provider.chat_completions, methods=["POST"])]
        config = uvicorn.Config(
            Starlette(routes=routes),
            lifespan="off",
            ws="none",
            log_config=None,
            log_level=logging.CRITICAL,
            timeout_graceful_shutdown=0,
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=([listener],), name="provider")
        thread.start()
        try:
            yield provider
        finally:
            server.should_exit = True
            thread.join(STOP_SECONDS_MAX)
