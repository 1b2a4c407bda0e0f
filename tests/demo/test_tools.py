"""The tools answer from the data, take amounts as models write them, and refuse what is not one."""

from __future__ import annotations

from pathlib import Path

import pytest

from demo.cases import NAMES, Tools, deps_in, tools_with
from evrt.demo import tools
from evrt.demo.tools import DemoDeps
from evrt.errors import Conflict, InvalidInput


@pytest.fixture
def deps(tmp_path: Path) -> DemoDeps:
    return deps_in(tmp_path)


@pytest.fixture
def use(deps: DemoDeps) -> Tools:
    return tools_with(deps)


def test_the_policy_is_told_by_category(use: Tools, deps: DemoDeps) -> None:
    assert use["look_up_policy"]("entertainment") == {
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
    assert use["look_up_policy"]("fines") == {
        "policy_version": "2025-07",
        "category": "fines",
        "known": True,
        "reimbursed": False,
    }
    assert use["look_up_policy"]("東京") == {"policy_version": "2025-07", "category": "東京", "known": False}


@pytest.mark.parametrize(
    "currency, date, rate, since",
    [
        ("USD", "2025-06-30", "0.9251", "2025-04-01"),
        ("USD", "2025-07-01", "0.8532", "2025-07-01"),
        ("JPY", "2031-01-01", "0.005762", "2025-10-01"),
    ],
)
def test_a_rate_is_that_of_the_table_in_force(
    use: Tools, currency: str, date: str, rate: str, since: str
) -> None:
    expected = {
        "currency": currency,
        "date": date,
        "known": True,
        "eur_per_unit": rate,
        "in_force_since": since,
    }
    assert use["exchange_rate"](currency, date) == expected


@pytest.mark.parametrize(
    "currency, date", [("ISK", "2025-09-01"), ("TRY", "2025-10-01"), ("USD", "2024-12-31")]
)
def test_where_no_rate_is_in_force_it_says_so(use: Tools, currency: str, date: str) -> None:
    assert use["exchange_rate"](currency, date) == {"currency": currency, "date": date, "known": False}


def test_a_day_that_is_none_is_refused(use: Tools) -> None:
    with pytest.raises(InvalidInput, match="'yesterday' is not a date"):
        use["exchange_rate"]("USD", "yesterday")


def test_the_lookups_read_and_the_writes_take_the_claim_as_key(use: Tools, deps: DemoDeps) -> None:
    declared = {name: getattr(tools, name) for name in NAMES}
    assert {name: tool.effect for name, tool in declared.items()} == {
        "look_up_policy": "read",
        "exchange_rate": "read",
        "record_decision": "write",
        "put_in_tray": "write",
    }
    assert all(tool.repeatable for tool in declared.values())
    use["record_decision"]("C-1", "approve", "12.50", "within_policy")
    use["put_in_tray"]("C-2", "12.50", "weekend")
    assert [entry.key for entry in deps.ledger.entries() + deps.tray.entries()] == ["C-1", "C-2"]


def test_a_claim_is_the_key_of_its_decision(use: Tools, deps: DemoDeps) -> None:
    first = use["record_decision"]("C-1", "approve", "12.5", "within_policy")
    again = use["record_decision"]("C-1", "approve", "12.50", "within_policy")
    assert first == again
    assert first == {
        "claim_id": "C-1",
        "decision": "approve",
        "amount_eur": "12.50",
        "reason": "within_policy",
    }
    with pytest.raises(Conflict):
        use["record_decision"]("C-1", "reject", "12.50", "over_limit")
    assert [entry.deliveries for entry in deps.ledger.entries()] == [2]


def test_a_claim_is_the_key_of_its_place_in_the_tray(use: Tools, deps: DemoDeps) -> None:
    first = use["put_in_tray"]("C-1", None, "no_exchange_rate")
    assert use["put_in_tray"]("C-1", None, "no_exchange_rate") == first
    assert use["put_in_tray"]("C-2", "007", "tool_failed")["amount_eur"] == "7.00"
    assert [(entry.key, entry.deliveries) for entry in deps.tray.entries()] == [("C-1", 2), ("C-2", 1)]
    assert deps.ledger.entries() == []


@pytest.mark.parametrize("word", ["Approve", "doubtful", ""])
def test_what_is_not_a_decision_is_refused_before_the_tool_is_called(
    use: Tools, deps: DemoDeps, word: str
) -> None:
    with pytest.raises(InvalidInput, match="decision: Input should be 'approve' or 'reject'"):
        use["record_decision"]("C-1", word, "12.50", "within_policy")
    assert deps.ledger.entries() == []


@pytest.mark.parametrize("amount", ["", "12,50", "1e3", "-1.00", "12.345", "NaN", "12.", "٣", "12.50 EUR"])
def test_what_is_not_an_amount_is_refused_and_nothing_recorded(
    use: Tools, deps: DemoDeps, amount: str
) -> None:
    with pytest.raises(InvalidInput, match="is not an amount in euros"):
        use["record_decision"]("C-1", "approve", amount, "within_policy")
    with pytest.raises(InvalidInput, match="is not an amount in euros"):
        use["put_in_tray"]("C-1", amount, "weekend")
    assert deps.ledger.entries() + deps.tray.entries() == []
