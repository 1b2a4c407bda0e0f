"""MCP servers as toolgroups: the tools that are allowed of one, each call a recorded effect.

What the server lists is recorded in each run once, as a step that reads; so a run keeps to the tools it began with, and
a replay connects to nobody. What a server says, descriptions of its tools included, is not the operator's word.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from typing import Any, Literal

from evrt.agents.toolgroups import check_group_name, no_such_tool
from evrt.effects.mcp.connection import Connection, require_sdk
from evrt.effects.tools import Tool, ToolContext
from evrt.errors import NotFound, UsageError
from evrt.events import JsonObject, JsonValue
from evrt.retry import NO_RETRY, Retry, parse_seconds
from evrt.runtime.context import Context

Effect = Literal["read", "write", "idempotent"]

NAME_CHARACTERS_MAX = 64
DIGEST_HEX = 8
DESCRIPTION_CHARACTERS_MAX = 4_000
LIST_RETRY = Retry(attempts_max=3, base_seconds=0.2)
CALL_RETRY = Retry(attempts_max=3, base_seconds=0.2)
"""For calls that may be made again, where the server went away; a tool's own failure is never tried again."""


class McpServer:
    """The tools of an MCP server as a toolgroup: ``app.toolgroup(McpServer("files", command=[…], allow=["read"]))``.

    command, env, folder
        a process to start and speak to over its standard streams, with which environment beside the usual few names
        (PATH, HOME, …) and in which folder.
    url, headers
        or the address of a server that speaks streamable HTTP.
    allow
        the names of the tools that agents are offered; ``"*"`` is all that the server has, now and later.
    effects
        by the name of a tool what a call of it does: ``read``; ``write``, never made again after it was cut off;
        ``idempotent``, a write that the server takes once however often it comes (with the same arguments, or the key
        in ``_meta``). Without it a tool reads where the server says so (``readOnlyHint``), and writes otherwise.
    confirm
        the names of the tools, or ``"*"`` for all, of which each call needs a person's leave.
    timeout
        of one call. A write that takes longer is in doubt.
    trusted
        whether what the server says is as good as your own word: see ``Context.untrusted``.

    Raises UsageError for what cannot be, and where the SDK is not installed (``pip install "evrt[mcp]"``). It connects
    when a run first needs it.
    """

    def __init__(
        self,
        name: str,
        *,
        command: Sequence[str] | None = None,
        env: Mapping[str, str] | None = None,
        folder: str | None = None,
        url: str | None = None,
        headers: Mapping[str, str] | None = None,
        allow: Sequence[str] | Literal["*"] = (),
        effects: Mapping[str, Effect] | None = None,
        confirm: Sequence[str] | Literal["*"] = (),
        timeout: str | float | None = "60s",
        connect_timeout: str | float = "30s",
        trusted: bool = False,
    ) -> None:
        self.name = check_group_name(name)
        self.trusted = trusted
        self._allow = allow
        self._effects = dict(effects or {})
        self._confirm = confirm
        self._timeout = None if timeout is None else parse_seconds(timeout)
        self._check(command, url)
        require_sdk()
        from evrt.effects.mcp.transports import over_http, over_stdio

        opening = over_http(url, headers or {}) if url else over_stdio(command or (), env or {}, folder)
        self._connection = Connection(name, opening, seconds=parse_seconds(connect_timeout))

    @property
    def known(self) -> Mapping[str, Tool]:
        """None: what there is, the server says when a run begins."""
        return {}

    def check(self, tool: str) -> None:
        """Raises NotFound for a tool that is not allowed."""
        if self._allow != "*" and tool not in self._allow:
            raise no_such_tool(self.name, tool, list(self._allow))

    async def tools(self, ctx: Context[Any]) -> Mapping[str, Tool]:
        """The allowed tools, as the server lists them at this moment, or did when this run asked first.

        Raises StepFailed where it cannot be asked, NotFound for one that is allowed and not there, UsageError for one
        that cannot be offered.
        """
        listed: list[Any] = await ctx.step(f"mcp.{self.name}", self._listed, effect="read", retry=LIST_RETRY)
        if not self.trusted:
            ctx.distrust(f"mcp:{self.name}")
        names = [str(tool["name"]) for tool in listed]
        missing = [] if self._allow == "*" else [name for name in self._allow if name not in names]
        if missing:
            raise NotFound(
                f"MCP server {self.name} does not have {', '.join(missing)}, which it is allowed to offer. Take it out of "
                "allow=, or start the server that has it."
            )
        made = {str(tool["name"]): self._tool(tool) for tool in listed}
        if len({tool.name for tool in made.values()}) < len(made):
            raise UsageError(
                f"MCP server {self.name} has tools that would have one name here: allow fewer of {', '.join(sorted(made))}."
            )
        return made

    async def aclose(self) -> None:
        await self._connection.aclose()

    async def _listed(self) -> list[JsonObject]:
        """Of each allowed tool what a run has to keep."""
        listed = await self._connection.list_tools()
        return [
            {
                "name": tool["name"],
                "description": str(tool.get("description") or "")[:DESCRIPTION_CHARACTERS_MAX],
                "parameters": tool["inputSchema"],
                "annotations": tool.get("annotations") or {},
            }
            for tool in listed
            if self._allow == "*" or tool["name"] in self._allow
        ]

    def _tool(self, listed: JsonObject) -> Tool:
        remote = str(listed["name"])
        connection = self._connection

        async def call(evrt_tool_context: ToolContext[Any], **arguments: JsonValue) -> JsonValue:
            from evrt.effects.mcp.content import result_of

            key = evrt_tool_context.idempotency_key
            return await result_of(await connection.call(remote, arguments, key=key), evrt_tool_context.blobs)

        effect = self._effect(remote, listed["annotations"])
        parameters = listed["parameters"]
        assert isinstance(parameters, dict)
        tool = Tool.from_schema(
            call,
            name=tool_name(self.name, remote),
            description=str(listed["description"]),
            parameters=parameters,
            effect="read" if effect == "read" else "write",
            retry=CALL_RETRY if effect == "read" else NO_RETRY,
            timeout=self._timeout,
            confirm=self._confirm == "*" or remote in self._confirm,
            trusted=self.trusted,
        )
        return replace(tool, takes_key=True, retry=CALL_RETRY) if effect == "idempotent" else tool

    def _effect(self, tool: str, annotations: JsonValue) -> Effect:
        """What is configured, else what the server hints at. That it takes a write once is no hint's to say."""
        if tool in self._effects:
            return self._effects[tool]
        reads = isinstance(annotations, dict) and annotations.get("readOnlyHint") is True
        return "read" if reads else "write"

    def _check(self, command: Sequence[str] | None, url: str | None) -> None:
        if (
            (command is None) == (url is None)
            or isinstance(command, str)
            or (command is not None and not command)
        ):
            raise UsageError(
                f'MCP server {self.name} takes either command=["program", "argument", …] or url="https://…".'
            )
        for what, names in (("allow", self._allow), ("confirm", self._confirm)):
            if isinstance(names, str) and names != "*":
                raise UsageError(
                    f'MCP server {self.name}: {what}= takes a list of names of tools, or "*" for all.'
                )
        if not self._allow:
            raise UsageError(
                f"MCP server {self.name} offers nothing: name in allow= the tools that agents may use."
            )
        for tool in self._confirm if self._confirm != "*" else ():
            self.check(tool)
        for tool, effect in self._effects.items():
            self.check(tool)
            if effect not in ("read", "write", "idempotent"):
                raise UsageError(
                    f"MCP server {self.name}: the effect of {tool} is 'read', 'write' or 'idempotent', not {effect!r:.80}."
                )


def tool_name(server: str, tool: str) -> str:
    """``server__tool``, in the characters that names of tools have; a long one ends in a digest of the whole."""
    whole = f"{server}__{tool}"
    name = re.sub(r"[^A-Za-z0-9_-]", "_", whole)
    if not name[0].isalpha() and name[0] != "_":
        name = f"_{name}"
    if len(name) <= NAME_CHARACTERS_MAX:
        return name
    digest = sha256(whole.encode()).hexdigest()[:DIGEST_HEX]
    return f"{name[: NAME_CHARACTERS_MAX - DIGEST_HEX - 1]}_{digest}"
