"""Races: several things at once, of which the first to come to an end counts.

Who won is an outcome like any other: it is recorded, it has its turn in the order of release, and on a
resume or a replay the same branch wins, whoever is faster then. The losers are cut off the way a
time-out of the code's own cuts things off: each operation that was under way records what it came to.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from typing import Generic, NamedTuple, TypeVar

from evrt.errors import UsageError
from evrt.events.calls import RaceWon
from evrt.runtime import differences
from evrt.runtime.branches import Branches
from evrt.runtime.execution import Execution

T = TypeVar("T")


class Won(NamedTuple, Generic[T]):
    """Which branch of a race won, counted from 0, and what it returned."""

    branch: int
    result: T


async def race(execution: Execution, awaitables: Sequence[Awaitable[T]]) -> Won[T]:
    """Run awaitables as branches until the first of them ends; its number and result, or its error."""
    if not awaitables:
        raise UsageError("ctx.race needs at least one thing to do: nobody can win a race without branches.")
    branches = Branches(execution, "race", awaitables)
    known = _known_winner(execution, branches)
    cancelled = await branches.until(lambda: branches.all_ended or _winner(branches, known) is not None)
    winner = _winner(branches, known)
    if winner is None:
        raise branches.were_cut_off()  # By whoever cut this off.
    try:
        with branches.passing_on():
            recorded = await execution.recorded(branches.identity, "race", None)
    except asyncio.CancelledError:
        # It is part of a branch that was cut off earlier than this was decided: so it was not.
        for index in range(len(branches.tasks)):
            branches.cut_off(index)
        await branches.until(lambda: branches.all_ended)
        raise branches.were_cut_off() from None
    won = recorded.outcome if recorded is not None else None
    if won is None:
        execution.record(RaceWon(operation=branches.identity, winner=winner, branches=len(branches.tasks)))
    for index in range(len(branches.tasks)):
        if index != winner:
            branches.cut_off(index, None if won is None else won.version)
    if await branches.until(lambda: branches.all_ended) or cancelled:
        execution.strike_next()  # The race had its outcome when it came.
    return Won(winner, branches.tasks[winner].result())


def _winner(branches: Branches[T], known: int | None) -> int | None:
    """The first to end that was not cut off; where the history has one, nobody else."""
    if known is not None:
        return known if known in branches.ended else None
    return next((index for index in branches.ended if not branches.tasks[index].cancelled()), None)


def _known_winner(execution: Execution, branches: Branches[T]) -> int | None:
    """The winner that the history has; the others are then held back where they would get further than they did."""
    known = execution.journal.operations.get(branches.identity)
    if known is None or known.outcome is None or not isinstance(known.outcome.event, RaceWon):
        return None
    event = known.outcome.event
    if event.branches != len(branches.tasks):
        execution.diverge(
            differences.in_branches(known.outcome, branches.identity, event.branches, len(branches.tasks))
        )
    for index, scope in enumerate(branches.scopes):
        scope.lost = index != event.winner
    return event.winner
