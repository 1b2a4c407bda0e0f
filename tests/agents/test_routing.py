"""The router goes by rules alone, in one order, and says which of them held."""

from __future__ import annotations

import pytest

from evrt.agents.routing import Route, TurnFacts, is_about_identity, is_boilerplate, route_step, route_turn


@pytest.mark.parametrize(
    "facts, tier, rule",
    [
        pytest.param(TurnFacts(pin="small"), "small", "pin", id="a pin goes before the first turn"),
        pytest.param(
            TurnFacts(3, "thanks", pin="frontier"), "frontier", "pin", id="a pin goes before small talk"
        ),
        pytest.param(
            TurnFacts(0, "thanks"), "frontier", "first_turn", id="the first turn goes before small talk"
        ),
        pytest.param(
            TurnFacts(0, "who are you?"), "frontier", "first_turn", id="the first turn goes before identity"
        ),
        pytest.param(TurnFacts(1, "Thanks!"), "small", "boilerplate", id="small talk"),
        pytest.param(
            TurnFacts(1, "hi", identity=True), "small", "boilerplate", id="small talk goes before identity"
        ),
        pytest.param(TurnFacts(1, "So who are you, really?"), "frontier", "identity", id="identity"),
        pytest.param(TurnFacts(1, "Compare these two offers."), "mid", "default", id="anything else"),
        pytest.param(
            TurnFacts(1, "thanks", boilerplate=False), "mid", "default", id="whoever calls knows better"
        ),
        pytest.param(TurnFacts(7, "go", boilerplate=True), "small", "boilerplate", id="and here"),
        pytest.param(TurnFacts(7, "who are you", identity=False), "mid", "default", id="and here too"),
    ],
)
def test_a_turn_goes_by_pin_first_turn_small_talk_identity_and_else_to_mid(
    facts: TurnFacts, tier: str, rule: str
) -> None:
    """B31, S2.4"""
    route = route_turn(facts)
    assert (route.tier, route.rule) == (tier, rule)
    assert route.rationale.endswith(".")


@pytest.mark.parametrize(
    "step, after_reasoning, tier, rule",
    [
        (0, False, "frontier", "first_step"),
        (0, True, "frontier", "first_step"),
        (1, True, "frontier", "after_reasoning"),
        (1, False, "mid", "default"),
        (9, False, "mid", "default"),
    ],
)
def test_a_step_goes_to_frontier_at_first_and_after_reasoning_and_else_to_mid(
    step: int, after_reasoning: bool, tier: str, rule: str
) -> None:
    """B30"""
    route = route_step(step, after_reasoning=after_reasoning)
    assert (route.tier, route.rule) == (tier, rule)


def test_a_pin_holds_for_steps_too() -> None:
    """B30"""
    assert route_step(0, pin="small") == Route("small", "pin", "The tier small was asked for.")


@pytest.mark.parametrize(
    "text, small_talk",
    [
        ("ok", True),
        ("Thanks so much!", True),
        ("hello, good morning", True),
        ("Great, sounds good.", True),
        ("", False),
        ("ok, delete all of my files", False),
        ("Thanks, but please change my email", False),
        ("no. " * 7, False),
        ("Okinawa", False),
    ],
)
def test_small_talk_is_what_says_nothing_else(text: str, small_talk: bool) -> None:
    """B31"""
    assert is_boilerplate(text) is small_talk


@pytest.mark.parametrize(
    "text, identity",
    [
        ("Who are you?", True),
        ("what's your name", True),
        ("Are you a bot?", True),
        ("Please introduce yourself.", True),
        ("Who are your customers?", False),
        ("Who owns this repository?", False),
    ],
)
def test_a_question_for_the_agent_itself_is_known_by_its_words(text: str, identity: bool) -> None:
    """B31"""
    assert is_about_identity(text) is identity
