"""A step that is come back to: things go into a basket until that is enough."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

import evrt


class Step(StrEnum):
    CHOOSE = "choose"
    QUANTITY = "quantity"
    CONFIRM = "confirm"
    ORDERED = "ordered"


class Basket(evrt.JourneyState[Step]):
    step: Step = Step.CHOOSE
    item: str = ""
    items: dict[str, int] = Field(default_factory=dict)


def summary(state: Basket) -> str:
    """What the model is told of the basket."""
    lines = "\n".join(f"- {count} × {name}" for name, count in state.items.items())
    return f"Read the order to the user and ask whether it is right:\n{lines}"


order = evrt.Journey(
    "order",
    Basket,
    model="script",
    prompts={
        Step.CHOOSE: "Ask what the user would like. In the basket: $items.",
        Step.QUANTITY: "Ask how many of $item.",
        Step.CONFIRM: summary,
    },
    moves={
        Step.CHOOSE: [Step.QUANTITY, Step.CONFIRM],
        Step.QUANTITY: [Step.CHOOSE],
        Step.CONFIRM: [Step.CHOOSE, Step.ORDERED],
    },
    terminal=[Step.ORDERED],
)


@order.tool(Step.CHOOSE)
def choose(state: Basket, item: str) -> str:
    """The user named something."""
    state.item, state.step = item, Step.QUANTITY
    return f"{item}: how many?"


@order.tool(Step.QUANTITY)
def set_quantity(state: Basket, count: int) -> str:
    """The user said how many."""
    if count < 1:
        raise ValueError("At least one.")
    state.items[state.item] = count
    state.item, state.step = "", Step.CHOOSE
    return "In the basket."


@order.tool(Step.CHOOSE, Step.CONFIRM)
def check_out(state: Basket) -> str:
    """The user wants nothing more, or confirms the order."""
    state.step = Step.ORDERED if state.step is Step.CONFIRM else Step.CONFIRM
    return state.step.value


@order.tool(Step.CONFIRM)
def change_order(state: Basket) -> str:
    """The order is not right yet."""
    state.step = Step.CHOOSE
    return "What else?"


@order.leaving(Step.CHOOSE)
def has_items(state: Basket) -> str | None:
    """The way to the till needs something to pay for."""
    return "The basket is empty." if state.step is Step.CONFIRM and not state.items else None
