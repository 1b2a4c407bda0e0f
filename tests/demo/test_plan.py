"""What the demo is asked for is checked in full before a folder is made for it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from demo.cases import A_CLAIM, like
from demo.stories import claims_file
from evrt.demo.claims import SAMPLE_PATH
from evrt.demo.plan import WAITS_SECONDS, Plan, make_plan
from evrt.errors import InvalidInput, UsageError


def test_without_further_wishes_the_sample_is_killed_in_its_middle_half(tmp_path: Path) -> None:
    plans = [make_plan(parent=tmp_path) for _ in range(100)]
    assert {plan.source for plan in plans} == {SAMPLE_PATH}
    assert all(plan.scripted for plan in plans)
    kills = {plan.kill_after for plan in plans}
    assert kills <= set(range(12, 37))
    assert len(kills) > 1


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 7, 8])
def test_few_claims_leave_at_least_one_for_after_the_kill(tmp_path: Path, count: int) -> None:
    file = claims_file(tmp_path, count)
    kills = {make_plan(claims=file, parent=tmp_path / "demos").kill_after for _ in range(50)}
    assert kills <= set(range(count))
    assert {make_plan(claims=file, parent=tmp_path, kill_after=n).kill_after for n in range(count)} == set(
        range(count)
    )


@pytest.mark.parametrize("asked", [-1, 3, 1_000])
def test_a_kill_that_cannot_be_is_refused(tmp_path: Path, asked: int) -> None:
    with pytest.raises(
        UsageError, match=f"--kill-after {asked}: with 3 claims the kill can come after 0 to 2"
    ):
        make_plan(claims=claims_file(tmp_path, 3), parent=tmp_path / "demos", kill_after=asked)
    assert not (tmp_path / "demos").exists()


def test_more_claims_than_an_event_can_hold_are_refused_with_how_many_fit(tmp_path: Path) -> None:
    claims = [like(A_CLAIM, claim=f"C-{n}", note="n" * 1_000) for n in range(1_000)]
    with pytest.raises(
        InvalidInput, match=r"holds 1,000 claims, more than one run can take .* about \d{3} of them fit"
    ):
        make_plan(claims=claims_file(tmp_path, claims), parent=tmp_path / "demos")
    assert not (tmp_path / "demos").exists()


def test_demos_begun_at_the_same_time_get_folders_of_their_own(tmp_path: Path) -> None:
    parent = tmp_path / "deep" / "down"
    with ThreadPoolExecutor(8) as threads:
        plans = list(threads.map(lambda _: make_plan(parent=parent), range(24)))
    assert {plan.folder for plan in plans} == {parent / str(n) for n in range(1, 25)}


def test_foreign_names_beside_the_demos_are_left_alone(tmp_path: Path) -> None:
    for name in ("notes", "7", "03x"):
        (tmp_path / name).mkdir()
    assert make_plan(parent=tmp_path).folder == tmp_path / "8"


@pytest.mark.parametrize("count", [1, 5, 6, 7, 48, 3_000])
def test_all_waits_together_take_no_longer_than_two_seconds(count: int) -> None:
    plan = Plan([A_CLAIM] * count, SAMPLE_PATH, Path(), 0)
    in_a_row = min(count, 6) + -(-max(0, count - 6) // 6)
    assert 0 < plan.latency_seconds * 4 * in_a_row <= WAITS_SECONDS + 1e-9
