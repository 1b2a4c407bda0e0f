"""The tools answer from the data, take amounts as models write them, and refuse what is not one."""

from __future__ import annotations

from pathlib import Path

import pytest

from demo.cases import deps_in
from evrt.demo.tools import DemoDeps, exchange_rate, look_up_policy, put_in_tray, record_decision
from evrt.errors import Conflict, InvalidInput


@pytest.fixture
def deps(tmp_path: Path) -> DemoDeps:
    return deps_in(tmp_path)


def test_the_policy_is_told_by_category(deps: DemoDeps) -> None:
    assert look_up_policy(deps, "entertainment") == {
        "policy_version": "2025-07",
        "category": "entertainment",
        "known": True,
        "reimbursed": True,
        "limit_eur": "120.00",
        "reject_above_eur": "126.00",
        "receipt_needed_above_eur": "25.00",
        "claim_age_days_max": 90,
        "weekend_is_doubtful": True,
        "doubtful_words": sorted(deps.policy.doubtful_words),
    }
    assert look_up_policy(deps, "fines") == {
        "policy_version": "2025-07",
        "category": "fines",
        "known": True,
        "reimbursed": False,
    }
    assert look_up_policy(deps, "東京") == {"policy_version": "2025-07", "category": "東京", "known": False}


@pytest.mark.parametrize(
    "currency, date, rate, since",
    [
        ("USD", "2025-06-30", "0.9251", "2025-04-01"),
        ("USD", "2025-07-01", "0.8532", "2025-07-01"),
        ("JPY", "2031-01-01", "0.005762", "2025-10-01"),
    ],
)
def test_a_rate_is_that_of_the_table_in_force(
    deps: DemoDeps, currency: str, date: str, rate: str, since: str
) -> None:
    expected = {
        "currency": currency,
        "date": date,
        "known": True,
        "eur_per_unit": rate,
        "in_force_since": since,
    }
    assert exchange_rate(deps, currency, date) == expected


@pytest.mark.parametrize(
    "currency, date", [("ISK", "2025-09-01"), ("TRY", "2025-10-01"), ("USD", "2024-12-31")]
)
def test_where_no_rate_is_in_force_it_says_so(deps: DemoDeps, currency: str, date: str) -> None:
    assert exchange_rate(deps, currency, date) == {"currency": currency, "date": date, "known": False}


def test_a_day_that_is_none_is_refused(deps: DemoDeps) -> None:
    with pytest.raises(InvalidInput, match="'yesterday' is not a date"):
        exchange_rate(deps, "USD", "yesterday")


def test_a_claim_is_the_key_of_its_decision(deps: DemoDeps) -> None:
    first = record_decision(deps, "C-1", "approve", "12.5", "within_policy")
    again = record_decision(deps, "C-1", "approve", "12.50", "within_policy")
    assert first == again
    assert first == {
        "claim_id": "C-1",
        "decision": "approve",
        "amount_eur": "12.50",
        "reason": "within_policy",
    }
    with pytest.raises(Conflict):
        record_decision(deps, "C-1", "reject", "12.50", "over_limit")
    assert [entry.deliveries for entry in deps.ledger.entries()] == [2]


def test_a_claim_is_the_key_of_its_place_in_the_tray(deps: DemoDeps) -> None:
    first = put_in_tray(deps, "C-1", None, "no_exchange_rate")
    assert put_in_tray(deps, "C-1", None, "no_exchange_rate") == first
    assert put_in_tray(deps, "C-2", "007", "tool_failed")["amount_eur"] == "7.00"
    assert [(entry.key, entry.deliveries) for entry in deps.tray.entries()] == [("C-1", 2), ("C-2", 1)]
    assert deps.ledger.entries() == []


@pytest.mark.parametrize("amount", ["", "12,50", "1e3", "-1.00", "12.345", "NaN", "12.", "٣", "12.50 EUR"])
def test_what_is_not_an_amount_is_refused_and_nothing_recorded(deps: DemoDeps, amount: str) -> None:
    with pytest.raises(InvalidInput, match="is not an amount in euros"):
        record_decision(deps, "C-1", "approve", amount, "within_policy")
    with pytest.raises(InvalidInput, match="is not an amount in euros"):
        put_in_tray(deps, "C-1", amount, "weekend")
    assert deps.ledger.entries() + deps.tray.entries() == []
