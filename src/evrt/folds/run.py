"""A run's status and figures: what a list of runs shows, and a run at any of its events."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from pydantic import BaseModel, ConfigDict

from evrt.events import Envelope, Erased, JsonValue
from evrt.events.calls import Usage
from evrt.events.run import (
    CheckpointSaved,
    Failure,
    RunCancelled,
    RunClaimed,
    RunFailed,
    RunPaused,
    RunRequested,
    RunRetryScheduled,
    RunStepLimitReached,
    RunSucceeded,
    RunTimedOut,
    RunUnpaused,
    RunWaiting,
)
from evrt.folds.documents import changed

Status = Literal[
    "queued", "running", "waiting", "succeeded", "failed", "cancelled", "timed_out", "step_limit"
]
ENDED: frozenset[str] = frozenset({"succeeded", "failed", "cancelled", "timed_out", "step_limit"})


class RunState(BaseModel):
    """What is known of a run at one of its events. Times are microseconds since 1970, UTC."""

    model_config = ConfigDict(frozen=True)

    run: str
    status: Status = "queued"
    reason: str | None = None
    waiting_for: tuple[str, ...] = ()
    target: str = ""
    kind: str = ""
    conversation: str | None = None
    user: str | None = None
    parent: str | None = None
    """The run that this one is a child of."""
    input: JsonValue = None
    output: JsonValue = None
    failure: Failure | None = None
    state: JsonValue = None
    """State of the last checkpoint."""
    epoch: int = 0
    events: int = 0
    model_calls: int = 0
    tool_calls: int = 0
    input_tokens: int = 0
    """Of all attempts of all model calls, failed ones included as far as the provider counted; so are the next two."""
    output_tokens: int = 0
    cost_usd: float | None = None
    requested_at: int | None = None
    changed_at: int | None = None
    position: int = 0

    @property
    def ended(self) -> bool:
        return self.status in ENDED


COUNTED = {"model_call.completed": "model_calls", "tool_call.completed": "tool_calls"}
PAID_FOR = frozenset({"model_call.completed", "model_call.failed"})
GOES_ON = frozenset({"run.started", "run.continued", "input.received"})
ERASED: dict[str, Status] = {
    "run.claimed": "running",
    "run.waiting": "waiting",
    "run.retry_scheduled": "waiting",
    "run.succeeded": "succeeded",
    "run.failed": "failed",
    "run.cancelled": "cancelled",
    "run.timed_out": "timed_out",
    "run.step_limit_reached": "step_limit",
}


def evolve_run(state: RunState, envelope: Envelope) -> RunState:
    """The state after one more event of the run's stream."""
    change: dict[str, object] = {
        "events": envelope.version,
        "position": envelope.position,
        "changed_at": envelope.time,
    }
    if state.status in ENDED:
        return changed(state, change)  # Whatever comes after the end, a late report say, it stays.
    # By names of types: asking pydantic's classes takes longer than all the rest.
    kind = envelope.type
    if (counted := COUNTED.get(kind)) is not None:
        change[counted] = getattr(state, counted) + 1
    if kind in PAID_FOR:
        if (usage := envelope.event.__dict__.get("usage")) is not None:
            change |= _used(state, usage)
    elif kind.startswith("run.") or kind in GOES_ON:
        change |= _lifecycle(state, envelope)
    elif kind == "checkpoint.saved" and isinstance(envelope.event, CheckpointSaved):
        change["state"] = envelope.event.state
    return changed(state, change)


def _used(state: RunState, usage: Usage) -> dict[str, object]:
    """Figures after one more attempt of a model call; those that failed may have been paid for too."""
    used: dict[str, object] = {
        "input_tokens": state.input_tokens + usage.input_tokens,
        "output_tokens": state.output_tokens + usage.output_tokens,
    }
    if usage.cost_usd is not None:
        used["cost_usd"] = (state.cost_usd or 0.0) + usage.cost_usd
    return used


def _lifecycle(state: RunState, envelope: Envelope) -> dict[str, object]:
    match envelope.event:
        case RunRequested() as event:
            return {
                "status": "queued",
                "target": event.target,
                "kind": event.kind,
                "input": event.input,
                "conversation": event.conversation,
                "user": event.user,
                "parent": event.parent,
                "requested_at": envelope.time,
            }
        case RunClaimed() as event:
            return {"status": "running", "reason": None, "waiting_for": (), "epoch": event.epoch}
        case RunWaiting() as event:
            return {"status": "waiting", "reason": event.reason, "waiting_for": event.operations}
        case RunRetryScheduled() as event:
            return {"status": "waiting", "reason": "retry", "waiting_for": (event.reopens,)}
        case RunSucceeded() as event:
            return {"status": "succeeded", "reason": None, "waiting_for": (), "output": event.output}
        case RunFailed() as event:
            return {"status": "failed", "reason": None, "waiting_for": (), "failure": event.failure}
        case RunCancelled() as event:
            return {
                "status": "cancelled",
                "reason": event.reason,
                "waiting_for": (),
                "output": event.summary,
            }
        case RunTimedOut():
            return {"status": "timed_out", "reason": None, "waiting_for": ()}
        case RunStepLimitReached() as event:
            return {"status": "step_limit", "reason": None, "waiting_for": (), "output": event.summary}
        case _ if envelope.type in GOES_ON:
            return {"status": "running", "reason": None, "waiting_for": ()}
        case RunPaused() if state.status != "running":  # Else whoever executes it says when it waits.
            return {"status": "waiting", "reason": "paused", "waiting_for": ()}
        case RunUnpaused() if state.reason == "paused":
            return {"status": "queued", "reason": None, "waiting_for": ()}
        case Erased():  # What happened is known from the type alone.
            status = ERASED.get(envelope.type)
            return {} if status is None else {"status": status, "reason": None, "waiting_for": ()}
        case _:
            return {}


def fold_run(run: str, envelopes: Iterable[Envelope]) -> RunState:
    """The state of a run after the given events of its stream."""
    state = RunState(run=run)
    for envelope in envelopes:
        state = evolve_run(state, envelope)
    return state
