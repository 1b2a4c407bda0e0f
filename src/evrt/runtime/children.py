"""Children: runs that a run's code starts, which are executed for themselves, by any worker, and end for themselves.

The child is asked for in the append that records its start, so there is never one without the other. Its end
comes from outside, as an answer does. A wait for it that the code cuts off is an operation below the child's
own: it leaves the child as it is, to be waited for again or not at all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Generator
from typing import Any, TypeVar

import orjson

from evrt.codec import encode, meta_for
from evrt.errors import ChildFailed, Conflict, NotFound, UsageError
from evrt.events import Event, JsonObject, JsonValue
from evrt.events.run import (
    ChildEnded,
    ChildStarted,
    Delegation,
    RunRequested,
    RunStepLimitReached,
    RunSucceeded,
    WaitCancelled,
)
from evrt.folds.journal import PARENT_CONTINUED
from evrt.folds.queued import lane_of
from evrt.inbox import conversation_ref, ensure_conversation
from evrt.limits import RateLimit, check_priority
from evrt.log.contract import Draft
from evrt.log.coordination import Enqueue
from evrt.log.envelopes import envelopes
from evrt.log.ids import new_event_id, new_ref
from evrt.requesting import Startable, rate_of, request_of
from evrt.runtime import waiting
from evrt.runtime.execution import Execution
from evrt.runtime.identity import digest_of
from evrt.runtime.journal import payload_of

T = TypeVar("T")

ANY_REF = "conversation-" + "a" * 16
"""As long as any: so that an input is too large, or not, whatever the conversation's ref turns out to be."""


class Child:
    """A run that this run has started. Await it for its output; ``ChildFailed`` says that it did not succeed.

    ``run``: its id. ``target``: the agent or workflow it executes.
    """

    def __init__(self, execution: Execution, operation: str, run: str, target: str) -> None:
        self.run = run
        self.target = target
        self._execution = execution
        self._operation = operation
        self._waits = 0
        self._waited_for = False
        self._ended: ChildEnded | None = None

    def __repr__(self) -> str:
        return f"<Child {self.target} {self.run}>"

    def __await__(self) -> Generator[Any, None, Any]:
        return self._output().__await__()

    async def _output(self) -> Any:
        execution = self._execution
        execution.here()
        if self._waited_for:
            raise UsageError(
                f"{self._operation} is being waited for in another branch already: await a child in one place at a time."
            )
        self._waited_for = True
        try:
            if self._ended is None:
                self._waits += 1
                self._ended = await _end(execution, self._operation, self._waits)
            # How it failed is as little the operator's word as what it came to.
            execution.untrusted.setdefault(f"child:{self.target}")
            return await _output(execution, self._ended)
        finally:
            self._waited_for = False


async def start(
    execution: Execution,
    target: Startable | str,
    input: object,
    *,
    conversation: str | None,
    priority: int | None,
    delegation: Delegation | None = None,
) -> Child:
    """Start a child; it is durable with what the run records next. Raises NotFound, UsageError, InvalidInput."""
    name = target if isinstance(target, str) else target.name
    identity = execution.bind(name)
    given = execution.admit(input)
    found: Startable | None = None
    asked = None
    if identity not in execution.journal.operations:
        found = await _found(execution, target)
        asked = _request(execution, found, identity, given, conversation, priority, delegation)
    known = await execution.begun(identity, "child", digest_of([name, given]))
    if known is not None:
        assert known.intent is not None
        assert isinstance(known.intent.event, ChildStarted)
        return Child(execution, identity, known.intent.event.child, name)
    assert asked is not None
    requested, limit = asked
    if conversation is not None:
        requested = requested.model_copy(
            update={
                "conversation": await _whatever_happens(execution, _conversation(conversation, requested))
            }
        )
    system = getattr(found, "system", None)
    if isinstance(system, str):
        ref = await _whatever_happens(execution, lambda execution: execution.world.log.ref("system", system))
        requested = requested.model_copy(update={"system": ref})
    child = new_ref("run")
    started = ChildStarted(operation=identity, digest=digest_of([name, given]), child=child, target=name)
    _record(execution, started, requested, limit)
    return Child(execution, identity, child, name)


async def _found(execution: Execution, target: Startable | str) -> Startable:
    """What is to be started: code goes before what is defined as data. Raises NotFound, UsageError."""
    try:
        found = execution.world.find(target if isinstance(target, str) else target.name)
    except NotFound:
        if not isinstance(target, str):
            raise
        name, system = target, execution.system
        return await _whatever_happens(
            execution, lambda execution: execution.world.find_defined(name, system)
        )
    if not isinstance(target, str) and found is not target:
        raise UsageError(
            f"The {found.kind} {found.name!r} that the app has is another one than the one given. A child is executed "
            "by whoever has the app, so register with it what is to be started."
        )
    return found


def _request(
    execution: Execution,
    found: Startable,
    identity: str,
    given: JsonValue,
    conversation: str | None,
    priority: int | None,
    delegation: Delegation | None,
) -> tuple[RunRequested, RateLimit | None]:
    """What asks for the child, but for its conversation. Raises what is wrong with it, on a replay as at first."""
    parent = execution.journal.requested
    inherited = 0 if parent is None else parent.priority
    requested = request_of(found, given, execution.world.find).model_copy(
        update={
            "conversation": None if conversation is None else ANY_REF,
            "user": execution.owner,
            "priority": inherited if priority is None else check_priority(priority),
            "parent": execution.run,
            "operation_of_parent": identity,
            "untrusted": tuple(execution.untrusted),
            "delegation": delegation,
        }
    )
    payload_of(requested)
    return requested, found.policy.rate


def _conversation(conversation: str, requested: RunRequested) -> Callable[[Execution], Awaitable[str]]:
    async def ref(execution: Execution) -> str:
        log = execution.world.log
        found = await conversation_ref(log, conversation)
        await ensure_conversation(log, found, target=requested.target, owner=requested.user)
        return found

    return ref


def _record(
    execution: Execution, started: ChildStarted, requested: RunRequested, limit: RateLimit | None
) -> None:
    """Write the start and the request in one append, and put the child into the queue with it."""
    writer = execution.writer
    assert writer is not None
    journal = execution.journal
    kin: JsonObject = {"root": journal.kin.get("root", execution.run), "parent": execution.run}
    if requested.conversation is not None:
        kin["parent_correlation"] = execution.correlation
    meta: JsonObject = {"actor": execution.actor, **kin}
    if journal.continued:
        meta[PARENT_CONTINUED] = journal.continued
    if requested.user is not None:
        meta["on_behalf_of"] = requested.user
    draft = Draft(
        started.child,
        requested.type,
        new_event_id(),
        requested.conversation or execution.correlation,
        meta_for(requested, orjson.dumps(meta)),
        encode(requested),
    )
    rate = rate_of(limit, requested)
    queued = Enqueue(started.child, requested.target, requested.priority, lane_of(requested, kin), rate=rate)
    journal.note_child(started)
    writer.record(writer.draft(started), draft, beside=[queued])


async def _end(execution: Execution, identity: str, number: int) -> ChildEnded:
    """The child's end, in its turn. Raises CancelledError where the code cuts off, or cut off, this wait for it."""
    wait = f"{identity}/wait#{number}"
    cut_off = execution.journal.operations.get(wait)
    if cut_off is not None:
        await execution.recorded(wait, cut_off.kind, None)
    known = execution.journal.operations.get(identity)
    if known is not None:
        outcome = await execution.outcome_of(known)
        if outcome is not None:
            return _as_ended(outcome.event)
    else:
        await execution.present(identity)
    found = await waiting.wait(
        execution,
        identity,
        "child",
        cancelled=lambda took: WaitCancelled(operation=wait, latency_ms=took),
    )
    assert found is not None  # There is no time for it to be over.
    return _as_ended(execution.observe(identity, found))


def _as_ended(event: Event) -> ChildEnded:
    assert isinstance(event, ChildEnded)
    return event


async def _output(execution: Execution, ended: ChildEnded) -> Any:
    """What the child came to. Raises ChildFailed."""
    if ended.failure is not None:
        raise ChildFailed(
            ended.operation,
            ended.failure.error_type,
            ended.failure.message,
            child=ended.child,
            status=ended.status,
        )
    if not ended.elsewhere:
        return ended.output
    return await _whatever_happens(execution, lambda execution: _read_output(execution, ended.child))


async def _read_output(execution: Execution, child: str) -> JsonValue:
    for envelope in reversed(envelopes(await execution.world.log.read_stream(child))):
        if isinstance(envelope.event, RunSucceeded):
            return envelope.event.output
        if isinstance(envelope.event, RunStepLimitReached):
            return envelope.event.summary
    raise Conflict(f"What {child} came to has been erased, so its parent cannot be told any more.")


async def _whatever_happens(execution: Execution, fetch: Callable[[Execution], Awaitable[T]]) -> T:
    """Do something with the log that leaves no trace; whoever cuts it off cuts off the next operation instead."""
    while True:
        try:
            with execution.progress.pinned():
                return await fetch(execution)
        except asyncio.CancelledError:
            execution.strike_next()
