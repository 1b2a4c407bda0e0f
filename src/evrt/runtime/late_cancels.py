"""Cancellations that come too late: an operation that has its outcome hands it over, and the next one is cut off.

So how long an operation's turn takes to come, which on replay is another time, does not decide what
a time-out of the code's own cuts off.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any


class LateCancels:
    """Tasks that were cancelled too late, each with the number of its cancellations then."""

    def __init__(self) -> None:
        self._numbers: dict[asyncio.Task[Any], int] = {}

    def keep(self) -> None:
        """The current task was cancelled, and goes on for now."""
        task = asyncio.current_task()
        assert task is not None
        self._numbers[task] = task.cancelling()

    def strike(self, work: Coroutine[Any, Any, Any] | None = None) -> None:
        """Raises CancelledError where one was kept, unless the code has taken it back, as asyncio.timeout does.

        The ``work`` is then not begun.
        """
        if not self._numbers:
            return
        task = asyncio.current_task()
        assert task is not None
        number = self._numbers.pop(task, None)
        if number is not None and task.cancelling() >= number:
            if work is not None:
                work.close()
            raise asyncio.CancelledError

    def hand_down(self, tasks: Iterable[asyncio.Task[Any]]) -> None:
        """Tasks that do a part of the current one's work are cut off at their first operation where it would be."""
        task = asyncio.current_task()
        assert task is not None
        number = self._numbers.get(task)
        if number is not None and task.cancelling() >= number:
            self._numbers.update(dict.fromkeys(tasks, 0))

    def keep_for(self, task: asyncio.Task[Any]) -> None:
        """This task, which has not begun, is cut off at its first operation."""
        self._numbers[task] = 0

    def drop(self, task: asyncio.Task[Any]) -> None:
        """The task has ended, and whatever was kept for it."""
        self._numbers.pop(task, None)

    def forget(self) -> None:
        """The cancellation that was kept for the current task is delivered in another way."""
        task = asyncio.current_task()
        assert task is not None
        self._numbers.pop(task, None)
