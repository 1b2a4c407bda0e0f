"""Journeys under code that has changed: fields that came and went, steps that are no longer there."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import evrt
from evrt.events import JsonObject
from journeys.obedient import words
from journeys.talks import app_with, events_of, replays, standing, state_of, talk
from runtime.logs import put


class Step(StrEnum):
    ASK = "ask"
    CHECK = "check"
    DONE = "done"


class NewStep(StrEnum):
    ASK = "ask"
    DONE = "done"


class Old(evrt.JourneyState[Step]):
    step: Step = Step.ASK
    name: str = ""
    fax: str = ""


class New(evrt.JourneyState[Step]):
    step: Step = Step.ASK
    name: str = ""
    email: str = "none"


class Fewer(evrt.JourneyState[NewStep]):
    step: NewStep = NewStep.ASK
    name: str = ""


def old_form() -> evrt.Journey[Old, Step]:
    form = evrt.Journey("form", Old, model="script", prompts={Step.ASK: "Ask.", Step.CHECK: "Check $name."})

    @form.tool(Step.ASK)
    def give(state: Old, name: str, fax: str) -> None:
        state.name, state.fax, state.step = name, fax, Step.CHECK

    return form


def new_form() -> evrt.Journey[New, Step]:
    form = evrt.Journey("form", New, model="script", prompts={Step.CHECK: "Check $name and $email."})

    @form.tool(Step.CHECK)
    def correct(state: New, name: str) -> None:
        state.name = name

    return form


def form_of_fewer_steps(**more: Any) -> evrt.Journey[Fewer, NewStep]:
    return evrt.Journey("form", Fewer, model="script", prompts={NewStep.ASK: "Ask $name again."}, **more)


GIVEN = words(("give", {"name": "Ann", "fax": "555"}))


async def test_a_state_with_a_new_field_and_without_an_old_one_takes_up_what_was_kept() -> None:
    """S4.3"""
    async with app_with(old_form()) as before:
        await talk(before, before.target("form"), GIVEN)
        async with put(app_with(new_form()), await before.log()) as app:
            turns = await talk(app, app.target("form"), "Hello?", words(("correct", {"name": "Anne"})))
            assert turns[0].output == "(Check Ann and none.)"
            assert await state_of(app, "form") == {
                "step": "check",
                "is_complete": False,
                "name": "Anne",
                "email": "none",
                # Nobody knows it any more, and nobody has taken it away.
                "fax": "555",
            }
            await replays(app, *turns)


async def test_a_step_that_is_no_longer_there_parks_the_run_and_loses_nothing() -> None:
    """S4.3"""
    async with app_with(old_form()) as before:
        await talk(before, before.target("form"), GIVEN)
        kept = await standing(before, "form")
        log = await before.log()
        app = put(app_with(form_of_fewer_steps()), log)
        [parked] = await talk(app, app.target("form"), "Hello?")
        assert (parked.status, parked.reason) == ("waiting", "diverged")
        [diverged] = await events_of(app, parked.run_id, "run.diverged")
        assert diverged.message == (
            "The journey form cannot go on with the state that was kept: step: Input should be 'ask' or 'done'. Nothing "
            "is lost: the run is parked, not failed. Mend the code, and resume the run."
        )
        assert await standing(app, "form") == kept
        app = put(app_with(old_form()), log)
        resumed = await app.resume(parked.run_id)
        assert (resumed.status, resumed.output) == ("succeeded", "(Check Ann.)")
        await replays(app, resumed)


async def test_a_step_that_is_no_longer_there_can_be_led_to_another_by_the_code() -> None:
    """S4.2"""

    class Moved(evrt.Journey[Fewer, NewStep]):
        def load_state(self, kept: JsonObject) -> Fewer:
            return super().load_state({**kept, "step": "ask" if kept["step"] == "check" else kept["step"]})

    moved = Moved("form", Fewer, model="script", prompts={NewStep.ASK: "Ask $name again."})
    async with app_with(old_form()) as before:
        await talk(before, before.target("form"), GIVEN)
        async with put(app_with(moved), await before.log()) as app:
            [turn] = await talk(app, moved, "Hello?")
            assert turn.output == "(Ask Ann again.)"
            await replays(app, turn)


async def test_a_replay_of_an_old_turn_says_that_the_code_has_changed() -> None:
    """A turn is what it was: other prompts ask the model for something else."""
    async with app_with(old_form()) as before:
        [turn] = await talk(before, before.target("form"), GIVEN)
        changed = evrt.Journey("form", Old, model="script", prompts={Step.ASK: "Ask otherwise."})
        app = put(app_with(changed), await before.log())
        report = await app.replay(turn.run_id)
        assert report.divergence is not None
        assert await standing(app, "form") == await standing(before, "form")
