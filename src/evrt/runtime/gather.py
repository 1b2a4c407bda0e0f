"""Scopes and branches: doing several things at once in a way that can be replayed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterator, Sequence
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
            raise RunStopped(execution.stopped)
        path = f"{parent.path}{escape(name)}/"
    else:
        parent = execution.scope()
        path = f"{parent.next(name)}/"
    task = asyncio.current_task()
    foreign = task is not None and task is not parent.task
    token = current_scope.set(execution.enter(path, task, parent))
    if foreign and task is not None:
        execution.branch_started(task)
    try:
        yield
    finally:
        current_scope.reset(token)
        if foreign and task is not None:
            execution.branch_ended(task)


async def gather(execution: Execution, awaitables: Sequence[Awaitable[T]]) -> list[T]:
    """Run awaitables as branches; results in their order, or the first error by position."""
    parent = execution.scope()
    if any(isinstance(awaitable, asyncio.Future) for awaitable in awaitables):
        raise UsageError("ctx.gather takes coroutines that have not started, not tasks or futures.")
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
    scope.task = task
    execution.branch_started(task)
    return task


async def _all(execution: Execution, branches: Sequence[asyncio.Task[T]]) -> None:
    left = len(branches)

    def ended(branch: asyncio.Task[T]) -> None:
        nonlocal left
        left -= 1
        # The last branch hands its place among the running to the parent, so that there is
        # no moment at which nobody seems to run.
        execution.branch_ended(branch, hands_over=left == 0)

    for branch in branches:
        branch.add_done_callback(ended)
    execution.progress.branch_ended()  # The parent only waits now.
    try:
        await asyncio.wait(branches)
    except asyncio.CancelledError:
        for branch in branches:
            branch.cancel()
        await asyncio.wait(branches)
        raise
    finally:
        if execution.stopped is not None:
            for branch in branches:
                _ = branch.cancelled() or branch.exception()
    if execution.stopped is not None:
        raise RunStopped(execution.stopped)
