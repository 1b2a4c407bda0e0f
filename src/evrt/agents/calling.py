"""The tool calls of one reply: which of them are made, in which order, and what the model is told of those that are not."""

from __future__ import annotations

from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from evrt.agents.guards import CUT_OFF, Guards
from evrt.agents.ledger import REFUSED_TYPE, CallLedger, Refused, Served, Verdict
from evrt.agents.limits import TOOL_CALLS_PER_TURN_MAX
from evrt.agents.settings import LoopSettings
from evrt.effects.tools import Tool
from evrt.errors import InvalidInput
from evrt.events import Event, JsonObject
from evrt.events.run import Failure
from evrt.runtime.context import Context, Gate
from evrt.runtime.reply import ToolOutcome
from evrt.runtime.tool_calls import parse_arguments, wire_arguments


@dataclass(frozen=True, slots=True)
class _Known:
    """What was known when the model asked for a call: what the ledger said, and what untrusted sources had been read."""

    verdict: Verdict
    untrusted: Sequence[str]


@dataclass(frozen=True, slots=True)
class _Made:
    """What came of a call; ``tool`` and ``arguments`` where it was made."""

    outcome: ToolOutcome
    tool: Tool | None = None
    arguments: JsonObject | None = None


@dataclass(slots=True, eq=False)
class Calling:
    """Makes the tool calls of one run of a loop."""

    ctx: Context[Any]
    settings: LoopSettings
    guards: Guards
    ledger: CallLedger
    _came: dict[str, Event] = field(default_factory=dict)
    """Outcomes of cached reads in this chapter, by their operations: what may be served again."""

    def tools(self) -> list[Tool]:
        """What may be called now; evrt's own tools first, which none of the others can take the place of."""
        own = {tool.name for tool in self.settings.more_tools}
        return [
            *self.settings.more_tools,
            *(tool for tool in self.settings.tools() if tool.name not in own),
        ]

    async def round(self, calls: Sequence[JsonObject], *, cut_off: bool) -> list[ToolOutcome]:
        """Make the calls of one reply, at the same time; those that the run's client makes last, when all others are done."""
        await self.settings.hooks.tell(self.ctx, "on_tool_calls", calls)
        tools = self.tools()
        clients = {tool.name for tool in tools if tool.client}
        outcomes: dict[int, ToolOutcome] = {}
        for theirs in (False, True):
            some = [
                (index, call)
                for index, call in enumerate(calls)
                if (wire_arguments(call)[0] in clients) is theirs
            ]
            made = await self._make([(call, index) for index, call in some], tools, cut_off=cut_off)
            outcomes |= {index: outcome for (index, _), outcome in zip(some, made, strict=True)}
        return [outcomes[index] for index in range(len(calls))]

    def nudges(self, calls: Sequence[JsonObject]) -> list[str]:
        """What the model is told besides, where it calls the same tool again that does not exist."""
        known = [tool.name for tool in self.tools()]
        found: list[str] = []
        for call in calls:
            name = wire_arguments(call)[0]
            if name not in known and (nudge := self.guards.unknown_tool(name, known)) is not None:
                self.ctx.guard("unknown_tool", nudge)
                found.append(nudge)
        return found

    async def _make(
        self, calls: Sequence[tuple[JsonObject, int]], tools: Sequence[Tool], *, cut_off: bool
    ) -> list[ToolOutcome]:
        def make(call: JsonObject, index: int, tools: Sequence[Tool]) -> Coroutine[Any, Any, _Made]:
            known = _Known(self._look(call, tools), self.ctx.untrusted)
            return self._call(call, tools, known, too_many=index >= TOOL_CALLS_PER_TURN_MAX, cut_off=cut_off)

        if len(calls) < 2 or self.settings.one_at_a_time:
            return [self._note(await make(call, index, self.tools())) for call, index in calls]
        # Looked at before any is made and noted in the order of the reply: which of them comes first is not
        # the same in a replay.
        made = await self.ctx.gather(*[make(call, index, tools) for call, index in calls])
        return [self._note(one) for one in made]

    def _gate(self, known: _Known) -> Gate:
        """For what a tool in the run calls in turn: what it has read itself counts, beside what the model had."""

        async def gate(
            ctx: Context[Any],
            tool: Tool,
            arguments: Mapping[str, object],
            tool_call_id: str,
            untrusted: Sequence[str],
        ) -> Failure | None:
            read = tuple(dict.fromkeys((*known.untrusted, *untrusted)))
            return await self.settings.admit(ctx, tool, arguments, tool_call_id, read)

        return gate

    def _look(self, call: JsonObject, tools: Sequence[Tool]) -> Verdict:
        name, text, _ = wire_arguments(call)
        arguments = read_arguments(text)
        known = any(tool.name == name for tool in tools)
        return self.ledger.look(name, arguments) if known and arguments is not None else None

    async def _call(
        self, call: JsonObject, tools: Sequence[Tool], known: _Known, *, too_many: bool, cut_off: bool
    ) -> _Made:
        """Make one call, unless a guard or a person says that it is not to be made."""
        ctx, settings = self.ctx, self.settings
        name, text, tool_call_id = wire_arguments(call)
        tool = next((tool for tool in tools if tool.name == name), None)
        arguments = read_arguments(text)
        refused = self._refused(arguments, too_many=too_many, cut_off=cut_off)
        approved = None
        if refused is None and tool is not None and arguments is not None:
            verdict = known.verdict
            if isinstance(verdict, Served) and verdict.operation in self._came:
                ctx.guard("served_again", f"{name}: its result of {verdict.operation} is still good.")
                return _Made(
                    ToolOutcome(verdict.operation, tool_call_id or "missing", self._came[verdict.operation])
                )
            if isinstance(verdict, Refused):
                ctx.guard("repeated_failure", f"{name}: {verdict.message}")
                refused = Failure(error_type=REFUSED_TYPE, message=verdict.message)
            else:
                approved = ctx.call_digest(tool, arguments)
                refused = await settings.admit(
                    ctx, tool, arguments, tool_call_id or "missing", known.untrusted
                )
        if refused is not None:
            return _Made(await ctx.refuse(call, refused))
        await settings.hooks.tell(ctx, "on_tool_start", name, text)
        outcome = await ctx.perform(call, tools, approved=approved, gate=self._gate(known))
        told = outcome.value.message if outcome.is_error else outcome.value
        await settings.hooks.tell(ctx, "on_tool_end", name, told)
        return _Made(outcome, tool, arguments)

    def _refused(self, arguments: JsonObject | None, *, too_many: bool, cut_off: bool) -> Failure | None:
        if too_many:
            said = f"At most {TOOL_CALLS_PER_TURN_MAX} calls are made in one turn."
            self.ctx.guard("too_many_calls", said)
            return Failure(error_type="too_many_calls", message=said)
        if cut_off and arguments is None:
            self.ctx.guard("cut_off", CUT_OFF)
            return Failure(error_type="cut_off", message=CUT_OFF)
        return None

    def _note(self, made: _Made) -> ToolOutcome:
        tool, arguments, outcome = made.tool, made.arguments, made.outcome
        # What a tool inside the run comes to may depend on what has been done since.
        if tool is None or arguments is None or tool.in_run:
            return outcome
        error = outcome.value.message if outcome.is_error else None
        self.ledger.note(tool.name, arguments, outcome.operation, error=error)
        if tool.name in self.settings.cached_reads:
            self._came[outcome.operation] = outcome.event
        return outcome


def read_arguments(text: str) -> JsonObject | None:
    """The arguments of a call, or None where they are no JSON object."""
    try:
        return parse_arguments(text)  # type: ignore[return-value]  # JSON
    except InvalidInput:
        return None
