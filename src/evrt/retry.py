"""When to try again, and how a length of time is written.

Pure: the random number of a delay is the caller's, so the delay that was waited can be recorded
and explained.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from evrt.errors import InvalidInput, UsageError

UNIT_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}
WAIT_SECONDS_MAX = 36_525 * 86_400.0
"""The longest that can be waited at a time: a hundred years."""

Length = str | float
"""A length of time: seconds, or a text such as "2d"."""

LENGTH_OF_TIME = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Retry:
    """How often to try, and how long to wait in between.

    The wait after attempt n is ``base_seconds * factor ** (n - 1)``, at most ``cap_seconds``, of which a
    random part, up to the share ``jitter``, is taken off, so that many callers do not return at once.
    """

    attempts_max: int = 3
    base_seconds: float = 0.5
    factor: float = 2.0
    cap_seconds: float = 30.0
    jitter: float = 0.5

    def __post_init__(self) -> None:
        if type(self.attempts_max) is not int or self.attempts_max < 1:
            raise UsageError(
                f"Retry: attempts_max is {self.attempts_max!r}; it counts the first attempt as well, so it has to "
                "be a whole number of at least 1 (1 means: never try again)."
            )
        for name, least, most in (
            ("base_seconds", 0.0, math.inf),
            ("factor", 1.0, math.inf),
            ("cap_seconds", 0.0, math.inf),
            ("jitter", 0.0, 1.0),
        ):
            value = getattr(self, name)
            if not _is_number(value) or not least <= value <= most:
                reach = f"between {least:g} and {most:g}" if math.isfinite(most) else f"of at least {least:g}"
                raise UsageError(f"Retry: {name} is {value!r}; it has to be a number {reach}.")

    def delay_seconds(
        self, attempt: int, random_fraction: float, asked_seconds: float | None = None
    ) -> float:
        """Seconds to wait after failed attempt number ``attempt``, which counts from 1.

        ``random_fraction`` is from 0 to 1. ``asked_seconds`` is what the other side asked for: it lengthens the
        wait, but not beyond the cap.
        """
        if attempt < 1:
            raise UsageError(f"Retry: attempts count from 1; there is no attempt {attempt}.")
        if not 0.0 <= random_fraction <= 1.0:
            raise UsageError(f"Retry: random_fraction is {random_fraction!r}; it has to be between 0 and 1.")
        own_seconds = self._full_seconds(attempt) * (1.0 - self.jitter * random_fraction)
        return max(own_seconds, min(asked_seconds or 0.0, self.cap_seconds))

    def _full_seconds(self, attempt: int) -> float:
        try:
            return min(self.cap_seconds, self.base_seconds * self.factor ** (attempt - 1))
        except OverflowError:  # Far beyond any cap, unless there is nothing to multiply.
            return self.cap_seconds if self.base_seconds else 0.0


def parse_seconds(length: str | float) -> float:
    """A length of time in seconds: a number of seconds, or a text such as "500ms", "20s", "2m", "1h", "2d"."""
    seconds = _seconds(length)
    if seconds is None or not math.isfinite(seconds):
        raise InvalidInput(
            f"{_shown(length)} is not a length of time: give a number of seconds (20 or 2.5), or a number and its "
            'unit in quotes ("500ms", "20s", "2m", "1h", "2d").'
        )
    if seconds <= 0:
        raise InvalidInput(f"A length of time has to be longer than zero; {_shown(length)} is not.")
    return seconds


def _seconds(length: object) -> float | None:
    if isinstance(length, str):
        match = LENGTH_OF_TIME.fullmatch(length.strip())
        return float(match[1]) * UNIT_SECONDS[match[2]] if match else None
    if isinstance(length, (int, float)) and not isinstance(length, bool):
        try:
            return float(length)
        except OverflowError:
            return None
    return None


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _shown(value: object) -> str:
    try:
        text = repr(value)
    except ValueError:  # An int of more digits than Python is willing to print.
        return "That number"
    return text if len(text) <= 40 else f"{text[:40]}…"


NO_RETRY = Retry(attempts_max=1)
"""One attempt and no more: the default of tools and steps."""

RUN_RETRY = Retry(attempts_max=3, base_seconds=1.0, cap_seconds=300.0)
"""Three attempts in all: the default of runs whose code lets the error of an operation escape."""


def parse_length(length: Length) -> float:
    """Seconds to wait. Raises InvalidInput, also for more than can be waited."""
    seconds = parse_seconds(length)
    if seconds > WAIT_SECONDS_MAX:
        raise InvalidInput(f"{length!r:.40} is too long to wait for: a hundred years is the most.")
    return seconds
