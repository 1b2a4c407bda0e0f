"""A loop of somebody's own making, with tool calls in tasks of their own, killed at boundaries and at random moments."""

from __future__ import annotations

import random
import time

import pytest

from crash.harness import SITES, Crew, Death, life_seconds, soak_seconds
from crash.judge import violations

TARGET = "foreign"
BOUNDARIES = 10
"""Drawn by lot in CI, of some sixty on either side of appends and effects; a soak takes each of them."""
KILLS = 5
"""At random moments in CI; a soak makes them for as long as there is time."""
AGAIN = 0.5
"""How likely a run that was killed is killed again while it resumes; else it is let come to its end. A machine that has
become slower than it was measured to be may kill a run for ever otherwise."""
SOAK_SECONDS = soak_seconds(600.0)


@pytest.mark.parametrize("count", [BOUNDARIES, pytest.param(None, marks=pytest.mark.soak)])
def test_a_foreign_loop_killed_at_a_boundary_ends_as_if_nothing_had_been(
    crew: Crew, count: int | None
) -> None:
    """S1.1, S1.3"""
    reference = crew.reference(TARGET)
    passed = reference.facts["passed"]
    deaths = [Death(site, nth) for site in SITES for nth in range(1, passed[site] + 1)]

    def kill(death: Death) -> tuple[bool, list[str]]:
        with crew.trial(TARGET) as trial:
            died = trial.die_at(death)
            return died, [f"{death}: {one}" for one in violations(trial.finish(), reference)]

    chosen = deaths if count is None else random.sample(deaths, count)
    found = crew.each(kill, chosen)
    assert [one for _, violated in found for one in violated] == []
    # Timing may merge appends of branches, so that a worker gets to its end.
    assert sum(died for died, _ in found) >= len(chosen) // 2


@pytest.mark.parametrize("seconds", [None, pytest.param(SOAK_SECONDS, marks=pytest.mark.soak)])
def test_a_foreign_loop_killed_at_random_moments_ends_as_if_nothing_had_been(
    crew: Crew, seconds: float | None, capsys: pytest.CaptureFixture[str]
) -> None:
    """S1.1, S1.3"""
    reference = crew.reference(TARGET)
    life = life_seconds(crew, TARGET)
    until = time.monotonic() + (3_600 if seconds is None else seconds)
    kills = 0
    while time.monotonic() < until and (seconds is not None or kills < KILLS):
        with crew.trial(TARGET) as trial:
            while trial.die_within(random.uniform(0, life)):
                kills += 1
                if random.random() > AGAIN:
                    break
            assert violations(trial.finish(), reference) == []
    if seconds is not None:
        with capsys.disabled():
            print(f"\n{kills} random kills of a foreign loop, no violation")
