"""Replaying a run offline: its code against its history, with no model, no tool and nothing written."""

from __future__ import annotations

from dataclasses import replace

from evrt.effects.contract import Model
from evrt.errors import ReplayDivergence, UsageError
from evrt.events import JsonValue
from evrt.events.run import (
    RunContinued,
    RunFailed,
    RunRequested,
    RunStepLimitReached,
    RunSucceeded,
)
from evrt.folds.journal import Journal, ended_by_others
from evrt.history import Run
from evrt.result import ReplayReport
from evrt.runtime.context import Callee
from evrt.runtime.execution import World
from evrt.runtime.runner import Ending, Runner


async def replay_run(world: World, callee: Callee, history: Run) -> ReplayReport:
    """Execute a run's code against its history, chapter by chapter, and compare the ends."""
    requested = history.journal.requested
    assert isinstance(requested, RunRequested)
    divergence: ReplayDivergence | None = None
    output: JsonValue = None
    for chapter in history.chapters:
        ending = await Runner(_offline(world), callee, chapter, requested=requested).replay()
        divergence = ending.divergence or _different_end(chapter, ending)
        output = ending.output
        if divergence is not None:
            break
    terminal = history.journal.terminal
    complete = terminal is not None and not ended_by_others(terminal.event)
    return ReplayReport(
        run_id=history.id,
        ok=divergence is None,
        complete=complete and divergence is None,
        operations=sum(len(chapter.operations) for chapter in history.chapters),
        digest=history.digest,
        divergence=divergence,
        recorded_output=_output(history.journal),
        replayed_output=output,
    )


def _offline(world: World) -> World:
    def no_model(name: str) -> Model:
        raise UsageError(f"A replay calls no model, and {name} was asked for.")

    return replace(world, models=no_model, on_delta=None, live=None, worker=None)


def _output(journal: Journal) -> JsonValue:
    terminal = journal.terminal.event if journal.terminal is not None else None
    if isinstance(terminal, RunSucceeded):
        return terminal.output
    if isinstance(terminal, RunContinued):
        return terminal.state
    return terminal.summary if isinstance(terminal, RunStepLimitReached) else None


def _different_end(journal: Journal, ending: Ending) -> ReplayDivergence | None:
    terminal = journal.terminal
    if terminal is None or ended_by_others(terminal.event):
        return None
    recorded: tuple[str, object] = (terminal.type, _output(journal))
    replayed: tuple[str, object]
    if isinstance(terminal.event, RunFailed):
        recorded = (terminal.type, terminal.event.failure)
    if ending.status == "failed":
        replayed = ("run.failed", ending.failure)
    elif ending.continued:
        replayed = ("run.continued", ending.output)
    else:
        types = {"succeeded": "run.succeeded", "step_limit": "run.step_limit_reached"}
        replayed = (types.get(ending.status, ending.status), ending.output)
    if recorded == replayed:
        return None
    return ReplayDivergence(
        f"The code of {journal.run} comes to another end than its history: recorded {recorded[0]} with "
        f"{recorded[1]!r:.200}, replayed {replayed[0]} with {replayed[1]!r:.200}.",
        operation="",
        position=terminal.position,
    )
