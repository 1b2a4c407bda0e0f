"""SIGKILL inside the system calls of a run: between any two things that it asks of the file or tells the world."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence

import pytest

from crash.apps import RUNS
from crash.harness import Crew, soak_seconds
from crash.judge import Story, violations

KILLS = 100
KILLS_PLANTED = 30
KILLS_SOAK = 20_000
SOAK_SECONDS = soak_seconds(14_000.0)

CALLS = ("pwrite64", "fdatasync", "flock", "write", "openat", "ftruncate", "unlink")
"""What the log's file sees, what its lock sees, and what the outside sees (the ledger is written by ``write``)."""

AGAIN = 0.2
"""Share of kills after which the next worker is killed in a call as well."""


@pytest.fixture(scope="module")
def calls(crew: Crew) -> dict[str, dict[str, int]]:
    """How often a worker of each run makes each call."""

    def count(target: str) -> dict[str, int]:
        with crew.trial(target) as trial:
            return trial.calls(CALLS)

    return dict(zip(RUNS, crew.each(count, RUNS), strict=True))


def test_a_run_killed_in_any_system_call_ends_as_if_nothing_had_been(
    crew: Crew, references: dict[str, Story], calls: dict[str, dict[str, int]]
) -> None:
    kills, found = _kill(crew, references, calls, KILLS, time.monotonic() + 3_600)
    assert found == []
    assert kills >= KILLS


def test_an_answer_that_does_not_wait_for_the_log_is_caught(
    crew: Crew, references: dict[str, Story], calls: dict[str, dict[str, int]]
) -> None:
    until = time.monotonic() + 3_600
    _, found = _kill(
        crew, references, calls, KILLS_PLANTED, until, targets=["errand"], plant="ack_before_commit"
    )
    assert any("was not durable" in violation for violation in found), found


@pytest.mark.soak
def test_twenty_thousand_kills_in_system_calls_leave_no_trace(
    crew: Crew,
    references: dict[str, Story],
    calls: dict[str, dict[str, int]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    until = time.monotonic() + SOAK_SECONDS
    kills = 0
    while kills < KILLS_SOAK and time.monotonic() < until:
        made, found = _kill(crew, references, calls, min(500, KILLS_SOAK - kills), until)
        kills += made
        assert found == []
    with capsys.disabled():
        print(f"\n{kills} kills in system calls, no violation")


def _kill(
    crew: Crew,
    references: dict[str, Story],
    calls: dict[str, dict[str, int]],
    wanted: int,
    until: float,
    *,
    targets: Sequence[str] = RUNS,
    plant: str | None = None,
) -> tuple[int, list[str]]:
    """Kill so many workers or some more; how many it were, and what was wrong afterwards."""
    kills = 0
    found: list[str] = []

    def one(lane: int) -> None:
        nonlocal kills
        while kills < wanted and time.monotonic() < until:
            target = random.choice(targets)
            places: list[str] = []
            with crew.trial(target, plant=plant) as trial:
                while not places or random.random() < AGAIN:
                    where = random.choice([name for name in CALLS if name in calls[target]])
                    nth = random.randint(1, calls[target][where])
                    if not trial.die_in(where, nth):
                        break
                    kills += 1
                    places.append(f"{where} {nth}")
                wrong = violations(trial.finish(), references[target])
            found.extend(f"{target}, {', then '.join(places)}: {violation}" for violation in wrong)

    crew.each(one, range(2))
    return kills, found
