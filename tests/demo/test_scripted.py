"""The scripted reviewer decides by the messages alone, and as the policy would."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from demo.cases import (
    A_CLAIM,
    EDGES,
    NAMES,
    OFFERED,
    POLICY,
    RATES,
    Function,
    Tools,
    answer,
    calls_of,
    claims,
    deps_in,
    like,
    opening,
    review,
    tools_with,
)
from evrt.demo.claims import SAMPLE_PATH, Claim, read_claims
from evrt.demo.instructions import INSTRUCTIONS
from evrt.demo.ledger import Entry
from evrt.demo.policy import Policy, Rates, decide
from evrt.demo.scripted import ReviewerModel, reply_to
from evrt.demo.tools import DemoDeps
from evrt.effects.contract import ModelRequest
from evrt.errors import Conflict, InvalidInput, Unavailable
from evrt.events import JsonObject

SAMPLE = read_claims(SAMPLE_PATH)
USD_CLAIM = like(A_CLAIM, currency="USD")


def reviewed(claim: Claim, deps: DemoDeps, **replaced: Function) -> tuple[list[JsonObject], Entry | None]:
    """The messages of a review, and the one entry it made."""
    messages = asyncio.run(review(claim, tools_with(deps) | replaced))
    entries = deps.ledger.entries() + deps.tray.entries()
    assert len(entries) <= 1
    return messages, entries[0] if entries else None


def raises(error: Exception) -> Function:
    """A tool that fails."""

    def tool(**arguments: object) -> JsonObject:
        raise error

    return tool


def agrees(claim: Claim, entry: Entry | None, policy: Policy = POLICY, rates: Rates = RATES) -> bool:
    """Whether an entry is what the policy says."""
    expected = decide(claim, policy, rates)
    amount = None if expected.amount_eur is None else str(expected.amount_eur)
    return entry is not None and entry[1:5] == (claim.claim, expected.outcome, amount, expected.reason)


@pytest.mark.parametrize("claim", SAMPLE, ids=lambda claim: claim.claim)
def test_a_claim_of_the_sample_is_decided_as_the_policy_says(claim: Claim, tmp_path: Path) -> None:
    messages, entry = reviewed(claim, deps_in(tmp_path))
    assert agrees(claim, entry)
    said = messages[-1]["content"]
    assert isinstance(said, str)
    assert said.startswith(f"{claim.claim} is ")
    assert said.endswith(".")


@pytest.mark.parametrize("changes, expected", EDGES)
def test_it_knows_every_rule_up_to_its_edge(
    changes: dict[str, object], expected: tuple[str, str, str], tmp_path: Path
) -> None:
    _, entry = reviewed(like(A_CLAIM, **changes), deps_in(tmp_path))
    assert entry is not None
    assert (entry.decision, entry.reason, entry.amount_eur) == expected


@given(claims())
def test_any_claim_is_decided_as_the_policy_says(claim: Claim) -> None:
    with TemporaryDirectory() as folder:
        assert agrees(claim, reviewed(claim, deps_in(Path(folder)))[1])


@given(
    claims(), st.decimals(0, 200, places=2), st.integers(0, 400), st.decimals(0, 20, places=1), st.booleans()
)
def test_it_goes_by_the_policy_that_its_tools_tell(
    claim: Claim, limit: Decimal, days: int, percent: Decimal, weekend: bool
) -> None:
    category = {"limit_eur": limit, "weekend_is_doubtful": weekend}
    policy = Policy.model_validate(
        {
            "version": "other",
            "claim_age_days_max": days,
            "receipt_needed_above_eur": limit / 2,
            "doubtful_over_limit_percent": percent,
            "doubtful_words": frozenset({"ignore"}),
            "categories": {"meals": category, "wellness": category, "taxi": {"limit_eur": None}},
        }
    )
    rates = Rates(remark="", eur_per_unit={claim.date: {"USD": Decimal("0.5"), "ISK": Decimal("3.333333")}})
    with TemporaryDirectory() as folder:
        entry = reviewed(claim, deps_in(Path(folder), policy=policy, rates=rates))[1]
    assert agrees(claim, entry, policy, rates)


def test_a_review_takes_three_turns_and_looks_up_all_it_needs_in_the_first(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    messages, _ = reviewed(USD_CLAIM, deps_in(tmp_path))
    assert [message["role"] for message in messages] == [
        "system", "user", "assistant", "tool", "tool", "assistant", "tool", "assistant",
    ]  # fmt: skip
    assert called(messages) == [["look_up_policy", "exchange_rate"], ["record_decision"]]
    assert messages[-1]["content"] == "C-1 is approved (17.06 EUR): within_policy."
    messages, _ = reviewed(like(A_CLAIM, same_as="C-0"), deps_in(tmp_path / "other"))
    assert called(messages) == [["look_up_policy"], ["put_in_tray"]]


def called(messages: list[JsonObject]) -> list[list[str]]:
    """The names of the tools called in each turn."""
    turns = json.loads(json.dumps([message["tool_calls"] for message in messages if "tool_calls" in message]))
    return [[call["function"]["name"] for call in calls] for calls in turns]


def test_a_claim_said_before_in_the_conversation_is_not_mixed_up(tmp_path: Path) -> None:
    first, _ = reviewed(A_CLAIM, deps_in(tmp_path))
    again = opening(like(USD_CLAIM, claim="C-2"))[1:]
    message = reply_to(ModelRequest("scripted", first + again, OFFERED))
    assert called([message]) == [["look_up_policy", "exchange_rate"]]


def test_equal_messages_give_equal_replies_in_every_process(tmp_path: Path) -> None:
    messages, _ = reviewed(USD_CLAIM, deps_in(tmp_path))
    script = (
        "import asyncio, json, sys\n"
        "from evrt.demo.scripted import ReviewerModel\n"
        "from evrt.effects.contract import ModelRequest\n"
        "request = ModelRequest('scripted', *json.load(sys.stdin))\n"
        "print(asyncio.run(ReviewerModel().complete(request)))"
    )
    for length in (2, 5, 7):
        request = ModelRequest("scripted", messages[:length], OFFERED)
        here = asyncio.run(ReviewerModel().complete(request))
        assert here.message == messages[length]
        for seed in ("1", "2"):
            there = subprocess.run(
                [sys.executable, "-c", script],
                input=json.dumps([messages[:length], OFFERED]),
                env=os.environ | {"PYTHONHASHSEED": seed},
                capture_output=True,
                text=True,
                check=True,
            )
            assert there.stdout == f"{here}\n"


@pytest.mark.parametrize("broken", ["look_up_policy", "exchange_rate"])
@pytest.mark.parametrize("error", [Unavailable("The network is away."), InvalidInput("No.")])
def test_a_lookup_that_fails_leaves_the_claim_to_a_person(
    broken: str, error: Exception, tmp_path: Path
) -> None:
    _, entry = reviewed(USD_CLAIM, deps_in(tmp_path), **{broken: raises(error)})
    amount = "17.06" if broken == "look_up_policy" else None
    assert entry == Entry("C-1", "C-1", "doubtful", amount, "tool_failed")


def test_a_decision_that_cannot_be_recorded_goes_to_a_person(tmp_path: Path) -> None:
    messages, entry = reviewed(A_CLAIM, deps_in(tmp_path), record_decision=raises(Conflict("Decided.")))
    assert entry == Entry("C-1", "C-1", "doubtful", "20.00", "tool_failed")
    assert messages[-1]["content"] == "C-1 is left to a person (20.00 EUR): tool_failed."


def test_when_nothing_can_be_recorded_it_says_so_and_stops(tmp_path: Path) -> None:
    broken = raises(Unavailable("The disk is full."))
    messages, entry = reviewed(A_CLAIM, deps_in(tmp_path), record_decision=broken, put_in_tray=broken)
    assert entry is None
    assert "could neither be decided nor be left to a person" in str(messages[-1]["content"])


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(["NaN", "1.00", "x", ""]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["error", "known"]), inner),
    max_leaves=3,
)
FIELDS = [
    "known",
    "reimbursed",
    "limit_eur",
    "reject_above_eur",
    "receipt_needed_above_eur",
    "claim_age_days_max",
]


@given(
    st.sampled_from(["look_up_policy", "exchange_rate"]),
    VALUES
    | st.dictionaries(
        st.sampled_from([*FIELDS, "weekend_is_doubtful", "doubtful_words", "eur_per_unit"]), VALUES
    ),
    st.booleans(),
)
def test_no_answer_of_a_tool_can_break_a_review(broken: str, answered: object, whole: bool) -> None:
    with TemporaryDirectory() as folder:
        deps = deps_in(Path(folder))
        right = tools_with(deps)

        def tool(**arguments: object) -> JsonObject:
            if whole or not isinstance(answered, dict):
                return answered  # type: ignore[return-value]
            return right[broken](**arguments) | answered

        messages, _ = reviewed(USD_CLAIM, deps, **{broken: tool})
    assert str(messages[-1]["content"]).startswith("C-1 ")


@pytest.mark.parametrize(
    "content", [None, "", "Error: time-out", "[]", "null", '"known"', '{"error": "x"}', "{", 7]
)
def test_a_tool_message_that_is_no_answer_counts_as_an_error(content: None | str | int) -> None:
    messages = opening(A_CLAIM)
    messages.append(reply_to(ModelRequest("scripted", messages, OFFERED)))
    [(call_id, _, _)] = calls_of(
        asyncio.run(ReviewerModel().complete(ModelRequest("s", messages[:2], OFFERED)))
    )
    messages.append({"role": "tool", "tool_call_id": call_id, "content": content})
    reply = asyncio.run(ReviewerModel().complete(ModelRequest("scripted", messages, OFFERED)))
    assert [(name, arguments["reason"]) for _, name, arguments in calls_of(reply)] == [
        ("put_in_tray", "tool_failed")
    ]


def test_without_a_claim_it_asks_for_one_and_without_tools_it_sums_up() -> None:
    def said(messages: list[JsonObject], tools: tuple[JsonObject, ...]) -> object:
        return reply_to(ModelRequest("scripted", messages, tools))["content"]

    assert "Please give me one" in str(said([{"role": "user", "content": "Hello"}], OFFERED))
    assert "Please give me one" in str(
        said([{"role": "user", "content": f"{opening(A_CLAIM)[1]['content']}?"}], ())
    )
    assert said(opening(A_CLAIM), ()) == "C-1 is not decided yet."
    summed_up: list[JsonObject] = [*opening(A_CLAIM), {"role": "user", "content": "Sum up, please."}]
    assert said(summed_up, ()) == "C-1 is not decided yet."


def test_streamed_pieces_make_up_the_text_and_usage_grows_with_the_conversation(tmp_path: Path) -> None:
    messages, _ = reviewed(A_CLAIM, deps_in(tmp_path))
    model = ReviewerModel(latency_seconds=0.001)
    pieces: list[str] = []
    last = asyncio.run(model.complete(ModelRequest("scripted", messages[:-1], OFFERED), pieces.append))
    assert len(pieces) > 1
    assert "".join(pieces) == last.message["content"]
    assert (last.finish_reason, last.provider, last.model_returned) == ("stop", "scripted", "scripted")
    silent: list[str] = []
    first = asyncio.run(model.complete(ModelRequest("scripted", messages[:2], OFFERED), silent.append))
    assert silent == []
    assert first.finish_reason == "tool_calls"
    assert 0 < first.usage.output_tokens < first.usage.input_tokens < last.usage.input_tokens


def test_the_instructions_name_every_tool_and_all_that_the_policy_tool_tells(tmp_path: Path) -> None:
    tools: Tools = tools_with(deps_in(tmp_path))
    told = {*json.loads(answer(tools["look_up_policy"], {"category": "meals"}))} - {
        "policy_version",
        "category",
    }
    told |= {*json.loads(answer(tools["exchange_rate"], {"currency": "USD", "date": "2025-09-02"}))} - {
        "in_force_since"
    }
    assert [name for name in (*NAMES, *told) if name not in INSTRUCTIONS] == []
