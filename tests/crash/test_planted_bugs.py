"""Bugs planted into workers: a harness that does not catch them proves nothing by its silence."""

from __future__ import annotations

import pytest

from crash.freezing import freeze, thaw
from crash.harness import SITES, Crew, Death
from crash.judge import Story, violations
from crash.worker import FENCED

TARGET = "errand"


def kill_at_each_boundary(crew: Crew, plant: str, reference: Story) -> list[str]:
    """What is wrong after each kill of a worker that has the bug."""

    def kill_at_each(site: str) -> list[str]:
        found: list[str] = []
        for nth in range(1, reference.facts["passed"][site] + 1):
            with crew.trial(TARGET, plant=plant) as trial:
                trial.die_at(Death(site, nth))
                found.extend(violations(trial.finish(), reference))
        return found

    return [violation for found in crew.each(kill_at_each, SITES) for violation in found]


@pytest.mark.parametrize(
    "plant,symptoms",
    [
        ("ack_before_commit", ["its intent was not durable", "The unkeyed effect", "had been told"]),
        ("intent_not_durable", ["its intent was not durable", "The unkeyed effect"]),
    ],
)
def test_an_effect_or_an_answer_that_does_not_wait_for_the_log_is_caught(
    crew: Crew, references: dict[str, Story], plant: str, symptoms: list[str]
) -> None:
    found = kill_at_each_boundary(crew, plant, references[TARGET])
    for symptom in symptoms:
        assert any(symptom in violation for violation in found), symptom


def test_a_worker_that_writes_without_its_claim_is_caught(crew: Crew, references: dict[str, Story]) -> None:
    with crew.trial(TARGET, plant="no_fence") as trial:
        pid = freeze(trial, Death("append.before", 5))
        trial.finish(overlapped=True)
        exit_code = thaw(trial, pid)
        found = violations(trial.finish(overlapped=True), references[TARGET])
    assert exit_code != FENCED
    for symptom in ("The run ended 2 times", "The unkeyed effect", "has 2 outcomes", "goes on after its end"):
        assert any(symptom in violation for violation in found), symptom
