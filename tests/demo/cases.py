"""Expense claims for tests: random ones, claims as CSV, and a small loop in which a model reviews one."""

from __future__ import annotations

import csv
import datetime as dt
import io
import json
from collections.abc import Callable, Sequence
from decimal import Decimal
from pathlib import Path

from hypothesis import strategies as st

from evrt.demo import tools
from evrt.demo.claims import COLUMNS, Claim
from evrt.demo.instructions import INSTRUCTIONS, claim_prompt
from evrt.demo.policy import Policy, Rates, load_policy, load_rates
from evrt.demo.scripted import ReviewerModel
from evrt.demo.tools import DemoDeps
from evrt.effects.contract import ModelReply, ModelRequest
from evrt.effects.tools import Tool, ToolContext
from evrt.events import JsonObject

POLICY = load_policy()
RATES = load_rates()
TURNS_MAX = 10

NAMES = ("look_up_policy", "exchange_rate", "record_decision", "put_in_tray")
OFFERED: tuple[JsonObject, ...] = tuple({"type": "function", "function": {"name": name}} for name in NAMES)

A_CLAIM = Claim(
    claim="C-1",
    employee="Zoë Müller",
    date=dt.date(2025, 9, 2),
    submitted=dt.date(2025, 9, 30),
    category="meals",
    merchant="東京駅弁屋",
    amount=Decimal("20.00"),
    currency="EUR",
    receipt=True,
)


def like(claim: Claim, /, **changes: object) -> Claim:
    """The same claim with other values."""
    return claim.model_copy(update=changes)


SATURDAY = dt.date(2025, 9, 13)
EDGES: list[tuple[dict[str, object], tuple[str, str, str]]] = [
    ({}, ("approve", "within_policy", "20.00")),
    ({"amount": Decimal(60)}, ("approve", "within_policy", "60.00")),
    ({"amount": Decimal("60.01")}, ("doubtful", "slightly_over_limit", "60.01")),
    ({"amount": Decimal("63.00")}, ("doubtful", "slightly_over_limit", "63.00")),
    ({"amount": Decimal("63.01")}, ("reject", "over_limit", "63.01")),
    ({"amount": Decimal("25.00"), "receipt": False}, ("approve", "within_policy", "25.00")),
    ({"amount": Decimal("25.01"), "receipt": False}, ("reject", "receipt_missing", "25.01")),
    ({"submitted": dt.date(2025, 12, 1)}, ("approve", "within_policy", "20.00")),
    ({"submitted": dt.date(2025, 12, 2)}, ("reject", "too_old", "20.00")),
    ({"submitted": dt.date(2025, 9, 2)}, ("approve", "within_policy", "20.00")),
    ({"submitted": dt.date(2025, 9, 1)}, ("doubtful", "submitted_before_expense", "20.00")),
    ({"category": "alcohol"}, ("reject", "not_reimbursed", "20.00")),
    ({"category": "Meals"}, ("doubtful", "unknown_category", "20.00")),
    ({"same_as": "C-0"}, ("doubtful", "possible_duplicate", "20.00")),
    ({"date": SATURDAY}, ("approve", "within_policy", "20.00")),
    ({"date": SATURDAY, "category": "entertainment"}, ("doubtful", "weekend", "20.00")),
    (
        {"date": SATURDAY - dt.timedelta(1), "category": "entertainment"},
        ("approve", "within_policy", "20.00"),
    ),
    ({"date": SATURDAY + dt.timedelta(1), "category": "entertainment"}, ("doubtful", "weekend", "20.00")),
    ({"note": "Two glasses of WINE."}, ("doubtful", "doubtful_word", "20.00")),
    ({"note": "At the winery, no swine"}, ("approve", "within_policy", "20.00")),
]
"""Changes to a claim that would be approved, on either side of every rule's edge, and what they lead to."""


def deps_in(folder: Path, *, policy: Policy = POLICY, rates: Rates = RATES) -> DemoDeps:
    """A ledger and a tray of their own beside the shipped policy and rates."""
    return DemoDeps(policy, rates, lambda: folder)


# Random claims, crowded where the rules change their mind.

TEXTS = st.text(st.characters(codec="utf-8", categories=["L", "N", "P", "S"]), min_size=1, max_size=12)
WORDS = st.sampled_from(
    [*sorted(POLICY.doubtful_words), "Wine", "BEER!", "winery", "ignore the policy", "\n", ", ", '"']
)
CODED = st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"])
NOTES = st.lists(WORDS | st.text(CODED, max_size=10), max_size=6).map(" ".join) | st.text(CODED, max_size=40)
CENTS = Decimal("0.01")


@st.composite
def claims(draw: st.DrawFn) -> Claim:
    """One claim, its amount often within cents of a limit, its dates often within days of one."""
    category = draw(
        st.sampled_from(sorted(POLICY.categories)) | st.sampled_from(["wellness", "meal", "食費"])
    )
    currency = draw(st.sampled_from(["EUR", "EUR", "USD", "JPY", "CHF", "TRY", "ISK"]))
    limit = POLICY.categories[category].limit_eur if category in POLICY.categories else None
    edge = draw(st.sampled_from([limit or Decimal(1), (limit or Decimal(1)) * Decimal("1.05"), Decimal(25)]))
    rate = RATES.eur_per_unit[max(RATES.eur_per_unit)].get(currency, Decimal(1))
    near = (edge / rate).quantize(CENTS) + draw(st.integers(-3, 3)) * CENTS
    spent = draw(st.dates(dt.date(2024, 11, 1), dt.date(2025, 12, 31)) | st.dates())
    days = draw(st.integers(-2, 2) | st.integers(88, 92) | st.integers(0, 400))
    return Claim(
        claim=draw(st.from_regex(r"[A-Z]-[0-9]{3}", fullmatch=True)),
        employee=draw(TEXTS),
        date=spent,
        submitted=dt.date.fromordinal(min(max(spent.toordinal() + days, 1), dt.date.max.toordinal())),
        category=category,
        merchant=draw(TEXTS),
        amount=draw(st.just(max(near, CENTS)) | st.decimals(CENTS, Decimal("999999999.99"), places=2)),
        currency=currency,
        receipt=draw(st.booleans()),
        note=draw(NOTES),
        same_as=draw(st.none() | st.none() | st.just("A-000")),
    )


def csv_of(
    claims: Sequence[Claim], columns: Sequence[str] = COLUMNS, *, quoted: bool = False, line_end: str = "\n"
) -> bytes:
    """Claims as a spreadsheet would save them."""
    text = io.StringIO(newline="")
    rows = csv.writer(text, lineterminator=line_end, quoting=csv.QUOTE_ALL if quoted else csv.QUOTE_MINIMAL)
    rows.writerow(columns)
    for claim in claims:
        cells = claim.model_dump(mode="json") | {"receipt": "yes" if claim.receipt else "no"}
        rows.writerow([cells[column] for column in columns])
    return text.getvalue().encode()


# A review, in as few lines as a loop around a model needs.

Function = Callable[..., JsonObject]
Tools = dict[str, Function]


def tools_with(deps: DemoDeps) -> Tools:
    """The four tools, working with ``deps``."""
    return {name: use(getattr(tools, name), deps) for name in NAMES}


def use(tool: Tool, deps: DemoDeps) -> Function:
    """A tool as a plain function that checks its arguments and hands over the key, as the runtime does."""

    def function(*args: object, **kwargs: object) -> JsonObject:
        checked = tool.validate(tool.bind(args, kwargs))
        key = tool.key_for(checked, "no key") if tool.takes_key else None
        given = dict(checked) | ({"idempotency_key": key} if tool.takes_key else {})
        answer: JsonObject = tool._function(context=ToolContext("run-1", "op#1", 1, key, deps), **given)
        return answer

    return function


def opening(claim: Claim) -> list[JsonObject]:
    """The messages with which a review begins."""
    return [{"role": "system", "content": INSTRUCTIONS}, {"role": "user", "content": claim_prompt(claim)}]


async def review(claim: Claim, called: Tools, model: ReviewerModel | None = None) -> list[JsonObject]:
    """All messages of a review, up to the reply that calls no tool."""
    messages = opening(claim)
    for _ in range(TURNS_MAX):
        reply = await (model or ReviewerModel()).complete(ModelRequest("scripted", messages, OFFERED))
        messages.append(reply.message)
        calls = calls_of(reply)
        if not calls:
            return messages
        for call_id, name, arguments in calls:
            messages.append(
                {"role": "tool", "tool_call_id": call_id, "content": answer(called[name], arguments)}
            )
    raise AssertionError(f"no end after {TURNS_MAX} turns")


def calls_of(reply: ModelReply) -> list[tuple[str, str, JsonObject]]:
    """Id, name and arguments of each tool call in a reply."""
    calls = json.loads(json.dumps(reply.message.get("tool_calls", [])))
    return [
        (call["id"], call["function"]["name"], json.loads(call["function"]["arguments"])) for call in calls
    ]


def answer(tool: Function, arguments: JsonObject) -> str:
    """What the model is told of a call: its result, or its error, as JSON."""
    try:
        return json.dumps(tool(**arguments))
    except Exception as error:  # noqa: BLE001  Whatever a tool raises is an outcome that the model sees.
        return json.dumps({"error": {"type": type(error).__name__, "message": str(error)}})
