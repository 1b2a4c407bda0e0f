"""Tool results of older steps are shortened once a context costs more than it should."""

from __future__ import annotations

import pytest

from evrt.agents.pruning import CEILING_TOKENS, HEAD_CHARACTERS, STEPS_PROTECTED, Pruning, apply_plan, shorten
from evrt.agents.tokens import estimate_tokens
from evrt.events import JsonObject
from evrt.events.canonical import canonical


def words(text: str) -> int:
    return len(text.split())


def steps(count: int, size: int) -> list[JsonObject]:
    """A task and ``count`` steps, each with a result of ``size`` words."""
    messages: list[JsonObject] = [{"role": "user", "content": "task"}]
    for step in range(count):
        call: JsonObject = {"id": f"c{step}", "function": {"name": "look", "arguments": "{}"}}
        messages.append({"role": "assistant", "content": None, "tool_calls": [call]})
        messages.append({"role": "tool", "tool_call_id": f"c{step}", "content": "result " * size})
    return messages


def test_pruning_begins_above_twelve_thousand_tokens_and_spares_two_steps_unless_told_otherwise() -> None:
    """B39"""
    assert (CEILING_TOKENS, STEPS_PROTECTED) == (12_000, 2)
    assert Pruning() == Pruning(ceiling=12_000, protected=2, counter=estimate_tokens)


@pytest.mark.parametrize(
    "ceiling, protected, shortened",
    [
        pytest.param(4_000, 2, [2, 4], id="all but the last two steps"),
        pytest.param(4_000, 1, [2, 4, 6], id="all but the last step"),
        pytest.param(4_000, 0, [2, 4, 6, 8], id="all"),
        pytest.param(4_000, 9, [], id="more steps are spared than there are"),
        pytest.param(4_014, 2, [], id="as many tokens as the ceiling"),
        pytest.param(4_013, 2, [2, 4], id="one more"),
        pytest.param(0, 2, [], id="switched off"),
    ],
)
def test_results_of_steps_before_the_last_ones_are_shortened(
    ceiling: int, protected: int, shortened: list[int]
) -> None:
    """B39"""
    messages = steps(4, 1_000)
    before = canonical(messages)
    plan = Pruning(ceiling, protected, words).plan(messages)
    assert [at for at, item in enumerate(plan or []) if not isinstance(item, int)] == shortened
    assert canonical(messages) == before
    assert (plan is None) is (shortened == [])


def test_a_shortened_result_says_how_large_it_was_and_how_it_begins() -> None:
    """B39"""
    message: JsonObject = {"role": "tool", "tool_call_id": "c1", "content": "result " * 1_000}
    assert shorten(message, words) == {
        "role": "tool",
        "tool_call_id": "c1",
        "content": "[Result of c1 shortened to save room: it had 1000 tokens, and begins:]\n"
        + ("result " * 1_000)[:HEAD_CHARACTERS],
        "metadata": {"kind": "shortened", "tokens": 1000},
    }
    assert shorten(shorten(message, words), words, 0)["content"] == (
        "[Result of c1 shortened to save room: it had 1000 tokens.]\n"
    ), "What is shortened again keeps its size."


def test_what_has_been_shortened_stays_as_it_is_and_short_results_stay_whole() -> None:
    """B39"""
    messages = [*steps(4, 1_000), *steps(3, 20)]
    pruning = Pruning(1_000, 2, words)
    plan = pruning.plan(messages)
    assert plan is not None
    after = apply_plan(plan, messages)
    assert [at for at, item in enumerate(plan) if not isinstance(item, int)] == [2, 4, 6, 8]
    tight = Pruning(1, 2, words)
    assert tight.plan(after) is None
