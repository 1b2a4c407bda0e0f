"""A model without a network, for the demo: it reads the claim and what the tools answer, as a real one would.

It keeps nothing between calls: each reply follows from the messages alone, so it is the same
after a crash, in another process, and in a replay. It knows the rules of the instructions; what
the policy says about a category, and what a currency was worth, it learns only from the tools.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from collections.abc import Sequence
from datetime import timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import Any, NamedTuple

from pydantic import ValidationError

from evrt.demo.claims import Claim
from evrt.demo.instructions import CLAIM_FOLLOWS
from evrt.effects.contract import ModelReply, ModelRequest, OnDelta
from evrt.events import JsonObject
from evrt.events.calls import Usage

CHARACTERS_PER_TOKEN = 4

# JSON from outside: what it holds is tried, not assumed.
Json = dict[str, Any]


class Call(NamedTuple):
    """A tool call made earlier about this claim. ``answer`` is None where the tool gave none, or an error."""

    name: str
    arguments: Json
    answer: Json | None


class ReviewerModel:
    """Reviews one expense claim in three turns: look up, decide, report."""

    def __init__(self, *, latency_seconds: float = 0.0) -> None:
        self.latency_seconds = latency_seconds

    async def complete(self, request: ModelRequest, on_delta: OnDelta | None = None) -> ModelReply:
        """What a provider would send back, usage included."""
        await asyncio.sleep(self.latency_seconds)
        message = reply_to(request)
        text = message["content"]
        if on_delta is not None and isinstance(text, str):
            for piece in re.findall(r"\S+\s*", text):
                on_delta(piece)
        prompt = [list(request.messages), list(request.tools)]
        return ModelReply(
            message=message,
            finish_reason="tool_calls" if "tool_calls" in message else "stop",
            provider="scripted",
            model_returned=request.model,
            response_id=f"scripted-{_digest([prompt, message])}",
            usage=Usage(input_tokens=_tokens(prompt), output_tokens=_tokens(message)),
        )


def reply_to(request: ModelRequest) -> JsonObject:
    """The assistant's message that follows from a request."""
    claim, since = _claim_in(request.messages)
    if claim is None:
        return _says("I review expense claims. Please give me one, as a line of JSON.")
    calls = _calls_in(request.messages[since:])
    writes = [call for call in calls if call.name in ("record_decision", "put_in_tray")]
    done = next((call for call in writes if call.answer is not None), None)
    if done is not None:
        return _says(_report(done))
    # Without tools, the reply is meant as a summary: the run has used up its turns.
    if not request.tools:
        return _says(f"{claim.claim} is not decided yet.")
    if not calls:
        return _asks(claim, _lookups(claim))
    if not writes:
        return _asks(claim, [_decision(claim, calls)])
    if writes[-1].name == "record_decision":
        return _asks(claim, [_for_a_person(claim, calls, "tool_failed")])
    return _says(f"{claim.claim} could neither be decided nor be left to a person: the tools failed.")


# Reading.


def _claim_in(messages: Sequence[JsonObject]) -> tuple[Claim | None, int]:
    """The claim given last, and where the messages after it begin."""
    for index in reversed(range(len(messages))):
        text = messages[index].get("content")
        if messages[index].get("role") == "user" and isinstance(text, str) and text.startswith(CLAIM_FOLLOWS):
            try:
                return Claim.model_validate_json(text.removeprefix(CLAIM_FOLLOWS)), index + 1
            except ValidationError:
                return None, 0
    return None, 0


def _calls_in(messages: Sequence[JsonObject]) -> list[Call]:
    answers: dict[object, Json | None] = {}
    made: list[Json] = []
    for message in messages:
        if message.get("role") == "tool":
            answers[message.get("tool_call_id")] = _answer(message.get("content"))
        elif isinstance(calls := message.get("tool_calls"), Sequence):
            made.extend(call for call in calls if isinstance(call, dict))
    return [
        Call(call["function"]["name"], json.loads(call["function"]["arguments"]), answers.get(call["id"]))
        for call in made
    ]


def _answer(content: object) -> Json | None:
    """A tool's answer is a JSON object; whatever else comes back counts as an error."""
    try:
        found = json.loads(content) if isinstance(content, str) else None
    except ValueError:
        return None
    return found if isinstance(found, dict) and "error" not in found else None


# Deciding.


def _lookups(claim: Claim) -> list[tuple[str, Json]]:
    lookups: list[tuple[str, Json]] = [("look_up_policy", {"category": claim.category})]
    if claim.currency != "EUR":
        arguments = {"currency": claim.currency, "date": claim.date.isoformat()}
        lookups.append(("exchange_rate", arguments))
    return lookups


def _decision(claim: Claim, calls: list[Call]) -> tuple[str, Json]:
    try:
        rules = _told(calls, "look_up_policy")
        amount = _amount_eur(claim, calls)
        decision, reason = _verdict(claim, rules, amount)
    except (LookupError, ValueError, TypeError, ArithmeticError):
        # An answer is missing, or is not what the instructions promise: nothing to decide by.
        return _for_a_person(claim, calls, "tool_failed")
    if decision == "doubtful":
        return _for_a_person(claim, calls, reason)
    arguments = {"claim_id": claim.claim, "decision": decision, "amount_eur": str(amount), "reason": reason}
    return "record_decision", arguments


def _verdict(claim: Claim, rules: Json, amount: Decimal | None) -> tuple[str, str]:
    """The rules of the instructions, in their order. Raises where the answers do not allow a verdict."""
    if not rules["known"]:
        return "doubtful", "unknown_category"
    if amount is None:
        return "doubtful", "no_exchange_rate"
    if not rules["reimbursed"]:
        return "reject", "not_reimbursed"
    age, age_max = claim.submitted - claim.date, timedelta(days=rules["claim_age_days_max"])
    needs_receipt = amount > Decimal(rules["receipt_needed_above_eur"])
    words = re.findall(r"\w+", claim.note.casefold())
    rules_left = [
        (age > age_max, "reject", "too_old"),
        (needs_receipt and not claim.receipt, "reject", "receipt_missing"),
        (amount > Decimal(rules["reject_above_eur"]), "reject", "over_limit"),
        (claim.submitted < claim.date, "doubtful", "submitted_before_expense"),
        (claim.same_as is not None, "doubtful", "possible_duplicate"),
        (amount > Decimal(rules["limit_eur"]), "doubtful", "slightly_over_limit"),
        (rules["weekend_is_doubtful"] and claim.date.weekday() in (5, 6), "doubtful", "weekend"),
        (any(word in rules["doubtful_words"] for word in words), "doubtful", "doubtful_word"),
        (True, "approve", "within_policy"),
    ]
    return next((decision, reason) for applies, decision, reason in rules_left if applies)


def _amount_eur(claim: Claim, calls: list[Call]) -> Decimal | None:
    amount = claim.amount
    if claim.currency != "EUR":
        rate = _told(calls, "exchange_rate")
        if not rate["known"]:
            return None
        amount *= Decimal(rate["eur_per_unit"])
    return amount.quantize(Decimal("0.01"), ROUND_HALF_UP)


def _told(calls: list[Call], name: str) -> Json:
    for call in calls:
        if call.name == name and call.answer is not None:
            return call.answer
    raise LookupError(name)


def _for_a_person(claim: Claim, calls: list[Call], reason: str) -> tuple[str, Json]:
    try:
        amount = _amount_eur(claim, calls)
    except (LookupError, ValueError, TypeError, ArithmeticError):
        amount = None
    euros = None if amount is None else str(amount)
    return "put_in_tray", {"claim_id": claim.claim, "amount_eur": euros, "reason": reason}


# Writing.


def _says(text: str) -> JsonObject:
    return {"role": "assistant", "content": text}


def _asks(claim: Claim, calls: list[tuple[str, Json]]) -> JsonObject:
    return {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {
                "id": f"call_{_digest([claim.claim, name, arguments])}",
                "type": "function",
                "function": {"name": name, "arguments": json.dumps(arguments, ensure_ascii=False)},
            }
            for name, arguments in calls
        ],
    }


def _report(done: Call) -> str:
    said = done.arguments
    what = {"approve": "is approved", "reject": "is rejected"}.get(
        said.get("decision", ""), "is left to a person"
    )
    money = "" if said["amount_eur"] is None else f" ({said['amount_eur']} EUR)"
    return f"{said['claim_id']} {what}{money}: {said['reason']}."


def _digest(value: object) -> str:
    return hashlib.sha256(_json(value).encode()).hexdigest()[:24]


def _tokens(value: object) -> int:
    """About what a tokenizer would count."""
    return len(_json(value)) // CHARACTERS_PER_TOKEN + 1


def _json(value: object) -> str:
    return json.dumps(value, sort_keys=True)
