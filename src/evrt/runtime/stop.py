"""Stopping a run's code from outside: the one BaseException that user code should never catch."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Literal

from evrt.errors import EvrtError
from evrt.events import JsonValue

StopReason = Literal[
    "parked",
    "in_doubt",
    "diverged",
    "log",
    "timed_out",
    "cancelled",
    "paused",
    "handover",
    "replayed",
    "interrupted",
    "continued",
    "ended",
]


@dataclass(frozen=True, slots=True)
class Stop:
    """Why a run's code may not go on in this process.

    parked: it waits for an answer or a settlement · in_doubt: it ended with a write under way that it did not await · diverged: it left
    its history · log: an append failed or was fenced · timed_out: the run's time is up · cancelled, paused:
    somebody wants it so · handover: its worker ends, another goes on · replayed: an offline replay came to where the history ends · interrupted: whoever runs it was cancelled ·
    continued: its code begins anew as ``state`` · ended: its code returned or raised.
    """

    reason: StopReason
    error: EvrtError | None = None
    state: JsonValue = None


def cancels() -> int:
    """How often the current task has been asked to end: more than before means that somebody cancelled it since."""
    task = asyncio.current_task()
    return 0 if task is None else task.cancelling()


class RunStopped(BaseException):
    """Raised out of context operations once the run is stopped. Do not catch it."""

    def __init__(self, stop: Stop) -> None:
        super().__init__(f"The run was stopped: {stop.reason}.")
        self.stop = stop
