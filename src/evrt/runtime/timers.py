"""Timers: a run's code sleeps, for a length of time or until a moment, across restarts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from evrt.errors import InvalidInput
from evrt.events import JsonValue
from evrt.events.run import TimerFired, TimerSet
from evrt.retry import Length, parse_length
from evrt.runtime.execution import Execution
from evrt.runtime.identity import digest_of
from evrt.runtime.waiting import due_in, wait

BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)


async def sleep(execution: Execution, length: Length) -> None:
    """Come back when so much time has gone by since this was asked first."""
    await _sleep(execution, "sleep", length, seconds=parse_length(length))


async def sleep_until(execution: Execution, moment: datetime) -> None:
    """Come back when this moment has come, at once if it has."""
    if not isinstance(moment, datetime) or moment.utcoffset() is None:
        raise InvalidInput(
            f"ctx.sleep_until takes a moment with its time zone, not {moment!r:.80}: for one of yours, give "
            "datetime(..., tzinfo=...); ctx.now() has one."
        )
    due = (moment - BEGINNING) // MICROSECOND
    await _sleep(execution, "sleep_until", moment.isoformat(), due=due)


async def _sleep(
    execution: Execution, name: str, given: JsonValue, *, seconds: float | None = None, due: int | None = None
) -> None:
    identity = execution.bind(name)
    digest = digest_of(given)
    known = await execution.recorded(identity, "timer", digest)
    if known is not None and known.outcome is not None:
        return
    set_to = await set_timer(execution, identity, digest, seconds=seconds, due=due)
    await wait(execution, identity, "timer", due=set_to)
    execution.record(TimerFired(operation=identity))


async def set_timer(
    execution: Execution,
    identity: str,
    digest: str,
    *,
    seconds: float | None = None,
    due: int | None = None,
    signal: str | None = None,
) -> int:
    """When a timer is due; recorded when it is set first, and so for good."""
    known = execution.journal.operations.get(identity)
    if known is not None and isinstance(known.due, int):
        return known.due
    due = await due_in(execution, seconds) if due is None else due
    assert due is not None
    execution.record(TimerSet(operation=identity, digest=digest, due=due, signal=signal))
    return due
