"""Ways to an MCP server: a process spoken to over its standard streams, or a URL.

Each tells what the SDK does not: that the process has gone, and whether a request has left at all.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import httpx2
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client

READ_SECONDS = 24 * 3600.0
"""A server may take as long as the tool's own time-out allows: that one ends a call, not the transport's."""
CONNECT_SECONDS = 30.0

Transport = AbstractAsyncContextManager[Any]
Opening = Callable[[Callable[[], None]], Transport]
"""Makes a transport; the function given is called where the server has gone."""


@dataclass(slots=True)
class Attempt:
    """What became of one request on its way."""

    unsent: bool = False
    """Whether no connection could be made, so that the server cannot have seen it."""
    status: int = 0
    """The HTTP status it was answered with, if any."""


current_attempt: ContextVar[Attempt | None] = ContextVar("evrt_mcp_attempt", default=None)


def over_stdio(command: Sequence[str], env: Mapping[str, str], folder: str | None) -> Opening:
    """A server that is a process: started when it is needed, and ended with the connection."""
    parameters = StdioServerParameters(
        command=command[0], args=list(command[1:]), env=dict(env) or None, cwd=folder
    )

    def opening(gone: Callable[[], None]) -> Transport:
        @asynccontextmanager
        async def opened() -> AsyncIterator[tuple[Any, Any]]:
            async with stdio_client(parameters) as (read, write):
                yield _Watched(read, gone), write

        return opened()

    return opening


def over_http(url: str, headers: Mapping[str, str]) -> Opening:
    """A server at a URL, by the streamable HTTP transport."""

    def opening(gone: Callable[[], None]) -> Transport:
        @asynccontextmanager
        async def opened() -> AsyncIterator[tuple[Any, Any]]:
            timeout = httpx2.Timeout(CONNECT_SECONDS, read=READ_SECONDS)
            async with (
                Telling(headers=dict(headers), timeout=timeout) as client,
                streamable_http_client(url, http_client=client) as (read, write),
            ):
                yield _Watched(read, gone), write

        return opened()

    return opening


class Telling(httpx2.AsyncClient):
    """Notes for each request whether it left, and how it was answered."""

    async def send(self, request: httpx2.Request, **more: Any) -> httpx2.Response:
        attempt = current_attempt.get()
        try:
            response = await super().send(request, **more)
        except (httpx2.ConnectError, httpx2.ConnectTimeout):
            # The SDK asks again with GET for the rest of an answer: then the request itself has been there.
            if attempt is not None and request.method == "POST" and not attempt.status:
                attempt.unsent = True
            raise
        if attempt is not None:
            attempt.status = response.status_code
        return response


class _Watched:
    """What comes from a server, and word of its end."""

    def __init__(self, stream: Any, gone: Callable[[], None]) -> None:
        self._stream = stream
        self._gone = gone

    @property
    def last_context(self) -> Any:
        return getattr(self._stream, "last_context", None)

    async def receive(self) -> Any:
        try:
            return await self._stream.receive()
        except BaseException:
            self._gone()
            raise

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        try:
            return await self._stream.__anext__()
        except BaseException:
            self._gone()
            raise

    def close(self) -> None:
        self._stream.close()

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()
