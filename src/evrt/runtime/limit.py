"""The time that a run's code may take: an alarm that stands still while the run only waits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class TimeLimit:
    """Calls ``when_over`` once the run has been busy for so many seconds."""

    def __init__(self, seconds: float, when_over: Callable[[], object]) -> None:
        self._left_seconds = seconds
        self._when_over = when_over
        self._loop = asyncio.get_running_loop()
        self._ended = False
        self._since = 0.0
        self._alarm: asyncio.TimerHandle | None = None
        self.go_on()

    def go_on(self) -> None:
        """The run is busy, or goes on being so."""
        if self._alarm is None and not self._ended:
            self._since = self._loop.time()
            self._alarm = self._loop.call_later(self._left_seconds, self._when_over)

    def stand_still(self) -> None:
        """The run only waits, until ``go_on``."""
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
            self._left_seconds -= self._loop.time() - self._since

    def end(self) -> None:
        """The run has ended, or was stopped."""
        self.stand_still()
        self._ended = True
