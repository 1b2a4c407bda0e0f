"""Kills in runs whose code is drawn by lot: nobody has thought of these, so nobody has thought of them only."""

from __future__ import annotations

import random
import time

import pytest

from crash.harness import SITES, Crew, Death, Trial, soak_seconds
from crash.judge import violations
from crash.programs import draw

PROGRAMS = 30
KILLS = 2
"""For each program, after it has run once without one."""

SOAK_SECONDS = soak_seconds(1_800.0)


@pytest.mark.parametrize("impatient", [False, True], ids=["patient", "impatient"])
def test_whatever_the_code_is_a_killed_run_keeps_its_promises_and_replays(
    crew: Crew, impatient: bool
) -> None:
    found = crew.each(lambda seed: _try(crew, seed, impatient), range(PROGRAMS))
    assert [violation for each in found for violation in each] == []


@pytest.mark.soak
def test_programs_for_as_long_as_there_is_time(crew: Crew, capsys: pytest.CaptureFixture[str]) -> None:
    until = time.monotonic() + SOAK_SECONDS
    seed = random.randrange(10**9)
    programs = 0
    while time.monotonic() < until:
        found = crew.each(lambda each: _try(crew, each, each % 2 == 0), range(seed, seed + 100))
        assert [violation for each in found for violation in each] == []
        seed += 100
        programs += 100
    with capsys.disabled():
        print(f"\n{programs} programs, {programs * KILLS} kills, no violation")


def _try(crew: Crew, seed: int, impatient: bool) -> list[str]:
    program = draw(seed, impatient=impatient)
    with crew.trial("perform", input=program) as trial:
        whole = trial.finish(free=True)
        found = [f"program {seed} ({impatient=}): {v}" for v in violations(whole, whole)]
    chance = random.Random(seed)
    for _ in range(KILLS):
        site = chance.choice(SITES)
        place = Death(site, chance.randint(1, whole.facts["passed"][site]))
        with crew.trial("perform", input=program) as trial:
            found += [f"program {seed} ({impatient=}), {place}: {v}" for v in _kill(trial, place)]
    return found


def _kill(trial: Trial, place: Death) -> list[str]:
    trial.die_at(place)
    story = trial.finish(free=True)
    return violations(story, story)
