"""What every wait of a run's code for the outside has in common: an operation that something comes for, or its time is over.

That the time is over is an outcome, recorded in the operation's turn. Of a question and an approval it is recorded
only where the log holds nothing that came before: whoever was told that his answer is accepted has been heard.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from time import perf_counter, time_ns

from evrt.errors import TimedOut, WrongVersion
from evrt.events import Envelope, Event
from evrt.events.run import WaitCancelled, WaitReason
from evrt.log.contract import Draft, Exact
from evrt.retry import Length, parse_length
from evrt.runtime.execution import Execution
from evrt.runtime.latency import milliseconds_since

TIMEOUT = "timeout"
"""What an outcome says of itself where nothing came in time."""

DUE_LONGEST = 2**63 - 1
"""Written no shorter than any moment, in microseconds since 1970: to see whether an event would be too large."""


def parse_timeout(timeout: Length | None) -> float | None:
    """Seconds, or None for as long as it takes. Raises InvalidInput."""
    return None if timeout is None else parse_length(timeout)


async def due_in(execution: Execution, seconds: float | None) -> int | None:
    """When so many seconds will be over, on the log's clock; µs since 1970."""
    if seconds is None:
        return None
    try:
        now = await execution.now()
    except asyncio.CancelledError:
        # The operation has begun, so it needs its intent, and is cut off after that.
        execution.strike_next()
        now = time_ns() // 1_000
    return now + round(seconds * 1_000_000)


async def wait(
    execution: Execution,
    identity: str,
    reason: WaitReason,
    *,
    due: int | None = None,
    signal: str | None = None,
    over: Callable[[], Sequence[Draft]] | None = None,
    cancelled: Callable[[float], Event] | None = None,
) -> Envelope | None:
    """What came from outside for an operation; None when its time is over, and ``over`` then has been recorded.

    ``cancelled`` makes the event that is recorded when the code cuts it off, of how long it took in milliseconds.
    """
    known = execution.journal.operations.get(identity)
    established = known is not None and bool(known.outside)
    began = perf_counter()

    async def come() -> Envelope | None:
        await execution.barrier()
        return await execution.from_outside(identity, reason, due=due, signal=signal)

    try:
        found = await execution.outside(come(), established=established)
        if found is None and over is not None:
            found = await _conclude(execution, identity, over())
        return found
    except asyncio.CancelledError:
        if execution.stopped is None:
            took = milliseconds_since(began)
            event = (
                WaitCancelled(operation=identity, latency_ms=took) if cancelled is None else cancelled(took)
            )
            execution.record(event)
        raise


async def _conclude(execution: Execution, identity: str, over: Sequence[Draft]) -> Envelope | None:
    """Record that the time for an operation is over, unless what it waited for has come by now: then that."""
    writer = execution.writer
    assert writer is not None
    # The code goes on when this is there, so no outcome of another branch may come in between.
    with execution.progress.pinned():
        while True:
            await execution.barrier()
            await execution.caught_up()
            found = execution.come(identity)
            if found is not None:
                return found
            try:
                await writer.append_now(
                    over, {execution.run: Exact(execution.version)}, too_late=execution.strike_next
                )
            except WrongVersion:
                await execution.look_outside()
            else:
                return None


def timed_out(identity: str, waited_for: str) -> TimedOut:
    """The error of an operation that waited in vain: the same on every execution."""
    return TimedOut(identity, TIMEOUT, f"{waited_for} in the time that was given.")
