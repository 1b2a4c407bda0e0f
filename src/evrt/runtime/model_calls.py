"""Model calls: the request recorded by reference, attempts with back-off, the reply."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from time import perf_counter

from evrt.effects.contract import ModelError, ModelReply, ModelRequest
from evrt.effects.tools import Tool
from evrt.errors import InvalidInput
from evrt.events import Event, JsonObject
from evrt.events.calls import ModelCallCompleted, ModelCallFailed, ModelCallRequested
from evrt.events.run import Failure
from evrt.retry import Retry
from evrt.runtime.execution import Execution
from evrt.runtime.identity import digest_of
from evrt.runtime.transcript import Transcript

MODEL_RETRY = Retry(attempts_max=3, base_seconds=1.0, cap_seconds=30.0)
"""Three attempts in all, for errors that may pass: 429, 5xx, connections, time-outs."""


async def call_model(
    execution: Execution,
    transcript: Transcript,
    *,
    model: str,
    tools: Sequence[Tool],
    parameters: JsonObject,
    name: str,
    retry: Retry,
    timeout_seconds: float | None,
) -> Event:
    """Call a model with a transcript; returns the outcome's event."""
    identity = execution.bind(name)
    schemas = [tool.to_openai_format() for tool in tools]
    tools_digest = digest_of(schemas) if schemas else None
    admitted = execution.admit(parameters)
    assert isinstance(admitted, dict)
    digest = digest_of([model, admitted, tools_digest, transcript.digest.hex()])
    intent = ModelCallRequested(
        operation=identity,
        digest=digest,
        model=model,
        parameters=admitted,
        tools_digest=tools_digest,
        tools=_once(execution, tools_digest, schemas),
        previous=transcript.previous,
        kept=transcript.kept,
        added=transcript.new(),
        messages_digest=transcript.digest.hex(),
        messages_count=len(transcript),
    )
    request = ModelRequest(model, list(transcript.messages), schemas, admitted)
    transcript.requested_by(identity)
    known = await execution.recorded(identity, "model_call", digest)
    if known is not None and known.outcome is not None:
        return known.outcome.event
    interrupted = execution.journal.operations.get(identity)
    if interrupted is None:
        execution.record(intent)
    await execution.barrier()
    first = max(1, interrupted.attempts) if interrupted is not None else 1
    return await _attempts(execution, identity, request, first, retry, timeout_seconds)


def _once(
    execution: Execution, tools_digest: str | None, schemas: list[JsonObject]
) -> tuple[JsonObject, ...] | None:
    """The tools' schemas, the first time that a run uses this set of them."""
    if tools_digest is None or tools_digest in execution.tools_recorded:
        return None
    execution.tools_recorded.add(tools_digest)
    return tuple(schemas)


async def _attempts(
    execution: Execution,
    identity: str,
    request: ModelRequest,
    attempt: int,
    retry: Retry,
    timeout_seconds: float | None,
) -> Event:
    while True:
        event = await _attempt(execution, identity, request, attempt, retry, timeout_seconds)
        execution.record(event)
        if isinstance(event, ModelCallCompleted) or event.final:
            return event
        attempt += 1
        with execution.effect():
            await asyncio.sleep((event.delay_ms or 0.0) / 1000)
        await execution.barrier()


async def _attempt(
    execution: Execution,
    identity: str,
    request: ModelRequest,
    attempt: int,
    retry: Retry,
    timeout_seconds: float | None,
) -> ModelCallCompleted | ModelCallFailed:
    began = perf_counter()
    try:
        with execution.effect():
            async with asyncio.timeout(timeout_seconds):
                model = execution.world.models(request.model)
                reply = await model.complete(request, execution.delta_listener(identity))
        return _completed(execution, identity, reply, attempt, began)
    except ModelError as error:
        error_type, message, again = error.error_type, error.message, error.retriable
    except TimeoutError:
        error_type, message, again = "timeout", f"No reply within {timeout_seconds or 0:g} s.", True
    except InvalidInput as error:
        error_type, message, again = type(error).__name__, f"The reply cannot be recorded. {error}", False
    final = not (again and attempt < retry.attempts_max)
    return ModelCallFailed(
        operation=identity,
        failure=Failure(error_type=error_type, message=str(execution.admit(message))),
        attempt=attempt,
        final=final,
        delay_ms=None if final else retry.delay_seconds(attempt, execution.chance()) * 1000,
        latency_ms=_since(began),
    )


def _completed(
    execution: Execution, identity: str, reply: ModelReply, attempt: int, began: float
) -> ModelCallCompleted:
    message = execution.admit(reply.message)
    if not isinstance(message, dict):
        raise InvalidInput("The model's message is not an object.")
    completed = ModelCallCompleted(
        operation=identity,
        message=message,
        finish_reason=reply.finish_reason,
        provider=reply.provider,
        model_returned=reply.model_returned,
        response_id=reply.response_id,
        usage=reply.usage,
        attempt=attempt,
        latency_ms=_since(began),
    )
    execution.draft(completed)  # A reply that cannot be recorded is a failure, and this is when it shows.
    return completed


def _since(began: float) -> float:
    return round((perf_counter() - began) * 1000, 3)
