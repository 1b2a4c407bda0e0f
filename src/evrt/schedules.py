"""Schedules: at which moments runs are to be started, and for which of those that have passed.

A schedule is a cron line in a time zone, or an interval. Its moments are called ticks: microseconds since 1970,
UTC. There is no clock here. The library reads the line and walks the calendar; which moment a time of day is, where
clocks are changed, is said here, as Debian's cron does it (docs/decisions/0018-cron-library.md).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from typing import Literal, NamedTuple, Protocol
from zoneinfo import ZoneInfo, available_timezones

from cronsim import CronSim, CronSimError

from evrt.errors import UsageError
from evrt.events import JsonValue
from evrt.retry import parse_seconds

Missed = Literal["last", "all", "none"]
Overlap = Literal["allow", "skip"]

MISSED_MAX = 100
"""Most missed ticks of one schedule that are made up for at once; earlier ones are dropped."""

LATE_SECONDS = 60.0
"""A tick counts as missed when it is seen later than this: until then a worker has only been slow."""

EVERY_SECONDS_MIN = 1.0
LINE_CHARACTERS_MAX = 500
SECOND = 1_000_000
DAY_SECONDS = 86_400
EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001  (a time of day, wherever that is)

SHORT_FORMS = {
    "@yearly": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@hourly": "0 * * * *",
}
INTERVAL = re.compile(r"every\s+(.+)", re.IGNORECASE)
FIELDS = (
    "Write five fields, minute (0-59), hour (0-23), day of the month (1-31), month (1-12) and day of the week (0-7 or "
    'sun-sat), such as "0 9 * * mon-fri" for nine o\'clock from Monday to Friday; or an interval such as "every 15m".'
)


class Times(Protocol):
    """The ticks of a schedule."""

    def next(self, after: int) -> int | None:
        """The first tick later than ``after``; None where there is none in the next decades."""
        ...


@dataclass(frozen=True, slots=True)
class Schedule:
    """A target, and when it is run. See ``App.schedule``. Raises UsageError."""

    name: str
    target: str
    when: str
    """A cron line, or an interval."""
    zone: str
    times: Times
    input: JsonValue = None
    user: str | None = None
    conversation: str | None = None
    missed: Missed = "last"
    overlap: Overlap = "allow"

    def __post_init__(self) -> None:
        if not self.name or not self.name.isprintable() or self.name != self.name.strip():
            raise UsageError(f"A schedule cannot be named {self.name!r}: take a word or two.")
        if self.missed not in ("last", "all", "none"):
            raise UsageError(f"missed is {self.missed!r}; it can be 'last', 'all' or 'none'.")
        if self.overlap not in ("allow", "skip"):
            raise UsageError(f"overlap is {self.overlap!r}; it can be 'allow' or 'skip'.")


class Due(NamedTuple):
    """What has come due: the ticks to start runs for, and the last tick that has passed, None where none has."""

    ticks: tuple[int, ...]
    upto: int | None
    dropped: bool
    """Whether ticks were missed for which no run is started although ``missed`` is "all"."""


def read_times(when: str, zone: str | None) -> Times:
    """The ticks of a cron line in a time zone (UTC without one), or of an interval. Raises UsageError."""
    if not isinstance(when, str) or len(when) > LINE_CHARACTERS_MAX:
        raise UsageError(f"{when!r:.60} is no schedule. {FIELDS}")
    interval = INTERVAL.fullmatch(when.strip())
    if interval is None:
        return Cron(when, read_zone("UTC" if zone is None else zone))
    if zone is not None:
        raise UsageError(
            f"{when!r} has the same length in every time zone: leave out zone={zone!r}, or write a cron line."
        )
    return Every(parse_seconds(interval[1]))


def read_zone(name: str) -> ZoneInfo:
    """A time zone by its name. Raises UsageError that names one like it."""
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError, TypeError) as error:
        known = {known.lower(): known for known in sorted(available_timezones())}
        like = get_close_matches(str(name).lower(), known, n=1) or ["europe/rome"]
        raise UsageError(
            f'There is no time zone {name!r:.80}. They are named by a place, such as "{known.get(like[0], "UTC")}".'
        ) from error


def next_ticks(times: Times, after: int, count: int) -> list[int]:
    """The first ticks later than ``after``, at most ``count``."""
    found: list[int] = []
    tick = times.next(after)
    while tick is not None and len(found) < count:
        found.append(tick)
        tick = times.next(tick)
    return found


def latest_ticks(times: Times, after: int, upto: int, count: int) -> list[int]:
    """The last ticks with ``after < tick <= upto``, at most ``count``, in their order.

    They are looked for in ever longer stretches before ``upto``, so that it takes no longer after years than
    after minutes.
    """
    reach = 60 * SECOND
    while True:
        begin = max(after, upto - reach)
        found = list(_between(times, begin, upto))
        if len(found) >= count or begin <= after:
            return found[-count:]
        reach *= 2


def due(schedule: Schedule, last: int, now: int) -> Due:
    """What is to be done about the ticks after ``last``, up to now."""
    passed = latest_ticks(schedule.times, last, now, MISSED_MAX + 1 if schedule.missed == "all" else 1)
    if not passed:
        return Due((), None, dropped=False)
    upto = passed[-1]
    match schedule.missed:
        case "all":
            return Due(tuple(passed[-MISSED_MAX:]), upto, dropped=len(passed) > MISSED_MAX)
        case "last":
            return Due((upto,), upto, dropped=False)
        case "none":
            late = now - upto > LATE_SECONDS * SECOND
            return Due(() if late else (upto,), upto, dropped=False)


def _between(times: Times, after: int, upto: int) -> Iterator[int]:
    tick = times.next(after)
    while tick is not None and tick <= upto:
        yield tick
        tick = times.next(tick)


class Every:
    """An interval: its ticks are the multiples of its length since 1970. Raises UsageError."""

    def __init__(self, seconds: float) -> None:
        if seconds < EVERY_SECONDS_MIN:
            raise UsageError(
                f"Runs cannot be started every {seconds:g} s: at least {EVERY_SECONDS_MIN:g} s lie between two ticks."
            )
        self.length = round(seconds * SECOND)

    def next(self, after: int) -> int:
        return (after // self.length + 1) * self.length


class Cron:
    """A cron line in a time zone. Raises UsageError.

    A line with a fixed minute and hour has one tick for each time it names. If clocks are put forward over that
    time, it is the moment at which they are; if they are put back over it, the first of the two moments. Any other
    line (its minute or hour begins with ``*``) has a tick at every moment at which clocks show a time it names.
    """

    def __init__(self, line: str, zone: ZoneInfo) -> None:
        self._line = SHORT_FORMS.get(line.strip().lower(), line)
        self._zone = zone
        fields = self._line.split()
        if len(fields) != 5:
            raise UsageError(f"{line!r:.80} is no cron line: it has {len(fields)} fields. {FIELDS}")
        try:
            named = next(self._walls(EPOCH), None)
        except (CronSimError, ValueError) as error:
            raise UsageError(f"{line!r:.80} is no cron line: {_fault(error)}. {FIELDS}") from error
        if named is None:
            raise UsageError(f"{line!r:.80} names days that no year has. {FIELDS}")
        self._fixed = not fields[0].startswith("*") and not fields[1].startswith("*")

    def next(self, after: int) -> int | None:
        second = after // SECOND
        found = self._next_fixed(second) if self._fixed else self._next_shown(second)
        return None if found is None else found * SECOND

    def _next_fixed(self, second: int) -> int | None:
        for wall in self._walls(_wall(second + self._offset(second))):
            moment = self._moment(wall)
            if moment > second:  # Else it is a time that is shown twice, and this is the second time.
                return moment
        return None

    def _next_shown(self, second: int) -> int | None:
        since, offset, cursor = second, self._offset(second), second
        while True:
            wall = next(self._walls(_wall(cursor + offset)), None)
            if wall is None:
                return None
            moment = _seconds(wall) - offset
            change = self._change(since, moment)
            if change is None:
                return moment
            # Clocks are changed before that, so they show other times from there on, this moment included.
            since, offset, cursor = change, self._offset(change), change - 1

    def _walls(self, after: datetime) -> Iterator[datetime]:
        """The times the line names, later than this one, on a calendar where no clock is ever changed."""
        return CronSim(self._line, after)

    def _moment(self, wall: datetime) -> int:
        """When clocks show this time first; or, where they are put forward over it, when that is done."""
        moment = self._read(wall, fold=0)
        if _wall(moment + self._offset(moment)) == wall:
            return moment
        change = self._change(self._read(wall, fold=1), moment)
        return moment if change is None else change

    def _read(self, wall: datetime, *, fold: int) -> int:
        return int(wall.replace(tzinfo=self._zone, fold=fold).timestamp())

    def _change(self, since: int, upto: int) -> int | None:
        """The first second with ``since < second <= upto`` in which clocks are off UTC otherwise than at ``since``."""
        offset = self._offset(since)
        low, high = since, min(since + DAY_SECONDS, upto)
        while self._offset(high) == offset:
            if high >= upto:
                return None
            low, high = high, min(high + DAY_SECONDS, upto)
        while high - low > 1:
            middle = (low + high) // 2
            if self._offset(middle) == offset:
                low = middle
            else:
                high = middle
        return high

    def _offset(self, second: int) -> int:
        """How far clocks are ahead of UTC, in seconds."""
        offset = datetime.fromtimestamp(second, UTC).astimezone(self._zone).utcoffset()
        assert offset is not None
        return int(offset.total_seconds())


def _wall(second: int) -> datetime:
    return EPOCH + timedelta(seconds=second)


def _seconds(wall: datetime) -> int:
    return (wall - EPOCH) // timedelta(seconds=1)


def _fault(error: Exception) -> str:
    text = str(error)
    return f"its {text[4:].replace('-', ' ')} cannot be" if text.startswith("Bad ") else "it cannot be read"
