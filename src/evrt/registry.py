"""What code an app has: agents and workflows by their names, and the tools of the agents. Names are unique."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypedDict, TypeVar, Unpack, overload

from pydantic import ValidationError

from evrt.agents.agent import HISTORY_MESSAGES_MAX, Agent
from evrt.agents.approving import Approvals
from evrt.agents.class_agents import ClassAgent, Runnable, registering
from evrt.agents.compaction import Compaction
from evrt.agents.history_compaction import HistoryCompaction
from evrt.agents.hooks import NO_HOOKS, Hooks
from evrt.agents.journeys.journey import Journey
from evrt.agents.journeys.routing import IntentRouter
from evrt.agents.knowledge import Knowledge, Lexical, MakeRetriever
from evrt.agents.limits import LIMITS, LoopLimits
from evrt.agents.output import Output
from evrt.agents.pruning import Pruning
from evrt.agents.questions import Questions
from evrt.agents.routing import Router, route_turn
from evrt.agents.shields import Shield
from evrt.agents.sub_agents import SubAgent
from evrt.agents.tiers import Tier, Tiers
from evrt.agents.toolgroups import Choice, ToolGroup, ToolGroups, ToolSource
from evrt.agents.workflow import Workflow
from evrt.effects.tools import Tool, faults_text
from evrt.errors import InvalidInput, NotFound, UsageError
from evrt.events import JsonValue
from evrt.limits import PLAIN, RunPolicy, RunPolicyArguments
from evrt.retry import RUN_RETRY, Retry, parse_seconds
from evrt.runtime.runner import TIMEOUT_SECONDS
from evrt.schedules import Missed, Overlap, Schedule, read_times
from evrt.seal import admit, keep

Target = Agent | ClassAgent | Workflow | Journey[Any, Any] | IntentRouter
TARGETS = (Agent, ClassAgent, Workflow, Journey, IntentRouter)
T = TypeVar("T", bound=Target)
S = TypeVar("S", bound=Shield)
G = TypeVar("G", bound=ToolSource)


PROVIDERS_OWN = frozenset({"tool_choice", "timeout", "user", "stop", "seed", "model"})
"""Parameters of providers that look like arguments of ours."""


class ScheduleArguments(TypedDict, total=False):
    """How a schedule starts its runs.

    ``name``: that of its target, if not said otherwise. ``zone``: the time zone of a cron line, "Europe/Rome" say,
    otherwise UTC. ``input``, ``user``, ``conversation``: as for ``App.start``. ``missed``: for which of the ticks that
    passed while no worker was there runs are started when one comes: the "last" (one run), "all", or "none".
    ``overlap``: whether a run is started although one of an earlier tick has not ended ("allow"), or not ("skip").
    """

    name: str | None
    zone: str | None
    input: object
    user: str | None
    conversation: str | None
    missed: Missed
    overlap: Overlap


class Registry:
    """Registers agents and workflows, and finds them again. An app is one that also runs them.

    ``make_retriever``: what looks for passages of knowledge for agents that are defined as data; set it to one of your own.
    """

    def __init__(self) -> None:
        self.make_retriever: MakeRetriever = Lexical
        self._targets: dict[str, Target] = {}
        self._tools: dict[str, Tool] = {}
        self._schedules: dict[str, Schedule] = {}
        self._shields: dict[str, Shield] = {}
        self._toolgroups = ToolGroups()

    @property
    def schedules(self) -> Mapping[str, Schedule]:
        """Schedules by name."""
        return self._schedules

    @property
    def targets(self) -> Mapping[str, Target]:
        """Agents and workflows by name."""
        return self._targets

    @property
    def tools(self) -> Mapping[str, Tool]:
        """Tools by name: those of the agents, and those that were added for agents that are defined as data."""
        return self._tools

    @property
    def toolgroups(self) -> Mapping[str, ToolSource]:
        """Groups of tools by name."""
        return self._toolgroups

    @property
    def shields(self) -> Mapping[str, Shield]:
        """Shields by name."""
        return self._shields

    def add_tools(self, *tools: Tool, group: str | None = None) -> None:
        """Register tools for agents that are defined as data, who name them, or the group. Raises UsageError."""
        for tool in tools:
            if not isinstance(tool, Tool):
                raise UsageError(f"{tool!r:.80} is no tool: write @evrt.tool above the function.")
            self._check_tool(tool, f"a tool given to {'the app' if group is None else f'group {group!r}'}")
        if group is not None:
            self._toolgroups.add(ToolGroup(group, tools))

    def toolgroup(self, group: G) -> G:
        """Register a toolgroup (``ToolGroup``, ``McpServer``), before the agents that name it. Raises UsageError."""
        for tool in group.known.values():
            self._check_tool(tool, f"the one given to toolgroup {group.name!r}")
        self._toolgroups.add(group)
        return group

    def agent(
        self,
        name: str,
        *,
        model: str | None = None,
        instructions: str = "",
        tools: Sequence[Choice] = (),
        sub_agents: Sequence[SubAgent] = (),
        model_turns_max: int | None = None,
        limits: LoopLimits = LIMITS,
        output: Any = None,
        hooks: Hooks | None = None,
        input_shields: Sequence[str] = (),
        output_shields: Sequence[str] = (),
        memory: bool = False,
        system: str | None = None,
        knowledge: Sequence[Knowledge] = (),
        history_messages_max: int = HISTORY_MESSAGES_MAX,
        tiers: Tiers | None = None,
        tier: Tier | None = None,
        router: Router = route_turn,
        compaction: Compaction | None = None,
        history_compaction: HistoryCompaction | None = None,
        pruning: Pruning | None = None,
        approvals: Approvals | None = None,
        questions: Questions | None = None,
        cached_reads: Sequence[str] = (),
        terminal_tools: Sequence[str] = (),
        require_tool_call: bool = False,
        stop_on_text: bool = True,
        markers: bool = False,
        timeout: str | float | None = TIMEOUT_SECONDS,
        retry: Retry = RUN_RETRY,
        policy: RunPolicy = PLAIN,
        **parameters: Any,
    ) -> Agent:
        """Register an agent. ``parameters`` go to the model's provider (temperature=, …).

        tools
            tools, and toolgroups of the app by name: ``"group"`` or ``"group/tool"``.
        sub_agents
            agents that it may ask, or hand the conversation over to: see ``SubAgent``.
        limits, model_turns_max
            how far a run may go: see ``LoopLimits``; the number of model turns may be given by itself.
        output
            a pydantic type, or a JSON schema: the answer has to fit it, and is asked for again where it does not.
        hooks
            async functions that are told what the loop does: see ``Hooks``.
        input_shields, output_shields
            names of shields (``app.shield``) that look at what goes to the model, and at the answer.
        memory
            whether it remembers: it is told what is remembered, and has the tools remember, recall and forget.
        system
            the system of agents that it belongs to, by a name of yours: they share what they know of a user.
        knowledge
            what it is told beyond its instructions, always or where it fits the question: see ``Knowledge``.
        history_messages_max
            how many earlier messages of its conversation it is told; 0 for none.
        tiers, tier, router
            models by tier in place of one ``model``, which a router chooses from; ``tier`` pins it to one.
        compaction, history_compaction, pruning
            budgets for what the model is sent: see ``Compaction``, ``HistoryCompaction`` and ``Pruning``.
        approvals
            which calls need a person's leave: see ``Approvals``. Tools with ``confirm`` need it without.
        questions
            that it may ask its user, by the tool ask_user: see ``Questions``.
        cached_reads
            names of tools whose result is served again, for the same arguments, until another tool has run.
        terminal_tools, require_tool_call, stop_on_text
            tools whose result ends the run; whether a tool has to be called before an answer counts; whether a text
            without tool calls is an answer at all.
        markers
            the model marks its answer with [FINAL] and a question with [ASK_USER], and any other text is reasoning.

        ``timeout``, ``retry`` and ``policy`` are those of a run: see ``workflow`` and ``RunPolicy``.
        Raises UsageError when the name, or the name of one of its tools, is taken by something else; NotFound for a
        toolgroup that there is not.
        """
        agent = Agent(
            name=name,
            model=model,
            instructions=instructions,
            tools=tuple(tools),
            groups=self._toolgroups,
            sub_agents=tuple(sub_agents),
            limits=limits if model_turns_max is None else replace(limits, model_turns_max=model_turns_max),
            output=None if output is None else Output.of(output),
            hooks=hooks or NO_HOOKS,
            input_shields=tuple(input_shields),
            output_shields=tuple(output_shields),
            shields=self._shields,
            memory=memory,
            knowledge=tuple(knowledge),
            system=system,
            history_messages_max=history_messages_max,
            tiers=tiers,
            tier=tier,
            router=router,
            compaction=compaction,
            history_compaction=history_compaction,
            pruning=pruning,
            approvals=approvals,
            questions=questions,
            cached_reads=tuple(cached_reads),
            terminal_tools=tuple(terminal_tools),
            require_tool_call=require_tool_call,
            stop_on_text=stop_on_text,
            markers=markers,
            timeout_seconds=None if timeout is None else parse_seconds(timeout),
            retry=retry,
            policy=policy,
            parameters=_checked_parameters(name, parameters),
        )
        self._check_tools(agent)
        return self._register(agent)

    def shield(self, name: str) -> Callable[[S], S]:
        """Register a shield under a name, by which agents refer to it: ``@app.shield("no-secrets")``.

        See ``evrt.agents.shields.Shield`` for what it takes and returns. Raises UsageError when the name is taken.
        """
        if name in self._shields:
            raise UsageError(f"There is a shield {name!r} already: give this one another name.")

        def register(function: S) -> S:
            self._shields[name] = function
            return function

        return register

    @overload
    def workflow(self, function: Callable[..., Awaitable[Any]], /) -> Workflow: ...
    @overload
    def workflow(
        self,
        function: None = None,
        /,
        *,
        name: str | None = None,
        timeout: str | float | None = TIMEOUT_SECONDS,
        retry: Retry = RUN_RETRY,
        **policy: Unpack[RunPolicyArguments],
    ) -> Callable[[Callable[..., Awaitable[Any]]], Workflow]: ...
    def workflow(
        self,
        function: Callable[..., Awaitable[Any]] | None = None,
        /,
        *,
        name: str | None = None,
        timeout: str | float | None = TIMEOUT_SECONDS,
        retry: Retry = RUN_RETRY,
        **policy: Unpack[RunPolicyArguments],
    ) -> Workflow | Callable[[Callable[..., Awaitable[Any]]], Workflow]:
        """Register an async function over the context as a workflow: ``@app.workflow``.

        ``timeout`` limits each attempt of a run, waits not counted. ``retry`` says how often a run is
        attempted that fails with the error of an operation: that operation is made again, and nothing else.
        Attempts count anew once that operation has come to a result. Writes without an idempotency key and
        errors that trying again cannot mend are never made again; nor are errors that the code acted on.
        ``runs_max``, ``rate``, ``on_error`` and ``on_end`` are explained at ``RunPolicy``.

        Raises UsageError when its name is taken.
        """
        seconds = None if timeout is None else parse_seconds(timeout)

        def register(inner: Callable[..., Awaitable[Any]]) -> Workflow:
            found = name or str(getattr(inner, "__name__", "workflow"))
            made = Workflow(
                inner, name=found, timeout_seconds=seconds, retry=retry, policy=RunPolicy(**policy)
            )
            return self._register(made)

        return register if function is None else register(function)

    @overload
    def schedule(self, when: str, target: Target | str, /, **how: Unpack[ScheduleArguments]) -> Schedule: ...
    @overload
    def schedule(
        self, when: str, target: None = None, /, **how: Unpack[ScheduleArguments]
    ) -> Callable[[T], T]: ...
    def schedule(
        self, when: str, target: Target | str | None = None, /, **how: Unpack[ScheduleArguments]
    ) -> Schedule | Callable[[T], T]:
        """Have workers start runs by the clock: ``@app.schedule("0 9 * * mon-fri", zone="Europe/Rome")``.

        It stands above ``@app.workflow``; for what is registered already, it takes that, or its name, as second
        argument. ``when`` is a cron line of five fields, or an interval such as "every 15m". See ``ScheduleArguments``.

        Raises UsageError (no such line or zone, the name is taken), NotFound (no such target), InvalidInput.
        """
        if target is not None:
            return self._schedule(when, target, **how)

        def register(scheduled: T) -> T:
            self._schedule(when, scheduled, **how)
            return scheduled

        return register

    def _schedule(
        self,
        when: str,
        target: object,
        *,
        name: str | None = None,
        zone: str | None = None,
        input: object = None,
        user: str | None = None,
        conversation: str | None = None,
        missed: Missed = "last",
        overlap: Overlap = "allow",
    ) -> Schedule:
        found = self.target(target) if isinstance(target, str) else target
        if not isinstance(found, TARGETS) or self._targets.get(found.name) is not found:
            raise UsageError(
                f"{getattr(found, '__name__', found)!r:.80} is no agent or workflow of this app. Write @app.schedule(…) above "
                "@app.workflow, not below it; an agent is given as second argument: app.schedule(when, agent)."
            )
        given = admit(input, keep)
        found.check_input(given)
        schedule = Schedule(
            name=name or found.name,
            target=found.name,
            when=when,
            zone=zone or "UTC",
            times=read_times(when, zone),
            input=given,
            user=user,
            conversation=conversation,
            missed=missed,
            overlap=overlap,
        )
        if schedule.name in self._schedules:
            raise UsageError(
                f"Two schedules are named {schedule.name!r}. The log remembers by its name how far a schedule has come, so "
                'each needs one of its own: give one of them a name="…".'
            )
        self._schedules[schedule.name] = schedule
        return schedule

    def register(
        self,
        agent: Runnable,
        *,
        timeout: str | float | None = TIMEOUT_SECONDS,
        retry: Retry = RUN_RETRY,
        policy: RunPolicy = PLAIN,
    ) -> ClassAgent:
        """Register an agent of your own making: an object with a ``key``, its name, and ``async run(ctx)``.

        Raises UsageError for one that is none, and when its name is taken.
        """
        seconds = None if timeout is None else parse_seconds(timeout)
        return self._register(ClassAgent(agent, timeout_seconds=seconds, retry=retry, policy=policy))

    def register_all(self, functions: Sequence[str]) -> None:
        """Call functions named as ``module:function`` with the app, so that each registers what it has. Raises UsageError."""
        for function in registering(functions):
            function(self)

    def add(self, target: Target) -> None:
        """Register an agent or workflow that was made elsewhere. Raises UsageError as ``agent`` does."""
        if not isinstance(target, TARGETS):
            raise UsageError(
                f"{target!r:.80} is no agent, journey or workflow, and no function that registers one with an app."
            )
        if isinstance(target, Journey):
            self._check_tools(target.agent)
        elif isinstance(target, Agent | IntentRouter):
            self._check_tools(target)
        self._register(target)

    def target(self, name: str) -> Target:
        """An agent or workflow by name. Raises NotFound that lists what there is."""
        found = self._targets.get(name)
        if found is None:
            raise self.no_target(name)
        return found

    def no_target(self, name: str, defined: Collection[str] = ()) -> NotFound:
        """What is said of a name that is no target: what there is in code and ``defined`` as data, and what was meant."""
        known = ", ".join(sorted(self._targets)) or "none"
        data = f" Defined in its log: {', '.join(sorted(defined))}." if defined else ""
        close = difflib.get_close_matches(name, {*self._targets, *defined}, n=1)
        meant = f" Did you mean {close[0]!r}?" if close else ""
        return NotFound(f"The app has no agent or workflow {name!r}. It has: {known}.{data}{meant}")

    def routes_of(self, router: str) -> list[str]:
        """The names of what a router leads to. Raises NotFound where there is no such router."""
        found = self._targets.get(router)
        if not isinstance(found, IntentRouter):
            known = sorted(name for name, target in self._targets.items() if isinstance(target, IntentRouter))
            raise NotFound(f"The app has no router {router!r:.80}. It has: {', '.join(known) or 'none'}.")
        return [route.journey.name for route in found.routes.values()]

    def check_result(self, tool: str, result: JsonValue) -> None:
        """Raises InvalidInput for a result that a tool of one of the app's agents could not have returned."""
        known = self._tools.get(tool)
        if known is None:
            return
        try:
            known.result_from(result)
        except ValidationError as error:
            raise InvalidInput(
                f"{tool} cannot have returned {result!r:.80}. {faults_text(error, 'result')}. Give a result of its type."
            ) from error

    def _register(self, target: T) -> T:
        if target.name in self._targets:
            raise UsageError(
                f"The name {target.name!r} is registered twice. Names of agents and workflows are how the log "
                "finds their code again, so each needs one of its own: rename one of them."
            )
        self._targets[target.name] = target
        return target

    def _check_tools(self, agent: Agent | IntentRouter) -> None:
        for tool in agent.tools:
            if not isinstance(tool, Tool) or tool.in_run:
                continue  # Its results are the run's own: nobody settles them, so nobody looks it up by its name.
            self._check_tool(tool, f"the one given to agent {agent.name!r}")

    def _check_tool(self, tool: Tool, which: str) -> None:
        known = self._tools.setdefault(tool.name, tool)
        if known is not tool:
            raise UsageError(
                f"Two different tools are named {tool.name!r}. Names of tools are part of the history, so each "
                f"needs one of its own: rename {which}."
            )


def _checked_parameters(name: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """What goes to the model's provider. Raises UsageError where it rather looks like an argument of ours, misspelt."""
    ours = list(inspect.signature(Registry.agent).parameters)
    for given, value in parameters.items():
        meant = difflib.get_close_matches(given, ours, n=1, cutoff=0.7) if given not in PROVIDERS_OWN else []
        if meant:
            raise UsageError(
                f"Agent {name}: there is no argument {given!r}; did you mean {meant[0]!r}? (What the provider is to have under "
                "that name goes into ctx.model(parameters=…).)"
            )
        try:
            admit(value, keep)
        except InvalidInput as error:
            raise UsageError(
                f"Agent {name}: {given}={value!r:.80} would go to the model's provider, and is not JSON. {error}"
            ) from error
    return dict(parameters)
