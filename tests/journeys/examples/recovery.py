"""Errors are steps as well: a lookup that fails leads to one, from which it is tried again, three times at most."""

from __future__ import annotations

from enum import StrEnum

import evrt

TRIES_MAX = 3


class Step(StrEnum):
    LOOKUP = "lookup"
    ERROR = "error"
    RETRY = "retry"
    FOUND = "found"
    GIVEN_UP = "given_up"


class Lookup(evrt.JourneyState[Step]):
    step: Step = Step.LOOKUP
    parcel: str = ""
    tries: int = 0
    problem: str = ""
    place: str = ""


tracking = evrt.Journey(
    "tracking",
    Lookup,
    model="script",
    prompts={
        Step.LOOKUP: "Ask for the number of the parcel.",
        Step.ERROR: "Say that it could not be found ($problem), and ask whether to try again.",
        Step.RETRY: "Try $parcel again.",
        Step.FOUND: "Say that $parcel is in $place.",
        Step.GIVEN_UP: "Apologise. It was tried $tries times.",
    },
    moves={
        Step.LOOKUP: [Step.FOUND, Step.ERROR],
        Step.ERROR: [Step.RETRY, Step.GIVEN_UP],
        Step.RETRY: [Step.FOUND, Step.ERROR],
    },
    terminal=[Step.FOUND, Step.GIVEN_UP],
)

failures = {"count": 0}
"""How often the carrier still fails: what the tests set."""


@evrt.tool(effect="read")
async def ask_carrier(parcel: str) -> str:
    """Where a parcel is."""
    if failures["count"] > 0:
        failures["count"] -= 1
        raise ConnectionError("the carrier does not answer")
    return "Turin"


@tracking.tool(Step.LOOKUP, Step.RETRY)
async def look_up(ctx: evrt.Context[None], state: Lookup, parcel: str = "") -> str:
    """Look where the parcel is; its number is known when it is tried again."""
    state.parcel = parcel or state.parcel
    state.tries += 1
    try:
        state.place = await ctx.call(ask_carrier, state.parcel)
    except evrt.ToolFailed as error:
        state.problem, state.step = error.message, Step.ERROR
        return f"failed: {error.message}"
    state.step = Step.FOUND
    return state.place


@tracking.tool(Step.ERROR)
def try_again(state: Lookup) -> str:
    """The user wants it tried again."""
    state.step = Step.RETRY if state.tries < TRIES_MAX else Step.GIVEN_UP
    return state.step.value
