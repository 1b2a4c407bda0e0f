"""What the reviewer can do: look up the policy and exchange rates, record a decision, fill a person's tray.

The two lookups read. The other two write, with the claim's name as idempotency key: delivered
again, they change nothing. Amounts and rates travel as text, because a float is not an amount of
money.
"""

from __future__ import annotations

import datetime as dt
import re
import time
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import evrt
from evrt.demo.ledger import Entry, Ledger, Tray
from evrt.demo.policy import ApproveReason, DoubtfulReason, Policy, Rates, RejectReason
from evrt.errors import InvalidInput
from evrt.events import JsonObject

LEDGER_FILE, TRAY_FILE = "ledger.db", "tray.db"


@dataclass(frozen=True, slots=True)
class DemoDeps:
    """What the tools work with. ``folder`` tells where ledger and tray are; it is asked at each use.

    ``confirmation_seconds`` is what ledger and tray take to confirm a delivery, as they would over a network.
    """

    policy: Policy
    rates: Rates
    folder: Callable[[], Path]
    confirmation_seconds: float = 0.0

    @property
    def ledger(self) -> Ledger:
        return Ledger(self.folder() / LEDGER_FILE)

    @property
    def tray(self) -> Tray:
        return Tray(self.folder() / TRAY_FILE)


@evrt.tool(effect="read")
def look_up_policy(context: evrt.ToolContext[DemoDeps], category: str) -> JsonObject:
    """Tell what the policy says about a category of expenses.

    Args:
        category: the claim's category, as it stands there
    """
    policy = context.deps.policy
    if category not in policy.categories:
        return {"policy_version": policy.version, "category": category, "known": False}
    rules = policy.categories[category]
    answer: JsonObject = {
        "policy_version": policy.version,
        "category": category,
        "known": True,
        "reimbursed": rules.limit_eur is not None,
    }
    if rules.limit_eur is not None:
        tolerance = rules.limit_eur * policy.doubtful_over_limit_percent / 100
        answer |= {
            "limit_eur": str(rules.limit_eur),
            "reject_above_eur": str(rules.limit_eur + tolerance),
            "receipt_needed_above_eur": str(policy.receipt_needed_above_eur),
            "claim_age_days_max": policy.claim_age_days_max,
            "weekend_is_doubtful": rules.weekend_is_doubtful,
            "doubtful_words": sorted(policy.doubtful_words),
        }
    return answer


@evrt.tool(effect="read")
def exchange_rate(context: evrt.ToolContext[DemoDeps], currency: str, date: str) -> JsonObject:
    """Tell how many euros one unit of a currency was worth on a day.

    Args:
        currency: three capital letters, such as USD
        date: the day of the expense as YYYY-MM-DD
    """
    try:
        day = dt.date.fromisoformat(date)
    except ValueError as error:
        raise InvalidInput(f"{date!r} is not a date. Give it as YYYY-MM-DD, such as 2025-09-30.") from error
    answer: JsonObject = {"currency": currency, "date": date, "known": False}
    eur_per_unit = context.deps.rates.eur_per_unit
    tables = sorted(eur_per_unit)
    in_force = bisect_right(tables, day) - 1
    if in_force >= 0 and currency in eur_per_unit[tables[in_force]]:
        rate = eur_per_unit[tables[in_force]][currency]
        answer |= {"known": True, "eur_per_unit": str(rate), "in_force_since": tables[in_force].isoformat()}
    return answer


@evrt.tool(effect="write", key=lambda claim_id, **_: claim_id)
def record_decision(
    context: evrt.ToolContext[DemoDeps],
    idempotency_key: str,
    claim_id: str,
    decision: Literal["approve", "reject"],
    amount_eur: str,
    reason: ApproveReason | RejectReason,
) -> JsonObject:
    """Record the decision about a claim, for good.

    Args:
        claim_id: the claim's name, such as C-001
        decision: approve or reject
        amount_eur: what the claim comes to in euros, with two decimals, such as 12.50
        reason: why
    """
    ledger = context.deps.ledger
    return _confirmed(context, ledger.record(idempotency_key, claim_id, decision, _euros(amount_eur), reason))


@evrt.tool(effect="write", key=lambda claim_id, **_: claim_id)
def put_in_tray(
    context: evrt.ToolContext[DemoDeps],
    idempotency_key: str,
    claim_id: str,
    amount_eur: str | None,
    reason: DoubtfulReason | Literal["tool_failed"],
) -> JsonObject:
    """Leave a doubtful claim to a person, who will decide it later.

    Args:
        claim_id: the claim's name, such as C-001
        amount_eur: what the claim comes to in euros, with two decimals; null where no rate is known
        reason: why it is doubtful
    """
    amount_eur = None if amount_eur is None else _euros(amount_eur)
    return _confirmed(context, context.deps.tray.put(idempotency_key, claim_id, amount_eur, reason))


def _euros(amount: str) -> str:
    # A model may well write 12.5 or 12; the ledger compares what it is given letter by letter.
    if not re.fullmatch(r"[0-9]{1,15}(\.[0-9]{1,2})?", amount):
        raise InvalidInput(f"{amount!r} is not an amount in euros. Give it with two decimals, such as 12.50.")
    whole, _, cents = amount.partition(".")
    return f"{int(whole)}.{cents:0<2}"


def _confirmed(context: evrt.ToolContext[DemoDeps], entry: Entry) -> JsonObject:
    """The answer, a moment after the delivery: killed in between, nobody here knows that it arrived."""
    time.sleep(context.deps.confirmation_seconds)
    return answer_for(entry)


def answer_for(entry: Entry) -> JsonObject:
    """How the model is told of an entry."""
    return {
        "claim_id": entry.claim,
        "decision": entry.decision,
        "amount_eur": entry.amount_eur,
        "reason": entry.reason,
    }
