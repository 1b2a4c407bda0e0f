"""The check at the end finds whatever is missing, doubled, different or uncalled for."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from pathlib import Path

import pytest

from demo.cases import POLICY, RATES, deps_in, review, tools_with
from evrt.demo.claims import SAMPLE_PATH, Claim, read_claims
from evrt.demo.report import Verification, verify
from evrt.demo.tools import DemoDeps
from evrt.errors import Conflict

SAMPLE = read_claims(SAMPLE_PATH)


@pytest.fixture
def deps(tmp_path: Path) -> DemoDeps:
    return deps_in(tmp_path)


def review_all(claims: list[Claim], deps: DemoDeps) -> None:
    for claim in claims:
        asyncio.run(review(claim, tools_with(deps)))


def checked(deps: DemoDeps, claims: list[Claim] = SAMPLE) -> Verification:
    return verify(claims, deps.ledger, deps.tray, POLICY, RATES)


def test_a_complete_review_of_the_sample_is_in_order(deps: DemoDeps) -> None:
    review_all(SAMPLE, deps)
    found = checked(deps)
    assert found.ok
    assert found.problems == []
    assert [row.claim for row in found.rows] == SAMPLE
    assert found.outcomes == {"approve": 23, "reject": 10, "doubtful": 15}
    assert (found.deliveries_repeated, found.refusals) == (0, 0)
    amounts = [found.amount_eur(outcome) for outcome in ("approve", "reject", "doubtful")]
    assert amounts == [Decimal("2338.54"), Decimal("703.49"), Decimal("1441.31")]


def test_a_review_done_again_is_in_order_and_its_repeats_are_counted(deps: DemoDeps) -> None:
    review_all(SAMPLE[:6], deps)
    review_all(SAMPLE[:4], deps)
    found = checked(deps, SAMPLE[:6])
    assert found.ok
    assert found.deliveries_repeated == 4


def test_a_claim_that_nobody_decided_is_missing(deps: DemoDeps) -> None:
    review_all(SAMPLE[1:3], deps)
    found = checked(deps, SAMPLE[:3])
    assert not found.ok
    assert [row.verdict for row in found.rows] == ["missing", "agrees", "agrees"]
    assert found.problems == ["C-001: the policy says approve, 48.50 EUR, within_policy; found is nothing."]


@pytest.mark.parametrize(
    "decision, amount, reason",
    [
        ("reject", "48.50", "over_limit"),
        ("approve", "48.51", "within_policy"),
        ("approve", "48.50", "too_old"),
    ],
)
def test_another_decision_amount_or_reason_differs(
    deps: DemoDeps, decision: str, amount: str, reason: str
) -> None:
    deps.ledger.record("C-001", "C-001", decision, amount, reason)
    found = checked(deps, SAMPLE[:1])
    assert [row.verdict for row in found.rows] == ["differs"]
    assert found.problems == [
        f"C-001: the policy says approve, 48.50 EUR, within_policy; found is {decision}, {amount} EUR, {reason}."
    ]


def test_a_claim_decided_and_left_to_a_person_too_is_decided_more_than_once(deps: DemoDeps) -> None:
    review_all(SAMPLE[:1], deps)
    tools_with(deps)["put_in_tray"]("C-001", None, "weekend")
    found = checked(deps, SAMPLE[:1])
    assert [row.verdict for row in found.rows] == ["more than once"]
    assert found.problems[0].endswith("within_policy and doubtful, no amount, weekend.")


def test_a_claim_under_two_keys_is_decided_more_than_once(deps: DemoDeps) -> None:
    review_all(SAMPLE[:1], deps)
    deps.ledger.record("another key", "C-001", "approve", "48.50", "within_policy")
    assert not checked(deps, SAMPLE[:1]).ok


def test_a_decision_about_no_claim_is_a_stray(deps: DemoDeps) -> None:
    review_all(SAMPLE[:1], deps)
    tools_with(deps)["record_decision"]("C-999", "approve", "1.00", "within_policy")
    found = checked(deps, SAMPLE[:1])
    assert not found.ok
    assert found.problems == ["C-999: decided, but there is no such claim."]


def test_a_refused_contradiction_is_told_though_what_stands_is_right(deps: DemoDeps) -> None:
    review_all(SAMPLE[:1], deps)
    with pytest.raises(Conflict):
        tools_with(deps)["record_decision"]("C-001", "reject", "48.50", "over_limit")
    found = checked(deps, SAMPLE[:1])
    assert found.ok
    assert found.refusals == 1
