"""Steps: a function of the code's own, run once and remembered."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from time import perf_counter
from typing import Any, Literal, get_type_hints

from pydantic import PydanticUserError, TypeAdapter

from evrt.errors import InvalidInput, UsageError
from evrt.events import Event
from evrt.events.calls import StepCompleted, StepFailed, StepStarted
from evrt.events.run import CANCELLED
from evrt.retry import NO_RETRY, Retry
from evrt.runtime.execution import Execution
from evrt.runtime.identity import digest_of
from evrt.runtime.latency import milliseconds_since
from evrt.runtime.stop import cancels

StepEffect = Literal["pure", "read"]


async def run_step(
    execution: Execution,
    name: str,
    function: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    *,
    effect: StepEffect,
    retry: Retry,
    timeout_seconds: float | None,
) -> tuple[str, Event]:
    """Run a function as a step; returns identity and outcome.

    A pure step has no intent and no barrier. One that reads has both, and may run again after a crash.
    """
    if effect not in ("pure", "read"):
        raise UsageError(
            f"Step {name}: effect must be 'pure' or 'read', not {effect!r}. What writes to the world is a "
            "tool: give it @evrt.tool(effect='write') and use ctx.call."
        )
    adapter = _adapter(function)
    identity = execution.bind(name)
    digest = digest_of(execution.admit_arguments([args, kwargs]))
    call = partial(_run, function, args, kwargs)
    step = _Step(execution, identity, digest, call, adapter, retry, timeout_seconds)
    return identity, await _outcome(step, effect)


async def remember(execution: Execution, name: str, digest: str, call: Callable[[], Awaitable[Any]]) -> Event:
    """Run something as a pure step of the runtime's own: once, and it is remembered. Returns the outcome."""
    step = _Step(execution, execution.bind(name), digest, call, None, NO_RETRY, None)
    return await _outcome(step, "pure")


async def _outcome(step: _Step, effect: StepEffect) -> Event:
    execution, identity, digest = step.execution, step.identity, step.digest
    known = await execution.recorded(identity, "step", digest)
    if known is not None and known.outcome is not None:
        return known.outcome.event
    interrupted = execution.journal.operations.get(identity)
    attempt = max(1, interrupted.attempts) if interrupted is not None else 1
    if effect == "read" and interrupted is None:
        execution.record(StepStarted(operation=identity, digest=digest))
    began = perf_counter()
    try:
        event = await execution.outside(step.attempts(attempt, durable=effect == "read"))
    except asyncio.CancelledError:
        if execution.stopped is None:
            execution.record(
                step.failed(CANCELLED, "The code that awaited this step cancelled it.", attempt, began)
            )
        raise
    execution.record(event)
    return event


@dataclass(frozen=True, slots=True)
class _Step:
    """One step on its way to its outcome."""

    execution: Execution
    identity: str
    digest: str
    call: Callable[[], Awaitable[Any]]
    adapter: TypeAdapter[Any] | None
    retry: Retry
    timeout_seconds: float | None

    @property
    def attempts_before(self) -> int:
        """Attempts that had been made when the run's retry reopened this step; its policy counts from there."""
        known = self.execution.journal.operations.get(self.identity)
        return 0 if known is None else known.attempts_before

    async def attempts(self, attempt: int, *, durable: bool) -> StepCompleted | StepFailed:
        if durable:
            await self.execution.barrier()
        while True:
            event = await self._attempt(attempt)
            if isinstance(event, StepCompleted) or event.final:
                return event
            self.execution.record(event)
            attempt += 1
            await asyncio.sleep((event.delay_ms or 0.0) / 1000)
            if durable:
                await self.execution.barrier()

    async def _attempt(self, attempt: int) -> StepCompleted | StepFailed:
        began = perf_counter()
        limit = asyncio.timeout(self.timeout_seconds)
        before = cancels()
        try:
            async with limit:
                returned = await self.call()
        except TimeoutError as error:
            if limit.expired():
                return self.failed(
                    "timeout", f"No result within {self.timeout_seconds:g} s.", attempt, began, retry=True
                )
            return self._raised(error, attempt, began)
        except asyncio.CancelledError as error:
            if cancels() > before:
                raise
            return self._raised(error, attempt, began)  # Nobody cancelled the step: its function raised it.
        except Exception as error:  # noqa: BLE001  (whatever a step raises is its outcome)
            return self._raised(error, attempt, began)
        return self._returned(returned, attempt, began)

    def _returned(self, returned: Any, attempt: int, began: float) -> StepCompleted | StepFailed:
        try:
            result = self.execution.admit(_to_json(self.adapter, returned))
            _from_json(self.adapter, result)
            event = StepCompleted(
                operation=self.identity,
                digest=self.digest,
                result=result,
                attempt=attempt,
                latency_ms=milliseconds_since(began),
            )
            self.execution.draft(
                event
            )  # A result that cannot be recorded is a failure, and this is when it shows.
            return event
        except (InvalidInput, ValueError, TypeError) as error:
            return self.failed(
                type(error).__name__, f"The result cannot be recorded. {error}", attempt, began
            )

    def _raised(self, error: BaseException, attempt: int, began: float) -> StepFailed:
        retry = bool(getattr(error, "retriable", True))
        return self.failed(type(error).__name__, str(error) or repr(error), attempt, began, retry=retry)

    def failed(
        self, error_type: str, message: str, attempt: int, began: float, *, retry: bool = False
    ) -> StepFailed:
        number = attempt - self.attempts_before
        final = not (retry and number < self.retry.attempts_max)
        delay = None if final else self.retry.delay_seconds(number, self.execution.chance()) * 1000
        return StepFailed(
            operation=self.identity,
            digest=self.digest,
            failure=self.execution.failure(error_type, message),
            attempt=attempt,
            final=final,
            delay_ms=delay,
            latency_ms=milliseconds_since(began),
            retriable=None if retry else False,
        )


async def _run(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if inspect.iscoroutinefunction(function):
        return await function(*args, **kwargs)
    result = await asyncio.to_thread(function, *args, **kwargs)
    return await result if inspect.isawaitable(result) else result


def result_of_step(function: Callable[..., Any], value: object) -> Any:
    """A recorded result as the type that the step's function declares."""
    return _from_json(_adapter(function), value)


def _from_json(adapter: TypeAdapter[Any] | None, value: object) -> Any:
    return value if adapter is None else adapter.validate_python(value)


def _to_json(adapter: TypeAdapter[Any] | None, value: object) -> Any:
    return value if adapter is None else adapter.dump_python(value, mode="json", warnings=False)


@lru_cache(maxsize=1_024)
def _adapter(function: Callable[..., Any]) -> TypeAdapter[Any] | None:
    try:
        hint = get_type_hints(function).get("return", Any)
    except (NameError, TypeError):
        return None  # A partial, a builtin: its results stay plain JSON.
    try:
        return None if hint is Any else TypeAdapter(hint)
    except PydanticUserError as error:
        raise UsageError(
            f"What {getattr(function, '__name__', function)} returns cannot be recorded as {hint!r}: pydantic knows no "
            "schema for it. Declare a type that JSON can hold: a pydantic model, a dataclass, plain containers."
        ) from error
