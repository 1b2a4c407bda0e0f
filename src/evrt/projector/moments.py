"""Moments: what a caller may say for a place in time, and the position of the log that it stands for.

A moment is a position, a time, or a revision of a run. As of a time is after every event of that time or before:
times never fall along the log, so the last of them is found by halving.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import TypeAlias

from evrt.errors import InvalidInput, NotFound
from evrt.history import HEAD, REVISION, find_run, resolve_run
from evrt.log import Log

Moment: TypeAlias = int | datetime | str
"""A position; a time with its zone; or as text a position, a time as RFC 3339 has it, or a revision of a run."""

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)

TEXT_CHARACTERS_MAX = 1_000
DIGITS_MAX = 18
"""Of a number that a log could come to: SQLite counts up to nineteen digits."""

RFC_3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?(?P<zone>[Zz]|[+-]\d\d:\d\d)?")

WRITTEN = (
    "A moment is written as a position (42), as a time with its zone (2026-11-27T12:00:00Z), or as a revision of a run "
    "(RUN@42, RUN@head~3, RUN@{checkpoint-name})."
)


async def position_of(log: Log, moment: Moment, *, now: int) -> int:
    """The position that a moment stands for. ``now`` is the time of the wall clock, in microseconds since 1970.

    Raises NotFound where the log has no such moment (yet), InvalidInput where it is none.
    """
    if isinstance(moment, bool) or not isinstance(moment, int | datetime | str):
        raise InvalidInput(f"{moment!r} is no moment, being a {type(moment).__name__}. {WRITTEN}")
    if isinstance(moment, str):
        return await _position_of_text(log, moment.strip(), now)
    if isinstance(moment, datetime):
        return await _position_at(log, _microseconds(moment), now)
    return await _existing(log, moment)


async def _position_of_text(log: Log, text: str, now: int) -> int:
    if len(text) > TEXT_CHARACTERS_MAX:
        raise _refused(f"{text[:40]}…")
    if re.fullmatch(rf"[0-9]{{1,{DIGITS_MAX}}}", text):
        return await _existing(log, int(text))
    if time := RFC_3339.fullmatch(text):
        if time["zone"] is None:
            raise InvalidInput(
                f"The time {text} has no zone, so that it could be any of many moments. Write {text}Z for UTC, or the "
                f"offset behind it: {text}+01:00."
            )
        try:
            at = datetime.fromisoformat(text.upper())
        except ValueError as error:
            raise InvalidInput(f"{text} is no time: {error}.") from None
        return await _position_at(log, _microseconds(at), now)
    if "@" in text:
        return await _position_of_revision(log, text)
    raise _refused(text)


def _refused(text: str) -> InvalidInput:
    return InvalidInput(f"{text!r} names no moment. {WRITTEN}")


async def _existing(log: Log, position: int) -> int:
    last = await _last(log)
    if not 1 <= position <= last:
        raise NotFound(f"{log.url} has positions 1 to {last}; there is no position {position}.")
    return position


async def _last(log: Log) -> int:
    last = await log.position()
    if last == 0:
        raise NotFound(f"There is no event in {log.url} yet, so it has no moment to look at.")
    return last


# --------------------------------------------------------------------------------------------- times


def _microseconds(time: datetime) -> int:
    if time.utcoffset() is None:
        raise InvalidInput(
            f"The time {time.isoformat()} has no zone, so that it could be any of many moments. Give it one: "
            "datetime(…, tzinfo=UTC), or time.astimezone() where it is this machine's own."
        )
    return (time - EPOCH) // MICROSECOND


async def _position_at(log: Log, time: int, now: int) -> int:
    """The last position whose event is of this time or before."""
    low, high = 1, await _last(log)
    if (latest := await _time_of(log, high)) <= time:
        if time > now:
            raise NotFound(
                f"{_rfc3339(time)} is still to come: the last event of {log.url}, at position {high}, is of "
                f"{_rfc3339(latest)}, and it is {_rfc3339(now)}. What the log will hold then is not known."
            )
        return high
    if (earliest := await _time_of(log, low)) > time:
        raise NotFound(
            f"{_rfc3339(time)} is before anything happened: the first event of {log.url} is of {_rfc3339(earliest)}."
        )
    # The event at low is of the time or before, the one at high is later.
    while high - low > 1:
        middle = (low + high) // 2
        if await _time_of(log, middle) <= time:
            low = middle
        else:
            high = middle
    return low


async def _time_of(log: Log, position: int) -> int:
    [row] = await log.read(after=position - 1, upto=position)
    return row.time


def _rfc3339(time: int) -> str:
    try:
        return (EPOCH + time * MICROSECOND).isoformat().replace("+00:00", "Z")
    except OverflowError:
        return f"{time / 1_000_000:.0f} seconds after 1970"


# ----------------------------------------------------------------------------------------- revisions


async def _position_of_revision(log: Log, revision: str) -> int:
    match = REVISION.fullmatch(revision)
    if match is None or match["moment"] is None:
        raise _refused(revision)
    counted = await _position_counted(log, await resolve_run(log, match["run"]), match["moment"])
    return counted or (await find_run(log, revision)).events[-1].position


async def _position_counted(log: Log, run: str, moment: str) -> int | None:
    """The position where the moment is a number of an event there is: the others need not be read for it."""
    head = HEAD.fullmatch(moment)
    digits = (head["back"] or "0") if head else moment
    if not digits.isdecimal() or len(digits) > DIGITS_MAX:
        return None
    last = (await log.head(run)).version
    version = last - int(digits) if head else int(digits)
    if not 1 <= version <= last:
        return None
    [row] = await log.read_stream(run, after=version - 1, upto=version)
    return row.position
