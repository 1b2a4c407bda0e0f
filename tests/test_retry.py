"""Delays between attempts, and lengths of time as people write them."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evrt.errors import InvalidInput, UsageError
from evrt.retry import NO_RETRY, Retry, parse_seconds

SECONDS = st.floats(min_value=0, max_value=1e6)
ATTEMPTS = st.integers(min_value=1, max_value=10_000)
FRACTIONS = st.floats(min_value=0, max_value=1)
RETRIES = st.builds(
    Retry,
    attempts_max=ATTEMPTS,
    base_seconds=SECONDS,
    factor=st.floats(min_value=1, max_value=1e6),
    cap_seconds=SECONDS,
    jitter=FRACTIONS,
)


def test_without_jitter_delays_double_up_to_the_cap() -> None:
    retry = Retry(attempts_max=9, jitter=0)
    assert [retry.delay_seconds(attempt, 0.3) for attempt in range(1, 9)] == [0.5, 1, 2, 4, 8, 16, 30, 30]


def test_jitter_takes_off_up_to_its_share() -> None:
    retry = Retry(base_seconds=8, jitter=0.25)
    assert [retry.delay_seconds(1, fraction) for fraction in (0, 0.5, 1)] == [8, 7, 6]


def test_attempts_beyond_what_can_be_computed_wait_as_long_as_the_cap() -> None:
    assert Retry(jitter=0).delay_seconds(10_000, 0) == 30
    assert Retry(base_seconds=0).delay_seconds(10_000, 0) == 0


def test_no_retry_is_one_attempt() -> None:
    assert NO_RETRY.attempts_max == 1


@given(retry=RETRIES, attempt=ATTEMPTS, fraction=FRACTIONS)
def test_a_delay_is_never_below_its_share_nor_above_the_cap(
    retry: Retry, attempt: int, fraction: float
) -> None:
    delay = retry.delay_seconds(attempt, fraction)
    full = retry.delay_seconds(attempt, 0)
    assert 0 <= full * (1 - retry.jitter) <= delay <= full <= retry.cap_seconds


@given(retry=RETRIES, attempt=ATTEMPTS, fraction=FRACTIONS)
def test_a_later_attempt_never_waits_less(retry: Retry, attempt: int, fraction: float) -> None:
    assert retry.delay_seconds(attempt, fraction) <= retry.delay_seconds(attempt + 1, fraction)


@given(retry=RETRIES, attempt=ATTEMPTS, fraction=FRACTIONS)
def test_a_larger_fraction_never_waits_longer(retry: Retry, attempt: int, fraction: float) -> None:
    assert retry.delay_seconds(attempt, 1) <= retry.delay_seconds(attempt, fraction)


@pytest.mark.parametrize(
    "field, value",
    [
        ("attempts_max", 0),
        ("attempts_max", -1),
        ("attempts_max", 2.0),
        ("attempts_max", True),
        ("attempts_max", "3"),
        ("base_seconds", -0.1),
        ("base_seconds", float("nan")),
        ("base_seconds", float("inf")),
        ("base_seconds", "1s"),
        ("factor", 0.5),
        ("cap_seconds", -1),
        ("jitter", -0.1),
        ("jitter", 1.1),
        ("jitter", True),
        ("jitter", None),
    ],
)
def test_a_policy_that_makes_no_sense_is_refused_by_name(field: str, value: Any) -> None:
    with pytest.raises(UsageError, match=f"{field} is"):
        Retry(**{field: value})


@pytest.mark.parametrize("attempt, fraction", [(0, 0.5), (-3, 0.5), (1, -0.1), (1, 1.1), (1, float("nan"))])
def test_a_delay_is_asked_for_an_attempt_and_a_fraction(attempt: int, fraction: float) -> None:
    with pytest.raises(UsageError):
        Retry().delay_seconds(attempt, fraction)


@pytest.mark.parametrize(
    "text, seconds",
    [
        ("500ms", 0.5),
        ("20s", 20),
        ("2m", 120),
        ("1h", 3_600),
        ("2d", 172_800),
        ("1.5h", 5_400),
        (" 900s ", 900),
        (20, 20),
        (2.5, 2.5),
    ],
)
def test_a_length_of_time_is_read(text: str | float, seconds: float) -> None:
    assert parse_seconds(text) == seconds


@given(
    number=st.integers(min_value=1, max_value=10**9),
    unit=st.sampled_from([("s", 1), ("m", 60), ("h", 3_600)]),
)
def test_a_number_and_its_unit_multiply(number: int, unit: tuple[str, int]) -> None:
    assert parse_seconds(f"{number}{unit[0]}") == number * unit[1]


ARABIC_TWENTY = "\u0662\u0660"
NOT_LENGTHS = [
    "",
    "20",
    "s",
    "20 s",
    "20S",
    "20sec",
    "1h30m",
    "-20s",
    "+20s",
    "1e3s",
    f"{ARABIC_TWENTY}s",
    ".5s",
    "5.s",
]
NOT_NUMBERS = ["9" * 400 + "s", 10**400, 10**5_000, float("nan"), float("inf"), True, None, b"20s", [20]]


@pytest.mark.parametrize("value", [*NOT_LENGTHS, *NOT_NUMBERS], ids=lambda value: type(value).__name__)
def test_anything_else_is_refused_with_what_would_do(value: Any) -> None:
    with pytest.raises(InvalidInput, match="is not a length of time: give a number of seconds") as caught:
        parse_seconds(value)
    assert len(str(caught.value)) < 250


@pytest.mark.parametrize("value", [0, 0.0, -1, -0.5, "0s", "0.0h", float("-0.0")])
def test_zero_and_less_are_refused(value: str | float) -> None:
    with pytest.raises(InvalidInput, match="longer than zero"):
        parse_seconds(value)


@given(text=st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(InvalidInput):
        assert parse_seconds(text) > 0


@given(st.floats(0, 1e9) | st.none(), st.floats(0, 1), st.integers(1, 10))
def test_a_wait_that_is_asked_for_lengthens_the_own_one_and_never_beyond_the_cap(
    asked_seconds: float | None, chance: float, attempt: int
) -> None:
    retry = Retry(base_seconds=0.5, cap_seconds=30.0)
    own = retry.delay_seconds(attempt, chance)
    assert retry.delay_seconds(attempt, chance, asked_seconds) == max(own, min(asked_seconds or 0.0, 30.0))
