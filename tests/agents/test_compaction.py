"""What a model is sent stays within its budget: a summary of the middle, floor and tail to the byte, shorter results."""

from __future__ import annotations

import base64
import importlib.util
import json
import os
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import tiktoken
from hypothesis import given
from hypothesis import strategies as st

from evrt.agents.compaction import (
    SUMMARY_PREFIX,
    Compacted,
    Compaction,
    summary_message,
    summary_request,
    tail_start,
)
from evrt.agents.pruning import apply_plan, is_shortened
from evrt.agents.tokens import count_tokens, estimate_tokens, text_of
from evrt.errors import ContextTooLarge, UsageError
from evrt.events import JsonObject, JsonValue
from evrt.events.canonical import canonical

ROOT = Path(__file__).parent.parent.parent


def say(role: str, content: str, **more: Any) -> JsonObject:
    return {"role": role, "content": content, **more}


def asks(*ids: str, content: str | None = None) -> JsonObject:
    function: JsonObject = {"name": "look", "arguments": "{}"}
    calls: list[JsonValue] = [{"id": one, "type": "function", "function": function} for one in ids]
    return {"role": "assistant", "content": content, "tool_calls": calls}


def result(identifier: str, content: str) -> JsonObject:
    return say("tool", content, tool_call_id=identifier)


def words(text: str) -> int:
    """A counter that a reader can follow: a token is a word."""
    return len(text.split())


def texts(count: int, tokens: int) -> list[JsonObject]:
    """``count`` messages of ``tokens`` tokens each by ``words``: one is the role."""
    return [say("user", " ".join(["word"] * (tokens - 1))) for _ in range(count)]


def shown(compacted: Compacted | None, messages: Sequence[JsonObject]) -> list[JsonObject]:
    return list(messages) if compacted is None else apply_plan(compacted.plan, messages)


# ------------------------------------------------------------------------------------------ S2.25


@pytest.mark.parametrize(
    "budget, messages, fires",
    [
        pytest.param(100, texts(8, 10), False, id="80 tokens are not more than 80"),
        pytest.param(99, texts(8, 10), True, id="80 tokens are more than int(79.2)"),
        pytest.param(101, texts(8, 10), False, id="int(80.8) is 80"),
        pytest.param(100, [*texts(8, 10), say("user", "")], True, id="81 tokens are more than 80"),
        pytest.param(100, texts(5, 50), False, id="five messages never"),
        pytest.param(100, texts(6, 50), True, id="six messages"),
        pytest.param(0, texts(9, 50), False, id="no budget"),
        pytest.param(-1, texts(9, 50), False, id="less than no budget"),
    ],
)
def test_compaction_fires_above_four_fifths_of_the_budget_and_never_for_five_messages(
    budget: int, messages: list[JsonObject], fires: bool
) -> None:
    """S2.25"""
    assert Compaction(budget, words).should_compact(messages) is fires


def test_without_a_budget_nothing_is_ever_done() -> None:
    """S2.25"""
    for budget in (0, -5):
        compaction = Compaction(budget, words)
        assert compaction.look(texts(50, 1_000)) is None
        assert compaction.compact(texts(50, 1_000), "A summary.") is None


# ------------------------------------------------------------------------------- S2.26, S2.27, S2.28


def conversation() -> list[JsonObject]:
    return [
        say("system", "You are Ada.\nTask: plan a trip."),
        say("user", "one"),
        asks("c1"),
        result("c1", "two"),
        say("assistant", "three"),
        say("user", "four"),
        asks("c2", "c3"),
        result("c2", "five"),
        result("c3", "six"),
    ]


def test_the_middle_gives_way_to_one_message_and_floor_and_tail_stay_to_the_byte() -> None:
    """S2.26, S2.27"""
    messages = conversation()
    before = canonical(messages)
    compacted = Compaction(10_000).compact(messages, "we talked")
    after = shown(compacted, messages)
    assert after == [
        messages[0],
        {
            "role": "system",
            "content": "Earlier in this run: we talked",
            "metadata": {"kind": "step_compaction"},
        },
        *messages[5:],
    ]
    assert canonical([after[0], *after[2:]]) == canonical([messages[0], *messages[5:]])
    assert canonical(messages) == before, "The compactor changes nothing that it is given."
    assert compacted is not None
    assert compacted.plan[0] == 0
    assert compacted.plan[2:] == [5, 6, 7, 8]
    assert (compacted.summarised, compacted.shortened, compacted.floor) == ((1, 2, 3, 4), (), (0,))


@pytest.mark.parametrize(
    "messages, start",
    [
        pytest.param(texts(9, 2), 5, id="the last four"),
        pytest.param(
            [*texts(3, 2), asks("a"), result("a", "x"), *texts(3, 2)], 3, id="back to the call of a result"
        ),
        pytest.param(
            [*texts(2, 2), asks(*"abcdefgh"), *(result(one, "x") for one in "abcdefgh")],
            2,
            id="back over a batch of eight",
        ),
        pytest.param(
            [
                texts(1, 2)[0],
                asks("a", "b"),
                result("a", "x"),
                say("user", "u"),
                result("b", "x"),
                *texts(3, 2),
            ],
            1,
            id="back to a call that something was said after",
        ),
        pytest.param([asks("a"), *(result("a", "x") for _ in range(6))], 1, id="never into the floor"),
        pytest.param(
            [texts(1, 2)[0], *(result("z", "x") for _ in range(4)), *texts(2, 2)], 5, id="no dangling result"
        ),
        pytest.param(texts(3, 2), 1, id="few messages"),
    ],
)
def test_the_tail_is_the_last_four_messages_and_no_result_in_it_is_without_its_call(
    messages: list[JsonObject], start: int
) -> None:
    """S2.27, fault 36, fault 37"""
    assert tail_start(messages) == start


def test_what_a_summary_is_made_of_is_what_lies_between_floor_and_tail() -> None:
    """S2.28"""
    messages = conversation()
    assert list(Compaction(100).middle_to_summarise(messages)) == messages[1:5]
    assert list(Compaction(100).middle_to_summarise(messages, floor=(0, 1))) == messages[2:5]


def test_without_a_summary_nothing_is_left_out() -> None:
    """S2.28"""
    messages = conversation()
    assert Compaction(10_000).compact(messages, None) is None


def test_a_floor_of_several_messages_stays_and_the_summary_comes_after_it() -> None:
    """S2.26"""
    messages = [say("system", "persona"), say("user", "old"), say("user", "task"), *texts(6, 3)]
    compacted = Compaction(10_000).compact(messages, "s", floor=(0, 2))
    after = shown(compacted, messages)
    assert after == [messages[0], messages[2], summary_message("s"), *messages[-4:]]
    assert compacted is not None
    assert compacted.floor == (0, 1)
    again = [*after, *texts(5, 3)]
    assert shown(Compaction(10_000).compact(again, "t", compacted.floor), again)[:3] == [
        messages[0],
        messages[2],
        summary_message("t"),
    ]


def test_the_summary_is_asked_for_with_the_middle_as_material_and_long_messages_cut() -> None:
    """S2.29"""
    system, asked = summary_request([say("user", "first"), result("c1", "y" * 9_000)])
    assert system["role"] == "system"
    text = str(asked["content"])
    assert text.startswith("----\nuser: first\n----\ntool: yyy")
    assert text.endswith("y… (9,006 characters in all)\n----")


# ---------------------------------------------------------------------------- never over the budget


def test_one_batch_of_eight_large_results_is_shortened_where_there_is_no_middle_to_summarise() -> None:
    """fault 36: 8,020 tokens were sent for a budget of 1,000"""
    messages = [
        say("system", "persona and task"),
        asks(*"abcdefgh"),
        *(result(one, " ".join(["word"] * 1_000)) for one in "abcdefgh"),
    ]
    compaction = Compaction(1_000, words)
    assert compaction.should_compact(messages)
    assert list(compaction.middle_to_summarise(messages)) == []
    assert compaction.look(messages) == []
    after = shown(compaction.compact(messages, None), messages)
    assert compaction.count(messages) > 8_000
    assert 900 < compaction.count(after) <= 1_000, "As much is kept of every result as there is room for."
    assert [one.get("tool_call_id") for one in after] == [one.get("tool_call_id") for one in messages]
    assert after[:2] == messages[:2]


def test_a_large_result_is_shortened_among_few_messages_too() -> None:
    """S2.26, fault 36"""
    messages = [say("user", "task"), asks("a", "b"), result("a", "word " * 500), result("b", "small")]
    compaction = Compaction(100, words)
    assert compaction.look(messages) == []
    compacted = compaction.compact(messages, None)
    after = shown(compacted, messages)
    assert compacted is not None
    assert (compacted.summary, compacted.shortened) == (None, (2,))
    assert after[3] is messages[3]
    assert str(after[2]["content"]).startswith(
        "[Result of a shortened to save room: it had 500 tokens, and begins:]\nword word"
    )
    assert compacted.tokens_after == compaction.count(after) <= 100


def test_what_the_model_has_read_is_shortened_before_what_it_has_not() -> None:
    """S2.26, fault 36"""
    old, new = result("a", "old " * 200), result("b", "new " * 200)
    messages = [say("user", "task"), asks("a"), old, asks("b"), new]
    after = shown(Compaction(350, words).compact(messages, None), messages)
    assert is_shortened(after[2])
    assert after[4] is new


def test_a_floor_that_alone_is_over_the_budget_is_an_error_before_any_call() -> None:
    """S2.26"""
    messages = [say("system", "word " * 200), say("user", "hi")]
    with pytest.raises(ContextTooLarge, match=r"instructions and task take 201 tokens.*is 100"):
        Compaction(100, words).look(messages)
    assert issubclass(ContextTooLarge, UsageError)


def test_what_cannot_be_shortened_is_an_error_that_says_what_to_do() -> None:
    """S2.26"""
    messages = [say("system", "persona"), *texts(3, 80)]
    compaction = Compaction(100, words)
    assert compaction.look(messages) == []
    with pytest.raises(ContextTooLarge, match=r"takes 242 tokens.*Make the budget"):
        compaction.compact(messages, None)


def test_a_summary_that_is_too_long_is_cut() -> None:
    """S2.26"""
    messages = texts(10, 10)
    after = shown(Compaction(100, words).compact(messages, "long " * 500), messages)
    assert words(str(after[1]["content"])) <= 25 + words(SUMMARY_PREFIX)
    assert str(after[1]["content"]).endswith("…")


def in_steps(budget: int, steps: int, tokens: int) -> tuple[list[int], int]:
    """Tokens of each request of a loop with a large result per step, and how many summaries were made."""
    compaction = Compaction(budget, words)
    messages = [say("system", "persona and task")]
    floor: tuple[int, ...] = (0,)
    sent: list[int] = []
    summaries = 0
    for step in range(steps):
        messages = [*messages, asks(f"c{step}"), result(f"c{step}", "word " * tokens)]
        middle = compaction.look(messages, floor)
        if middle is not None:
            summaries += bool(middle)
            compacted = compaction.compact(messages, "what happened" if middle else None, floor)
            messages = shown(compacted, messages)
            floor = floor if compacted is None else compacted.floor
        sent.append(compaction.count(messages))
    return sent, summaries


def test_eight_steps_with_large_results_need_two_summaries_and_never_go_over_the_budget() -> None:
    """fault 36: there were six compactions in eight steps, and 2,139 tokens at the end for a budget of 1,000"""
    sent, summaries = in_steps(1_000, 8, 500)
    assert max(sent) <= 1_000
    assert summaries <= 2
    sent, summaries = in_steps(1_000, 60, 500)
    assert max(sent) <= 1_000
    assert summaries <= 60 // 3


def test_a_second_summary_waits_until_there_is_something_new_to_summarise() -> None:
    """fault 36"""
    compaction = Compaction(100, words)
    messages = [*texts(1, 60), summary_message("notes " * 10), *texts(1, 2), *texts(4, 3)]
    assert compaction.should_compact(messages)
    assert compaction.look(messages) is None, "2 of 86 tokens are new."
    grown = [messages[0], messages[1], *texts(1, 20), *texts(4, 3)]
    assert compaction.look(grown) == grown[1:3], "The earlier summary goes into the new one."


ids = st.sampled_from(["a", "b", "c", "d"])
sizes = st.integers(0, 300)
message_lists = st.lists(
    st.one_of(
        st.builds(lambda n: say("user", "word " * n), sizes),
        st.builds(lambda n: say("assistant", "word " * n), sizes),
        st.builds(lambda which: asks(*which), st.lists(ids, min_size=1, max_size=4, unique=True)),
        st.builds(lambda one, n: result(one, "word " * n), ids, sizes),
        st.builds(lambda n: summary_message("word " * n), sizes),
    ),
    min_size=1,
    max_size=25,
)


def orphans(messages: Sequence[Any]) -> int:
    """Results whose call is nowhere before them."""
    return sum(
        one["role"] == "tool"
        and not any(
            call["id"] == one["tool_call_id"]
            for before in messages[:at]
            for call in before.get("tool_calls", ())
        )
        for at, one in enumerate(messages)
    )


@given(messages=message_lists, budget=st.integers(1, 1_500), summary=st.none() | st.just("notes " * 40))
def test_whatever_the_messages_they_end_within_the_budget_or_in_the_error(
    messages: list[JsonObject], budget: int, summary: str | None
) -> None:
    """S2.26, S2.27, fault 36, fault 37"""
    compaction = Compaction(budget, words)
    before = canonical(messages)
    try:
        middle = compaction.look(messages)
        compacted = None if middle is None else compaction.compact(messages, summary if middle else None)
    except ContextTooLarge:
        assert compaction.count(messages) > budget
        return
    finally:
        assert canonical(messages) == before
    after = shown(compacted, messages)
    assert compaction.count(after) <= budget
    assert after[0] == messages[0]
    start = tail_start(messages)
    tail = after[len(after) - (len(messages) - start) :]
    assert [(one["role"], one.get("tool_call_id")) for one in tail] == [
        (one["role"], one.get("tool_call_id")) for one in messages[start:]
    ]
    changed = [one for one, old in zip(tail, messages[start:], strict=True) if one != old]
    assert all(is_shortened(one) for one in changed), "Of the tail only results are touched."
    assert not changed or (compacted is not None and compaction.count(messages) > budget)
    assert orphans(after) <= orphans(messages)


# ---------------------------------------------------------------------------------- counting tokens


def test_tokens_are_counted_over_role_and_content() -> None:
    """S2.25"""
    assert text_of(say("user", "hello")) == "user: hello"
    assert text_of({"role": "assistant", "content": None}) == "assistant: "
    assert text_of(asks("c1")).startswith('assistant: \n[{"function":{"arguments":"{}","name":"look"}')
    parts: JsonObject = {"role": "user", "content": [{"type": "text", "text": "é"}]}
    assert text_of(parts) == 'user: [{"text":"é","type":"text"}]'
    assert count_tokens([say("user", "a b"), say("user", "c")], words) == 5


def samples() -> dict[str, tuple[str, float, float]]:
    """Texts, and between which shares of the true number the estimate lies."""
    chance = random.Random(1)
    data = [
        {"id": i, "name": f"customer {i}", "total": round(chance.random() * 1_000, 2)} for i in range(300)
    ]
    return {
        "English": ((ROOT / "docs/architecture.md").read_text("utf-8"), 0.85, 1.1),
        "Python": ((ROOT / "src/evrt/runtime/execution.py").read_text("utf-8"), 0.9, 1.25),
        "JSON": (json.dumps(data), 0.8, 1.1),
        "German": ("Die Verhandlungen über den Haushalt wurden gestern unterbrochen. " * 20, 0.8, 1.4),
        "Russian": ("Переговоры о бюджете были вчера прерваны, и никто не знает почему. " * 20, 0.9, 2.8),
        "Chinese": ("昨天关于预算的谈判中断了，因为各党团无法达成一致意见。" * 20, 0.9, 1.9),
        "hexadecimal": (chance.randbytes(6_000).hex(), 0.65, 1.0),
        "base64": (base64.b64encode(chance.randbytes(6_000)).decode(), 0.6, 1.0),
    }


@pytest.mark.parametrize("vocabulary", ["cl100k_base", "o200k_base"])
def test_the_estimate_of_tokens_is_as_near_to_real_ones_as_its_page_says(
    vocabulary: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S2.25: the vocabularies come with litellm, so that no network is asked"""
    found = importlib.util.find_spec("litellm")
    assert found is not None
    assert found.submodule_search_locations is not None
    folder = os.path.join(found.submodule_search_locations[0], "litellm_core_utils", "tokenizers")
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", folder)
    encoding = tiktoken.get_encoding(vocabulary)
    for name, (text, least, most) in samples().items():
        share = estimate_tokens(text) / len(encoding.encode(text))
        assert least <= share <= most, f"{name}: {share:.2f} of {vocabulary}"


def test_the_estimate_grows_with_the_text_and_takes_any_text() -> None:
    """S2.25"""
    assert estimate_tokens("") == 0
    text = "Hello, wörld 42 \ud800"
    counts = [estimate_tokens(text[:length]) for length in range(len(text) + 1)]
    assert counts == sorted(counts)
