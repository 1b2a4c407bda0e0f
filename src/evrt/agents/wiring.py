"""Puts together what an agent's loop goes by, from what the agent says of itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from evrt.agents.approving import admitting, policy_in
from evrt.agents.context_fitting import ContextFitting
from evrt.agents.knowledge import AgentSystem, PromptParts, prompt_parts
from evrt.agents.markers import Reasoning, decision
from evrt.agents.memory_block import memory_block
from evrt.agents.memory_tools import memory_tools
from evrt.agents.questions import AskUser, deciding
from evrt.agents.settings import Blocked, Decided, LoopSettings, kept_state
from evrt.agents.shields import evaluate
from evrt.agents.sub_agents import Control, summarise_by, tools_for
from evrt.agents.tier_choice import TierChoice, facts_of
from evrt.agents.toolgroups import resolve
from evrt.events import JsonObject
from evrt.runtime.context import Context
from evrt.runtime.transcript import Transcript

if TYPE_CHECKING:
    from evrt.agents.agent import Agent
    from evrt.agents.loop import Loop

MARKERS_PROMPT = (
    "Begin your answer with [FINAL] when you have it. Begin with [ASK_USER] to ask the user a question. Any other text "
    "without a tool call is taken for thinking aloud, and you go on."
)


async def history_of(agent: Agent, ctx: Context[Any]) -> Sequence[JsonObject]:
    """What was said before in the conversation that a run belongs to; nothing of it for an agent called inside another run's code."""
    if ctx.nested or ctx.conversation is None or agent.history_messages_max == 0 or kept_state(ctx):
        return ()
    if not ctx.is_told_history:
        return ()
    return await ctx.history(agent.history_messages_max)


def settings_of(agent: Agent, ctx: Context[Any], history: Sequence[JsonObject] = ()) -> LoopSettings:
    """The settings of one run of an agent's loop. Raises TierNotConfigured."""
    prompt = Prompt(agent, ctx)
    state: Any = kept_state(ctx).get("more", {})
    tiers = _tiers(agent, ctx, history)
    asker = None if agent.questions is None else agent.questions.begin(state.get("questions"))
    kept: dict[str, Any] = {}
    if asker is not None:
        kept["questions"] = asker
    if tiers is not None:
        kept["tiers"] = tiers
        tiers.restore(state.get("tiers", {}))
    more = (*(memory_tools() if agent.memory else ()), *(() if asker is None else (asker.tool,)))
    return LoopSettings(
        name=agent.name,
        prompt=prompt.text,
        remembered=(lambda: memory_block(ctx)) if agent.memory else None,
        add_history=prompt.add_history,
        more_tools=more,
        cached_reads=frozenset(agent.cached_reads),
        limits=agent.limits,
        hooks=agent.hooks,
        output=agent.output,
        terminal_tools=frozenset(agent.terminal_tools),
        require_tool_call=agent.require_tool_call,
        stop_on_text=agent.stop_on_text,
        choose_model=_model(agent) if tiers is None else tiers,
        admit=_admit(agent, ctx),
        decide=_decide(asker, tiers) if agent.markers else None,
        shield=_shield(agent),
        compact=_fitting(agent, tiers),
        kept=kept,
    )


async def equip(agent: Agent, loop: Loop) -> None:
    """Give a loop its tools: the agent's own, those of toolgroups, which may have to be asked for, and its sub-agents."""
    ctx, settings = loop.ctx, loop.settings
    control = Control()
    tools = await resolve(ctx, agent.tools, agent.groups)
    tools += tools_for(
        ctx,
        agent.sub_agents,
        control,
        messages=lambda: loop.transcript.messages,
        approvals=policy_in(ctx, agent.approvals),
        summarise=summarise_by(ctx.model_asked or _small(agent)),
    )
    settings.tools = lambda: tools
    settings.handed_off = lambda: control.handed_off


@dataclass(slots=True, eq=False)
class Prompt:
    """What one run is told before its messages: made once, when the loop begins."""

    agent: Agent
    ctx: Context[Any]
    parts: PromptParts = field(default_factory=PromptParts)

    async def text(self) -> str:
        """The system's message, but for what is remembered."""
        system = self.agent.system
        instructions = self.agent.instructions
        self.parts = await prompt_parts(
            self.ctx,
            instructions=f"{instructions}\n\n{MARKERS_PROMPT}".strip()
            if self.agent.markers
            else instructions,
            knowledge=self.agent.knowledge,
            system=system if isinstance(system, AgentSystem) else None,
            make_retriever=self.agent.make_retriever,
        )
        return self.parts.text()

    def add_history(self, transcript: Transcript, history: Sequence[JsonObject]) -> None:
        """The context that goes before what was said."""
        transcript.extend(self.parts.context)
        transcript.extend(history)


def _parameters(agent: Agent) -> JsonObject:
    parameters = dict(agent.parameters)
    if agent.output is not None:
        parameters.setdefault("response_format", agent.output.response_format)
    return parameters


def _model(agent: Agent) -> Any:
    parameters = _parameters(agent)

    def choose(ctx: Context[Any], turn: int) -> tuple[str | None, JsonObject]:
        return ctx.model_asked or agent.model, parameters

    return choose


def _tiers(agent: Agent, ctx: Context[Any], history: Sequence[JsonObject]) -> TierChoice | None:
    if agent.tiers is None:
        return None
    facts = None if ctx.conversation is None else facts_of(ctx.input_messages, history, pin=agent.tier)
    return TierChoice(
        agent.tiers, router=agent.router, facts=facts, pin=agent.tier, parameters=_parameters(agent)
    )


def _small(agent: Agent) -> str | None:
    """The model that summarises what a sub-agent is told."""
    return agent.model if agent.tiers is None else agent.tiers.choose("small").config.model


def _fitting(agent: Agent, tiers: TierChoice | None) -> Any:
    if agent.compaction is None and agent.history_compaction is None and agent.pruning is None:
        return ContextFitting.unchanged
    small = tiers.small if tiers is not None else (lambda: (agent.model, {}))
    return ContextFitting(small, agent.compaction, agent.history_compaction, agent.pruning)


def _admit(agent: Agent, ctx: Context[Any]) -> Any:
    """By its own policy; an agent without one, called by code that a model has called, goes by that model's."""
    policy = policy_in(ctx, agent.approvals)
    return ctx.gate if policy is None and ctx.gate is not None else admitting(policy)


def _decide(asker: AskUser | None, tiers: TierChoice | None) -> Any:
    decided = deciding(asker)

    async def decide(ctx: Context[Any], text: str) -> Decided:
        if tiers is not None:
            tiers.reasoned = isinstance(decision(text), Reasoning)
        return await decided(ctx, text)

    return decide


def _shield(agent: Agent) -> Any:
    async def shield(
        ctx: Context[Any], direction: Literal["input", "output"], messages: Sequence[JsonObject]
    ) -> Blocked | None:
        names = agent.input_shields if direction == "input" else agent.output_shields
        return await evaluate(ctx, direction, names, agent.shields, messages)

    return shield
