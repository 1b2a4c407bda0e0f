"""Who may go on: recorded outcomes are released strictly in the order of the journal.

Branches of a run share state as they please, so replaying is only faithful if outcomes reach them
in the order in which they once did. The next outcome is released when every task of the run is
blocked in an operation or done. Operations that the journal does not know are held back until all
that it knows has been released: no effect starts before the past is complete. If all are blocked and
the next outcome is one that nobody asked for, the code has left its history.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

STALL_SECONDS = 0.02
"""How long a task may be busy outside the context (a sleep, an event) before others go on without it."""


class Progress:
    """Counts what the tasks of one run are doing, and releases outcomes and held operations.

    on_diverged(identity) is called when all are blocked and ``identity`` comes next but was not asked for.
    on_idle() is called when the past is complete and all that is left is waiting for the outside.
    """

    def __init__(
        self, order: list[str], *, on_diverged: Callable[[str], None], on_idle: Callable[[], None]
    ) -> None:
        self._order = order
        self._next = 0
        self._running = 1
        self._effects = 0
        self._asked: dict[str, asyncio.Future[None]] = {}
        self._held: list[asyncio.Future[None]] = []
        self._waiting = 0
        self._on_diverged = on_diverged
        self._on_idle = on_idle
        self._loop = asyncio.get_running_loop()
        self._stall_timer: asyncio.TimerHandle | None = None

    @property
    def live(self) -> bool:
        """Whether all recorded outcomes have been released."""
        return self._next >= len(self._order)

    @property
    def released(self) -> int:
        return self._next

    async def release(self, identity: str) -> None:
        """Return when it is this recorded outcome's turn."""
        if self._running == 1 and not self._asked and self._order[self._next] == identity:
            self._next += (
                1  # The only task that is not blocked asks for the next outcome: no need to suspend.
            )
            return
        turn: asyncio.Future[None] = self._loop.create_future()
        self._asked[identity] = turn
        await self._blocked(turn)

    async def go_live(self) -> None:
        """Return when the past is complete."""
        if self.live:
            return
        turn: asyncio.Future[None] = self._loop.create_future()
        self._held.append(turn)
        await self._blocked(turn)

    async def _blocked(self, turn: asyncio.Future[None]) -> None:
        self._running -= 1
        self.step()
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.done() or turn.cancelled():
                self._running += 1
            raise

    def branch_started(self) -> None:
        """A task of the run begins."""
        self._running += 1

    def branch_ended(self) -> None:
        """A task of the run is done, or its parent goes to wait for its branches."""
        self._running -= 1
        self.step()

    def __enter__(self) -> None:
        """A task goes to wait for the world."""
        self._running -= 1
        self._effects += 1

    def __exit__(self, *exc: object) -> None:
        """The world answered, or the task was cancelled."""
        self._running += 1
        self._effects -= 1

    def wait_started(self) -> None:
        """A task goes to wait for somebody outside."""
        self._running -= 1
        self._waiting += 1
        self.step()

    def wait_ended(self) -> None:
        """Somebody outside answered, or the task was cancelled."""
        self._running += 1
        self._waiting -= 1

    def step(self) -> None:
        """Release what can be released now that a task is blocked."""
        if self._running > 0:
            if (self._asked or self._held) and self._stall_timer is None:
                self._stall_timer = self._loop.call_later(STALL_SECONDS, self._on_stall, self._next)
            return
        if not self.live:
            if not self._release_next():
                self._on_diverged(self._order[self._next])
        elif self._held:
            self._release_held()
        elif self._effects == 0 and self._waiting > 0:
            self._on_idle()

    def _release_next(self) -> bool:
        turn = self._asked.pop(self._order[self._next], None)
        if turn is None:
            return False
        self._next += 1
        self._let_go(turn)
        return True

    def _release_held(self) -> None:
        held, self._held = self._held, []
        for turn in held:
            self._let_go(turn)

    def _let_go(self, turn: asyncio.Future[None]) -> None:
        if not turn.done():
            self._running += 1
            turn.set_result(None)

    def _on_stall(self, seen: int) -> None:
        # Some task has been busy with something that is not the context's. Others go on without it,
        # but nobody is accused of divergence, as that task may still ask.
        self._stall_timer = None
        if self._running > 0 and self._next == seen:
            if not self.live:
                self._release_next()
            else:
                self._release_held()
        if self._asked or self._held:
            self._stall_timer = self._loop.call_later(STALL_SECONDS, self._on_stall, self._next)

    def close(self) -> None:
        """Forget the timer: the run's code has ended or was stopped."""
        if self._stall_timer is not None:
            self._stall_timer.cancel()
            self._stall_timer = None
