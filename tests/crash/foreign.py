"""An agent whose loop knows nothing of evrt's: a client in the shape of OpenAI's, and tool calls in tasks of their own."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

from crash.world import Line, World
from evrt import Context, RunResult, Tool
from evrt.events import JsonObject

CHAT = "chat"


class Client:
    """What a provider's library gives: ``client.chat.completions.create(messages=…)``, each call with its line in the ledger."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.chat = SimpleNamespace(completions=SimpleNamespace(create=self._create))

    async def _create(self, *, run: str, messages: Sequence[JsonObject]) -> JsonObject:
        turn = sum(message["role"] == "assistant" for message in messages)
        self._world.effect(Line(CHAT, run, f"{CHAT}#{turn + 1}", 1, None, turn))
        if turn == 0:
            return _calling(
                [("look", {"where": "harbour"}), ("pay", {"amount": 7}), ("book", {"item": "ship"})]
            )
        if turn == 1:
            return _calling([("send", {"letter": "news"}), ("pay", {"amount": 8})])
        return {"role": "assistant", "content": f"Done after {len(messages)} messages."}


class Foreign:
    """The loop, as somebody wrote it who runs tool calls in tasks."""

    key = "foreign"

    def __init__(self, client: Client, tools: Sequence[Tool]) -> None:
        self._client = client
        self._tools = {tool.name: tool for tool in tools}

    async def run(self, ctx: Context[World]) -> RunResult:
        messages: list[JsonObject] = list(ctx.input_messages)
        while True:
            ask = self._client.chat.completions.create
            said = await ctx.step(CHAT, ask, run=ctx.run_id, messages=messages, effect="read")
            messages.append(said)
            if "tool_calls" not in said:
                return RunResult(said["content"], messages)
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._call(ctx, call)) for call in said["tool_calls"]]
            messages.extend(task.result() for task in tasks)

    async def _call(self, ctx: Context[World], call: Any) -> JsonObject:
        async with ctx.scope(call["id"]):
            function = call["function"]
            arguments = json.loads(function["arguments"])
            result = await ctx.call(self._tools[function["name"]], **arguments)
        return {"role": "tool", "tool_call_id": call["id"], "content": json.dumps(result)}


def _calling(calls: Sequence[tuple[str, JsonObject]]) -> JsonObject:
    return {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {
                "id": f"{name}-{number}-{len(calls)}",
                "type": "function",
                "function": {"name": name, "arguments": json.dumps(arguments)},
            }
            for number, (name, arguments) in enumerate(calls)
        ],
    }
