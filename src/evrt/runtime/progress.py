"""Who may go on: one task at a time, in the order of the journal.

Branches of a run share state as they please, so replaying is only faithful if outcomes reach them
in the order in which they once did. One rule keeps that order, on the first execution as in a replay:
an outcome is handed to the code only when every task of the run is blocked in an operation or done.
The first time it is recorded at that moment, so the journal has the order; a replay releases in it.

Operations that the journal does not know are held back until all that it knows has been released:
no effect starts before the past is complete. If all are blocked and the next outcome is one that
nobody asked for, the code has left its history.

A task may be busy with something that is not the context's: a sleep, the tasks of a framework. It is
waited for a moment, then passed over until it comes back.

A task that is cancelled while it waits for its turn hears of it when the turn has come, so what its
code gets to know of the world does not depend on how long the turns of others take. One that is cut off
in the middle of an operation waits for its turn as well: that is the operation's outcome.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeAlias

from evrt.log.contract import Landing

Task: TypeAlias = asyncio.Task[Any]

STALL_SECONDS = 0.02
"""How long a task may be busy outside the context before others go on without it."""


class Blocked(NamedTuple):
    """A task that waits for its turn."""

    task: Task
    turn: Landing[None]


class Progress:
    """Knows which tasks of one run execute code, and hands out turns.

    on_diverged(identity) is called when all are blocked and ``identity`` comes next but was not asked for.
    on_idle() is called when the past is complete and all that is left is waiting for the outside.
    """

    def __init__(
        self, order: list[str], *, on_diverged: Callable[[str], None], on_idle: Callable[[], None]
    ) -> None:
        self._order = order
        self._next = 0
        self.live = not order
        """Whether all recorded outcomes have been released."""
        self._running: set[Task] = set()
        self._elsewhere: set[Task] = set()
        """Those of them that are busy with something else, and not waited for."""
        self._children: dict[Task, int] = {}
        """How many tasks, created by this one or for it, are inside ``ctx.scope(key)``."""
        self._asked: dict[str, Blocked] = {}
        self._held: list[Blocked] = []
        self._ready: deque[Blocked] = deque()
        self._effects = 0
        self._waiting = 0
        self._pinned = 0
        self._changes = 0
        self._closed = False
        self._on_diverged = on_diverged
        self._on_idle = on_idle
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._step_is_due = False

    # What a task does

    def enter(self, task: Task) -> None:
        """A task begins to execute code of the run, or goes on with it."""
        self._changes += 1
        self._running.add(task)

    def leave(self, task: Task) -> None:
        """A task executes no code of the run for now, or is done."""
        self._changes += 1
        self._running.discard(task)
        self._elsewhere.discard(task)
        self.step()

    def back(self, task: Task) -> None:
        """A task that may have been busy elsewhere uses the context again."""
        if self._elsewhere:
            self._elsewhere.discard(task)

    def is_busy(self, task: Task) -> bool:
        """Whether a task executes code, or waits for something that is not the context's."""
        return task in self._running

    def child_entered(self, child: Task, parent: Task) -> None:
        """A task that something else created begins to execute code of the run; its parent awaits it somehow."""
        self._children[parent] = self._children.get(parent, 0) + 1
        self.enter(child)
        if parent in self._running:
            self._elsewhere.add(parent)

    def child_left(self, child: Task, parent: Task) -> None:
        """It is done; the last one gives its parent time to notice."""
        self._children[parent] -= 1
        if not self._children[parent]:
            del self._children[parent]
            self._elsewhere.discard(parent)
        self.leave(child)

    # The past

    def release_at_once(self, identity: str, task: Task) -> bool:
        """Whether it is this recorded outcome's turn already, with nobody else who could have one."""
        if self._asked or self._order[self._next] != identity or not self._alone(task):
            return False
        self._released()
        return True

    async def release(self, identity: str, task: Task) -> None:
        """Return when it is this recorded outcome's turn to be handed to the task, which is the current one."""
        blocked = self._asked[identity] = Blocked(task, Landing())
        await self._block(blocked)

    async def go_live(self, task: Task) -> None:
        """Return when the past is complete."""
        if not self.live:
            blocked = Blocked(task, Landing())
            self._held.append(blocked)
            await self._block(blocked)

    async def _block(self, blocked: Blocked) -> None:
        """Raises CancelledError, when the turn has come, for a task that was cancelled before."""
        self.leave(blocked.task)
        if self._closed:
            self._let_go(blocked)
        await blocked.turn

    def _released(self) -> None:
        self._next += 1
        self.live = self._next == len(self._order)

    def _alone(self, task: Task) -> bool:
        return len(self._running) == 1 and task in self._running and not self._children

    # The present

    def effect_started(self, task: Task) -> None:
        """The task goes to wait for the world."""
        self._effects += 1
        self.leave(task)

    def effect_ended(self, task: Task) -> bool:
        """The world answered, or the task was cancelled; whether it is its turn to hear of that already.

        Else it has to ``take_turn``.
        """
        self._effects -= 1
        if not self._closed and (self._running or self._ready or self._children):
            return False
        self.enter(task)
        return True

    async def take_turn(self, task: Task) -> None:
        """Return when it is the task's turn to hear what the world answered, or that it was cancelled."""
        blocked = Blocked(task, Landing())
        self._ready.append(blocked)
        await self._block(blocked)

    def wait_started(self) -> None:
        """The task, waiting for the world so far, waits for somebody outside now."""
        self._effects -= 1
        self._waiting += 1
        self._changes += 1
        self.step()

    def wait_ended(self) -> None:
        """Somebody outside answered, or the task was cancelled."""
        self._waiting -= 1
        self._effects += 1
        self._changes += 1

    @contextmanager
    def pinned(self) -> Iterator[None]:
        """What the task does in here may take long, and others are not to go on meanwhile."""
        self._pinned += 1
        try:
            yield
        finally:
            self._pinned -= 1

    # Whose turn it is

    @property
    def idle(self) -> bool:
        """Whether all that is left is waiting for the outside."""
        busy = self._effects or self._ready or self._held or not self.live or self._closed
        return self._waiting > 0 and not busy and self._quiet() and self._all_blocked(certain=True)

    def step(self) -> None:
        """See who may go on now."""
        if self.live and not (self._held or self._ready or self._waiting):
            return  # Nobody waits for a turn.
        if not self._children:
            self._step(certain=False)
        elif not self._step_is_due:
            # Tasks that were created but have not begun yet get the chance to ask first.
            self._step_is_due = True
            self._loop.call_soon(self._due_step)

    def _due_step(self) -> None:
        self._step_is_due = False
        self._step(certain=False)

    def _step(self, *, certain: bool) -> None:
        if self._closed:
            return
        if not self._quiet():
            if self._asked or self._held or self._ready or self._waiting:
                self._watch()
            return
        if not self.live:
            blocked = self._asked.pop(self._order[self._next], None)
            if blocked is not None:
                self._released()
                self._let_go(blocked)
            elif self._all_blocked(certain):
                self._loop.call_soon(self._accuse)
            return
        held, self._held = self._held, []
        for blocked in held:
            self._let_go(blocked)
        while self._ready and self._quiet():
            self._let_go(self._ready.popleft())
        if self._quiet() and self._waiting and not self._effects and self._all_blocked(certain):
            self._on_idle()

    def _quiet(self) -> bool:
        return not self._running or self._running <= self._elsewhere

    def _all_blocked(self, certain: bool) -> bool:
        """Whether nobody is busy elsewhere. Of one who awaits tasks of a framework it takes a moment to be certain."""
        if any(task not in self._children for task in self._running):
            return False
        if self._children and not certain:
            self._watch()
            return False
        return True

    def _accuse(self) -> None:
        if (
            not self._closed
            and self._quiet()
            and not self.live
            and self._order[self._next] not in self._asked
        ):
            self._on_diverged(self._order[self._next])

    def _let_go(self, blocked: Blocked) -> None:
        self.enter(blocked.task)
        blocked.turn.set_result(None)

    # Tasks that are busy elsewhere

    def _watch(self) -> None:
        if self._timer is None:
            self._timer = self._loop.call_later(STALL_SECONDS, self._on_stall, self._changes)

    def _on_stall(self, seen: int) -> None:
        self._timer = None
        certain = self._changes == seen and not self._pinned
        if certain:
            self._elsewhere |= self._running
        self._step(certain=certain)

    def close(self) -> None:
        """Let everybody go: the run's code has ended or was stopped, and is cancelled wherever it waits."""
        self._closed = True
        blocked = [*self._asked.values(), *self._held, *self._ready]
        self._asked.clear()
        self._held.clear()
        self._ready.clear()
        for each in blocked:
            self._let_go(each)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
