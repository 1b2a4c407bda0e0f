"""The travel and expense policy: what it says about a claim, in euros, and why.

Two files are read: policy.json (limits) and rates.json (exchange rates). Here they are data;
``decide`` is the policy's own judgement, with which the agent's decisions are compared. The
agent never sees it: it goes by what its tools tell it of the same data.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from evrt.demo.claims import Claim

CENT = Decimal("0.01")
SATURDAY = 6

Outcome = Literal["approve", "reject", "doubtful"]
ApproveReason = Literal["within_policy"]
RejectReason = Literal["not_reimbursed", "too_old", "receipt_missing", "over_limit"]
DoubtfulReason = Literal[
    "unknown_category",
    "no_exchange_rate",
    "submitted_before_expense",
    "possible_duplicate",
    "slightly_over_limit",
    "weekend",
    "doubtful_word",
]
Reason = ApproveReason | RejectReason | DoubtfulReason

REASONS: dict[Reason, tuple[Outcome, str]] = {
    "unknown_category": ("doubtful", "The policy does not know the category."),
    "no_exchange_rate": ("doubtful", "No rate is in force for the currency on that day."),
    "not_reimbursed": ("reject", "Nothing of this category is reimbursed."),
    "too_old": ("reject", "The claim was submitted too long after the expense."),
    "receipt_missing": ("reject", "An amount like this needs a receipt."),
    "over_limit": ("reject", "The amount is over the limit of the category."),
    "submitted_before_expense": ("doubtful", "The claim was submitted before the day of the expense."),
    "possible_duplicate": ("doubtful", "An earlier claim has the same employee, date, merchant and amount."),
    "slightly_over_limit": ("doubtful", "The amount is over the limit by no more than the tolerance."),
    "weekend": ("doubtful", "Weekend expenses of this category are for a person to judge."),
    "doubtful_word": ("doubtful", "The note holds a word that a person should see."),
    "within_policy": ("approve", "Everything is within the policy."),
}


class Category(BaseModel):
    """``limit_eur`` is what one claim may come to; None: never reimbursed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    limit_eur: Decimal | None
    weekend_is_doubtful: bool = False


class Policy(BaseModel):
    """What policy.json says."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: str
    claim_age_days_max: int
    receipt_needed_above_eur: Decimal
    doubtful_over_limit_percent: Decimal
    doubtful_words: frozenset[str]
    categories: dict[str, Category]


class Rates(BaseModel):
    """What rates.json says: euros per unit of a currency, by the day since which a table is in force."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    remark: str
    eur_per_unit: dict[dt.date, dict[str, Decimal]]


@dataclass(frozen=True, slots=True)
class Decision:
    """``amount_eur`` is what the claim comes to in euros, whatever the outcome; None where no rate is known."""

    outcome: Outcome
    reason: Reason
    amount_eur: Decimal | None


def load_policy() -> Policy:
    """The policy that ships with the demo."""
    return Policy.model_validate_json((Path(__file__).parent / "policy.json").read_bytes())


def load_rates() -> Rates:
    """The exchange rates that ship with the demo."""
    return Rates.model_validate_json((Path(__file__).parent / "rates.json").read_bytes())


def decide(claim: Claim, policy: Policy, rates: Rates) -> Decision:
    """What the policy says about a claim: the first reason that applies decides."""
    amount_eur = _in_euros(claim, rates)
    reason = next(_reasons(claim, amount_eur, policy))
    return Decision(REASONS[reason][0], reason, amount_eur)


def _in_euros(claim: Claim, rates: Rates) -> Decimal | None:
    rate: Decimal | None = Decimal(1)
    if claim.currency != "EUR":
        since = max((day for day in rates.eur_per_unit if day <= claim.date), default=None)
        rate = rates.eur_per_unit[since].get(claim.currency) if since else None
    return None if rate is None else (claim.amount * rate).quantize(CENT, ROUND_HALF_UP)


def _reasons(claim: Claim, eur: Decimal | None, policy: Policy) -> Iterator[Reason]:
    category = policy.categories.get(claim.category)

    # What cannot be judged is for a person.
    if category is None:
        yield "unknown_category"
    elif eur is None:
        yield "no_exchange_rate"
    elif category.limit_eur is None:
        yield "not_reimbursed"
    else:
        # A clear no comes before a doubt.
        limit = category.limit_eur
        if (claim.submitted - claim.date).days > policy.claim_age_days_max:
            yield "too_old"
        if not claim.receipt and eur > policy.receipt_needed_above_eur:
            yield "receipt_missing"
        if eur > limit * (1 + policy.doubtful_over_limit_percent / 100):
            yield "over_limit"

        if claim.submitted < claim.date:
            yield "submitted_before_expense"
        if claim.same_as is not None:
            yield "possible_duplicate"
        if eur > limit:
            yield "slightly_over_limit"
        if category.weekend_is_doubtful and claim.date.isoweekday() >= SATURDAY:
            yield "weekend"
        if not policy.doubtful_words.isdisjoint(re.findall(r"\w+", claim.note.casefold())):
            yield "doubtful_word"
        yield "within_policy"
