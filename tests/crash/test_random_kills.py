"""SIGKILL from outside at a random moment, often again while the next worker resumes."""

from __future__ import annotations

import random
import time

import pytest

from crash.apps import RUNS
from crash.harness import Crew, life_seconds, soak_seconds
from crash.judge import Story, violations

KILLS = 25
"""For each of the seven runs: 175 in all; a soak makes ten thousand."""

KILLS_SOAK = 10_000
SOAK_SECONDS = soak_seconds(14_000.0)
"""The soak ends after this time with as many as it has made, and says how many."""

AGAIN = 0.4
"""Share of kills after which the next worker is killed too."""


@pytest.mark.parametrize("target", RUNS)
def test_a_run_killed_at_a_random_moment_ends_as_if_nothing_had_been(
    crew: Crew, references: dict[str, Story], target: str
) -> None:
    kills, found = _kill(crew, target, references[target], KILLS, time.monotonic() + 3_600)
    assert found == []
    assert kills >= KILLS


@pytest.mark.soak
def test_ten_thousand_random_kills_leave_no_trace(
    crew: Crew, references: dict[str, Story], capsys: pytest.CaptureFixture[str]
) -> None:
    until = time.monotonic() + SOAK_SECONDS
    kills = 0
    while kills < KILLS_SOAK and time.monotonic() < until:
        for target in RUNS:
            made, found = _kill(crew, target, references[target], min(100, KILLS_SOAK - kills), until)
            kills += made
            assert found == []
    with capsys.disabled():
        print(f"\n{kills} random kills, no violation")


def _kill(crew: Crew, target: str, reference: Story, count: int, until: float) -> tuple[int, list[str]]:
    """Kill about so many workers; how many it were, and what was wrong afterwards."""
    seconds = life_seconds(crew, target)
    kills = 0
    found: list[str] = []

    def one(lane: int) -> None:
        nonlocal kills
        while kills < count and time.monotonic() < until:
            with crew.trial(target) as trial:
                at = random.uniform(0, seconds)
                while kills < count and trial.die_within(at):
                    kills += 1
                    if random.random() > AGAIN:
                        break
                    at = random.uniform(0, seconds)
                found.extend(
                    f"{target}, after {at:.6f} s: {v}" for v in violations(trial.finish(), reference)
                )

    crew.each(one, range(2))
    return kills, found
