"""A conversation of ten turns that does all that a journey can: what the tests kill in the middle.

It is executed turn after turn, each a run of the same conversation. ``go_on`` takes it up wherever it was cut off.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from pydantic import Field

import evrt
from evrt.events.run import RunRequested
from evrt.log import Log
from evrt.requesting import enqueue_run
from evrt.testing import ScriptedModel
from journeys.obedient import words
from journeys.talks import app_with

CONVERSATION = "conversation-aaaabbbbccccdddd"
"""A ref, so that it is the same in a log that was cut off."""


class Step(StrEnum):
    WELCOME = "welcome"
    PLACE = "place"
    SEATS = "seats"
    PAY = "pay"
    FAILED = "failed"
    BOOKED = "booked"


class Trip(evrt.JourneyState[Step]):
    step: Step = Step.WELCOME
    place: str = ""
    weather: str = ""
    seats: list[str] = Field(default_factory=list)
    problem: str = ""
    receipt: str = ""


trip = evrt.Journey(
    "trip",
    Trip,
    model="script",
    instructions="You book trips.",
    prompts={
        Step.WELCOME: "Greet the user.",
        Step.PLACE: "Ask where to.",
        Step.SEATS: "Ask for the names of those who travel to $place ($weather). So far: $seats.",
        Step.PAY: "Ask whether to pay for $seats.",
        Step.FAILED: "Say what went wrong: $problem",
        Step.BOOKED: "Say that it is booked: $receipt",
    },
    moves={
        Step.WELCOME: [Step.PLACE],
        Step.PLACE: [Step.SEATS],
        Step.SEATS: [Step.PLACE, Step.PAY],
        Step.PAY: [Step.SEATS, Step.FAILED, Step.BOOKED],
        Step.FAILED: [Step.PAY],
    },
    terminal=[Step.BOOKED],
)


@evrt.tool(effect="read")
async def forecast(place: str) -> str:
    return f"sun in {place}"


@evrt.tool
async def charge(seats: int, card: str, idempotency_key: str) -> str:
    if card == "stolen":
        raise PermissionError("the card is refused")
    return f"{seats} paid by {card}"


@trip.tool(Step.WELCOME)
def begin(state: Trip) -> str:
    state.step = Step.PLACE
    return "begun"


@trip.tool(Step.PLACE)
async def go_to(ctx: evrt.Context[Any], state: Trip, place: str) -> str:
    state.place = place
    state.weather = await ctx.call(forecast, place)
    state.step = Step.SEATS
    return state.weather


@trip.tool(Step.SEATS)
def add_seat(state: Trip, name: str) -> str:
    state.seats.append(name)
    if name == "nobody":
        raise ValueError("Who is that?")
    return f"{len(state.seats)} seats"


@trip.tool(Step.SEATS)
def elsewhere(state: Trip) -> None:
    state.step = Step.PLACE


@trip.tool(Step.SEATS)
def enough(state: Trip) -> None:
    state.step = Step.PAY


@trip.tool(Step.PAY)
async def pay(ctx: evrt.Context[Any], state: Trip, card: str) -> str:
    try:
        state.receipt = await ctx.call(charge, seats=len(state.seats), card=card)
    except evrt.ToolFailed as error:
        state.problem, state.step = error.message, Step.FAILED
        return error.message
    state.step = Step.BOOKED
    return state.receipt


@trip.tool(Step.FAILED)
def again(state: Trip) -> None:
    state.problem, state.step = "", Step.PAY


@trip.leaving(Step.SEATS)
def has_seats(state: Trip) -> str | None:
    return None if state.seats or state.step is Step.PLACE else "Nobody travels yet."


TURNS = (
    "Hello!",
    words("begin"),
    words(("go_to", {"place": "Turin"}), "enough"),
    '!add_seat {"name": "Ann"} !add_seat {"name": "Bo"} !add_seat {"name": "nobody"}',
    words("pay", "elsewhere", ("go_to", {"place": "Genoa"})),
    words(("add_seat", {"name": "Cy"}), ("add_seat", {"name": 7}), "enough"),
    words(("pay", {"card": "stolen"})),
    words("again", ("pay", {"card": "mine"})),
    "Is everything booked?",
    "Thanks! Bye.",
)
FINAL = {
    "step": "booked",
    "is_complete": True,
    "place": "Genoa",
    "weather": "sun in Genoa",
    "seats": ["Ann", "Bo", "Cy"],
    "problem": "",
    "receipt": "3 paid by mine",
}


def make_app(url: str = "memory://") -> evrt.App:
    return app_with(trip, url=url)


async def runs_of(log: Log) -> list[str]:
    """The runs of the conversation, in their order."""
    return [row.stream for row in await log.read() if row.type == "run.requested"]


async def go_on(app: evrt.App) -> list[str]:
    """Bring the conversation to its end, from wherever it was cut off; returns its runs."""
    log = await app.log()
    for number, turn in enumerate(TURNS):
        runs = await runs_of(log)
        if number < len(runs):
            if (await app.get(runs[number])).state.ended:
                continue
            run = runs[number]
        else:
            requested = RunRequested(
                target=trip.name,
                kind="agent",
                input=turn,
                conversation=CONVERSATION,
                timeout_seconds=60,
                model_turns_max=10,
            )
            run, _ = await enqueue_run(log, requested)
        await app.resume(run)
    return await runs_of(log)


async def story(app: evrt.App) -> dict[str, Any]:
    """All that the conversation came to, without what differs each time."""
    runs = await runs_of(await app.log())
    histories = [await app.get(run) for run in runs]
    return {
        "state": (await app.journeys.standing(trip.name, conversation=CONVERSATION)).state,
        "ended": (await app.journeys.standing(trip.name, conversation=CONVERSATION)).ended,
        "outputs": [history.state.output for history in histories],
        "messages": [history.messages for history in histories],
        "digests": [history.digest for history in histories],
    }


def no_model(app: evrt.App) -> None:
    """From now on whatever would be asked of a model is an error."""

    def refuse(_: object) -> Any:
        raise AssertionError("A replay asked the model.")

    app.models["script"] = ScriptedModel(refuse)
