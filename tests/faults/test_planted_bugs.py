"""Bugs planted into workers whose disk fails: tests that do not catch them prove nothing by their silence."""

from __future__ import annotations

from pathlib import Path

import pytest

from faults.injecting import Nursery
from faults.trials import Trials, a_sync_of_the_wal_failed, wal_after_a_failed_sync


@pytest.fixture
def trials(nursery: Nursery, tmp_path: Path) -> Trials:
    return Trials(nursery, tmp_path)


@pytest.mark.parametrize(
    "plant,call,error,when,how,symptom",
    [
        (
            "ack_before_commit",
            "fdatasync",
            "EIO",
            "{0}+",
            {"dies": "at the end"},
            "Acknowledged at [1, 2], found at [None",
        ),
        ("keep_heads", "fdatasync", "EIO", "{0}", {}, "refused with UnusableLog"),
        ("swallow_full", "pwrite64", "ENOSPC", "{0}+", {}, "Acknowledged at [1, 2], found at [None"),
        (
            "no_proof",
            "fdatasync",
            "EIO",
            "{0}..{1}",
            {"reader": True, "dies": "when refused"},
            "It was said that nothing was recorded, and it was at",
        ),
    ],
)
def test_a_bug_that_loses_or_lies_is_caught(
    trials: Trials, plant: str, call: str, error: str, when: str, how: dict[str, object], symptom: str
) -> None:
    for trial in trials.each(call, error, when, plant=plant, **how):
        if any(symptom in violation for violation in trial.wrong):
            return
    pytest.fail(f"{plant} was not caught.")


@pytest.mark.parametrize("plant", ["go_on", "read_back"])
def test_going_on_with_what_a_failed_sync_left_is_caught(trials: Trials, plant: str) -> None:
    watched = ["openat", "pwrite64", "fsync"]
    for trial in trials.each("fdatasync", "EIO", "{0}", plant=plant, watched=watched):
        if trial.story["opened"] and a_sync_of_the_wal_failed(trial.calls):
            assert wal_after_a_failed_sync(trial.calls) == "believed"
            return
    pytest.fail("No sync of the WAL failed.")
