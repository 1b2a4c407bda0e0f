"""Steps: a function of the code's own, run once and remembered."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from functools import lru_cache
from time import perf_counter
from typing import Any, Literal, get_type_hints

from pydantic import TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError

from evrt.errors import InvalidInput, UsageError
from evrt.events import Event
from evrt.events.calls import StepCompleted, StepFailed, StepStarted
from evrt.events.run import Failure
from evrt.folds.journal import established
from evrt.retry import Retry
from evrt.runtime.execution import Execution
from evrt.runtime.identity import digest_of

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
    identity = execution.bind(name)
    digest = digest_of(execution.admit([list(args), kwargs]))
    known = await execution.recorded(identity, "step", digest)
    if known is not None and known.outcome is not None:
        return identity, known.outcome.event
    interrupted = execution.journal.operations.get(identity)
    attempt = max(1, interrupted.attempts) if interrupted is not None else 1
    if effect == "read":
        if interrupted is None:
            execution.record(StepStarted(operation=identity, digest=digest))
        await execution.barrier()
    while True:
        event = await _attempt(
            execution, identity, digest, function, args, kwargs, attempt, retry, timeout_seconds
        )
        execution.record(event)
        if isinstance(event, StepCompleted) or event.final:
            return identity, event
        attempt += 1
        with execution.effect():
            await asyncio.sleep((event.delay_ms or 0.0) / 1000)


async def _attempt(
    execution: Execution,
    identity: str,
    digest: str,
    function: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    attempt: int,
    retry: Retry,
    timeout_seconds: float | None,
) -> StepCompleted | StepFailed:
    began = perf_counter()
    again = True
    limit = asyncio.timeout(timeout_seconds)
    try:
        with execution.effect():
            async with limit:
                returned = await _run(function, args, kwargs)
        result = execution.admit(_result_to_json(function, returned))
        result_of_step(function, result)
        completed = StepCompleted(
            operation=identity, digest=digest, result=result, attempt=attempt, latency_ms=_since(began)
        )
        execution.draft(
            completed
        )  # A result that cannot be recorded is a failure, and this is when it shows.
        return completed
    except TimeoutError as error:
        expired = limit.expired()
        error_type = "timeout" if expired else type(error).__name__
        message = f"No result within {timeout_seconds:g} s." if expired and timeout_seconds else str(error)
    except (InvalidInput, ValidationError, PydanticSerializationError) as error:
        error_type, message, again = type(error).__name__, f"The result cannot be recorded. {error}", False
    except Exception as error:  # noqa: BLE001  (whatever a step raises is its outcome)
        error_type, message = type(error).__name__, str(error) or repr(error)
    final = not (again and attempt < retry.attempts_max)
    return StepFailed(
        operation=identity,
        digest=digest,
        failure=Failure(error_type=error_type, message=str(execution.admit(message))),
        attempt=attempt,
        final=final,
        delay_ms=None if final else retry.delay_seconds(attempt, execution.chance()) * 1000,
    )


async def _run(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if inspect.iscoroutinefunction(function):
        return await function(*args, **kwargs)
    result = await asyncio.to_thread(function, *args, **kwargs)
    return await result if inspect.isawaitable(result) else result


def result_of_step(function: Callable[..., Any], value: object) -> Any:
    """A recorded result as the type that the step's function declares."""
    adapter = _adapter(function)
    return value if adapter is None else adapter.validate_python(value)


def step_value(function: Callable[..., Any], event: Event) -> Any:
    """What a completed step returned."""
    return result_of_step(function, established(event)[1])


def _result_to_json(function: Callable[..., Any], value: Any) -> Any:
    adapter = _adapter(function)
    return value if adapter is None else adapter.dump_python(value, mode="json", warnings=False)


@lru_cache(maxsize=1_024)
def _adapter(function: Callable[..., Any]) -> TypeAdapter[Any] | None:
    try:
        hint = get_type_hints(function).get("return", Any)
    except (NameError, TypeError):
        return None  # A partial, a builtin: its results stay plain JSON.
    return None if hint is Any else TypeAdapter(hint)


def _since(began: float) -> float:
    return round((perf_counter() - began) * 1000, 3)
