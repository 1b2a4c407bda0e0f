"""Puts together what an agent's loop goes by, from what the agent says of itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from evrt.agents.settings import Blocked, LoopSettings
from evrt.agents.shields import evaluate
from evrt.events import JsonObject
from evrt.runtime.context import Context

if TYPE_CHECKING:
    from evrt.agents.agent import Agent


def settings_of(agent: Agent, ctx: Context[Any]) -> LoopSettings:
    """The settings of one run of an agent's loop."""
    tools = tuple(agent.tools)
    return LoopSettings(
        name=agent.name,
        prompt=_prompt(agent),
        tools=lambda: tools,
        limits=agent.limits,
        hooks=agent.hooks,
        output=agent.output,
        terminal_tools=frozenset(agent.terminal_tools),
        require_tool_call=agent.require_tool_call,
        stop_on_text=agent.stop_on_text,
        choose_model=_model(agent),
        shield=_shield(agent),
    )


def _prompt(agent: Agent) -> Any:
    async def prompt() -> str:
        return agent.instructions

    return prompt


def _model(agent: Agent) -> Any:
    parameters = dict(agent.parameters)
    if agent.output is not None:
        parameters.setdefault("response_format", agent.output.response_format)

    def choose(ctx: Context[Any], turn: int) -> tuple[str | None, JsonObject]:
        return ctx.model_asked or agent.model, parameters

    return choose


def _shield(agent: Agent) -> Any:
    async def shield(
        ctx: Context[Any], direction: Literal["input", "output"], messages: Sequence[JsonObject]
    ) -> Blocked | None:
        names = agent.input_shields if direction == "input" else agent.output_shields
        return await evaluate(ctx, direction, names, agent.shields, messages)

    return shield
