"""Branches: coroutines that are executed at the same time, each in a task and a scope of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import copy_context
from inspect import CORO_CREATED, getcoroutinestate
from types import CoroutineType
from typing import Generic, TypeVar

from evrt.errors import UsageError
from evrt.runtime.execution import Execution
from evrt.runtime.identity import Scope, current_scope
from evrt.runtime.stop import RunStopped

T = TypeVar("T")


class Branches(Generic[T]):
    """The branches of one ``ctx.gather`` or ``ctx.race``. They begin at once; ``until`` waits for them.

    ``identity`` is the place of the whole in its run; the scope of branch 2 is ``{identity}:2/``.
    """

    def __init__(self, execution: Execution, name: str, awaitables: Sequence[Awaitable[T]]) -> None:
        """Raises WrongTask outside a scope's task, UsageError for what runs already; then none has begun."""
        try:
            parent = execution.scope()
            if any(isinstance(awaitable, asyncio.Future) for awaitable in awaitables):
                raise UsageError(f"ctx.{name} takes coroutines that have not started, not tasks or futures.")
        except BaseException:
            for awaitable in awaitables:
                _discard(awaitable)
            raise
        self._execution = execution
        self.identity = parent.next(name)
        self.scopes = [
            execution.enter(f"{self.identity}:{index}/", None, parent) for index in range(len(awaitables))
        ]
        self.ended: list[int] = []
        """Numbers of those that have ended, in the order in which they did."""
        self._enough: Callable[[], bool] | None = None
        self._parent: asyncio.Task[object] | None = None
        self._woken: asyncio.Future[None] | None = None
        self._begun = [False] * len(awaitables)
        self._cut = False
        """Whether the branches have been cut off already by whoever cut off the task that waits for them."""
        self.tasks = [
            self._start(index, awaitable, scope)
            for index, (awaitable, scope) in enumerate(zip(awaitables, self.scopes, strict=True))
        ]
        execution.late_cancels.hand_down(self.tasks)

    @property
    def all_ended(self) -> bool:
        return len(self.ended) == len(self.tasks)

    @property
    def _has_enough(self) -> bool:
        return self._enough is None

    async def until(self, enough: Callable[[], bool]) -> bool:
        """Wait until the branches that have ended are enough. Whether the code cancelled the wait meanwhile.

        A cancellation is passed on to every branch, and what they make of it is waited for. Raises
        RunStopped once all have ended, when the run was stopped.
        """
        cancelled = False
        if not enough():
            parent = self._parent = asyncio.current_task()
            assert parent is not None
            self._enough = enough
            self._execution.waiting_for_branches[parent] = self._cut_all
            self._execution.progress.leave(parent)  # It only waits now.
            while not self._has_enough:
                self._woken = asyncio.get_running_loop().create_future()
                try:
                    await self._woken
                except asyncio.CancelledError:
                    cancelled = True
                    if not self._cut:
                        self._cut_all(0)
                    self._cut = False
            self._execution.waiting_for_branches.pop(parent, None)
        if self._execution.stopped is not None:
            if not self.all_ended:
                await asyncio.wait(self.tasks)
            raise RunStopped(self._execution.stopped)
        return cancelled

    @contextmanager
    def passing_on(self) -> Iterator[None]:
        """Whoever cuts off the task that waits in here, for something else than its branches, cuts those off too."""
        task = asyncio.current_task()
        assert task is not None
        self._execution.waiting_for_branches[task] = self._cut_all
        try:
            yield
        finally:
            self._execution.waiting_for_branches.pop(task, None)
            self._cut = False

    def were_cut_off(self) -> asyncio.CancelledError:
        """What to raise where the branches were cut off, and the code that waits for them with them."""
        self._execution.late_cancels.forget()
        return asyncio.CancelledError()

    def cut_off(self, index: int, before: int | None = 0) -> None:
        """Cancel a branch, unless it has ended.

        One that sleeps by itself first comes to what the history says it began ``before`` this version, or at all.
        """
        self.scopes[index].lost = False
        task = self.tasks[index]
        if not self._begun[index] or self._execution.is_behind(task, self.scopes[index], before):
            # What it does next is recorded as cancelled, so that a replay knows how far it came.
            self._execution.late_cancels.keep_for(task)
        elif task.cancel() and (cut_all := self._execution.waiting_for_branches.get(task)) is not None:
            # At once on every level, or one further down would go on for a moment that no replay can repeat.
            cut_all(before)

    def _cut_all(self, before: int | None) -> None:
        self._cut = True
        for index in range(len(self.tasks)):
            self.cut_off(index, before)

    def _start(self, index: int, awaitable: Awaitable[T], scope: Scope) -> asyncio.Task[T]:
        async def branch() -> T:
            self._begun[index] = True
            current_scope.set(scope)
            return await awaitable

        def ended(task: asyncio.Task[T]) -> None:
            _discard(awaitable)  # It may have been cancelled before it began.
            self._on_ended(index, task)

        task = asyncio.get_running_loop().create_task(branch(), context=copy_context())
        task.add_done_callback(ended)
        scope.task = task
        self._execution.tasks.add(task)
        self._execution.progress.enter(task)
        return task

    def _on_ended(self, index: int, task: asyncio.Task[T]) -> None:
        _ = task.cancelled() or task.exception()  # Looked at, so that none is reported as never retrieved.
        self.ended.append(index)
        if self._enough is not None and self._enough():
            self._enough = None
            assert self._parent is not None
            assert self._woken is not None
            # Before this branch leaves, so that there is no moment at which nobody seems to run.
            self._execution.progress.enter(self._parent)
            if not self._woken.done():
                self._woken.set_result(None)
        self._execution.leave_scope(self.scopes[index])
        self._execution.late_cancels.drop(task)
        self._execution.tasks.discard(task)
        self._execution.progress.leave(task)


def _discard(awaitable: object) -> None:
    """Close a coroutine, and those it was given, so that Python does not warn of ones that were never awaited."""
    if isinstance(awaitable, CoroutineType):
        frame = awaitable.cr_frame
        if frame is not None and getcoroutinestate(awaitable) == CORO_CREATED:
            for argument in frame.f_locals.values():
                for each in argument if isinstance(argument, tuple | list) else (argument,):
                    _discard(each)
        awaitable.close()
