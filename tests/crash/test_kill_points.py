"""SIGKILL at every boundary of seven runs: on either side of every append and of every effect."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

import pytest

from crash.apps import RUNS
from crash.harness import SITES, Crew, Death, soak_seconds
from crash.judge import Story, violations

PAIRS = 60
"""Double kills in CI: the second worker dies as well, somewhere in its resume."""

SOAK_SECONDS = soak_seconds(1_800.0)


@pytest.mark.parametrize("target", RUNS)
def test_a_run_killed_at_any_boundary_ends_as_if_nothing_had_been(
    crew: Crew, references: dict[str, Story], target: str, record_property: Callable[[str, object], None]
) -> None:
    reference = references[target]

    def kill_at_each(site: str) -> tuple[int, list[str]]:
        found: list[str] = []
        nth = 0
        died = True
        while died:
            nth += 1
            with crew.trial(target) as trial:
                died = trial.die_at(Death(site, nth))
                found.extend(f"{target}, {site} {nth}: {v}" for v in violations(trial.finish(), reference))
        return nth - 1, found

    points: dict[str, int] = {}
    for site, (count, found) in zip(SITES, crew.each(kill_at_each, SITES), strict=True):
        assert found == []
        points[site] = count
        # Timing may merge appends of branches, or part them; a site that was missed would show.
        assert count >= reference.facts["passed"][site] * 0.7
    record_property("kill_points", points)


def test_a_run_killed_again_while_it_resumes_ends_as_if_nothing_had_been(
    crew: Crew, references: dict[str, Story]
) -> None:
    deaths = [_two_deaths(references) for _ in range(PAIRS)]
    assert [
        v for found in crew.each(lambda pair: _kill_twice(crew, references, *pair), deaths) for v in found
    ] == []


@pytest.mark.soak
def test_double_kills_for_as_long_as_there_is_time(
    crew: Crew, references: dict[str, Story], capsys: pytest.CaptureFixture[str]
) -> None:
    until = time.monotonic() + SOAK_SECONDS
    pairs = 0
    while time.monotonic() < until:
        deaths = [_two_deaths(references) for _ in range(100)]
        found = crew.each(lambda pair: _kill_twice(crew, references, *pair), deaths)
        assert [violation for each in found for violation in each] == []
        pairs += len(deaths)
    with capsys.disabled():
        print(f"\n{pairs} double kills, no violation")


def _two_deaths(references: dict[str, Story]) -> tuple[str, Death, Death]:
    target = random.choice(RUNS)
    passed = references[target].facts["passed"]
    first, second = random.choice(SITES), random.choice(SITES)
    return (
        target,
        Death(first, random.randint(1, passed[first])),
        Death(second, random.randint(1, max(1, passed[second] // 2))),
    )


def _kill_twice(
    crew: Crew, references: dict[str, Story], target: str, first: Death, second: Death
) -> list[str]:
    with crew.trial(target) as trial:
        if trial.die_at(first):
            trial.die_at(second)
        found = violations(trial.finish(), references[target])
    return [f"{target}, {first}, then {second}: {violation}" for violation in found]
