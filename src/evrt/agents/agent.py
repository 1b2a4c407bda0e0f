"""The agent loop: the model calls tools until it answers in text, or its turns are used up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from evrt.effects.tools import Tool
from evrt.errors import ModelFailed, StepLimitReached, UsageError
from evrt.events import JsonObject, JsonValue
from evrt.events.run import Kind
from evrt.limits import PLAIN, RunPolicy
from evrt.retry import RUN_RETRY, Retry
from evrt.runtime.context import Context
from evrt.runtime.transcript import Transcript

MODEL_TURNS_MAX = 10
SUMMARY_PROMPT = (
    "You have used up your turns and can call no more tools. Say in a few sentences what you found out, "
    "what you did, and what is left to do."
)


@dataclass(frozen=True, slots=True, eq=False)
class Agent:
    """A model with instructions and tools. Made by ``app.agent``.

    ``model_turns_max`` limits the model calls of one run of the loop; ``parameters`` go to the provider.
    """

    name: str
    model: str | None
    instructions: str = ""
    tools: Sequence[Tool] = ()
    model_turns_max: int = MODEL_TURNS_MAX
    timeout_seconds: float | None = None
    retry: Retry = RUN_RETRY
    policy: RunPolicy = PLAIN
    parameters: JsonObject = field(default_factory=dict)
    kind: Kind = "agent"

    def __post_init__(self) -> None:
        names = [tool.name for tool in self.tools]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise UsageError(
                f"Agent {self.name} has two tools named {', '.join(twice)}: give each its own name."
            )
        if self.model_turns_max < 1:
            raise UsageError(
                f"Agent {self.name}: model_turns_max must be at least 1, not {self.model_turns_max}."
            )

    def check_input(self, value: JsonValue) -> JsonValue:
        """An agent takes text, or chat messages, or any JSON as text."""
        return value

    async def execute(self, ctx: Context[Any], input: JsonValue) -> str:
        """Run the loop; returns the model's answer. Raises StepLimitReached, ModelFailed."""
        transcript = ctx.transcript()
        if self.instructions:
            transcript.add("system", self.instructions)
        transcript.extend(ctx.input_messages)
        for _ in range(self.model_turns_max):
            reply = await ctx.model(
                transcript, model=self.model, tools=self.tools, parameters=self.parameters
            )
            transcript.add_reply(reply)
            if not reply.tool_calls:
                return reply.text
            await self._call_tools(ctx, transcript, reply.tool_calls)
        summary = await self._summarise(ctx, transcript)
        raise StepLimitReached(
            f"Agent {self.name} used up its {self.model_turns_max} model turns without an answer.",
            run=ctx.run_id,
            model_turns_max=self.model_turns_max,
            summary=summary,
        )

    async def _call_tools(
        self, ctx: Context[Any], transcript: Transcript, calls: Sequence[JsonObject]
    ) -> None:
        if len(calls) == 1:
            transcript.add_result(await ctx.perform(calls[0], self.tools))
            return
        for outcome in await ctx.gather(*(ctx.perform(call, self.tools) for call in calls)):
            transcript.add_result(outcome)

    async def _summarise(self, ctx: Context[Any], transcript: Transcript) -> str | None:
        """Best effort: a model that fails here leaves no summary, and the outcome the same."""
        ctx.guard("model_turns_max", f"{self.model_turns_max} model turns are used up: asking for a summary.")
        transcript.add("user", SUMMARY_PROMPT)
        try:
            reply = await ctx.model(transcript, model=self.model, name="summary", parameters=self.parameters)
        except ModelFailed:
            return None
        return reply.text or None
