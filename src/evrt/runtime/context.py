"""The context: the one object through which a run's code acts on the world and learns from it."""

from __future__ import annotations

import logging
import random
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from copy import copy
from datetime import UTC, datetime
from typing import Any, ClassVar, Generic, Literal, NoReturn, Protocol, TypeVar, overload

import orjson

from evrt.effects.tools import Tool
from evrt.errors import InvalidInput, ModelFailed, StepFailed, ToolFailed, UsageError
from evrt.events import Event, JsonObject, JsonValue
from evrt.events.calls import ModelCallCompleted, ModelCallFailed, Option, ValueRecorded
from evrt.events.run import (
    CheckpointSaved,
    Delegation,
    ErrorReported,
    Failure,
    GuardApplied,
    MessageProduced,
    RunEmitted,
)
from evrt.folds.journal import established, operation_of
from evrt.folds.messages import input_messages
from evrt.limits import RunPolicy
from evrt.requesting import Startable
from evrt.retry import NO_RETRY, Retry, parse_seconds
from evrt.runtime import (
    approvals,
    children,
    differences,
    in_run,
    model_calls,
    questions,
    signals,
    steps,
    timers,
    tool_calls,
)
from evrt.runtime.approvals import Approval
from evrt.runtime.blobs import RunBlobs
from evrt.runtime.children import Child
from evrt.runtime.execution import Execution
from evrt.runtime.gather import gather, in_scope
from evrt.runtime.identity import digest_of
from evrt.runtime.journal import payload_of
from evrt.runtime.journeys import RunJourney
from evrt.runtime.memory import RunMemory
from evrt.runtime.race import Won, race
from evrt.runtime.recalling import HISTORY_MESSAGES_MAX, History, recall
from evrt.runtime.reply import Reply, ToolOutcome, reply_from
from evrt.runtime.transcript import Transcript

Deps_co = TypeVar("Deps_co", covariant=True)
T = TypeVar("T")
ValueKind = Literal["now", "uuid", "random"]

run_logger = logging.getLogger("evrt.run")


Gate = Callable[["Context[Any]", Tool, Mapping[str, object], str, Sequence[str]], Awaitable[Failure | None]]
"""Says whether a tool may be called with these arguments, by whoever has read from these sources: None, or why not."""


class Callee(Protocol):
    """What ``ctx.call`` can call beside tools: an agent or a workflow of the app."""

    @property
    def name(self) -> str: ...
    @property
    def retry(self) -> Retry: ...
    @property
    def policy(self) -> RunPolicy: ...
    async def execute(self, ctx: Context[Any], input: JsonValue) -> Any: ...


class Context(Generic[Deps_co]):
    """What a run's code works through. Every operation is recorded, and on resume or replay read back.

    ``run_id``: the run's id. ``input``: its input as recorded. ``target``: the agent or workflow.
    ``state``: what the code continued as (``continue_as``); None at first. ``nested``: whether this is an agent or
    workflow that another one's code has called, within the same run.
    """

    is_run_context: ClassVar[bool] = True
    """By this a tool that takes one is known to be part of the run's code: see ``Tool.in_run``."""

    def __init__(
        self,
        execution: Execution,
        *,
        target: str,
        input: JsonValue,
        state: JsonValue = None,
        nested: bool = False,
    ) -> None:
        self._execution = execution
        self.run_id = execution.run
        self.target = target
        self.input = input
        self.state: Any = state
        self.nested = nested
        self.memory = RunMemory(execution)
        self.blobs = RunBlobs(execution)
        self.gate: Gate | None = None
        """What has a say in the tool calls of code that a model has called: see ``gated``."""
        self._read: dict[str, None] | None = None
        """In such code: what it has itself read from beyond those who are trusted."""

    @property
    def deps(self) -> Deps_co:
        """What the app was given as ``deps=``."""
        deps: Deps_co = self._execution.world.deps
        return deps

    @property
    def conversation(self) -> str | None:
        """Ref of the run's conversation."""
        return self._execution.conversation

    @property
    def user(self) -> str | None:
        """Ref of the run's user."""
        return self._execution.owner

    @property
    def model_asked(self) -> str | None:
        """The model that whoever asked for the run wants in place of the agent's own."""
        requested = self._execution.journal.requested
        return None if requested is None else requested.model

    @property
    def system(self) -> str | None:
        """Ref of the system that the run's agent works in, together with others."""
        return self._execution.system

    @property
    def input_messages(self) -> list[JsonObject]:
        """The input as chat messages."""
        return input_messages(self.input)

    @property
    def delegation(self) -> Delegation | None:
        """For which agents this one runs, where it is a sub-agent (``SubAgent``)."""
        requested = self._execution.journal.requested
        return None if requested is None else requested.delegation

    @property
    def toolgroups(self) -> tuple[str, ...] | None:
        """The groups of tools that the run was asked for with, in place of its agent's; None where it was asked for without."""
        requested = self._execution.journal.requested
        if requested is None or requested.target != self.target:
            return None
        return requested.toolgroups

    @property
    def replaying(self) -> bool:
        """Whether the code is being led through its recorded past. For what only readers see; never branch on it."""
        return not self._execution.progress.live or self._execution.offline

    # Whom to trust

    @property
    def untrusted(self) -> tuple[str, ...]:
        """Where what the run has read comes from beyond those whom its operator trusts; empty where nothing does.

        Such as ``tool:search``, ``memory:user:city``, ``child:helper``. Whatever the run does from then on may have been
        prompted by it. Results of tools count unless they are ``trusted``, and so does memory that was set in such a run.
        """
        return tuple(self._execution.untrusted)

    def distrust(self, source: str) -> None:
        """Say that the run has read something from there that its operator does not answer for. Recorded, if it is new."""
        source = str(self._execution.admit(source))
        new = source not in self._execution.untrusted
        self._has_read(source)
        if new:
            self._note(
                "distrust",
                lambda operation: ValueRecorded(operation=operation, kind="distrusted", value=source),
            )

    # What was said before

    @property
    def is_told_history(self) -> bool:
        """Whether an agent's run is told what was said before: not one that was begun before agents were told."""
        execution = self._execution
        fresh = not execution.unasked and execution.journal.terminal is None
        return fresh or "history#1" in execution.journal.operations

    async def history(self, messages_max: int = HISTORY_MESSAGES_MAX) -> History:
        """What was said before in the run's conversation: the newest ``messages_max`` chat messages, oldest first.

        That of the runs that were asked for before this one, as it is at this moment; of a run that is still at it what
        it has come to. Failed and superseded runs are left out. Recorded once: resume and replay give the same. Empty
        where the run has no conversation. Give the messages to a model as they are, and they are not recorded again.
        Where any of them is untrusted, so is the run from here on (``untrusted``). Raises InvalidInput.
        """
        history = await recall(self._execution, messages_max)
        if history.untrusted:
            self._has_read("history")
        return history

    # Tools, agents, steps

    async def call(self, target: Tool | Callee, /, *args: Any, **kwargs: Any) -> Any:
        """Call a tool with arguments, or an agent or workflow with its input.

        Raises ToolFailed when a tool failed after its attempts, StepLimitReached when an agent used up
        its turns, UsageError for something that is neither.
        """
        if isinstance(target, Tool):
            event = await self._call_tool(target, target.bind(args, kwargs), None, self.gate)
            succeeded, value = established(event)
            if not succeeded:
                raise _failed(ToolFailed, operation_of(event), value)
            return target.result_from(value)  # type: ignore[arg-type]  # JSON, from the event
        if not hasattr(target, "execute"):
            raise UsageError(f"ctx.call takes a tool, an agent or a workflow, not {type(target).__name__}.")
        given: Any = args[0] if len(args) == 1 and not kwargs else _call_input(target.name, args, kwargs)
        given = self._execution.admit(given)
        with in_scope(self._execution, target.name):
            inner: Context[Any] = Context(self._execution, target=target.name, input=given, nested=True)
            inner.gate, inner._read = self.gate, self._read
            return await target.execute(inner, given)

    async def perform(
        self,
        call: JsonObject,
        tools: Sequence[Tool],
        *,
        approved: str | None = None,
        gate: Gate | None = None,
    ) -> ToolOutcome:
        """Make a tool call that a model asked for. A failure is an outcome for the model, not an exception.

        Only the tools given can be called; and where leave was given for a call of the digest ``approved``, only that.
        ``gate`` is for tools in the run: what they call in turn has to pass it.
        """
        name, text, identifier = tool_calls.wire_arguments(call)
        tool = next((tool for tool in tools if tool.name == name), None)
        tool_call_id = identifier or "missing"
        if tool is None:
            known = ", ".join(tool.name for tool in tools) or "none"
            failure = Failure(
                error_type="unknown_tool", message=f"There is no tool {name!r:.80}. Tools: {known}."
            )
            return await self._refuse(name, text, failure, tool_call_id)
        try:
            arguments = tool_calls.parse_arguments(text)
        except InvalidInput as error:
            return await self._refuse(
                name, text, Failure(error_type="invalid_arguments", message=str(error)), tool_call_id
            )
        if approved is not None and approved != self.call_digest(tool, arguments):
            return await self._refuse(name, text, approvals.mismatch(name), tool_call_id)
        inner = self.gated(gate) if gate is not None and tool.in_run else self
        event = await inner._call_tool(tool, arguments, tool_call_id, self.gate if approved is None else None)
        return ToolOutcome(operation_of(event), tool_call_id, event)

    async def _call_tool(
        self, tool: Tool, arguments: Mapping[str, object], tool_call_id: str | None, gate: Gate | None
    ) -> Event:
        if gate is not None:
            refused = await gate(self, tool, arguments, tool_call_id or "missing", tuple(self._read or ()))
            if refused is not None:
                shown = orjson.dumps(self._execution.admit_arguments(arguments)).decode()
                return await tool_calls.refuse_call(self._execution, tool.name, shown, refused, tool_call_id)
        if tool.in_run:
            return await in_run.perform(self._execution, self, tool, arguments, tool_call_id)
        event = await tool_calls.call_tool(self._execution, tool, arguments, tool_call_id)
        if not tool.trusted:
            self._has_read(f"tool:{tool.name}")
        return event

    def gated(self, gate: Gate) -> Context[Deps_co]:
        """This context, for code that a model has called: tools that it calls in turn have to pass this gate first."""
        inner = copy(self)
        inner.gate = gate
        inner._read = {}
        inner.memory = self.memory.told_to(inner._read)
        return inner

    def _has_read(self, source: str) -> None:
        self._execution.untrusted.setdefault(source)
        if self._read is not None:
            self._read.setdefault(source)

    async def refuse(self, call: JsonObject, failure: Failure) -> ToolOutcome:
        """Record that a tool call which a model asked for is not made, and why: its outcome, for the model to read."""
        name, text, identifier = tool_calls.wire_arguments(call)
        return await self._refuse(name, text, failure, identifier or "missing")

    async def _refuse(self, name: str, text: str, failure: Failure, tool_call_id: str) -> ToolOutcome:
        event = await tool_calls.refuse_call(self._execution, name, text, failure, tool_call_id)
        return ToolOutcome(operation_of(event), tool_call_id, event)

    async def step(
        self,
        name: str,
        function: Callable[..., Any],
        /,
        *args: Any,
        effect: steps.StepEffect = "pure",
        retry: Retry = NO_RETRY,
        timeout: str | float | None = None,
        **kwargs: Any,
    ) -> Any:
        """Run a function once and remember what it returned; a sync one runs in a thread.

        ``effect="read"`` for one that looks at the world: it then has a durable intent. Raises StepFailed
        after the last attempt.
        """
        operation, event = await steps.run_step(
            self._execution,
            name,
            function,
            args,
            kwargs,
            effect=effect,
            retry=retry,
            timeout_seconds=None if timeout is None else parse_seconds(timeout),
        )
        succeeded, value = established(event)
        if not succeeded:
            raise _failed(StepFailed, operation, value)
        return steps.result_of_step(function, value)

    # Models

    def transcript(self) -> Transcript:
        """An empty transcript: messages that only grow, so that a model call costs what is new."""
        return Transcript(self._execution.world.redact)

    async def model(
        self,
        messages: Transcript | Sequence[JsonObject] | str,
        *,
        model: str | None = None,
        tools: Sequence[Tool] = (),
        name: str = "model",
        retry: Retry = model_calls.MODEL_RETRY,
        timeout: str | float | None = None,
        parameters: JsonObject | None = None,
        **more: Any,
    ) -> Reply:
        """Call a model with a transcript, a list of chat messages, or one user message as text.

        ``parameters`` and further keywords go to the provider as they are (temperature=, max_tokens=, …).
        Raises ModelFailed after the last attempt, UsageError when no model is named.
        """
        asked = model or self._execution.world.default_model
        if asked is None:
            raise UsageError("No model is named: give model='provider/name', or the app a default_model=.")
        event = await model_calls.call_model(
            self._execution,
            self._transcript_of(messages),
            model=asked,
            tools=tools,
            parameters={**(parameters or {}), **more},
            name=name,
            retry=retry,
            timeout_seconds=None if timeout is None else parse_seconds(timeout),
        )
        if isinstance(event, ModelCallFailed):
            raise _failed(ModelFailed, event.operation, event.failure)
        assert isinstance(event, ModelCallCompleted)
        return reply_from(event, asked)

    def _transcript_of(self, messages: Transcript | Sequence[JsonObject] | str) -> Transcript:
        if isinstance(messages, Transcript):
            return messages
        if isinstance(messages, str):
            messages = [{"role": "user", "content": messages}]
        scope = self._execution.scope()
        known = self._execution.transcripts.get(scope.path, self.transcript())
        fresh = known.rewritten(messages)
        self._execution.transcripts[scope.path] = fresh
        return fresh

    # At the same time

    async def gather(self, *awaitables: Awaitable[T]) -> list[T]:
        """Do several things at once, each in a scope of its own; waits for all.

        Returns the results in the order given. If any failed, raises the first error by position.
        """
        return await gather(self._execution, awaitables)

    async def race(self, *awaitables: Awaitable[T]) -> Won[T]:
        """Do several things at once, each in a scope of its own; the first to come to an end wins.

        Returns the number of the branch that won, counted from 0, and its result; raises its error if it
        ended with one. The others are cancelled, and have come to their end when this returns: a write
        without a key that was under way is in doubt, and is waited for until it is settled. What they
        return or raise is dropped. Who won is recorded, and wins again on resume and replay.
        """
        return await race(self._execution, awaitables)

    @asynccontextmanager
    async def scope(self, key: str) -> AsyncIterator[None]:
        """A scope for a task that something else created, e.g. a framework that runs tool calls in tasks of its own.

        ``key`` must be the same on every execution, e.g. the id of the tool call.
        """
        with in_scope(self._execution, f"scope:{key}", adopt=True):
            yield

    # Runs of their own

    async def start_child(
        self,
        target: Startable | str,
        input: object = None,
        *,
        conversation: str | None = None,
        priority: int | None = None,
        delegation: Delegation | None = None,
    ) -> Child:
        """Start an agent or workflow of the app as a run of its own, and go on; await the child for its output.

        The child has its own journal, attempts and time-out, and any worker may execute it. It goes on when this
        run ends without having awaited it. ``conversation`` is an id of your own, as in ``App.start``; a higher
        ``priority`` is executed first, and without one the child has this run's. ``delegation`` is what it finds as its
        ``ctx.delegation``. Where this run is ``untrusted``, so is the child. Raises NotFound for an unknown target,
        InvalidInput for an input that does not fit it, UsageError for one that the app does not have.
        """
        return await children.start(
            self._execution,
            target,
            input,
            conversation=conversation,
            priority=priority,
            delegation=delegation,
        )

    async def child(
        self,
        target: Startable | str,
        input: object = None,
        *,
        conversation: str | None = None,
        priority: int | None = None,
    ) -> Any:
        """Start a child and wait for its output; several at once with ``ctx.gather(*(ctx.child(…) for …))``.

        Raises ChildFailed when it ended otherwise than in success, and what ``start_child`` raises.
        """
        child = await self.start_child(target, input, conversation=conversation, priority=priority)
        try:
            return await child
        finally:
            self._has_read(f"child:{child.target}")

    # Long runs, and code that changes

    def continue_as(self, state: object = None) -> NoReturn:
        """Begin anew, in the same run, with this ``ctx.state``: what has been done so far is not replayed any more.

        The code starts from its first line with the same input, and the time-out counts anew. Raises UsageError
        where branches are still under way, InvalidInput for a state that cannot be recorded.
        """
        raise self._execution.continue_as(state)

    @property
    def can_continue(self) -> bool:
        """Whether ``continue_as`` may be called here: in the run's own code, with nothing else under way."""
        return self._execution.can_continue

    def patched(self, change: str) -> bool:
        """Whether to go the new way where the code was changed: ``if ctx.patched("ask-twice"): … else: …``.

        False in a run whose history goes on with what the code did before; elsewhere true, and recorded, so that
        it stays so. One id for one change; every place that asks for it gets the same answer.
        """
        return self._execution.patched(change)

    # A person

    async def ask(
        self,
        question: str,
        options: Sequence[str | Option] | None = None,
        *,
        allow_free_form: bool = True,
        answer: Any = None,
        timeout: str | float | None = None,
    ) -> Any:
        """Ask a person and wait for the answer, for as long as it takes and across restarts.

        options
            one or more answers to choose from; with ``allow_free_form=False`` it has to be one of them.
        answer
            what the answer has to be: a type that pydantic knows, which it then is, or a JSON schema.

        Who gives an answer that does not fit is told so, and the question stays open. Raises TimedOut where nobody
        answered within ``timeout`` (seconds, or a text such as "2d").
        """
        wanted = questions.Wanted(options, allow_free_form=allow_free_form, answer=answer)
        return await questions.ask(self._execution, question, wanted, timeout)

    async def approve(
        self,
        action: str,
        details: object = None,
        *,
        timeout: str | float | None = None,
        digest: str | None = None,
    ) -> Approval:
        """Ask a person for leave to do something, and wait for it, for as long as it takes and across restarts.

        ``details`` is any JSON value that helps to decide. The approval is true where it was granted; it has
        ``approved``, ``reason`` and ``by``. Within ``timeout``, or it is denied with the reason "timeout".
        ``digest`` is that of a call (``call_digest``) where it is one that is approved: see ``perform``.
        """
        return await approvals.approve(self._execution, action, details, timeout, digest)

    def call_digest(self, tool: Tool, arguments: Mapping[str, object]) -> str:
        """The digest of a tool call: its name, and its arguments as they are recorded and shown to people."""
        return approvals.call_digest(tool.name, self._execution.admit_arguments(arguments))

    # Journeys

    def journey(self, name: str) -> RunJourney:
        """A journey of the run's conversation, by the name that it has in the code; without a conversation, of the run.

        ``evrt.Journey`` is what most code wants; this is what it is written with.
        """
        found: RunJourney = self._execution.journeys.setdefault(name, RunJourney(self._execution, name))
        return found

    # Time, and messages from outside

    async def sleep(self, length: str | float) -> None:
        """Sleep for a length of time, seconds or a text such as "2d", across restarts. Longer ones hold no worker."""
        await timers.sleep(self._execution, length)

    async def sleep_until(self, moment: datetime) -> None:
        """Sleep until a moment, given with its time zone; not at all where that has passed."""
        await timers.sleep_until(self._execution, moment)

    async def wait_for_signal(self, name: str, *, timeout: str | float | None = None) -> Any:
        """The payload of the next signal of this name, waited for as long as it takes and across restarts.

        Signals of a name are received in the order in which they were sent, each once; those that came before
        anybody waited for them are kept. Raises TimedOut where none came within ``timeout``.
        """
        return await signals.receive(self._execution, name, timeout)

    # Words to the user

    async def say(self, text: str) -> None:
        """A message for the user of the run."""
        shown = self._execution.admit(text)
        self._note(
            "say", lambda operation: MessageProduced(operation=operation, role="assistant", content=shown)
        )

    async def report_error(self, message: str, details: JsonValue = None) -> None:
        """Tell the user of an error and go on; it does not end the run."""
        text = str(self._execution.admit(message))
        shown = self._execution.admit(details)
        self._note(
            "report_error",
            lambda operation: ErrorReported(operation=operation, message=text, details=shown),
        )

    # For readers of the run

    async def emit(self, name: str, payload: object = None) -> None:
        """Record something for readers of the run, progress for example."""
        shown = self._execution.admit(payload)
        self._note("emit", lambda operation: RunEmitted(operation=operation, name=name, payload=shown))

    async def checkpoint(self, state: object, name: str | None = None) -> None:
        """Record a state that the run can be found again by, as ``RUN@{name}``."""
        shown = self._execution.admit(state)
        self._note(
            "checkpoint", lambda operation: CheckpointSaved(operation=operation, name=name, state=shown)
        )

    def record(self, kind: type[Event], /, **fields: Any) -> None:
        """Record one of evrt's own events as a note of the run. Its texts are as they are given: admit them first."""
        self._note(
            kind.type.partition(".")[0],
            lambda operation: kind.model_validate({"operation": operation, **fields}),
        )

    def admit(self, value: object) -> JsonValue:
        """A value as it is recorded: JSON, redacted. Raises InvalidInput."""
        return self._execution.admit(value)

    def digest(self, value: object) -> str:
        """A digest of a JSON value, the same on every execution."""
        return digest_of(self._execution.admit(value))

    def guard(self, guard: str, message: str) -> None:
        """Record that a loop stepped in, and how."""
        shown = str(self._execution.admit(message))
        self._note("guard", lambda operation: GuardApplied(operation=operation, guard=guard, message=shown))

    def log(self, text: str, **fields: object) -> None:
        """Write a line to the logger ``evrt.run``, on the first execution only."""
        if not self.replaying:
            run_logger.info(text, extra={"run": self.run_id, "fields": fields})

    # What differs each time

    def now(self) -> datetime:
        """The time, UTC; on replay the time it was then."""
        return datetime.fromtimestamp(self._value("now", lambda: datetime.now(UTC).timestamp()), UTC)

    def uuid(self) -> uuid.UUID:
        """A random UUID; on replay the same one."""
        return uuid.UUID(self._value("uuid", lambda: str(uuid.uuid4())))

    def random(self) -> float:
        """A number in [0, 1); on replay the same one."""
        number: float = self._value("random", random.random)
        return number

    def _value(self, kind: ValueKind, make: Callable[[], JsonValue]) -> Any:
        identity = self._execution.bind(kind)
        known = self._execution.recorded_at_once(identity, "value")
        if known is not None:
            assert isinstance(known.event, ValueRecorded)
            return known.event.value
        event = ValueRecorded(operation=identity, kind=kind, value=make())
        self._execution.note(event)
        return event.value

    def _note(self, name: str, make: Callable[[str], Event]) -> None:
        identity = self._execution.bind(name)
        event = make(identity)
        if identity not in self._execution.journal.operations:
            payload_of(event)  # Too large an event is refused here, on the first execution as on replay.
        known = self._execution.recorded_at_once(identity, event.type.partition(".")[0])
        if known is None:
            self._execution.note(event)
        elif known.event != event:
            self._execution.diverge(differences.in_content(known, identity))


@overload
def _failed(kind: type[ToolFailed], operation: str, failure: object) -> ToolFailed: ...
@overload
def _failed(kind: type[StepFailed], operation: str, failure: object) -> StepFailed: ...
@overload
def _failed(kind: type[ModelFailed], operation: str, failure: object) -> ModelFailed: ...
def _failed(kind: Any, operation: str, failure: object) -> Any:
    assert isinstance(failure, Failure)
    return kind(operation, failure.error_type, failure.message)


def _call_input(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    if args:
        raise UsageError(f"Call {name} with one input, or with its arguments by name.")
    return kwargs
