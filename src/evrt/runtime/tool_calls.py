"""Tool calls: intent, attempts, outcome; and what happens when nobody knows the outcome.

A call that was cut off between intent and outcome is made again if its tool may be repeated
(pure, read, or a write that takes an idempotency key). Any other write is never repeated and
never called failed: it is in doubt until somebody settles or reports it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from time import perf_counter
from typing import Any

import orjson
from pydantic import BaseModel

from evrt.effects.tools import Tool, ToolContext
from evrt.errors import InvalidInput, OutcomeUnknown, PayloadTooLarge
from evrt.events import Envelope, Event, JsonObject, JsonValue
from evrt.events.calls import (
    ToolCallCompleted,
    ToolCallFailed,
    ToolCallInDoubt,
    ToolCallReported,
    ToolCallRequested,
    ToolCallSettled,
)
from evrt.events.run import CANCELLED, Failure
from evrt.folds.journal import Operation, is_unkeyed_write
from evrt.log.contract import Draft
from evrt.runtime.execution import Execution
from evrt.runtime.identity import digest_of
from evrt.runtime.latency import milliseconds_since
from evrt.runtime.reconciling import Reconciling
from evrt.runtime.stop import cancels

NAME_CHARACTERS_MAX = 64


def call_tool(
    execution: Execution, tool: Tool, arguments: Mapping[str, object], tool_call_id: str | None = None
) -> Coroutine[Any, Any, Event]:
    """Call a tool; awaiting gives its outcome, failures included. Binds the operation's identity at once."""
    identity = execution.bind(tool.name)
    shown = execution.admit_arguments(arguments)
    return _Call(execution, tool, identity, shown, digest_of(shown), tool_call_id).outcome(arguments)


async def refuse_call(
    execution: Execution, name: str, arguments: str, failure: Failure, tool_call_id: str | None
) -> Event:
    """Record a call that cannot be made: an unknown tool, arguments that are not JSON. No effect starts."""
    name = name[:NAME_CHARACTERS_MAX] or "unnamed"
    identity = execution.bind(name)
    shown = execution.admit(arguments)
    digest = digest_of(shown)
    known = await execution.recorded(identity, "tool_call", digest)
    if known is not None and known.outcome is not None:
        return known.outcome.event
    execution.record(
        ToolCallRequested(
            operation=identity,
            digest=digest,
            tool=name,
            effect="pure",
            arguments=shown,
            tool_call_id=tool_call_id,
            trusted=True,  # What it comes to is evrt's own word.
        )
    )
    outcome = ToolCallFailed(operation=identity, failure=failure, retriable=False)
    execution.record(outcome)
    return outcome


def parse_arguments(text: str) -> dict[str, object]:
    """The arguments that a model wrote. Raises InvalidInput when they are not a JSON object."""
    try:
        value = orjson.loads(text) if text.strip() else {}
    except orjson.JSONDecodeError as error:
        raise InvalidInput(f"The arguments are not JSON: {error}. Send one JSON object.") from error
    if not isinstance(value, dict):
        raise InvalidInput("The arguments are not a JSON object.")
    return value


class _Call:
    """One tool call on its way from intent to outcome."""

    def __init__(
        self,
        execution: Execution,
        tool: Tool,
        identity: str,
        shown: JsonValue,
        digest: str,
        tool_call_id: str | None,
    ) -> None:
        self.execution = execution
        self.tool = tool
        self.identity = identity
        self.shown = shown
        self.digest = digest
        self.tool_call_id = tool_call_id
        self.attempt = 1
        self.attempts_before = 0
        """Attempts that had been made when the run's retry reopened this call; its policy counts from there."""
        self._checked: BaseModel | None = None
        self._key: str | None = None
        self._drafted: Draft | None = None
        self._unknown = ""
        """Why nobody knows what the last attempt came to."""

    async def outcome(self, arguments: Mapping[str, object]) -> Event:
        execution = self.execution
        if not execution.is_new(self.identity):
            known = await execution.recorded(self.identity, "tool_call", self.digest)
            if known is not None and known.outcome is not None:
                return known.outcome.event
        refused = self._prepare(arguments)
        interrupted = execution.journal.operations.get(self.identity)
        if refused is not None and not self._doubtful(interrupted):
            return self._close(refused)
        if interrupted is not None and self._doubtful(interrupted):
            # Said now, as this may be cut off before the work begins.
            if interrupted.in_doubt:
                execution.in_doubt.add(self.identity)
            else:
                execution.under_way[self.identity] = interrupted.attempts
        established = interrupted is not None and bool(interrupted.outside)
        began = perf_counter()
        try:
            found = await execution.outside(self._work(interrupted, refused), established=established)
        except asyncio.CancelledError:
            found = await self._cut_off(began)
        if isinstance(found, Envelope):
            return execution.observe(self.identity, found)
        return self._close(found)

    def _prepare(self, arguments: Mapping[str, object]) -> ToolCallFailed | None:
        """Check the arguments and record the intent; an outcome where the call cannot be made with them."""
        key = None
        refused = None
        try:
            checked = self._checked = self.tool.validate(arguments)
            if self.tool.takes_key:
                key = self._key = self.tool.key_for(checked, f"{self.execution.run}:{self.identity}")
        except InvalidInput as error:
            refused = self._failed("invalid_arguments", str(error), 0.0)
        except Exception as error:  # noqa: BLE001  (a key function is the user's own; its failure is an outcome)
            refused = self._failed(type(error).__name__, f"No idempotency key could be made. {error}", 0.0)
        if self.identity in self.execution.journal.operations:
            return refused
        try:
            self._request(key)
        except PayloadTooLarge as error:
            refused = self._failed(type(error).__name__, str(error), 0.0)
            self.shown = None
            self._request(None)
        return refused

    def _doubtful(self, interrupted: Operation | None) -> bool:
        """Whether an attempt that was cut off may not be made again, by what its tool declares now or declared then."""
        return interrupted is not None and (is_unkeyed_write(interrupted) or not self.tool.repeatable)

    async def _work(
        self, interrupted: Operation | None, refused: ToolCallFailed | None
    ) -> ToolCallCompleted | ToolCallFailed | Envelope:
        """From the durable intent to what came of it; an envelope where somebody outside established that."""
        if interrupted is not None:
            self.attempt = max(1, interrupted.attempts)
            self.attempts_before = interrupted.attempts_before
            if self._doubtful(interrupted):
                settled = await self._settled(None if interrupted.in_doubt else "crash")
                if settled is not None:
                    return settled
                await self._again()
        if refused is not None:
            return refused
        await self.execution.barrier()
        while True:
            event = await self._attempt()
            if event is None:
                settled = await self._settled(self._unknown)
                if settled is not None:
                    return settled
                await self._again()
            elif isinstance(event, ToolCallFailed) and not event.final:
                self.execution.record(event)
                self.attempt += 1
                await asyncio.sleep((event.delay_ms or 0.0) / 1000)
                await self.execution.barrier()
            else:
                return event

    async def _attempt(self) -> ToolCallCompleted | ToolCallFailed | None:
        """One try: an outcome, a failed attempt, or None where nobody knows what a write that must not be repeated came to."""
        execution = self.execution
        world = execution.world
        context = ToolContext(execution.run, self.identity, self.attempt, self._key, world.deps, world.blobs)
        began = perf_counter()
        seconds = self.tool.timeout_seconds
        limit = None if seconds is None else asyncio.timeout(seconds)
        if not self.tool.repeatable:
            execution.under_way[self.identity] = self.attempt
            execution.writing.add(self.identity)
        before = cancels()
        assert self._checked is not None
        try:
            if limit is None:
                returned = await self.tool(self._checked, context)
            else:
                async with limit:
                    returned = await self.tool(self._checked, context)
        except TimeoutError as error:
            if limit is None or not limit.expired():
                return self._raised(error, began)
            if not self.tool.repeatable:
                self._unknown = "timeout"
                return None
            return self._failed("timeout", f"No answer within {seconds:g} s.", began, retry=True)
        except asyncio.CancelledError as error:
            if cancels() > before:
                raise
            return self._raised(error, began)  # Nobody cancelled the call: the tool raised it by itself.
        except OutcomeUnknown as error:
            if self.tool.repeatable:
                return self._raised(error, began)
            self._unknown = execution.failure("unknown", str(error) or "unknown").message
            return None
        except Exception as error:  # noqa: BLE001  (whatever a tool raises is its outcome)
            return self._raised(error, began)
        return self._returned(returned, began)

    def _returned(self, returned: Any, began: float) -> ToolCallCompleted | ToolCallFailed:
        latency = milliseconds_since(began)
        try:
            result = self.execution.admit(self.tool.result_to_json(returned))
            self.tool.result_from(result)
            outcome = ToolCallCompleted(
                operation=self.identity, result=result, attempt=self.attempt, latency_ms=latency
            )
            self._drafted = self.execution.draft(outcome)
            return outcome
        except (InvalidInput, ValueError, TypeError) as error:
            # The effect has happened, but what it returned cannot be kept as it is.
            return self._failed(type(error).__name__, f"The result cannot be recorded. {error}", began)

    def _raised(self, error: BaseException, began: float) -> ToolCallFailed:
        retry = bool(getattr(error, "retriable", True))
        return self._failed(type(error).__name__, str(error) or repr(error), began, retry=retry)

    def _failed(self, error_type: str, message: str, began: float, *, retry: bool = False) -> ToolCallFailed:
        policy = self.tool.retry
        number = self.attempt - self.attempts_before
        final = not (retry and self.tool.repeatable and number < policy.attempts_max)
        delay = None if final else policy.delay_seconds(number, self.execution.chance()) * 1000
        return ToolCallFailed(
            operation=self.identity,
            failure=self.execution.failure(error_type, message),
            attempt=self.attempt,
            final=final,
            delay_ms=delay,
            latency_ms=milliseconds_since(began) if began else 0.0,
            retriable=None if retry else False,
        )

    async def _settled(self, doubt: str | None) -> Envelope | None:
        """Wait in doubt; what established the outcome, or None when it did not happen."""
        execution = self.execution
        execution.under_way.pop(self.identity, None)
        execution.in_doubt.add(self.identity)
        execution.write_ended(self.identity)
        if doubt is not None:
            execution.record(ToolCallInDoubt(operation=self.identity, attempt=self.attempt, cause=doubt))
        await execution.barrier()
        found = await self._reconciled() or await execution.from_outside(self.identity, "in_doubt")
        while isinstance(found.event, ToolCallSettled) and not self._fits(found.event):
            execution.record(
                ToolCallInDoubt(
                    operation=self.identity, attempt=self.attempt, cause="misfit", refused=found.event_id
                )
            )
            await execution.barrier()
            found = await execution.from_outside(self.identity, "in_doubt")
        if not (isinstance(found.event, ToolCallSettled) and found.event.outcome == "again"):
            return found
        execution.observe(self.identity, found)
        return None

    async def _reconciled(self) -> Envelope | None:
        """What the tool's own function found out, recorded; None where there is none, or a person has to tell."""
        execution = self.execution
        if self.tool.reconcile is None or self._checked is None or self._has_been_settled():
            return None
        asking = Reconciling(execution, self.tool, self.identity, self._checked, self.attempt)
        settled = await asking.settlement(self.tool.reconcile)
        await execution.look_outside()
        if settled is None or self._has_been_settled():  # A person was faster.
            return None
        return execution.settle(settled)

    def _has_been_settled(self) -> bool:
        known = self.execution.journal.operations.get(self.identity)
        return known is not None and bool(known.outside)

    async def _again(self) -> None:
        """The intent to make the call again, unless the code has cancelled it meanwhile. Raises CancelledError."""
        self.execution.late_cancels.strike()
        self.attempt += 1
        self._request(self._key)
        await self.execution.barrier()

    def _fits(self, settled: ToolCallSettled) -> bool:
        """Whether a person's word is one that the tool could have returned."""
        if settled.outcome != "completed":
            return True
        try:
            self.tool.result_from(settled.result)
        except ValueError:
            return False
        return True

    def _request(self, key: str | None) -> None:
        self.execution.record(
            ToolCallRequested(
                operation=self.identity,
                digest=self.digest,
                tool=self.tool.name,
                effect=self.tool.effect,
                arguments=self.shown,
                key=None if key is None else str(self.execution.admit(key)),
                tool_call_id=self.tool_call_id,
                attempt=self.attempt,
                trusted=True if self.tool.trusted else None,
            )
        )

    def _close(self, outcome: ToolCallCompleted | ToolCallFailed) -> Event:
        execution = self.execution
        execution.record(outcome, self._drafted)
        if execution.under_way.pop(self.identity, None) is not None:
            self._remember_for_late_report(outcome)
        execution.write_ended(self.identity)
        return outcome

    def _remember_for_late_report(self, outcome: ToolCallCompleted | ToolCallFailed) -> None:
        reported = ToolCallReported(
            operation=self.identity,
            epoch=self.execution.journal.epoch,
            attempt=self.attempt,
            result=outcome.result if isinstance(outcome, ToolCallCompleted) else None,
            failure=outcome.failure if isinstance(outcome, ToolCallFailed) else None,
        )
        self.execution.report_if_lost(reported)

    async def _cut_off(self, began: float) -> Envelope:
        """The code cancelled this call: by a time-out of its own, or as it lost a race.

        A write without a key that was under way is in doubt, and stays here until somebody has settled it:
        the cancellation then strikes the code at its next operation. Anything else is recorded as cancelled.
        Raises CancelledError for that, for a write that did not happen, and when the whole run was stopped.
        """
        execution = self.execution
        while self.identity in execution.under_way or self.identity in execution.in_doubt:
            execution.strike_next()
            doubt = None if self.identity in execution.in_doubt else CANCELLED
            try:
                settled = await execution.outside(self._settled(doubt), established=True)
            except asyncio.CancelledError:
                continue
            if settled is not None:
                return settled
            execution.late_cancels.forget()
        if execution.stopped is None:
            failure = execution.failure(CANCELLED, "The code that awaited this call cancelled it.")
            latency = milliseconds_since(began)
            execution.record(
                ToolCallFailed(
                    operation=self.identity,
                    failure=failure,
                    attempt=self.attempt,
                    latency_ms=latency,
                    retriable=False,
                )
            )
        raise asyncio.CancelledError


def wire_arguments(call: JsonObject) -> tuple[str, str, str | None]:
    """Name, arguments and id of a tool call as a model wrote it."""
    identifier = call.get("id")
    function = call.get("function")
    if not isinstance(function, dict):
        function = {}
    arguments = function.get("arguments") or ""
    text = arguments if isinstance(arguments, str) else orjson.dumps(arguments).decode()
    return str(function.get("name", "")), text, str(identifier) if identifier is not None else None
