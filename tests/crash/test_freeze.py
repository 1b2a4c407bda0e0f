"""SIGSTOP in the middle of a run, another process ends it, SIGCONT: the first one may not write any more."""

from __future__ import annotations

import random

import pytest

from crash.apps import RUNS
from crash.freezing import freeze, freeze_after, thaw
from crash.harness import SITES, Crew, Death, Trial, life_seconds
from crash.judge import Story, violations
from crash.worker import ENDED, FENCED, OVERTAKEN, PARKED

BUSY = [run for run in RUNS if run != "interview"]
"""Runs that never wait for a person, so that their worker holds the claim wherever it is frozen."""

FIRST = {"append": 3, "effect": 1}
"""The first two appends found the conversation and the run; before them there is nothing to take over."""


@pytest.mark.parametrize("target", BUSY)
@pytest.mark.parametrize("site", SITES)
def test_a_worker_that_was_overtaken_while_frozen_can_write_no_more(
    crew: Crew, references: dict[str, Story], target: str, site: str
) -> None:
    # The last append ends the run, and the last effect is to tell so: after them there is nothing to refuse.
    # Of branches side by side more or fewer ride in one append, so that there may be some less than in the reference.
    last = references[target].facts["passed"][site] - (5 if target == "fan" else 1)
    place = Death(site, random.randint(FIRST[site.partition(".")[0]], last))
    with crew.trial(target) as trial:
        exit_code = overtake(trial, freeze(trial, place), references[target])
    # Between the attempts of a run its worker claims it anew, and hears then that it has ended.
    assert exit_code in ((FENCED, OVERTAKEN) if target == "contest" else (FENCED,)), place


@pytest.mark.parametrize("target", RUNS)
def test_a_worker_frozen_at_any_moment_changes_nothing_when_it_thaws(
    crew: Crew, references: dict[str, Story], target: str
) -> None:
    with crew.trial(target) as trial:
        while (pid := freeze_after(trial, random.uniform(0.2, 0.7) * life_seconds(crew, target))) is None:
            trial.start_anew()
        exit_code = overtake(trial, pid, references[target])
    # It may have been through, or have waited for what somebody else has given in the meantime.
    assert exit_code in (FENCED, OVERTAKEN, PARKED, ENDED)


def overtake(trial: Trial, pid: int, reference: Story) -> int:
    """End the run of a frozen worker in another one, and see that the first changes nothing. How it exits."""
    before = trial.finish(overlapped=True)
    exit_code = thaw(trial, pid)
    after = trial.finish(overlapped=True)
    assert violations(after, reference) == []
    assert after.events[: len(before.events)] == before.events
    assert {event["type"] for event in after.events[len(before.events) :]} <= {"tool_call.reported"}
    return exit_code


def test_what_a_frozen_write_came_to_is_reported_late_and_settles_the_doubt(
    crew: Crew, references: dict[str, Story]
) -> None:
    with crew.trial("errand") as trial:
        # The second effect of the run is its first write without a key.
        pid = freeze(trial, Death("effect.after", 2))
        waits = trial.nursery.run(trial.job(patient=True))
        exit_code = thaw(trial, pid)
        # Nobody looks into the ledger: what the first worker has told is enough.
        story = trial.finish(overlapped=True, patient=True)
        assert violations(story, references["errand"]) == []
    assert (waits, exit_code) == (PARKED << 8, FENCED)
    types = [event["type"] for event in story.events if event.get("operation") == "pay#1"]
    assert types == ["tool_call.requested", "tool_call.in_doubt", "tool_call.reported", "input.received"]
    assert sum(line.operation == "pay#1" for line in story.lines) == 1
