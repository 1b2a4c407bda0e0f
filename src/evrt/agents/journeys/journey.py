"""Journeys: agents whose prompt and tools are those of the step that their state is at."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import replace
from enum import Enum
from typing import Any, Generic, TypeVar

from pydantic import ValidationError

from evrt.agents.agent import HISTORY_MESSAGES_MAX, Agent
from evrt.agents.approving import Approvals
from evrt.agents.hooks import NO_HOOKS, Hooks
from evrt.agents.journeys.closing import CLOSING_PHRASES, is_closing, last_words
from evrt.agents.journeys.results import StepRefused
from evrt.agents.journeys.state import JourneyState, changes
from evrt.agents.journeys.steps import Change, state_tool
from evrt.agents.journeys.templates import Prompt, StepPrompts
from evrt.agents.limits import LIMITS, LoopLimits
from evrt.agents.loop import Loop
from evrt.agents.questions import Questions
from evrt.agents.settings import LoopSettings
from evrt.agents.wiring import history_of, settings_of
from evrt.effects.tools import Tool, faults_text
from evrt.errors import Conflict, UsageError
from evrt.events import JsonObject, JsonValue
from evrt.events.run import Kind
from evrt.folds.journeys import Standing
from evrt.limits import PLAIN, RunPolicy
from evrt.requesting import Pin
from evrt.retry import RUN_RETRY, Retry, parse_seconds
from evrt.runtime.context import Context
from evrt.runtime.journeys import RunJourney
from evrt.runtime.runner import TIMEOUT_SECONDS

State = TypeVar("State", bound=JourneyState[Any])
Step = TypeVar("Step", bound=Enum)
F = TypeVar("F", bound="Callable[..., Any] | Tool")

Check = Callable[[State], str | None]
"""What speaks against a step, said for the model to read; None where nothing does."""

COMPLETE = "complete"


class Journey(Generic[State, Step]):
    """A conversation that goes step by step. Register it with ``app.add``; it runs like any agent.

    key
        its name in the app. With the conversation it is what its state is found by again.
    state
        the class of its state, derived from ``evrt.JourneyState``.
    prompts
        what is said to the model at each step, after ``instructions``: templates that are filled from the state,
        functions of it, or a ``StepPrompts``.
    terminal
        the steps at which it has come to its end.
    moves
        from which step it may go to which; without it, from any to any.
    restart
        whether a message after its end begins it anew; otherwise the terminal step has its prompt and tools as well.
    closing_phrases
        a message after its end that consists of these, and of nothing else, is answered with the empty text.
    on_change
        called with the context and the state before and after, whenever a tool has changed it; part of the run's code.

    The other arguments are those of ``app.agent``. Tool calls of one reply are made one after another.
    """

    kind: Kind = "agent"
    pin: Pin | None = None

    def __init__(
        self,
        key: str,
        state: type[State],
        *,
        prompts: Mapping[Step, Prompt[State]] | StepPrompts[State, Step] | None = None,
        terminal: Collection[Step] = (),
        moves: Mapping[Step, Collection[Step]] | None = None,
        instructions: str = "",
        initial: Callable[[], State] | None = None,
        restart: bool = False,
        closing_phrases: Collection[str] = CLOSING_PHRASES,
        on_change: Callable[[Context[Any], State, State], Awaitable[None]] | None = None,
        model: str | None = None,
        limits: LoopLimits = LIMITS,
        model_turns_max: int | None = None,
        hooks: Hooks = NO_HOOKS,
        memory: bool = False,
        approvals: Approvals | None = None,
        questions: Questions | None = None,
        history_messages_max: int = HISTORY_MESSAGES_MAX,
        terminal_tools: Sequence[str] = (),
        require_tool_call: bool = False,
        stop_on_text: bool = True,
        timeout: str | float | None = TIMEOUT_SECONDS,
        retry: Retry = RUN_RETRY,
        policy: RunPolicy = PLAIN,
        **parameters: Any,
    ) -> None:
        self.name = key
        self.state = state
        self.prompts = prompts if isinstance(prompts, StepPrompts) else StepPrompts(prompts)
        self.terminal = frozenset(terminal)
        self.moves = None if moves is None else {step: frozenset(to) for step, to in moves.items()}
        self.instructions = instructions
        self.restart = restart
        self.closing_phrases = closing_phrases
        self.on_change = on_change
        self.limits = limits if model_turns_max is None else replace(limits, model_turns_max=model_turns_max)
        self.model_turns_max = self.limits.model_turns_max
        self.timeout_seconds = None if timeout is None else parse_seconds(timeout)
        self.retry = retry
        self.policy = policy
        self._initial = initial
        self._as_agent: Callable[[], Agent] = lambda: Agent(
            name=key,
            model=model,
            instructions=instructions,
            tools=self.tools,
            limits=self.limits,
            hooks=hooks,
            memory=memory,
            approvals=approvals,
            questions=questions,
            history_messages_max=history_messages_max,
            terminal_tools=terminal_tools,
            require_tool_call=require_tool_call,
            stop_on_text=stop_on_text,
            timeout_seconds=self.timeout_seconds,
            retry=retry,
            policy=policy,
            parameters=parameters,
        )
        self._tools: list[tuple[frozenset[Step], Tool]] = []
        self._entering: list[tuple[frozenset[Step], Check[State]]] = []
        self._leaving: list[tuple[frozenset[Step], Check[State]]] = []

    # What a journey consists of

    def tool(self, *steps: Step, name: str | None = None, description: str | None = None) -> Callable[[F], F]:
        """Make a function, or offer a tool that there is, at these steps; at every step where none is named.

        A function takes the state, by a parameter annotated with its class, and may change it, its step included. It is
        given a copy: what it did is kept when it returns and all is well, as a whole, and when it raises nothing is. It
        may take the ``evrt.Context`` as well; it is part of the run's code, so whatever it does to the world, it does
        through that. ``ToolResult.fail`` or any exception is an error that the model reads.

        Raises UsageError for a function that cannot be one, and for a name that is taken.
        """

        def register(given: F) -> F:
            made = (
                given
                if isinstance(given, Tool)
                else state_tool(given, self.state, self._perform, name=name, description=description)
            )
            if any(tool.name == made.name for _, tool in self._tools):
                raise UsageError(
                    f"The journey {self.name} has a tool {made.name} already: name all its steps in one place, or give "
                    "the other one a name of its own."
                )
            self._tools.append((frozenset(steps), made))
            return given

        return register

    def entering(self, *steps: Step) -> Callable[[Check[State]], Check[State]]:
        """What must hold for a step to be entered: a function of the state that says what does not, or None."""
        return self._checked(self._entering, steps)

    def leaving(self, *steps: Step) -> Callable[[Check[State]], Check[State]]:
        """What must hold for a step to be left: a function of the state that says what does not, or None."""
        return self._checked(self._leaving, steps)

    def _checked(
        self, checks: list[tuple[frozenset[Step], Check[State]]], steps: Collection[Step]
    ) -> Callable[[Check[State]], Check[State]]:
        if not steps:
            raise UsageError(f"A check of the journey {self.name} names no step: say which it is for.")

        def register(check: Check[State]) -> Check[State]:
            checks.append((frozenset(steps), check))
            return check

        return register

    # What it is at a state; each may be overridden

    def get_initial_state(self) -> State:
        """The state that it begins with. Raises UsageError where the class has fields without a default."""
        if self._initial is not None:
            return self._initial()
        try:
            return self.state()  # type: ignore[call-arg]  # That its fields have defaults is what is found out here.
        except ValidationError as error:
            raise UsageError(
                f"The journey {self.name} cannot begin: {faults_text(error, 'state')}. Give every field of "
                f"{self.state.__name__} a default, or the journey an initial=."
            ) from error

    def get_system_prompt(self, state: State) -> str:
        """What is said to the model at this state, after the instructions."""
        return self.prompts.render(state)

    def get_tools(self, state: State) -> Sequence[Tool]:
        """The tools that the model may call at this state, and no others."""
        return [tool for steps, tool in self._tools if not steps or state.step in steps]

    def is_terminal(self, state: State) -> bool:
        """Whether it has come to its end."""
        return state.is_complete or state.step in self.terminal

    def load_state(self, kept: JsonObject) -> State:
        """The state of what was kept. Override it where an earlier version of the class kept something else."""
        return self.state.from_dict(kept)

    def save_state(self, state: State) -> JsonObject:
        """What is kept of a state: JSON, with ``step``."""
        return state.to_dict()

    # How it runs

    @property
    def tools(self) -> Sequence[Tool]:
        """All its tools, of whichever step."""
        return [tool for _, tool in self._tools]

    @property
    def agent(self) -> Agent:
        """What it is as an agent: its model, limits, hooks and so on. Raises UsageError where they do not go together."""
        return self._as_agent()

    def check_input(self, value: JsonValue) -> JsonValue:
        """A journey takes text, or chat messages, or any JSON as text."""
        return value

    async def execute(self, ctx: Context[Any], input: JsonValue) -> JsonValue:
        """One turn of the conversation; returns the model's answer, or the result of a terminal tool.

        Raises StepLimitReached, ModelFailed.
        """
        kept = ctx.journey(self.name)
        standing = await kept.load()
        if standing.ended is not None and is_closing(last_words(ctx.input_messages), self.closing_phrases):
            return ""
        anew = self.restart and ctx.state is None  # Not where the same turn goes on in another chapter.
        if standing.state is None or (standing.ended is not None and anew):
            await self._start(kept)
        history = await history_of(self.agent, ctx)
        loop = Loop(ctx, self._settings(ctx, kept, history))
        return (await loop.run(ctx.input_messages, history)).output

    async def begin(self, ctx: Context[Any]) -> None:
        """Have it begin, from the first step, unless it is under way."""
        kept = ctx.journey(self.name)
        standing = kept.standing or await kept.load()
        if not standing.under_way:
            await self._start(kept)

    async def _start(self, kept: RunJourney) -> None:
        try:
            await kept.start(self.save_state(self.get_initial_state()))
        except Conflict:
            # Another run has begun it at the same moment: this one goes on with that.
            if kept.standing is None or not kept.standing.under_way:
                raise

    def _settings(
        self, ctx: Context[Any], kept: RunJourney, history: Sequence[JsonObject] = ()
    ) -> LoopSettings:
        """An agent's, but for prompt and tools, which are those of the step."""
        settings = settings_of(self.agent, ctx, history)
        agents_own = settings.prompt
        common: list[str] = []

        async def prompt() -> str:
            # What goes before every step is asked for once: it may be read from elsewhere.
            if not common:
                common.append(await agents_own())
            return "\n\n".join(filter(None, (*common, self.get_system_prompt(self._now(kept)))))

        settings.prompt = prompt
        settings.prompt_changes = True
        settings.tools = lambda: self.get_tools(self._now(kept))
        # A tool may move the step, and then the next call is another step's.
        settings.one_at_a_time = True
        return settings

    async def _perform(self, ctx: Context[Any], tool: str, change: Change) -> Any:
        """Have a tool change a copy of the state, and keep what it came to; nothing of it, where it raises."""
        kept = ctx.journey(self.name)
        before = self._now(kept)
        standing = kept.standing
        self._check_offered(tool, before)
        after = before.copied()
        result = await change(after)
        if kept.standing != standing:
            raise StepRefused(f"Another call has changed the state while {tool} was at work: call it again.")
        await self._keep(ctx, kept, before, after, tool)
        return result

    async def _keep(
        self, ctx: Context[Any], kept: RunJourney, before: State, after: State, tool: str
    ) -> None:
        after = self._checked_state(after)
        self._check_move(before, after)
        if before.step in self.terminal and after.step not in self.terminal:
            after.is_complete = False  # It has left its end.
        standing = kept.standing or Standing()
        terminal = self.is_terminal(after)
        ends = terminal and standing.ended is None
        if ends:
            after.is_complete = True
        patch = changes(standing.state or {}, self.save_state(after))
        if not patch:
            return
        await kept.change(
            patch,
            to_step=_text(after.step),
            tool=tool,
            ended=COMPLETE if ends else None,
            reopened=standing.ended is not None and not terminal,
        )
        if self.on_change is not None:
            await self.on_change(ctx, before, self._now(kept))

    def _now(self, kept: RunJourney) -> State:
        """The state as it stands. Parks the run where it does not fit the class."""
        assert kept.standing is not None
        assert kept.standing.state is not None
        try:
            return self.load_state(kept.standing.state)
        except (ValidationError, ValueError, TypeError, KeyError) as error:
            what = faults_text(error, "state") if isinstance(error, ValidationError) else repr(error)
            raise kept.refuse(what) from error

    def _checked_state(self, state: State) -> State:
        """The state as it would be read again. Raises StepRefused for one that is not valid."""
        try:
            return self.load_state(self.save_state(state))
        except ValueError as error:
            what = faults_text(error, "state") if isinstance(error, ValidationError) else str(error)
            raise StepRefused(f"The state would not be valid: {what}. Nothing was changed.") from error

    def _check_offered(self, tool: str, state: State) -> None:
        names = [each.name for each in self.get_tools(state)]
        if tool not in names:
            raise StepRefused(
                f"{tool} cannot be called at the step {_text(state.step)}. Tools of this step: "
                f"{', '.join(names) or 'none'}."
            )

    def _check_move(self, before: State, after: State) -> None:
        """Raises StepRefused for a move that is not allowed, or that a check speaks against."""
        here, there = before.step, after.step
        if here == there:
            return
        allowed = None if self.moves is None else self.moves.get(here, frozenset())
        if allowed is not None and there not in allowed:
            steps = ", ".join(sorted(map(_text, allowed))) or "nowhere"
            raise StepRefused(
                f"From the step {_text(here)} there is no way to {_text(there)}, only to: {steps}. Nothing was changed."
            )
        checks = [
            *((check, f"The step {_text(here)} cannot be left") for on, check in self._leaving if here in on),
            *(
                (check, f"The step {_text(there)} cannot be entered")
                for on, check in self._entering
                if there in on
            ),
        ]
        for check, what in checks:
            against = check(after)
            if inspect.isawaitable(against):
                raise UsageError(
                    f"The checks of the journey {self.name} are plain functions of the state, not async."
                )
            if against is not None:
                raise StepRefused(f"{what}: {against} Nothing was changed.")


def _text(step: Enum) -> str:
    return str(step.value)
