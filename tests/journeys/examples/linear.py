"""One step after another: a welcome, a name, an address, and the end."""

from __future__ import annotations

from enum import StrEnum

import evrt


class Step(StrEnum):
    WELCOME = "welcome"
    NAME = "name"
    EMAIL = "email"
    DONE = "done"


class Signup(evrt.JourneyState[Step]):
    step: Step = Step.WELCOME
    name: str = ""
    email: str = ""


signup = evrt.Journey(
    "signup",
    Signup,
    model="script",
    instructions="You help people to sign up. Ask for one thing at a time.",
    prompts={
        Step.WELCOME: "Greet the user and ask whether to begin.",
        Step.NAME: "Ask for the user's name.",
        Step.EMAIL: "Ask $name for an e-mail address.",
        Step.DONE: "Thank $name. Everything is set up for $email.",
    },
    moves={Step.WELCOME: [Step.NAME], Step.NAME: [Step.EMAIL], Step.EMAIL: [Step.DONE, Step.NAME]},
    terminal=[Step.DONE],
)


@signup.tool(Step.WELCOME)
def begin(state: Signup) -> str:
    """The user wants to begin."""
    state.step = Step.NAME
    return "begun"


@signup.tool(Step.NAME)
def give_name(state: Signup, name: str) -> str:
    """The user said their name."""
    state.name = name.strip()
    state.step = Step.EMAIL
    return f"{state.name} is noted."


@signup.tool(Step.EMAIL)
def give_email(state: Signup, email: str) -> str:
    """The user said their e-mail address."""
    state.email = email
    state.step = Step.DONE
    return "All is complete."


@signup.tool(Step.EMAIL)
def correct_name(state: Signup) -> str:
    """The name is wrong: go back and ask for it again."""
    state.step = Step.NAME
    return "Ask again."


@signup.leaving(Step.NAME)
def has_name(state: Signup) -> str | None:
    return None if state.name else "There is no name yet."


@signup.entering(Step.DONE)
def has_address(state: Signup) -> str | None:
    return None if "@" in state.email else f"{state.email!r} is no e-mail address."
