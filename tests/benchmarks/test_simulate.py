"""The simulator is right where there are formulas, and behaves as queues do where there are none."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest

from simulate import Costs, Plan, simulate

NOTHING = Costs(
    cpu_run=0.0,
    cpu_step=0.0,
    cpu_batch=0.0,
    cpu_request=0.0,
    head_batch=0.0,
    head_request=0.0,
    sync=0.0,
    handover=0.0,
    store_run=0.0,
    local=False,
)
COMPUTING = replace(NOTHING, cpu_run=0.001)
USUAL = Costs(
    cpu_run=1e-3,
    cpu_step=2e-4,
    cpu_batch=3e-4,
    cpu_request=1e-4,
    head_batch=4e-4,
    head_request=1e-4,
    sync=2e-4,
    handover=1e-4,
    store_run=3e-4,
    local=False,
)


@pytest.mark.parametrize("load", [0.3, 0.6])
def test_runs_that_only_compute_wait_as_long_as_the_formula_of_a_single_server_says(load: float) -> None:
    # Of an M/D/1 queue the mean wait is load / (2 (1 - load)) services; with one run at once all of it is lag.
    found = simulate(Plan(COMPUTING, concurrency=1, rate=load * 1_000, runs=4_000))
    wait = load / (2 * (1 - load)) * COMPUTING.cpu_run
    assert found.stay - COMPUTING.cpu_run == pytest.approx(wait, rel=0.15)
    assert found.cores_busy * 2 == pytest.approx(load, rel=0.05)


@pytest.mark.parametrize("rate", [100.0, 400.0])
def test_as_many_runs_are_in_the_system_as_arrive_while_one_of_them_stays(rate: float) -> None:
    # Little's law: it holds whatever happens inside.
    found = simulate(Plan(USUAL, workers=2, rate=rate, runs=500, steps=2))
    assert found.in_system == pytest.approx(found.runs_per_second * found.stay, rel=0.001)


def test_what_arrives_is_executed_while_there_is_room() -> None:
    found = simulate(Plan(USUAL, workers=2, rate=300, runs=1_000))
    assert found.runs_per_second == pytest.approx(300, rel=0.1)


def test_more_workers_do_more_until_the_head_of_their_log_is_always_taken() -> None:
    plans = [Plan(USUAL, workers=n, cores=n, server_cores=4, runs=400) for n in (1, 2, 4, 8, 16)]
    found = [simulate(plan) for plan in plans]
    rates = [outcome.runs_per_second for outcome in found]
    for fewer, more in pairwise(rates):
        assert more > fewer * 0.97
    assert rates[2] > rates[0] * 1.15
    assert found[-1].head_busy > 0.95
    assert rates[-1] < rates[-2] * 1.3


def test_twice_as_many_logs_with_twice_as_many_workers_do_twice_as_much() -> None:
    one = simulate(Plan(USUAL, workers=2, cores=2, server_cores=8, runs=400))
    two = simulate(Plan(USUAL, workers=4, cores=4, server_cores=8, logs=2, runs=800))
    assert two.runs_per_second == pytest.approx(2 * one.runs_per_second, rel=0.05)


def test_nothing_is_done_faster_than_its_processors_allow() -> None:
    found = simulate(Plan(COMPUTING, workers=4, cores=2, runs=1_000))
    assert found.runs_per_second <= 2 / COMPUTING.cpu_run
    assert found.runs_per_second == pytest.approx(2 / COMPUTING.cpu_run, rel=0.05)
    assert found.cores_busy <= 1.0


def test_effects_take_no_processor() -> None:
    # Twenty at once, each three calls of 0.1 s.
    found = simulate(Plan(NOTHING, concurrency=20, steps=3, effect_seconds=0.1, runs=400))
    assert found.runs_per_second == pytest.approx(20 / 0.3, rel=0.01)


def test_the_same_seed_gives_the_same_outcome_and_another_one_another() -> None:
    plan = Plan(USUAL, workers=2, rate=300, runs=300)
    assert simulate(plan) == simulate(plan)
    assert simulate(replace(plan, seed=2)) != simulate(plan)


def test_a_log_without_a_worker_is_refused() -> None:
    with pytest.raises(ValueError, match="as many workers as logs"):
        simulate(Plan(USUAL, workers=1, logs=2))


def test_commits_to_one_log_are_one_after_the_other_and_those_to_several_side_by_side() -> None:
    # A run at a time: a claim and an end, a millisecond each, alone in their batches.
    syncing = replace(NOTHING, sync=0.001)
    one = simulate(Plan(syncing, workers=4, concurrency=1, runs=400))
    four = simulate(Plan(syncing, workers=4, concurrency=1, logs=4, runs=400))
    assert one.runs_per_second == pytest.approx(500, rel=0.02)
    assert four.runs_per_second == pytest.approx(2_000, rel=0.02)
