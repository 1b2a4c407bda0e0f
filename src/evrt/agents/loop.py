"""The loop: at each turn the model calls tools, asks, answers, or goes on reasoning, until it has answered or may not go on.

It is written on the context alone, as a user's own loop would be. What goes to the model is a transcript that only
grows, except where the prompt changes or the context is compacted. Prompt and tools are asked for anew at every turn, so
a tool that moves a journey on changes both at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from evrt.agents.approving import DENIED
from evrt.agents.calling import Calling
from evrt.agents.guards import CIRCLE_TIMES, STUCK, Guards, normalised
from evrt.agents.ledger import CallLedger
from evrt.agents.limits import Spent
from evrt.agents.output import repair
from evrt.agents.settings import STATE, LoopSettings, kept_state
from evrt.errors import InvalidInput, ModelFailed, StepLimitReached
from evrt.events import JsonObject, JsonValue
from evrt.events.canonical import canonical
from evrt.events.run import StepLimit
from evrt.runtime.context import Context
from evrt.runtime.reply import Reply, ToolOutcome
from evrt.runtime.tool_calls import wire_arguments
from evrt.runtime.transcript import Transcript

CONTINUE_EVERY_TURNS = 100
STATE_BYTES_MAX = 512 * 1024
"""A loop with more to remember than this begins no new chapter; only reading the run takes longer then."""
SUMMARY_PROMPT = (
    "You have to stop here, as {why}. You can call no more tools. Say in a few sentences what you found out, what you "
    "did, and what is left to do."
)
CALL_A_TOOL = "Do not answer in text yet: call one of your tools."
NOT_THE_MODEL = frozenset({DENIED})
"""Error types of tool calls that are nobody's mistake."""


@dataclass(frozen=True, slots=True)
class Ended:
    """What a loop came to. ``stopped``: ``text_response``, ``terminal_tool:NAME``, ``shield:NAME``, or ``handoff:NAME``."""

    output: JsonValue
    stopped: str
    text: str = ""
    messages: Sequence[JsonObject] = ()


@dataclass(slots=True, eq=False)
class Loop:
    """One run of the loop. ``floor`` are the indexes of messages that compaction keeps: the prompt and the task."""

    ctx: Context[Any]
    settings: LoopSettings
    transcript: Transcript = field(init=False)
    floor: set[int] = field(default_factory=set)
    spent: Spent = field(default_factory=Spent)
    guards: Guards = field(default_factory=Guards)
    repairs: int = 0
    tools_called: bool = False
    prompt: str = ""
    remembered: str = ""
    ledger: CallLedger = field(init=False)
    calling: Calling = field(init=False)
    began_with: int = 0
    """How many messages this chapter began with."""

    async def run(self, messages: Sequence[JsonObject], history: Sequence[JsonObject] = ()) -> Ended:
        """From these messages of the user to an answer; ``history`` is what was said before them.

        Raises StepLimitReached, ModelFailed, InvalidInput (no answer that fits, after its repairs).
        """
        ctx, settings = self.ctx, self.settings
        blocked = await self._begin(messages, history)
        if blocked is not None:
            return blocked
        while True:
            await self._within_limits()
            await self._refresh_prompt()
            await settings.hooks.tell(ctx, "on_iteration_start", self.spent.turns + 1)
            reply = await self._ask_model()
            ended = await self._act(reply)
            if ended is not None:
                await settings.hooks.tell(ctx, "on_complete", ended.output)
                return ended
            self._continue_if_long()

    # A turn

    async def _begin(self, messages: Sequence[JsonObject], history: Sequence[JsonObject]) -> Ended | None:
        """The transcript to start from; what ended it where a shield lets nothing of it pass."""
        self.transcript = self.ctx.transcript()
        self.ledger = CallLedger(self.settings.cached_reads)
        self.calling = Calling(self.ctx, self.settings, self.guards, self.ledger)
        state = kept_state(self.ctx)
        if state:
            self._go_on_from(state)
            return None
        if self.settings.limits.wall_clock is not None:
            self.spent.began = self.ctx.now().timestamp()
        if self.settings.remembered is not None:
            self.remembered = await self.settings.remembered()
        self.prompt = await self._make_prompt()
        if self.prompt:
            self.floor.add(0)
            self.transcript.add("system", self.prompt)
        self.settings.add_history(self.transcript, history)
        self.floor |= set(range(len(self.transcript), len(self.transcript) + len(messages)))
        self.transcript.extend(messages)
        return await self._shielded("input", messages)

    async def _within_limits(self) -> None:
        now = None if self.spent.began is None else self.ctx.now().timestamp()
        reached = self.spent.over(self.settings.limits, now)
        if reached is not None:
            await self._stop(*reached)

    async def _refresh_prompt(self) -> None:
        """The system's message is what the prompt says now: a tool may have changed what it is made of."""
        if not self.settings.prompt_changes or self.spent.turns == 0:
            return
        prompt = await self._make_prompt()
        if prompt == self.prompt:
            return
        first = 1 if self.prompt else 0
        shift = (1 if prompt else 0) - first
        head: list[int | JsonObject] = [{"role": "system", "content": prompt}] if prompt else []
        self.transcript = self.transcript.replaced([*head, *range(first, len(self.transcript))])
        self.floor = {index + shift for index in self.floor if index >= first} | ({0} if prompt else set())
        self.prompt = prompt

    async def _make_prompt(self) -> str:
        return "\n\n".join(filter(None, (await self.settings.prompt(), self.remembered)))

    async def _ask_model(self) -> Reply:
        settings = self.settings
        await self._compact()
        model, parameters = settings.choose_model(self.ctx, self.spent.turns)
        await settings.hooks.tell(self.ctx, "on_llm_call", model, self.transcript.messages)
        reply = await self.ctx.model(
            self.transcript, model=model, tools=self.calling.tools(), parameters=parameters
        )
        self.spent.add(reply.usage)
        await settings.hooks.tell(self.ctx, "on_usage", self.spent.turns, reply.usage)
        return reply

    async def _act(self, reply: Reply) -> Ended | None:
        """Do what the reply says; what ended the loop, or None where it goes on."""
        message = normalised(reply.message)
        if message is reply.message:
            self.transcript.add_reply(reply)
        else:
            self.ctx.guard("tool_calls_mended", "Tool calls of the reply had no id of their own, or no form.")
            self.transcript.extend([message])
        calls: Any = message.get("tool_calls") or []
        if not calls:
            return await self._answered(reply)
        outcomes = await self._round(calls, cut_off=reply.finish_reason == "length")
        ended = self._ended_by_tool(calls, outcomes, reply.text)
        if ended is not None:
            return ended
        self._look_for_circles(reply, calls, outcomes)
        return None

    # Tools

    async def _round(self, calls: Sequence[JsonObject], *, cut_off: bool) -> list[ToolOutcome]:
        self.spent.tool_rounds += 1
        self.tools_called = True
        nudges = self.calling.nudges(calls)
        outcomes = await self.calling.round(calls, cut_off=cut_off)
        for outcome in outcomes:
            self.transcript.add_result(outcome)
        for nudge in nudges:
            self.transcript.add("user", nudge)
        self._note_errors(outcomes)
        return outcomes

    def _note_errors(self, outcomes: Sequence[ToolOutcome]) -> None:
        failed = [one for one in outcomes if one.is_error and one.value.error_type not in NOT_THE_MODEL]
        self.spent.tool_errors = self.spent.tool_errors + 1 if len(failed) == len(outcomes) else 0

    def _ended_by_tool(
        self, calls: Sequence[JsonObject], outcomes: Sequence[ToolOutcome], text: str
    ) -> Ended | None:
        given = self.settings.handed_off()
        if given is not None:
            return Ended(given.output, f"handoff:{given.to}", text, self.transcript.messages)
        for call, outcome in zip(calls, outcomes, strict=True):
            name = wire_arguments(call)[0]
            if name in self.settings.terminal_tools and not outcome.is_error:
                return Ended(outcome.value, f"terminal_tool:{name}", text, self.transcript.messages)
        return None

    def _look_for_circles(
        self, reply: Reply, calls: Sequence[JsonObject], outcomes: Sequence[ToolOutcome]
    ) -> None:
        made = [list(wire_arguments(call)[:2]) for call in calls]
        came = [str(one.value) if one.is_error else one.value for one in outcomes]
        turn = self.ctx.digest([reply.text, made, came])
        if self.guards.goes_round(turn):
            said = STUCK.format(times=CIRCLE_TIMES)
            self.ctx.guard("stuck", said)
            self.transcript.add("user", said)

    # Answers

    async def _answered(self, reply: Reply) -> Ended | None:
        settings = self.settings
        text = reply.text
        if not settings.stop_on_text or (settings.require_tool_call and not self.tools_called):
            self.ctx.guard("tool_call_wanted", CALL_A_TOOL)
            self.transcript.add("user", CALL_A_TOOL)
            return None
        if settings.decide is not None:
            decided = await settings.decide(self.ctx, text)
            if decided.said is not None:
                self.transcript.add("user", decided.said)
                return None
            text = decided.text
        output: JsonValue = text
        if settings.output is not None:
            try:
                output = settings.output.read(text)
            except InvalidInput as fault:
                self._repair(fault)
                return None
        blocked = await self._shielded("output", [{"role": "assistant", "content": text}])
        return blocked or Ended(output, "text_response", text, self.transcript.messages)

    def _repair(self, fault: InvalidInput) -> None:
        assert self.settings.output is not None
        if self.repairs >= self.settings.output.repairs_max:
            raise InvalidInput(
                f"The model's answer does not fit what {self.settings.name} has to return, also after {self.repairs} "
                f"repairs. {fault}"
            ) from fault
        self.repairs += 1
        self.ctx.guard("output_repair", str(fault))
        self.transcript.add("user", repair(fault))

    async def _shielded(self, direction: Any, messages: Sequence[JsonObject]) -> Ended | None:
        blocked = await self.settings.shield(self.ctx, direction, messages)
        if blocked is None:
            return None
        name, said = blocked
        return Ended(said, f"shield:{name}", said, self.transcript.messages)

    # Limits, and long runs

    async def _stop(self, limit: StepLimit, why: str) -> None:
        """End by a limit, with a summary if the model can still give one. Raises StepLimitReached."""
        self.ctx.guard(limit, f"The agent stops, as {why}: asking for a summary.")
        raise StepLimitReached(
            f"Agent {self.settings.name} has no answer: {why}.",
            run=self.ctx.run_id,
            model_turns_max=self.settings.limits.model_turns_max,
            limit=limit,
            summary=await self._summary(why),
        )

    async def _summary(self, why: str) -> str | None:
        """Best effort: a model that fails here leaves no summary, and the outcome the same."""
        self.transcript.add("user", SUMMARY_PROMPT.format(why=why))
        model, parameters = self.settings.choose_model(self.ctx, self.spent.turns)
        try:
            reply = await self.ctx.model(self.transcript, model=model, name="summary", parameters=parameters)
        except ModelFailed:
            return None
        return reply.text or None

    async def _compact(self) -> None:
        """Keep what is sent within the budget, if there is one."""
        compacted = await self.settings.compact(self.ctx, self.transcript, self.floor)
        if compacted is not None:
            self.transcript, self.floor = compacted

    def _continue_if_long(self) -> None:
        """Begin a new chapter now and then, so that a resume does not read all of a long run.

        Not before there is as much new to remember as there was: else the bytes of a turn would grow with the run.
        """
        new = len(self.transcript) - self.began_with
        if self.spent.turns % CONTINUE_EVERY_TURNS or new < self.began_with - len(self.floor):
            return
        if not self.ctx.can_continue:
            return
        state: JsonObject = {
            "messages": list(self.transcript.messages),
            "floor": sorted(self.floor),
            "prompt": self.prompt,
            "remembered": self.remembered,
            "ledger": self.ledger.to_state(),
            "spent": self.spent.to_state(),
            "guards": self.guards.to_state(),
            "repairs": self.repairs,
            "tools_called": self.tools_called,
            "more": self.settings.to_state(),
        }
        if len(canonical(state)) <= STATE_BYTES_MAX:
            self.ctx.continue_as({STATE: state})

    def _go_on_from(self, state: Any) -> None:
        self.transcript.extend_from_state(state["messages"], STATE, "messages")
        self.began_with = len(self.transcript)
        self.floor = set(state["floor"])
        self.prompt = state["prompt"]
        self.remembered = state["remembered"]
        self.ledger = CallLedger.from_state(state["ledger"], self.settings.cached_reads)
        self.spent = Spent(**state["spent"])
        self.guards = Guards(**state["guards"])
        self.calling = Calling(self.ctx, self.settings, self.guards, self.ledger)
        self.repairs = state["repairs"]
        self.tools_called = state["tools_called"]
