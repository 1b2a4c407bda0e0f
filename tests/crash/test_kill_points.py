"""SIGKILL at every boundary of six runs: on either side of every append and of every effect."""

from __future__ import annotations

import random

import pytest

from crash.apps import RUNS
from crash.harness import Crew, Death
from crash.judge import Story, violations

SITES = ("append.before", "append.after", "effect.before", "effect.after")


@pytest.mark.parametrize("target", RUNS)
def test_a_run_killed_at_any_boundary_ends_as_if_nothing_had_been(
    crew: Crew, references: dict[str, Story], target: str
) -> None:
    reference = references[target]

    def kill_at_each(site: str) -> list[str]:
        found: list[str] = []
        nth = 1
        while died := _kill_once(crew, target, Death(site, nth), reference, found):
            nth += died
        points = nth - 1
        # Timing may merge two appends into one, or part one in two, but not more than a few.
        assert points >= reference.facts["passed"][site] * 0.8
        return found

    found = [violation for each in crew.each(kill_at_each, SITES) for violation in each]
    assert found == []


def _kill_once(crew: Crew, target: str, death: Death, reference: Story, found: list[str]) -> bool:
    with crew.trial(target) as trial:
        died = trial.die_at(death)
        found.extend(f"{target}, {death}: {v}" for v in violations(trial.finish(), reference))
    return died
