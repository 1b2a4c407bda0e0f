"""A provider on loopback that lies on every layer: its answers are bytes on a socket, not a library's idea of HTTP.

An answer is a tuple of parts, sent one after the other: bytes, a Pause, HANG or RESET; then the connection is
closed, unless the answer ends with KEEP. Each request takes the next answer; the last one goes on for ever.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, TypeAlias


@dataclass(frozen=True, slots=True)
class Pause:
    """Time between two parts, in seconds."""

    seconds: float


class Ending(Enum):
    """What happens to a connection other than being closed in good order."""

    HANG = "hang"
    RESET = "reset"
    KEEP = "keep"


HANG, RESET, KEEP = Ending.HANG, Ending.RESET, Ending.KEEP

Answer: TypeAlias = tuple[bytes | Pause | Ending, ...]

TEXT = "Grüße aus Turin 🌦"
USAGE = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}
MODEL = "gpt-4o"
"""A model that has a price."""


@dataclass(slots=True)
class Liar:
    """A running server. ``requests``: the bytes of each, as they came."""

    url: str
    answers: list[Answer]
    requests: list[bytes] = field(default_factory=list)
    connections: set[asyncio.StreamWriter] = field(default_factory=set)
    left: asyncio.Event = field(default_factory=asyncio.Event)
    """Set while nobody is connected."""

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections.add(writer)
        self.left.clear()
        with suppress(OSError, asyncio.IncompleteReadError):
            while await self._answer(reader, writer):
                pass
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()
        self.connections.discard(writer)
        if not self.connections:
            self.left.set()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Whether the connection stays open for another request."""
        self.requests.append(await _request(reader))
        for part in self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]:
            match part:
                case bytes():
                    writer.write(part)
                    await writer.drain()
                case Pause():
                    await asyncio.sleep(part.seconds)
                case Ending.HANG:
                    await reader.read()  # Returns when the client hangs up.
                case Ending.RESET:
                    # Lingering for no time, a socket says good-bye with RST instead of FIN.
                    linger = struct.pack("ii", 1, 0)
                    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                case Ending.KEEP:
                    return True
        return False


async def _request(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(
        (int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0
    )
    return head + await reader.readexactly(length)


@asynccontextmanager
async def lying(*answers: Answer) -> AsyncIterator[Liar]:
    """A server on a free port until the block ends."""
    liar = Liar("", list(answers))
    liar.left.set()
    server = await asyncio.start_server(liar.connected, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    liar.url = f"http://{host}:{port}/v1"
    try:
        yield liar
    finally:
        server.close()
        for writer in list(liar.connections):
            writer.transport.abort()
        await liar.left.wait()


# What an honest provider would send, to be spoiled


def http(
    body: bytes | str,
    *,
    status: str = "200 OK",
    type_: str = "application/json",
    length: int | None = None,
    headers: Sequence[str] = (),
) -> bytes:
    """A whole answer. ``length``: the Content-Length to claim."""
    body = body.encode() if isinstance(body, str) else body
    lines = [
        f"HTTP/1.1 {status}",
        f"Content-Type: {type_}",
        f"Content-Length: {len(body) if length is None else length}",
        *headers,
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def refusal(status: str, text: str = "Not now.", headers: Sequence[str] = (), **fields: Any) -> bytes:
    """An error as OpenAI's API sends it."""
    error = {"message": text, "type": "error", "param": None, "code": None}
    return http(json.dumps({"error": error, **fields}), status=status, headers=headers)


def completion(message: Any = None, **fields: Any) -> dict[str, Any]:
    """The JSON of a whole reply."""
    message = {"role": "assistant", "content": TEXT} if message is None else message
    finish_reason = "tool_calls" if isinstance(message, dict) and message.get("tool_calls") else "stop"
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": MODEL,
        "choices": [{"index": 0, "message": message, "finish_reason": finish_reason}],
        "usage": USAGE,
        **fields,
    }


def chunk(delta: Any = None, *, finish_reason: str | None = None, **fields: Any) -> dict[str, Any]:
    """The JSON of one event of a stream."""
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1_700_000_000,
        "model": MODEL,
        "choices": [{"index": 0, "delta": {} if delta is None else delta, "finish_reason": finish_reason}],
        **fields,
    }


def event(value: Any) -> bytes:
    return b"data: " + json.dumps(value, ensure_ascii=False).encode() + b"\n\n"


STREAM_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
"""Of a stream that ends with its connection, so that nothing below the events says whether it is whole."""

PIECES = [event(chunk({"role": "assistant", "content": ""})), event(chunk({"content": TEXT[:6]}))]
REST = event(chunk({"content": TEXT[6:]}))
STOP = event(chunk(finish_reason="stop"))
USED = event(chunk(choices=[], usage=USAGE))
DONE = b"data: [DONE]\n\n"
GOOD_STREAM = b"".join([*PIECES, REST, STOP, USED, DONE])


def stream(*events: bytes) -> bytes:
    return STREAM_HEAD + b"".join(events)


def reply_of(**fields: Any) -> Answer:
    """A whole reply with these fields."""
    return (http(json.dumps(completion(**fields))),)


GOOD_BODY = json.dumps(completion()).encode()
GOOD: Answer = (http(GOOD_BODY),)

SOON = Pause(0.02)
"""Long enough for what was sent before to be read before what follows."""
