"""Scopes by name, and gather: doing several things at once in a way that can be replayed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from evrt.errors import WrongTask
from evrt.runtime.branches import Branches
from evrt.runtime.execution import Execution
from evrt.runtime.identity import Scope, current_scope, escape

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
    with _entered(execution, path, parent, adopt=adopt):
        yield


@contextmanager
def below(execution: Execution, identity: str) -> Iterator[None]:
    """Enter the scope of an operation that is made of others, in the task that began it."""
    with _entered(execution, f"{identity}/", execution.scope(), adopt=False):
        yield


@contextmanager
def _entered(execution: Execution, path: str, parent: Scope, *, adopt: bool) -> Iterator[None]:
    task = asyncio.current_task()
    assert task is not None
    assert parent.task is not None
    scope = execution.enter(path, task, parent)
    token = current_scope.set(scope)
    foreign = task is not parent.task
    if foreign:
        execution.tasks.add(task)
        execution.progress.child_entered(task, parent.task)
    try:
        yield
    finally:
        current_scope.reset(token)
        if not adopt:
            execution.leave_scope(scope)  # Nobody can enter it again.
        if foreign:
            execution.tasks.discard(task)
            execution.progress.child_left(task, parent.task)


async def gather(execution: Execution, awaitables: Sequence[Awaitable[T]]) -> list[T]:
    """Run awaitables as branches; results in their order, or the first error by position."""
    branches = Branches(execution, "gather", awaitables)
    cancelled = await branches.until(lambda: branches.all_ended)
    if any(task.cancelled() for task in branches.tasks):
        raise branches.were_cut_off()
    if cancelled:
        execution.strike_next()  # All had come to an end when it came.
    errors = [error for error in (task.exception() for task in branches.tasks) if error is not None]
    if errors:
        raise errors[0]
    return [task.result() for task in branches.tasks]
