"""Claim, lease and append as a model: every state looked at, and every rule seen to be needed."""

from __future__ import annotations

import pytest

from model.protocol import Kind, Rules, beginning
from model.search import search

Program = tuple[Kind, ...]

LOST_CLAIM = "an append was accepted of a worker that had lost its claim"
LOST_WAKE = "a run waits although what it waits for has come: a wake-up was lost"
STUCK = "a run can never end again, though nothing more goes wrong"


@pytest.mark.parametrize(
    "workers,runs,program,states",
    [
        (2, 1, ("write", "wait"), 83_196),
        (3, 1, ("wait",), 5_033),
        pytest.param(2, 1, ("wait", "write"), 23_953, marks=pytest.mark.soak),
        pytest.param(2, 2, ("wait",), 25_789, marks=pytest.mark.soak),
        pytest.param(2, 1, ("write", "write"), 371_129, marks=pytest.mark.soak),
        pytest.param(3, 1, ("write",), 571_720, marks=pytest.mark.soak),
    ],
)
def test_nothing_is_wrong_in_any_state_and_from_each_every_run_can_end(
    workers: int, runs: int, program: Program, states: int
) -> None:
    found = search(beginning(workers, runs, program), Rules())
    assert found.wrong is None, str(found)
    # Fewer would mean that something can no longer happen in the model, and more that the figures we give are old.
    assert found.states == states


@pytest.mark.parametrize(
    "rule,wrong",
    [
        ("fence", LOST_CLAIM),
        ("hold", "a run was taken from a worker that had not lost its entry"),
        ("exact", LOST_WAKE),
        ("names_epoch", LOST_CLAIM),
        ("wake", LOST_WAKE),
        ("late_report_wakes", LOST_WAKE),
        ("ids", "two outcomes were recorded for one intent"),
        ("barrier", "an effect has happened without an intent"),
        ("never_repeats", "an effect without a key has happened twice for one intent"),
    ],
)
def test_without_a_rule_something_goes_wrong(rule: str, wrong: str) -> None:
    found = search(beginning(2, 1, ("write", "wait")), Rules()._replace(**{rule: False}))
    assert found.wrong == wrong, str(found)


@pytest.mark.parametrize("rule", ["lets_go", "leases_end"])
def test_without_a_rule_a_run_may_hang_for_ever(rule: str) -> None:
    found = search(beginning(2, 1, ("wait",)), Rules()._replace(**{rule: False}))
    assert found.wrong == STUCK, str(found)


def test_a_run_may_be_taken_from_anybody_at_any_time_for_the_fence_is_what_protects_it() -> None:
    found = search(beginning(2, 1, ("wait",)), Rules(leases_matter=False))
    assert found.wrong is None, str(found)
