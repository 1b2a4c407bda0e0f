"""Hooks: plain async functions that are told what the loop does. They observe, and decide nothing.

They are called while the run's code is executed for the first time, and not while it is led through its recorded past;
after a crash the last ones may be called again. What a hook raises is logged, and changes nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

from evrt.events import JsonObject, JsonValue
from evrt.runtime.context import Context

logger = logging.getLogger("evrt.agents")

Hook = Callable[..., Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Hooks:
    """``on_iteration_start(turn)``, ``on_llm_call(model, messages)``, ``on_usage(turn, usage)``, ``on_tool_calls(calls)``,
    ``on_tool_start(name, arguments)``, ``on_tool_end(name, result)`` and ``on_complete(output)``: each an async function.

    Turns count from 1, arguments are the text that the model wrote, results are JSON, of a failure its message.
    """

    on_iteration_start: Callable[[int], Awaitable[None]] | None = None
    on_llm_call: Callable[[str | None, Sequence[JsonObject]], Awaitable[None]] | None = None
    on_usage: Callable[[int, Any], Awaitable[None]] | None = None
    on_tool_calls: Callable[[Sequence[JsonObject]], Awaitable[None]] | None = None
    on_tool_start: Callable[[str, str], Awaitable[None]] | None = None
    on_tool_end: Callable[[str, JsonValue], Awaitable[None]] | None = None
    on_complete: Callable[[JsonValue], Awaitable[None]] | None = None

    async def tell(self, ctx: Context[Any], name: str, *args: Any) -> None:
        """Call a hook, if there is one of this name, and the run is not being led through its past."""
        if self is not NO_HOOKS and not ctx.replaying:
            await self.call(name, *args)

    async def call(self, name: str, *args: Any) -> None:
        """Call a hook, if there is one of this name."""
        hook: Hook | None = getattr(self, name)
        if hook is None:
            return
        try:
            await hook(*args)
        except Exception:  # the hook is the user's own, and the run does not depend on it
            logger.exception("The hook %s failed; the run goes on.", name)


NO_HOOKS = Hooks()


def all_of(*hooks: Hooks) -> Hooks:
    """Hooks that call each of these, in their order."""

    def together(name: str) -> Hook | None:
        each = [one for one in hooks if getattr(one, name) is not None]
        if not each:
            return None

        async def call(*args: Any) -> None:
            for one in each:
                await one.call(name, *args)

        return call

    return Hooks(**{field.name: together(field.name) for field in fields(Hooks)})


def logging_hooks(to: logging.Logger = logger, level: int = logging.INFO) -> Hooks:
    """Hooks that write a line for each: of tool calls the names only, as arguments and results may be private."""

    def line(text: str) -> Hook:
        async def write(*args: Any) -> None:
            to.log(level, text, *args)

        return write

    async def on_llm_call(model: str | None, messages: Sequence[JsonObject]) -> None:
        to.log(level, "model %s is called with %d messages", model or "(the app's)", len(messages))

    async def on_tool_calls(calls: Sequence[JsonObject]) -> None:
        to.log(level, "the model calls %d tools", len(calls))

    async def on_tool_start(name: str, arguments: str) -> None:
        to.log(level, "tool %s begins", name)

    async def on_tool_end(name: str, result: JsonValue) -> None:
        to.log(level, "tool %s has ended", name)

    async def on_complete(output: JsonValue) -> None:
        to.log(level, "the agent has ended")

    return Hooks(
        on_iteration_start=line("turn %d begins"),
        on_llm_call=on_llm_call,
        on_usage=line("turn %d used %s"),
        on_tool_calls=on_tool_calls,
        on_tool_start=on_tool_start,
        on_tool_end=on_tool_end,
        on_complete=on_complete,
    )
