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
from evrt.errors import InvalidInput
from evrt.events import Event, JsonObject, JsonValue
from evrt.events.calls import (
    ToolCallCompleted,
    ToolCallFailed,
    ToolCallInDoubt,
    ToolCallReported,
    ToolCallRequested,
    ToolCallSettled,
)
from evrt.events.run import Failure
from evrt.log.contract import Draft
from evrt.runtime.execution import Execution
from evrt.runtime.identity import digest_of
from evrt.runtime.stop import Stop

CANCELLED = "cancelled"
NAME_CHARACTERS_MAX = 64


def call_tool(
    execution: Execution, tool: Tool, arguments: Mapping[str, object], tool_call_id: str | None = None
) -> Coroutine[Any, Any, Event]:
    """Call a tool; awaiting gives its outcome, failures included. Binds the operation's identity at once."""
    identity = execution.bind(tool.name)
    shown = execution.admit(arguments)
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
        )
    )
    outcome = ToolCallFailed(operation=identity, failure=failure)
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
        self._drafted: Draft | None = None

    async def outcome(self, arguments: Mapping[str, object]) -> Event:
        if not self.execution.is_new(self.identity):
            known = await self.execution.recorded(self.identity, "tool_call", self.digest)
            if known is not None and known.outcome is not None:
                await _cancelled_again(self.execution, known.outcome.event)
                return known.outcome.event
        try:
            checked = self.tool.validate(arguments)
        except InvalidInput as error:
            self._request(None)
            return self._close(self._failed("invalid_arguments", str(error), 0.0))
        key = self.tool.key_for(checked, f"{self.execution.run}:{self.identity}")
        interrupted = self.execution.journal.operations.get(self.identity)
        if interrupted is None:
            self._request(key)
            await self.execution.barrier()
        else:
            self.attempt = max(1, interrupted.attempts)
            if not self.tool.repeatable:
                settled = await self._settled(None if interrupted.in_doubt else "crash", key)
                if settled is not None:
                    return settled
            await self.execution.barrier()  # The claim itself, and what came before this call.
        return await self._attempts(checked, key)

    async def _attempts(self, checked: BaseModel, key: str | None) -> Event:
        while True:
            event = await self._attempt(checked, key)
            if event is None:
                settled = await self._settled("timeout", key)
                if settled is not None:
                    return settled
                continue
            if isinstance(event, ToolCallFailed) and not event.final:
                self.execution.record(event)
                self.attempt += 1
                with self.execution.effect():
                    await asyncio.sleep((event.delay_ms or 0.0) / 1000)
                await self.execution.barrier()
                continue
            return self._close(event)

    async def _attempt(self, checked: BaseModel, key: str | None) -> Event | None:
        """One try: an outcome, a failed attempt, or None when a write that must not be repeated timed out."""
        context = ToolContext(self.execution.run, self.identity, self.attempt, key, self.execution.world.deps)
        began = perf_counter()
        seconds = self.tool.timeout_seconds
        limit = None if seconds is None else asyncio.timeout(seconds)
        if not self.tool.repeatable:
            self.execution.doubtful.add(self.identity)
        try:
            with self.execution.effect():
                if limit is None:
                    returned = await self.tool(checked, context)
                else:
                    async with limit:
                        returned = await self.tool(checked, context)
        except TimeoutError as error:
            if limit is None or not limit.expired():
                return self._raised(error, began)
            if not self.tool.repeatable:
                return None
            return self._failed("timeout", f"No answer within {seconds:g} s.", began, retry=True)
        except asyncio.CancelledError:
            self._cut_off()
            raise
        except Exception as error:  # noqa: BLE001  (whatever a tool raises is its outcome)
            return self._raised(error, began)
        finally:
            self.execution.doubtful.discard(self.identity)
        return self._returned(returned, began)

    def _returned(self, returned: Any, began: float) -> Event:
        latency = _milliseconds_since(began)
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

    def _raised(self, error: Exception, began: float) -> ToolCallFailed:
        return self._failed(type(error).__name__, str(error) or repr(error), began, retry=True)

    def _failed(self, error_type: str, message: str, began: float, *, retry: bool = False) -> ToolCallFailed:
        policy = self.tool.retry
        final = not (retry and self.tool.repeatable and self.attempt < policy.attempts_max)
        delay = None if final else policy.delay_seconds(self.attempt, self.execution.chance()) * 1000
        shown = self.execution.admit(message)
        return ToolCallFailed(
            operation=self.identity,
            failure=Failure(error_type=error_type, message=str(shown)),
            attempt=self.attempt,
            final=final,
            delay_ms=delay,
            latency_ms=_milliseconds_since(began) if began else 0.0,
        )

    async def _settled(self, doubt: str | None, key: str | None) -> Event | None:
        """Wait in doubt; the outcome that was established, or None when the call is to be made again."""
        if doubt is not None:
            self.execution.record(ToolCallInDoubt(operation=self.identity, attempt=self.attempt, cause=doubt))
            await self.execution.barrier()
        found = await self.execution.from_outside(self.identity, "in_doubt")
        if not (isinstance(found.event, ToolCallSettled) and found.event.outcome == "again"):
            return found.event
        self.attempt += 1
        self._request(key)
        await self.execution.barrier()
        return None

    def _request(self, key: str | None) -> None:
        self.execution.record(
            ToolCallRequested(
                operation=self.identity,
                digest=self.digest,
                tool=self.tool.name,
                effect=self.tool.effect,
                arguments=self.shown,
                key=key,
                tool_call_id=self.tool_call_id,
                attempt=self.attempt,
            )
        )

    def _close(self, outcome: Event) -> Event:
        self.execution.record(outcome, self._drafted)
        if not self.tool.repeatable and isinstance(outcome, ToolCallCompleted | ToolCallFailed):
            self._remember_for_late_report(outcome)
        return outcome

    def _remember_for_late_report(self, outcome: ToolCallCompleted | ToolCallFailed) -> None:
        execution = self.execution
        assert execution.writer is not None
        reported = ToolCallReported(
            operation=self.identity,
            epoch=execution.journal.epoch,
            attempt=self.attempt,
            result=outcome.result if isinstance(outcome, ToolCallCompleted) else None,
            failure=outcome.failure if isinstance(outcome, ToolCallFailed) else None,
        )
        execution.late[self.identity] = (execution.writer.next_batch, reported)

    def _cut_off(self) -> None:
        """The code cancelled this call (its own asyncio.timeout, say). Stops of the whole run record nothing."""
        if self.execution.stopped is not None:
            return
        if self.tool.repeatable:
            message = "The code that awaited this call cancelled it."
            self.execution.record(
                ToolCallFailed(
                    operation=self.identity,
                    failure=Failure(error_type=CANCELLED, message=message),
                    attempt=self.attempt,
                )
            )
        else:
            self.execution.record(
                ToolCallInDoubt(operation=self.identity, attempt=self.attempt, cause=CANCELLED)
            )
            self.execution.stop(Stop("in_doubt"))


async def _cancelled_again(execution: Execution, outcome: Event) -> None:
    """On replay of a call that the code had cancelled: wait for it to do so again."""
    if isinstance(outcome, ToolCallFailed) and outcome.failure.error_type == CANCELLED:
        with execution.effect():
            await asyncio.get_running_loop().create_future()


def _milliseconds_since(began: float) -> float:
    return round((perf_counter() - began) * 1000, 3)


def wire_arguments(call: JsonObject) -> tuple[str, str, str | None]:
    """Name, arguments and id of a tool call as a model wrote it."""
    function = call.get("function")
    if not isinstance(function, dict):
        return "", "", None
    identifier = call.get("id")
    arguments = function.get("arguments")
    text = arguments if isinstance(arguments, str) else orjson.dumps(arguments).decode()
    return str(function.get("name", "")), text, str(identifier) if identifier is not None else None
