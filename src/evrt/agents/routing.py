"""Which tier of models a turn or a step is worth, by rules alone: the same facts, the same tier."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from evrt.agents.tiers import Tier


class Route(NamedTuple):
    """What the router chose: the tier, the rule that chose it, and the reason in words."""

    tier: Tier
    rule: str
    rationale: str


@dataclass(frozen=True, slots=True)
class TurnFacts:
    """What the router knows of a turn: nothing else, so that a replay routes as the run did.

    ``turn`` counts from 0. ``text`` is what the user said. ``pin`` is a tier that was asked for. ``boilerplate`` and
    ``identity`` say whether the text is small talk, or asks who the agent is; None has the router look at the text.
    """

    turn: int = 0
    text: str = ""
    pin: Tier | None = None
    boilerplate: bool | None = None
    identity: bool | None = None


Router = Callable[[TurnFacts], Route]
"""A router of one's own is a pure function like ``route_turn``."""

BOILERPLATE_WORDS_MAX = 6
"""Small talk is short; what is longer says something."""
BOILERPLATE = re.compile(
    r"(?:(?:ok(?:ay)?|yes|yep|no|nope|sure|fine|great|good|nice|perfect|cool|thanks?|thank you|thx|cheers|hi|hello|hey|bye"
    r"|goodbye|good (?:morning|evening|night)|got it|i see|sounds good|will do|go on|continue|next|please|so much|very much"
    r"|a lot|that'?s all|all good|no problem|you'?re welcome)[\s.,!]*)+",
    re.IGNORECASE,
)
IDENTITY = re.compile(
    r"\b(?:who|what) (?:are|r) you\b|\bwhat(?:'s| is) your (?:name|role|job|purpose|background)\b"
    r"|\bwho (?:made|built|created|trained) you\b|\btell me about yourself\b|\bintroduce yourself\b|\bdescribe yourself\b"
    r"|\bare you (?:an? )?(?:ai|bot|robot|human|person|machine|real)\b|\bwhat (?:can|do) you do\b"
    r"|\bwhat do you (?:believe|think|stand for)\b",
    re.IGNORECASE,
)


def route_turn(facts: TurnFacts) -> Route:
    """The tier of a turn: a pin, else the first turn, small talk, the agent's identity, else mid, in this order."""
    if facts.pin is not None:
        return Route(facts.pin, "pin", f"The tier {facts.pin} was asked for.")
    if facts.turn == 0:
        return Route("frontier", "first_turn", "The first turn of a conversation sets its course.")
    if is_boilerplate(facts.text) if facts.boilerplate is None else facts.boilerplate:
        return Route("small", "boilerplate", "Small talk needs no more than a small model.")
    if is_about_identity(facts.text) if facts.identity is None else facts.identity:
        return Route("frontier", "identity", "It is about who the agent is.")
    return Route("mid", "default", "No other rule holds.")


def route_step(step: int, *, after_reasoning: bool = False, pin: Tier | None = None) -> Route:
    """The tier of a step of a task, counted from 0: frontier for the first, and after one that only reasoned, else mid."""
    if pin is not None:
        return Route(pin, "pin", f"The tier {pin} was asked for.")
    if step == 0:
        return Route("frontier", "first_step", "The first step plans the task.")
    if after_reasoning:
        return Route(
            "frontier", "after_reasoning", "The step before only reasoned: now it is to be acted on."
        )
    return Route("mid", "default", "No other rule holds.")


def is_boilerplate(text: str) -> bool:
    """Whether a text is a greeting, thanks or assent and nothing else."""
    words = text.split()
    return 0 < len(words) <= BOILERPLATE_WORDS_MAX and BOILERPLATE.fullmatch(text.strip()) is not None


def is_about_identity(text: str) -> bool:
    """Whether a text asks the agent who or what it is."""
    return IDENTITY.search(text) is not None
