"""What comes of a model call when the provider lies: the run, its events, and what was left behind."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import evrt
from effects.lying import MODEL, Answer, Liar, lying
from evrt.effects.models import LiteLLM
from evrt.events import JsonObject
from evrt.events.calls import ModelCallCompleted, ModelCallFailed
from evrt.folds.run import RunState
from evrt.seal import keep

KEY = "sk-key/of+the-test=="
NAME = f"openai/{MODEL}"
AT_ONCE = evrt.Retry(2, base_seconds=0.0)
ALONE = evrt.Retry(1)

LEFT_BY_LITELLM = "LoggingWorker._worker_loop"
"""One task for each loop, which litellm starts at its first call and never ends."""


@dataclass(frozen=True, slots=True)
class Came:
    """What one model call came to."""

    message: JsonObject | None
    failures: list[ModelCallFailed]
    completed: ModelCallCompleted | None
    state: RunState
    liar: Liar
    deltas: list[str]

    @property
    def outcome(self) -> str:
        """The type of the last failure, or "reply"."""
        return "reply" if self.completed is not None else self.failures[-1].failure.error_type

    @property
    def text(self) -> str:
        """What a person reads."""
        return self.failures[-1].failure.message


async def ask(
    *answers: Answer,
    streaming: bool = False,
    retry: evrt.Retry = AT_ONCE,
    timeout: float | None = 30.0,
    model: LiteLLM | None = None,
    parameters: JsonObject | None = None,
) -> Came:
    """Ask a lying provider through a run of an app, and look at whatever can be left behind.

    Neither tasks nor connections are, the run has ended, and the key is nowhere in the log.
    """
    before = _tasks()
    deltas: list[str] = []
    async with lying(*answers) as liar:
        model = model or LiteLLM(liar.url, KEY)
        app = evrt.App(
            "memory://",
            models={NAME: model},
            redact=keep,  # So that only what the call itself takes out is taken out.
            on_delta=(lambda run, operation, text: deltas.append(text)) if streaming else None,
        )

        @app.workflow(retry=ALONE)
        async def asking(ctx: evrt.Context[None]) -> Any:
            reply = await ctx.model(
                "Weather?", model=NAME, retry=retry, timeout=timeout, parameters=parameters
            )
            return reply.message

        async with app:
            result = await app.run(asking)
            run = await app.get(result.run_id)
            rows = await (await app.log()).read(limit=1_000)
        await model.aclose()
        # An answer that hangs ends only when the client hangs up. An idle connection that is left open would
        # be closed by itself after 15 seconds.
        async with asyncio.timeout(10):
            await liar.left.wait()
    if left := _tasks() - before:  # litellm logs each failure in a task of its own.
        await asyncio.wait(left, timeout=30)
    assert not _tasks() - before
    assert all(KEY.encode() not in (row.payload or b"") for row in rows)
    events = [envelope.event for envelope in run.events]
    came = Came(
        result.output,
        [event for event in events if isinstance(event, ModelCallFailed)],
        next((event for event in events if isinstance(event, ModelCallCompleted)), None),
        run.state,
        liar,
        deltas,
    )
    _fits_together(came)
    return came


def _fits_together(came: Came) -> None:
    """Every attempt is recorded: the number it has, whether it was the last, the delay that followed."""
    assert [event.attempt for event in came.failures] == list(range(1, len(came.failures) + 1))
    followed = came.failures if came.completed is not None else came.failures[:-1]
    assert all(not event.final and event.delay_ms is not None for event in followed)
    assert all(event.final and event.delay_ms is None for event in came.failures[len(followed) :])
    if came.completed is not None:
        assert came.state.status == "succeeded"
        assert came.completed.attempt == len(came.failures) + 1
        return
    assert came.state.status == "failed"
    failure = came.state.failure
    assert failure is not None
    assert failure.error_type == "ModelFailed"
    assert failure.message.startswith(f"model#1 failed: {came.outcome}: ")
    readable(came.text)


def readable(text: str) -> None:
    """A failure's text is a sentence for a person."""
    assert text.endswith(".")
    for noise in ("\n", "litellm.", "Exception", "Traceback", " at 0x", "None:"):
        assert noise not in text, text


def _tasks() -> set[asyncio.Task[Any]]:
    return {task for task in asyncio.all_tasks() if LEFT_BY_LITELLM not in repr(task)}


def spent(events: Sequence[ModelCallFailed]) -> list[tuple[int, int] | None]:
    """Tokens in and out of each failed attempt."""
    return [(e.usage.input_tokens, e.usage.output_tokens) if e.usage else None for e in events]
