"""When schedules tick: every time a line names, in its zone, once, also where clocks are changed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from evrt.errors import UsageError
from evrt.schedules import (
    LATE_SECONDS,
    MISSED_MAX,
    SECOND,
    Missed,
    Schedule,
    due,
    latest_ticks,
    next_ticks,
    read_times,
)

MINUTE = 60 * SECOND
HOUR = 60 * MINUTE

CHANGES = {
    # An hour at night, as most do it.
    "Europe/Rome": ("2026-03-29T01:00", "2026-10-25T01:00"),
    "America/New_York": ("2026-03-08T07:00", "2026-11-01T06:00"),
    # At midnight: a day that begins at one o'clock, and one that has two of its last hours.
    "America/Santiago": ("2026-09-06T04:00", "2026-04-05T03:00"),
    # Half an hour.
    "Australia/Lord_Howe": ("2026-10-03T15:30", "2026-04-04T15:00"),
    # Never.
    "Asia/Kolkata": ("2026-06-01T00:00", "2026-06-01T00:00"),
}
"""Zones and the moments at which their clocks are put forward, and back, in 2026."""


class Line(NamedTuple):
    """A cron line, and the times it names."""

    text: str
    minutes: frozenset[int]
    hours: frozenset[int]
    weekdays: frozenset[int]
    fixed: bool

    def names(self, wall: datetime) -> bool:
        return wall.minute in self.minutes and wall.hour in self.hours and wall.weekday() in self.weekdays


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * SECOND


def shown(tick: int, zone: str) -> str:
    """What clocks there show at a tick."""
    return datetime.fromtimestamp(tick // SECOND, UTC).astimezone(ZoneInfo(zone)).strftime("%m-%d %H:%M %z")


def ticks(line: str, zone: str, after: str, count: int) -> list[str]:
    return [shown(tick, zone) for tick in next_ticks(read_times(line, zone), at(after), count)]


@st.composite
def lines(draw: st.DrawFn) -> Line:
    """A minute, an hour and days of the week, each as a number, a list, a step, or anything."""

    def field(size: int) -> tuple[str, frozenset[int]]:
        match draw(st.sampled_from(("one", "some", "step", "any"))):
            case "one":
                one = draw(st.integers(0, size - 1))
                return str(one), frozenset({one})
            case "some":
                some = draw(st.sets(st.integers(0, size - 1), min_size=1, max_size=4))
                return ",".join(map(str, some)), frozenset(some)
            case "step":
                step = draw(st.integers(2, size // 2))
                return f"*/{step}", frozenset(range(0, size, step))
            case _:
                return "*", frozenset(range(size))

    minute, minutes = field(60)
    hour, hours = field(24)
    first = draw(st.integers(0, 6))
    day, weekdays = draw(
        st.sampled_from(
            [
                ("*", frozenset(range(7))),
                ("mon-fri", frozenset(range(5))),
                (str(first), frozenset({(first - 1) % 7})),
            ]
        )
    )
    fixed = not minute.startswith("*") and not hour.startswith("*")
    return Line(f"{minute} {hour} * * {day}", minutes, hours, weekdays, fixed)


def by_looking(line: Line, zone: str, after: int, upto: int) -> list[int]:
    """The ticks after one moment and up to another, found by looking at the clock in every minute between."""
    place = ZoneInfo(zone)
    found = []
    before = datetime.fromtimestamp(after // SECOND, UTC).astimezone(place)
    for tick in range(after - after % MINUTE + MINUTE, upto + 1, MINUTE):
        now = datetime.fromtimestamp(tick // SECOND, UTC).astimezone(place)
        wall = now.replace(tzinfo=None)
        named = line.names(wall)
        if line.fixed:
            named = named and now.fold == 0
            # Put forward: times that were not shown are made up for at once.
            passed_over = before.replace(tzinfo=None, fold=0) + timedelta(minutes=1)
            while passed_over < wall:
                named = named or line.names(passed_over)
                passed_over += timedelta(minutes=1)
        if named:
            found.append(tick)
        before = now
    return found


@given(
    lines(),
    st.sampled_from(sorted(CHANGES)),
    st.sampled_from((0, 1)),
    st.integers(0, 20 * 60),
    st.integers(0, 59_999_999),
)
@example(
    Line("45 2 * * *", frozenset({45}), frozenset({2}), frozenset(range(7)), fixed=True),
    "Europe/Rome",
    1,
    -20,
    0,
)
@example(
    Line("*/20 5 * * *", frozenset({0, 20, 40}), frozenset({5}), frozenset(range(7)), fixed=False),
    "Australia/Lord_Howe",
    1,
    120,
    0,
)
def test_every_time_a_line_names_is_a_tick_also_where_clocks_are_changed(
    line: Line, zone: str, change: int, minutes_before: int, offset: int
) -> None:
    after = at(CHANGES[zone][change]) - minutes_before * MINUTE + offset
    upto = after + 26 * HOUR
    times = read_times(line.text, zone)
    found = []
    tick = times.next(after)
    while tick is not None and tick <= upto:
        found.append(tick)
        tick = times.next(tick)
    assert found == by_looking(line, zone, after, upto)
    assert found == sorted(set(found))


@given(lines(), st.sampled_from(sorted(CHANGES)), st.integers(0, 48 * 60), st.integers(1, 48 * 60))
def test_the_next_tick_is_the_same_from_wherever_it_is_looked_for(
    line: Line, zone: str, minutes_before: int, minutes: int
) -> None:
    times = read_times(line.text, zone)
    begin = at(CHANGES[zone][1]) - minutes_before * MINUTE
    tick = times.next(begin)
    assert tick is not None
    between = min(begin + minutes * MINUTE, tick - 1)
    assert times.next(between) == tick


@given(lines(), st.integers(0, 60 * 60), st.integers(1, 120))
def test_the_latest_ticks_are_the_last_of_all(line: Line, minutes: int, count: int) -> None:
    times = read_times(line.text, "Europe/Rome")
    after = at(CHANGES["Europe/Rome"][0]) - 50 * HOUR
    upto = after + minutes * MINUTE
    everything = by_looking(line, "Europe/Rome", after, upto)
    assert latest_ticks(times, after, upto, count) == everything[-count:]


def test_the_latest_ticks_of_years_are_found_without_counting_all_of_them() -> None:
    asked = 0
    minutely = read_times("* * * * *", None)

    class Counting:
        def next(self, after: int) -> int | None:
            nonlocal asked
            asked += 1
            return minutely.next(after)

    found = latest_ticks(Counting(), at("2006-01-01"), at("2026-01-01"), 100)
    assert found == [at("2026-01-01") - MINUTE * back for back in reversed(range(100))]
    assert asked < 1_000


def test_a_fixed_time_that_clocks_are_put_forward_over_is_when_they_are() -> None:
    assert ticks("30 2 * * *", "Europe/Rome", "2026-03-28T12:00", 2) == ["03-29 03:00 +0200", "03-30 02:30 +0200"]  # fmt: skip
    assert ticks("30 2 * * *", "America/New_York", "2026-03-07T12:00", 2) == ["03-08 03:00 -0400", "03-09 02:30 -0400"]  # fmt: skip


def test_a_fixed_time_that_is_shown_twice_is_the_first_of_the_two() -> None:
    assert ticks("30 2 * * *", "Europe/Rome", "2026-10-24T12:00", 2) == ["10-25 02:30 +0200", "10-26 02:30 +0100"]  # fmt: skip
    assert ticks("30 1 * * *", "America/New_York", "2026-10-31T12:00", 2) == ["11-01 01:30 -0400", "11-02 01:30 -0500"]  # fmt: skip


def test_a_line_of_every_hour_goes_by_what_clocks_show_then() -> None:
    assert ticks("30 * * * *", "Europe/Rome", "2026-03-29T00:00", 2) == ["03-29 01:30 +0100", "03-29 03:30 +0200"]  # fmt: skip
    assert ticks("30 * * * *", "Europe/Rome", "2026-10-25T00:00", 3) == [
        "10-25 02:30 +0200",
        "10-25 02:30 +0100",
        "10-25 03:30 +0100",
    ]


def test_days_of_the_month_and_of_the_week_are_as_cron_has_them() -> None:
    # Either of the two where both are given; both where one is a star.
    assert ticks("0 9 13 * fri", "UTC", "2026-11-01T00:00", 3) == [
        "11-06 09:00 +0000",
        "11-13 09:00 +0000",
        "11-20 09:00 +0000",
    ]
    assert ticks("0 9 * * mon#1", "UTC", "2026-11-01T00:00", 2) == ["11-02 09:00 +0000", "12-07 09:00 +0000"]
    assert ticks("@monthly", "UTC", "2026-11-01T00:00", 1) == ["12-01 00:00 +0000"]


def test_an_interval_ticks_at_its_multiples() -> None:
    times = read_times("every 15m", None)
    assert next_ticks(times, at("2026-11-01T10:07"), 2) == [at("2026-11-01T10:15"), at("2026-11-01T10:30")]
    assert times.next(at("2026-11-01T10:15")) == at("2026-11-01T10:30")


@pytest.mark.parametrize(
    "line, zone, says",
    [
        ("61 9 * * *", None, "its minute cannot be"),
        ("0 9 * * funday", None, "its day of week cannot be"),
        ("0 9 * *", None, "it has 4 fields"),
        ("0 0 9 * * *", None, "it has 6 fields"),
        ("", None, "it has 0 fields"),
        ("0 0 30 2 *", None, "its day of month cannot be"),
        ("* * */20 * 1L", None, "names days that no year has"),
        ("0 9 * * *", "Europe/Roma", 'such as "Europe/Rome"'),
        ("0 9 * * *", "Europe", "There is no time zone 'Europe'"),
        ("0 9 * * *", "../UTC", "There is no time zone '../UTC'"),
        ("0 9 * * *", "", "There is no time zone ''"),
        ("every 0.5s", None, "at least 1 s"),
        ("every now and then", None, "is not a length of time"),
        ("every 15m", "Europe/Rome", "the same length in every time zone"),
    ],
)
def test_what_is_no_schedule_is_refused_with_what_is_wrong_and_what_is_right(
    line: str, zone: str | None, says: str
) -> None:
    with pytest.raises(UsageError) as refused:
        read_times(line, zone)
    assert says in str(refused.value)
    if "fields" in says or "cannot be" in says:
        assert '"0 9 * * mon-fri"' in str(refused.value)


@given(st.text(alphabet="0123456789*/,-#LWlwmonfrijan ²é@\n", max_size=30) | st.text(max_size=600))
def test_whatever_somebody_writes_is_a_schedule_or_a_usage_error(text: str) -> None:
    try:
        times = read_times(text, None)
    except UsageError:
        return
    tick = times.next(at("2026-01-01"))
    assert tick is None or tick > at("2026-01-01")


def schedule(missed: Missed, line: str = "0 * * * *") -> Schedule:
    return Schedule("hourly", "report", line, "UTC", read_times(line, None), missed=missed)


def test_of_missed_ticks_the_last_one_is_made_up_for_or_all_of_them_or_none() -> None:
    last, now = at("2026-01-01T10:00"), at("2026-01-01T13:30")
    every = tuple(at(f"2026-01-01T{hour}:00") for hour in (11, 12, 13))
    assert due(schedule("last"), last, now) == (every[-1:], every[-1], False)
    assert due(schedule("all"), last, now) == (every, every[-1], False)
    assert due(schedule("none"), last, now) == ((), every[-1], False)


def test_a_tick_that_was_seen_a_little_late_was_not_missed() -> None:
    tick = at("2026-01-01T11:00")
    within, beyond = tick + int(LATE_SECONDS) * SECOND, tick + (int(LATE_SECONDS) + 1) * SECOND
    assert due(schedule("none"), tick - HOUR, within).ticks == (tick,)
    assert due(schedule("none"), tick - HOUR, beyond).ticks == ()


def test_not_more_ticks_than_the_limit_are_made_up_for() -> None:
    found = due(schedule("all", "* * * * *"), at("2026-01-01"), at("2026-01-03"))
    assert len(found.ticks) == MISSED_MAX
    assert found.ticks[-1] == found.upto == at("2026-01-03")
    assert found.dropped
    exactly = due(schedule("all", "* * * * *"), at("2026-01-03") - MISSED_MAX * MINUTE, at("2026-01-03"))
    assert len(exactly.ticks) == MISSED_MAX
    assert not exactly.dropped


def test_nothing_is_due_when_the_clock_was_put_back() -> None:
    assert due(schedule("all"), at("2026-01-01T10:00"), at("2026-01-01T08:30")) == ((), None, False)
