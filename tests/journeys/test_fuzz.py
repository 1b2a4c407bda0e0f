"""Whatever a model calls, and whatever a tool does to its copy of the state, the journey stays one that it can be."""

from __future__ import annotations

import asyncio
import json
from enum import StrEnum
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import Field

import evrt
from evrt.events.journey import JourneyEnded, JourneyStarted, JourneyStepChanged
from evrt.testing import Reply, ScriptedModel, ToolCalls
from journeys.talks import app_with, journey_events, replays, standing, talk

EXAMPLES = (settings.default or settings()).max_examples // 4


class Step(StrEnum):
    A = "a"
    B = "b"
    C = "c"
    END = "end"


MOVES = {Step.A: [Step.B], Step.B: [Step.A, Step.C], Step.C: [Step.B, Step.END]}
TERMINAL = {Step.END}


class Box(evrt.JourneyState[Step]):
    step: Step = Step.A
    number: int = 0
    texts: list[str] = Field(default_factory=list, max_length=3)


def a_box() -> evrt.Journey[Box, Step]:
    box = evrt.Journey("box", Box, model="script", moves=MOVES, terminal=TERMINAL)

    @box.tool(Step.A, Step.B, Step.C)
    def put(state: Box, field: str, value: Any, fail: bool = False) -> str:
        """Do anything to the state, and perhaps fail then."""
        setattr(state, field, value)
        state.texts.append(field)
        if fail:
            raise RuntimeError(field)
        return field

    @box.tool(Step.B)
    def only_at_b(state: Box, number: int) -> int:
        state.number += number
        return state.number

    @box.tool(Step.A, Step.B, Step.C)
    def move(state: Box, to: str) -> None:
        state.step = Step(to)

    @box.entering(Step.END)
    def has_number(state: Box) -> str | None:
        return None if state.number else "There is no number."

    return box


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
    max_leaves=3,
)
fields = st.sampled_from(
    ["step", "number", "texts", "is_complete", "model_config", "__class__", "_x", "nowhere"]
)


def arguments_of(given: Any) -> str:
    return json.dumps(given)


reasonable = st.one_of(
    st.builds(
        lambda to: ("move", arguments_of({"to": to})), st.sampled_from(["a", "b", "c", "end", "nowhere"])
    ),
    st.builds(
        lambda field, value, fail: ("put", arguments_of({"field": field, "value": value, "fail": fail})),
        fields,
        anything | st.sampled_from(["a", "b", "c", "end"]) | st.integers(0, 5),
        st.booleans(),
    ),
    st.builds(lambda number: ("only_at_b", arguments_of({"number": number})), anything | st.integers(0, 5)),
)
nonsense = st.tuples(
    st.sampled_from(["move", "put", "only_at_b", "__init__", "execute", "step", "\ud800", ""])
    | st.text(max_size=5),
    st.one_of(
        st.builds(arguments_of, anything),
        st.sampled_from(
            ['{"to": "\\ud800"}', '{"to": "\ud800"}', "{", "null", '{"to": 1e999}', '{"field": "step"']
        ),
        st.text(max_size=8),
    ),
)
replies = st.lists(st.lists(reasonable | reasonable | nonsense, min_size=1, max_size=3), max_size=5)


@settings(max_examples=EXAMPLES)
@given(turns=st.lists(replies, min_size=1, max_size=2))
def test_no_calls_whatsoever_make_a_journey_one_that_cannot_be(turns: list[Any]) -> None:
    """S4.5, faults 60, 61 and 62"""
    asyncio.run(hold(turns))


async def hold(turns: list[Any]) -> None:
    box = a_box()
    script: list[Reply] = []
    for turn in turns:
        script += [ToolCalls(tuple(calls)) for calls in turn] + ["Well."]
    model = ScriptedModel([*script, *["Well."] * 20])
    async with app_with(box, model=model) as app:
        done = await talk(app, box, *("Go on." for _ in turns))
        for turn in done:
            # A reply that is no Unicode cannot be recorded, so it is the model's failure; nothing else is a failure.
            assert turn.status in ("succeeded", "step_limit") or "surrogates" in str(turn.failure)
        await possible(app)
        await replays(app, *done)


async def possible(app: evrt.App) -> None:
    """The stream tells of a journey that there can be: its moves, its states, its end."""
    state: dict[str, Any] = {}
    ended = False
    for envelope in await journey_events(app):
        event = envelope.event
        if isinstance(event, JourneyStarted):
            assert not state
            state = dict(event.state)
        elif isinstance(event, JourneyStepChanged):
            here, there = Step(event.from_step), Step(event.to_step)
            assert here is there or there in MOVES[here]
            assert (state["step"], event.patch.get("step", here)) == (here, there)
            assert any(state.get(key) != value for key, value in event.patch.items())
            state |= event.patch
            ended = ended and not event.reopened
        elif isinstance(event, JourneyEnded):
            assert not ended
            ended = True
            assert state["is_complete"] is True
        assert Box.from_dict(state).to_dict() == state
        assert state["step"] != Step.END or state["number"] != 0
    assert ((await standing(app, "box")).ended is not None) == ended
    assert (await standing(app, "box")).state == state
