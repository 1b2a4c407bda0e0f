"""A connection to an MCP server: made when it is first needed, made again after the server has gone, closed with the app.

What a call came to is one of three: an answer, a refusal or failure that the server told of, or nobody knows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextvars import Context
from typing import TYPE_CHECKING, Any

from evrt.errors import OutcomeUnknown, Unavailable, UsageError
from evrt.events import JsonObject

if TYPE_CHECKING:
    from mcp import Client
    from mcp.types import CallToolResult

    from evrt.effects.mcp.transports import Opening

PAGES_MAX = 100
"""How many pages of tools a server may have: one that never ends its list is not waited for."""
NOT_FOUND = 404
"""What a server answers that does not know the session any more, as it was started again: the request was not taken."""
KEY = "evrt.dev/idempotency-key"
"""Where a request says under which key a repeated call can be known."""


class McpToolFailed(Exception):
    """The server says that the tool failed, or refuses the call. It is the model's to read; trying again is no use."""

    retriable = False


class Connection:
    """One server, as one app uses it. ``seconds`` is how long it may take to connect."""

    def __init__(self, server: str, opening: Opening, *, seconds: float) -> None:
        self._server = server
        self._opening = opening
        self._seconds = seconds
        self._link: _Link | None = None
        self._connecting: tuple[asyncio.AbstractEventLoop, asyncio.Lock] | None = None

    async def list_tools(self) -> list[JsonObject]:
        """The server's tools, as it lists them. Raises Unavailable, McpToolFailed."""
        tools: list[JsonObject] = []
        cursor: str | None = None
        for _ in range(PAGES_MAX):
            page = await self._asked(lambda client, cursor=cursor: client.list_tools(cursor=cursor))
            tools += [tool.model_dump(mode="json", by_alias=True, exclude_none=True) for tool in page.tools]
            cursor = page.next_cursor
            if cursor is None:
                return tools
        raise Unavailable(f"MCP server {self._server} lists more than {PAGES_MAX} pages of tools.")

    async def call(self, tool: str, arguments: Mapping[str, object], *, key: str | None) -> CallToolResult:
        """Call a tool. Raises McpToolFailed, Unavailable where nothing was sent, OutcomeUnknown where something was."""
        meta: Any = None if key is None else {KEY: key}
        result: CallToolResult = await self._asked(
            lambda client: client.call_tool(tool, dict(arguments), meta=meta)
        )
        return result

    async def aclose(self) -> None:
        """Close it; a process that was started is ended. Idempotent, and it may be used again."""
        link, self._link = self._link, None
        if link is not None and link.loop is asyncio.get_running_loop():
            await link.aclose()

    async def _asked(self, ask: Any) -> Any:
        from mcp.shared.exceptions import MCPError
        from mcp.types import CONNECTION_CLOSED, METHOD_NOT_FOUND, PARSE_ERROR, REQUEST_TIMEOUT

        from evrt.effects.mcp.transports import Attempt, current_attempt

        for again in (True, False):
            link = await self._connected()
            attempt = Attempt()
            token = current_attempt.set(attempt)
            try:
                return await ask(link.client)
            except MCPError as error:
                untaken = attempt.unsent or (attempt.status == NOT_FOUND and error.code != METHOD_NOT_FOUND)
                if untaken or error.code == CONNECTION_CLOSED:
                    await link.aclose()
                if untaken and again:
                    continue
                if untaken:
                    raise Unavailable(
                        f"MCP server {self._server} cannot be reached: {error.message}."
                    ) from error
                if error.code in (CONNECTION_CLOSED, PARSE_ERROR, REQUEST_TIMEOUT) or attempt.status >= 500:
                    raise OutcomeUnknown(
                        f"MCP server {self._server} gave no answer: {error.message}."
                    ) from error
                raise McpToolFailed(error.message) from error
            finally:
                current_attempt.reset(token)
        raise AssertionError("The second try returns or raises.")

    async def _connected(self) -> _Link:
        """The link as it is, or a new one. Raises Unavailable."""
        loop = asyncio.get_running_loop()
        if self._connecting is None or self._connecting[0] is not loop:
            self._connecting = loop, asyncio.Lock()
            self._link = None  # What it was went with its event loop.
        async with self._connecting[1]:
            if self._link is None or not self._link.alive:
                link = _Link(self._opening)
                try:
                    async with asyncio.timeout(self._seconds):
                        await link.open()
                except TimeoutError as error:
                    raise Unavailable(
                        f"MCP server {self._server} did not answer within {self._seconds:g} s."
                    ) from error
                except Exception as error:
                    raise Unavailable(
                        f"MCP server {self._server} could not be connected to: {_first(error)}. See that its command or "
                        "URL is right, and what it writes to stderr."
                    ) from error
                self._link = link
            return self._link


class _Link:
    """One connection, held open by a task of its own: the SDK wants it closed by whoever opened it."""

    def __init__(self, opening: Opening) -> None:
        self.loop = asyncio.get_running_loop()
        self.client: Client
        self._opening = opening
        self._over = asyncio.Event()
        self._ready: asyncio.Future[None] = self.loop.create_future()
        # Without the context of the run that happened to come first.
        self._task = self.loop.create_task(self._hold(), context=Context())

    @property
    def alive(self) -> bool:
        return not self._over.is_set() and not self._task.done()

    async def open(self) -> None:
        """Wait for the handshake. Raises whatever was in its way."""
        try:
            await asyncio.shield(self._ready)
        except BaseException:
            await self.aclose()
            raise

    async def aclose(self) -> None:
        self._over.set()
        if not self._ready.done():
            self._task.cancel()
        await asyncio.wait([self._task])

    async def _hold(self) -> None:
        from mcp import Client

        try:
            async with Client(self._opening(self._over.set)) as self.client:
                self._ready.set_result(None)
                await self._over.wait()
        except BaseException as error:
            self._over.set()
            if not self._ready.done():
                gone = isinstance(error, asyncio.CancelledError)
                self._ready.set_exception(ConnectionError("given up") if gone else error)
                self._ready.exception()  # Whoever waited for it may have been cut off.
            if not isinstance(error, Exception):
                raise


def _first(error: BaseException) -> str:
    """The first that went wrong, where several things did."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return str(error) or type(error).__name__


def require_sdk() -> None:
    """Raises UsageError where the MCP SDK is not installed."""
    try:
        import mcp.types  # noqa: F401  (whether it can be imported is all that is asked)
    except ModuleNotFoundError as error:
        raise UsageError(
            'An MCP server needs the MCP SDK, which is not installed here: pip install "evrt[mcp]".'
        ) from error
