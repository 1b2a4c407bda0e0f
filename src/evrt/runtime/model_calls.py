"""Model calls: the request recorded by reference, attempts with back-off, the reply."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter

from evrt.effects.contract import ModelError, ModelReply, ModelRequest
from evrt.effects.tools import Tool
from evrt.errors import InvalidInput, PayloadTooLarge
from evrt.events import Event, JsonObject
from evrt.events.calls import ModelCallCompleted, ModelCallFailed, ModelCallRequested, Usage
from evrt.events.run import CANCELLED
from evrt.retry import Retry
from evrt.runtime.execution import Execution
from evrt.runtime.identity import digest_of
from evrt.runtime.latency import milliseconds_since
from evrt.runtime.stop import cancels
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
        tools=tuple(schemas) if schemas and tools_digest not in execution.tools_recorded else None,
        previous=transcript.previous,
        kept=transcript.kept,
        added=transcript.new(),
        messages_digest=transcript.digest.hex(),
        messages_count=len(transcript),
    )
    request = ModelRequest(model, list(transcript.messages), schemas, admitted)
    known = await execution.recorded(identity, "model_call", digest)
    if known is not None and known.outcome is not None:
        if known.intent is not None:
            _was_made(execution, transcript, intent)
        return known.outcome.event
    interrupted = execution.journal.operations.get(identity)
    attempts_before = interrupted.attempts_before if interrupted is not None else 0
    call = _Call(execution, identity, request, retry, timeout_seconds, attempts_before)
    if interrupted is None:
        try:
            execution.record(intent)
        except PayloadTooLarge as error:
            # It was not asked for, so there is no intent, and the next call does not build on it.
            return call.close(call.failed(type(error).__name__, str(error), 1, perf_counter()))
    _was_made(execution, transcript, intent)
    first = max(1, interrupted.attempts) if interrupted is not None else 1
    began = perf_counter()
    try:
        event = await execution.outside(call.attempts(first))
    except asyncio.CancelledError:
        if execution.stopped is None:
            call.close(call.failed(CANCELLED, "The code that awaited this call cancelled it.", first, began))
        raise
    return call.close(event)


def _was_made(execution: Execution, transcript: Transcript, intent: ModelCallRequested) -> None:
    """What later calls build on: they record only what is new since this one."""
    transcript.requested_by(intent.operation)
    if intent.tools_digest is not None:
        execution.tools_recorded.add(intent.tools_digest)


@dataclass(frozen=True, slots=True)
class _Call:
    """One model call on its way to its outcome."""

    execution: Execution
    identity: str
    request: ModelRequest
    retry: Retry
    timeout_seconds: float | None
    attempts_before: int

    async def attempts(self, attempt: int) -> ModelCallCompleted | ModelCallFailed:
        await self.execution.barrier()
        while True:
            event = await self._attempt(attempt)
            if isinstance(event, ModelCallCompleted) or event.final:
                return event
            self.close(event)
            attempt += 1
            await asyncio.sleep((event.delay_ms or 0.0) / 1000)
            await self.execution.barrier()

    async def _attempt(self, attempt: int) -> ModelCallCompleted | ModelCallFailed:
        began = perf_counter()
        limit = asyncio.timeout(self.timeout_seconds)
        before = cancels()
        reply: ModelReply | None = None
        try:
            async with limit:
                model = self.execution.world.models(self.request.model)
                listener = self.execution.delta_listener(self.identity, attempt)
                reply = await model.complete(self.request, listener)
            return self._completed(reply, attempt, began)
        except ModelError as error:
            return self._refused(error, attempt, began)
        except InvalidInput as error:
            message = f"The reply cannot be recorded. {error}"
            return self.failed(type(error).__name__, message, attempt, began, usage=_usage(reply))
        except asyncio.CancelledError as error:
            if cancels() > before:
                raise
            return self.failed(type(error).__name__, "The model's own code was cancelled.", attempt, began)
        except Exception as error:  # noqa: BLE001  (a model may be the user's own; whatever it raises is its outcome)
            if isinstance(error, TimeoutError) and limit.expired():
                message = f"No reply within {self.timeout_seconds:g} s."
                return self.failed(
                    "timeout", message, attempt, began, delay=self._delay(attempt), retriable=True
                )
            text = str(error) or repr(error)
            return self.failed(type(error).__name__, text, attempt, began, usage=_usage(reply))

    def _refused(self, error: ModelError, attempt: int, began: float) -> ModelCallFailed:
        delay = self._delay(attempt, error.retry_after_seconds) if error.retriable else None
        return self.failed(
            error.error_type,
            error.message,
            attempt,
            began,
            delay=delay,
            usage=error.usage,
            retriable=error.retriable,
        )

    def _delay(self, attempt: int, asked_seconds: float | None = None) -> float | None:
        """Seconds to wait before another attempt; None where this was the last."""
        number = attempt - self.attempts_before
        if number >= self.retry.attempts_max:
            return None
        return self.retry.delay_seconds(number, self.execution.chance(), asked_seconds)

    def failed(
        self,
        error_type: str,
        message: str,
        attempt: int,
        began: float,
        *,
        delay: float | None = None,
        usage: Usage | None = None,
        retriable: bool = False,
    ) -> ModelCallFailed:
        """The event of a failed attempt, which was the last where no ``delay``, in seconds, precedes another."""
        return ModelCallFailed(
            operation=self.identity,
            failure=self.execution.failure(error_type, message),
            attempt=attempt,
            final=delay is None,
            delay_ms=None if delay is None else delay * 1000,
            latency_ms=milliseconds_since(began),
            usage=usage,
            retriable=None if retriable else False,
        )

    def _completed(self, reply: ModelReply, attempt: int, began: float) -> ModelCallCompleted:
        message = self.execution.admit(reply.message)
        if not isinstance(message, dict):
            raise InvalidInput("The model's message is not an object.")
        completed = ModelCallCompleted(
            operation=self.identity,
            message=message,
            finish_reason=reply.finish_reason,
            provider=reply.provider,
            model_returned=reply.model_returned,
            response_id=reply.response_id,
            usage=reply.usage,
            attempt=attempt,
            latency_ms=milliseconds_since(began),
        )
        self.execution.draft(
            completed
        )  # A reply that cannot be recorded is a failure, and this is when it shows.
        return completed

    def close(self, event: ModelCallCompleted | ModelCallFailed) -> Event:
        self.execution.record(event)
        self.execution.end_deltas(self.identity)
        return event


def _usage(reply: ModelReply | None) -> Usage | None:
    """Of a reply that came, though nothing could be made of it."""
    usage = getattr(reply, "usage", None)  # A model may be the user's own, and return anything.
    return usage if isinstance(usage, Usage) and usage != Usage() else None
