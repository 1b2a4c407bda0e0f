"""What a loop is made with: where prompt and tools come from, which limits it has, and who has a say in what it does."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from evrt.agents.hooks import NO_HOOKS, Hooks
from evrt.agents.limits import LIMITS, LoopLimits
from evrt.agents.output import Output
from evrt.effects.tools import Tool
from evrt.events import JsonObject, JsonValue
from evrt.events.run import Failure
from evrt.runtime.context import Context, Gate
from evrt.runtime.transcript import Transcript

STATE = "loop"
"""Key of the loop's own state in what a run continues as."""


class Decided(NamedTuple):
    """What a text without tool calls is: an answer, or, where ``said`` is given, something that the model is told this about."""

    text: str
    said: str | None = None


class HandedOff(NamedTuple):
    """Another agent has taken over, and this is what it came to."""

    to: str
    output: JsonValue


Blocked = tuple[str, str]
"""The name of a shield, and what the user is told."""


async def _admit_all(
    ctx: Context[Any],
    tool: Tool,
    arguments: Mapping[str, object],
    tool_call_id: str,
    untrusted: Sequence[str],
) -> Failure | None:
    return None


async def _pass(
    ctx: Context[Any], direction: Literal["input", "output"], messages: Sequence[JsonObject]
) -> Blocked | None:
    return None


async def _as_it_is(
    ctx: Context[Any], transcript: Transcript, floor: Set[int]
) -> tuple[Transcript, set[int]] | None:
    return None


def _history_by_value(transcript: Transcript, history: Sequence[JsonObject]) -> None:
    transcript.extend(history)


def _apps_model(ctx: Context[Any], turn: int) -> tuple[str | None, JsonObject]:
    return None, {}


async def _no_prompt() -> str:
    return ""


@dataclass(slots=True, eq=False, kw_only=True)
class LoopSettings:
    """How one loop goes. What is not given is left out: a loop of a name and a model answers what it is asked.

    ``prompt`` and ``tools`` are asked for anew at every turn where ``prompt_changes``. ``one_at_a_time`` has the calls of
    one reply made one after another, with the tools that there are then. ``admit`` may refuse a call before
    it is made, by what untrusted sources the run had read when the model asked for it; ``decide`` may say that a text is not the answer yet; ``compact`` may give another transcript.
    """

    name: str
    prompt: Callable[[], Awaitable[str]] = _no_prompt
    prompt_changes: bool = False
    remembered: Callable[[], Awaitable[str]] | None = None
    """What is remembered, which is asked for once and ends the prompt."""
    tools: Callable[[], Sequence[Tool]] = tuple
    more_tools: Sequence[Tool] = ()
    """Tools of evrt's own, whatever the turn: one of ``tools`` that has the name of one of them is not offered."""
    cached_reads: Set[str] = frozenset()
    """Names of tools whose result is served again until another tool has run."""
    one_at_a_time: bool = False
    limits: LoopLimits = LIMITS
    hooks: Hooks = NO_HOOKS
    output: Output | None = None
    terminal_tools: Set[str] = frozenset()
    require_tool_call: bool = False
    stop_on_text: bool = True
    choose_model: Callable[[Context[Any], int], tuple[str | None, JsonObject]] = _apps_model
    admit: Gate = _admit_all
    decide: Callable[[Context[Any], str], Awaitable[Decided]] | None = None
    shield: Callable[
        [Context[Any], Literal["input", "output"], Sequence[JsonObject]], Awaitable[Blocked | None]
    ] = _pass
    compact: Callable[[Context[Any], Transcript, Set[int]], Awaitable[tuple[Transcript, set[int]] | None]] = (
        _as_it_is
    )
    add_history: Callable[[Transcript, Sequence[JsonObject]], None] = _history_by_value
    handed_off: Callable[[], HandedOff | None] = lambda: None
    kept: Mapping[str, Any] = field(default_factory=dict)
    """What else has a state that a long run goes on with: each has ``to_state()``; ``kept_state`` has what it gave."""

    def to_state(self) -> JsonObject:
        return {name: one.to_state() for name, one in self.kept.items()}


def kept_state(ctx: Context[Any]) -> JsonObject:
    """What the loop of a run remembers of the chapter before; empty in the first one."""
    state = ctx.state.get(STATE) if isinstance(ctx.state, dict) and ctx.can_continue else None
    return state if isinstance(state, dict) else {}
