"""Scopes and branches: doing several things at once in a way that can be replayed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from contextvars import copy_context
from typing import TypeVar

from evrt.errors import UsageError, WrongTask
from evrt.runtime.execution import Execution
from evrt.runtime.identity import Scope, current_scope, escape
from evrt.runtime.stop import RunStopped

T = TypeVar("T")


@contextmanager
def in_scope(execution: Execution, name: str, *, adopt: bool = False) -> Iterator[None]:
    """Enter a scope below the current one. With ``adopt`` the current task may be any, and joins the run."""
    if adopt:
        parent = current_scope.get()
        if parent is None or parent.execution is not execution:
            raise WrongTask(
                "ctx.scope(key) must be entered in a task that was created inside the run's code."
            )
        if execution.stopped is not None:
            raise execution.refusal()
        path = f"{parent.path}{escape(name)}/"
    else:
        parent = execution.scope()
        path = f"{parent.next(name)}/"
    task = asyncio.current_task()
    assert task is not None
    assert parent.task is not None
    token = current_scope.set(execution.enter(path, task, parent))
    foreign = task is not parent.task
    if foreign:
        execution.tasks.add(task)
        execution.progress.child_entered(task, parent.task)
    try:
        yield
    finally:
        current_scope.reset(token)
        if foreign:
            execution.tasks.discard(task)
            execution.progress.child_left(task, parent.task)


async def gather(execution: Execution, awaitables: Sequence[Awaitable[T]]) -> list[T]:
    """Run awaitables as branches; results in their order, or the first error by position."""
    try:
        parent = execution.scope()
        if any(isinstance(awaitable, asyncio.Future) for awaitable in awaitables):
            raise UsageError("ctx.gather takes coroutines that have not started, not tasks or futures.")
    except BaseException:
        for awaitable in awaitables:
            _discard(awaitable)
        raise
    path = parent.next("gather")
    branches = [
        _start(execution, execution.enter(f"{path}:{index}/", None, parent), awaitable)
        for index, awaitable in enumerate(awaitables)
    ]
    if branches:
        await _all(execution, branches)
    # Every exception is looked at, so that none is reported as never retrieved; the first one is raised.
    errors = [error for error in (branch.exception() for branch in branches) if error is not None]
    if errors:
        raise errors[0]
    return [branch.result() for branch in branches]


def _start(execution: Execution, scope: Scope, awaitable: Awaitable[T]) -> asyncio.Task[T]:
    async def branch() -> T:
        current_scope.set(scope)
        return await awaitable

    task = asyncio.get_running_loop().create_task(branch(), context=copy_context())
    task.add_done_callback(lambda _: _discard(awaitable))  # It may have been cancelled before it began.
    scope.task = task
    execution.tasks.add(task)
    execution.progress.enter(task)
    return task


def _discard(awaitable: Awaitable[T]) -> None:
    """Close a coroutine, so that Python does not warn of one that was never awaited."""
    if isinstance(awaitable, Coroutine):
        awaitable.close()


async def _all(execution: Execution, branches: Sequence[asyncio.Task[T]]) -> None:
    progress = execution.progress
    parent = asyncio.current_task()
    assert parent is not None
    left = len(branches)

    def ended(branch: asyncio.Task[T]) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            # Before the last branch leaves, so that there is no moment at which nobody seems to run.
            progress.enter(parent)
        execution.tasks.discard(branch)
        progress.leave(branch)

    for branch in branches:
        branch.add_done_callback(ended)
    progress.leave(parent)  # It only waits now.
    cancelled = False
    while left > 0:
        try:
            await asyncio.wait(branches)
        except asyncio.CancelledError:
            cancelled = True
            for branch in branches:
                branch.cancel()
    for branch in branches:
        # Looked at, so that none is reported as never retrieved.
        _ = branch.cancelled() or branch.exception()
    if execution.stopped is not None:
        raise RunStopped(execution.stopped)
    if cancelled:
        if any(branch.cancelled() for branch in branches):
            raise asyncio.CancelledError
        execution.strike_next()  # All had come to an end when it came.
