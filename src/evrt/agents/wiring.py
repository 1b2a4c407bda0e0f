"""Puts together what an agent's loop goes by, from what the agent says of itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from evrt.agents.knowledge import AgentSystem, PromptParts, prompt_parts
from evrt.agents.settings import Blocked, LoopSettings
from evrt.agents.shields import evaluate
from evrt.events import JsonObject
from evrt.runtime.context import Context
from evrt.runtime.transcript import Transcript

if TYPE_CHECKING:
    from evrt.agents.agent import Agent


def settings_of(agent: Agent, ctx: Context[Any]) -> LoopSettings:
    """The settings of one run of an agent's loop."""
    tools = tuple(agent.tools)
    prompt = Prompt(agent, ctx)
    return LoopSettings(
        name=agent.name,
        prompt=prompt.text,
        add_history=prompt.add_history,
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


@dataclass(slots=True, eq=False)
class Prompt:
    """What one run is told before its messages: made once, when the loop begins."""

    agent: Agent
    ctx: Context[Any]
    parts: PromptParts = field(default_factory=PromptParts)

    async def text(self) -> str:
        """The system's message."""
        system = self.agent.system
        self.parts = await prompt_parts(
            self.ctx,
            instructions=self.agent.instructions,
            knowledge=self.agent.knowledge,
            system=system if isinstance(system, AgentSystem) else None,
            make_retriever=self.agent.make_retriever,
        )
        return self.parts.text()

    def add_history(self, transcript: Transcript, history: Sequence[JsonObject]) -> None:
        """The context that goes before what was said."""
        transcript.extend(self.parts.context)
        transcript.extend(history)


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
