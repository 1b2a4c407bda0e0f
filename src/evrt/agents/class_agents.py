"""Agents as classes: anything with a ``key`` and ``async run(ctx)``, whatever framework is inside."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from evrt.errors import UsageError
from evrt.events import JsonObject, JsonValue
from evrt.events.run import Kind
from evrt.limits import PLAIN, RunPolicy
from evrt.requesting import Pin
from evrt.retry import RUN_RETRY, Retry
from evrt.runtime.context import Context


@dataclass(frozen=True, slots=True)
class RunResult:
    """What an agent's run came to: its answer, and the messages that led there in the chat-completions shape.

    The run's output is an object of the two.
    """

    final_output: Any = None
    final_messages: Sequence[JsonObject] = ()


@runtime_checkable
class Runnable(Protocol):
    """An agent as a class. ``key`` is its name; ``run`` returns a ``RunResult``, or any value that JSON can hold."""

    key: str

    async def run(self, ctx: Context[Any]) -> Any: ...


@dataclass(slots=True, eq=False)
class ClassAgent:
    """An instance of such a class, as an app runs it. Made by ``app.register``."""

    instance: Runnable
    timeout_seconds: float | None = None
    retry: Retry = RUN_RETRY
    policy: RunPolicy = PLAIN
    name: str = field(init=False)
    kind: Kind = "agent"
    model_turns_max: int | None = None
    pin: Pin | None = None

    def __post_init__(self) -> None:
        key = getattr(self.instance, "key", None)
        run = getattr(self.instance, "run", None)
        if isinstance(self.instance, type):
            raise UsageError(f"Register an instance: app.register({self.instance.__name__}()).")
        if not isinstance(key, str) or not key or not callable(run):
            raise UsageError(
                f"{self.instance!r:.80} is no agent: one has a text `key`, which is its name, and `async def run(self, ctx)`."
            )
        self.name = key

    def check_input(self, value: JsonValue) -> JsonValue:
        """An agent takes text, or chat messages, or any JSON."""
        return value

    async def execute(self, ctx: Context[Any], input: JsonValue) -> Any:
        """Run it; of a ``RunResult`` the output is an object of ``final_output`` and ``final_messages``."""
        result = await self.instance.run(ctx)
        if isinstance(result, RunResult):
            return {"final_output": result.final_output, "final_messages": list(result.final_messages)}
        return result


def registering(names: Sequence[str]) -> list[Callable[[Any], object]]:
    """The functions that these name as ``module:function``. Raises UsageError that says what to mend."""
    return [_function(name) for name in names]


def _function(name: str) -> Callable[[Any], object]:
    module, colon, attribute = name.partition(":")
    if not colon or not module or not attribute.isidentifier():
        raise UsageError(
            f"{name!r} names no function that registers agents: write module:function, say support.agents:register."
        )
    try:
        found = getattr(importlib.import_module(module), attribute, None)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise
        raise UsageError(f"{name!r} cannot be called: there is no module {error.name!r}.") from error
    if not callable(found):
        raise UsageError(f"{name!r} cannot be called: the module {module} has no function {attribute!r}.")
    function: Callable[[Any], object] = found
    return function
