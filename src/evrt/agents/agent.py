"""Agents: a model with instructions and tools, and everything else that its loop goes by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from evrt.agents.approving import Approvals
from evrt.agents.compaction import Compaction
from evrt.agents.history_compaction import HistoryCompaction
from evrt.agents.hooks import NO_HOOKS, Hooks
from evrt.agents.knowledge import AgentSystem, Knowledge, Lexical, MakeRetriever
from evrt.agents.limits import LIMITS, LoopLimits
from evrt.agents.loop import Loop
from evrt.agents.output import Output
from evrt.agents.pruning import Pruning
from evrt.agents.questions import Questions
from evrt.agents.routing import Router, route_turn
from evrt.agents.shields import Shield
from evrt.agents.sub_agents import SubAgent, check_sub_agents
from evrt.agents.tiers import Tier, Tiers
from evrt.agents.toolgroups import Choice, ToolSource, check_choices
from evrt.agents.wiring import equip, history_of, settings_of
from evrt.effects.tools import Tool
from evrt.errors import UsageError
from evrt.events import JsonObject, JsonValue
from evrt.events.run import Kind
from evrt.limits import PLAIN, RunPolicy
from evrt.requesting import Pin
from evrt.retry import RUN_RETRY, Retry
from evrt.runtime.context import Context

HISTORY_MESSAGES_MAX = 100


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Agent:
    """A model with instructions and tools. Made by ``app.agent``, whose arguments say what each field is for."""

    name: str
    model: str | None = None
    instructions: str = ""
    tools: Sequence[Choice] = ()
    groups: Mapping[str, ToolSource] = field(default_factory=dict)
    """What toolgroups the tools may name."""
    sub_agents: Sequence[SubAgent] = ()
    limits: LoopLimits = LIMITS
    output: Output | None = None
    hooks: Hooks = NO_HOOKS
    input_shields: Sequence[str] = ()
    output_shields: Sequence[str] = ()
    shields: Mapping[str, Shield] = field(default_factory=dict)
    """The registry that the names of shields are looked up in."""
    memory: bool = False
    system: str | AgentSystem | None = None
    """The system it works in: as it is defined, or the name of one that memory is shared in."""
    knowledge: Sequence[Knowledge] = ()
    make_retriever: MakeRetriever = Lexical
    """What looks for passages of the knowledge that is not always in the prompt."""
    history_messages_max: int = HISTORY_MESSAGES_MAX
    tiers: Tiers | None = None
    tier: Tier | None = None
    router: Router = route_turn
    compaction: Compaction | None = None
    history_compaction: HistoryCompaction | None = None
    pruning: Pruning | None = None
    approvals: Approvals | None = None
    questions: Questions | None = None
    cached_reads: Sequence[str] = ()
    terminal_tools: Sequence[str] = ()
    require_tool_call: bool = False
    stop_on_text: bool = True
    markers: bool = False
    timeout_seconds: float | None = None
    retry: Retry = RUN_RETRY
    policy: RunPolicy = PLAIN
    parameters: JsonObject = field(default_factory=dict)
    pin: Pin | None = None
    """What a run of it keeps to, where it, or its system, is defined as data."""
    kind: Kind = "agent"

    def __post_init__(self) -> None:
        own = [tool.name for tool in self.tools if isinstance(tool, Tool)]
        twice = sorted({name for name in own if own.count(name) > 1})
        if twice:
            raise UsageError(
                f"Agent {self.name} has two tools named {', '.join(twice)}: give each its own name."
            )
        check_choices(self.tools, self.groups)
        check_sub_agents(self.sub_agents, own)
        named = {*own, *(sub_agent.tool_name for sub_agent in self.sub_agents)}
        missing = sorted(set(self.terminal_tools) - named)
        if missing and len(own) == len(self.tools):  # What is in a group, a run may be the first to know.
            raise UsageError(
                f"Agent {self.name}: terminal_tools names {', '.join(missing)}, which it does not have."
            )
        if self.history_messages_max < 0:
            raise UsageError(f"Agent {self.name}: history_messages_max has to be 0 or more.")

    @property
    def model_turns_max(self) -> int:
        """How many model calls a run of it may make."""
        return self.limits.model_turns_max

    def check_input(self, value: JsonValue) -> JsonValue:
        """An agent takes text, or chat messages, or any JSON as text."""
        return value

    async def execute(self, ctx: Context[Any], input: JsonValue) -> Any:
        """Run the loop; returns the answer. Raises StepLimitReached, ModelFailed, InvalidInput."""
        history = await history_of(self, ctx)
        loop = Loop(ctx, settings_of(self, ctx, history))
        await equip(self, loop)
        return (await loop.run(ctx.input_messages, history)).output
