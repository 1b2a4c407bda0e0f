"""Events to bytes and back, whatever version of the program wrote them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any, ClassVar

import orjson
import pytest
from hypothesis import given

from evrt.codec import decode, encode, meta_for
from evrt.errors import InvalidInput, UnusableLog
from evrt.events import EVENT_TYPES, Erased, Event, JsonValue, Unknown, register
from evrt.events.calls import QuestionAnswered, ToolCallCompleted
from evrt.events.run import RunRequested
from pure.streams import any_event


@given(event=any_event)
def test_every_event_comes_back_as_it_was(event: Event) -> None:
    again = decode(event.type, {}, encode(event))
    assert again == event
    assert type(again) is type(event)
    assert encode(again) == encode(event)


def test_every_type_can_hold_nothing_where_it_can_hold_anything() -> None:
    """None is left out of a payload, so a field that may be None must have None as its default."""
    for name, cls in EVENT_TYPES.items():
        for field, info in cls.model_fields.items():
            if info.annotation is Any:
                assert info.default is None, f"{name}.{field}"


@pytest.mark.parametrize(
    "event",
    [
        RunRequested(target="t", kind="agent", input=None),
        QuestionAnswered(operation="ask#1", answer=None),
        ToolCallCompleted(operation="a#1", result=None),
    ],
    ids=lambda event: event.type,
)
def test_nothing_is_a_value_like_any_other(event: Event) -> None:
    assert decode(event.type, {}, encode(event)) == event


def test_an_unknown_type_is_kept_and_shown() -> None:
    event = decode("tool_call.skipped", {"schema": 3}, b'{"operation":"a#1","why":["x"]}')
    assert event == Unknown(
        logical_type="tool_call.skipped", schema_version=3, state={"operation": "a#1", "why": ["x"]}
    )


def test_a_newer_version_of_a_known_type_is_kept_and_not_guessed_at() -> None:
    event = decode("run.started", {"schema": 2}, b'{"by":"x"}')
    assert event == Unknown(logical_type="run.started", schema_version=2, state={"by": "x"})


def test_a_field_that_this_version_does_not_know_is_passed_over() -> None:
    event = decode("tool_call.completed", {}, b'{"operation":"a#1","result":1,"colour":"red"}')
    assert event == ToolCallCompleted(operation="a#1", result=1)


def test_an_erased_payload_leaves_the_type() -> None:
    assert decode("run.started", {}, None) == Erased(logical_type="run.started")


@pytest.mark.parametrize("payload", [b"", b"{", b"\xff", b"[]", b"3", b"{}", b'{"operation":3}'])
def test_a_payload_that_does_not_fit_its_type_is_damage(payload: bytes) -> None:
    with pytest.raises(UnusableLog, match="tool_call"):
        decode("tool_call.completed", {}, payload)


def test_decoding_builds_registered_types_only() -> None:
    """Not even a name that leads to a class in this very process does."""
    for name in ("builtins.dict", "evrt.events.run:RunStarted", "RunStarted", "Event", "unknown", "erased"):
        assert isinstance(decode(name, {}, b"{}"), Unknown)


@pytest.mark.parametrize("value", ["\ud800", 2**64, float, {1: 2}, {"a": {"\udfff": 1}}, threading.Lock()])
def test_what_is_not_json_is_refused_in_one_paragraph(value: Any) -> None:
    with pytest.raises(
        InvalidInput, match=r"A value of tool_call.completed cannot be recorded as JSON: .+\."
    ) as error:
        encode(ToolCallCompleted(operation="a#1", result=value))
    assert "\n" not in str(error.value)


@pytest.fixture
def grown() -> Iterator[type[Event]]:
    """A type in its third shape."""

    @register
    class TeaServed(Event):
        type: ClassVar[str] = "test.tea_served"
        class_version: ClassVar[int] = 3

        cups: int
        kind: str = "black"

        @staticmethod
        def upcast_v1_v2(state: dict[str, Any]) -> dict[str, Any]:
            return {"cups": state["count"]}

        @staticmethod
        def upcast_v2_v3(state: dict[str, Any]) -> dict[str, Any]:
            return {**state, "kind": "green"}

    yield TeaServed
    del EVENT_TYPES["test.tea_served"]


def test_older_shapes_are_turned_into_the_present_one_step_by_step(grown: type[Event]) -> None:
    def fields(meta: dict[str, Any], payload: bytes) -> dict[str, Any]:
        return decode("test.tea_served", meta, payload).model_dump()

    assert fields({}, b'{"count":2}') == {"cups": 2, "kind": "green"}
    assert fields({"schema": 2}, b'{"cups":2}') == {"cups": 2, "kind": "green"}
    assert fields({"schema": 3}, b'{"cups":2}') == {"cups": 2, "kind": "black"}
    assert isinstance(decode("test.tea_served", {"schema": 4}, b'{"pots":1}'), Unknown)


def test_the_version_of_a_shape_travels_in_meta(grown: Any) -> None:
    event = grown(cups=2)
    meta = meta_for(event, b'{"epoch":1}')
    assert orjson.loads(meta) == {"epoch": 1, "schema": 3}
    assert decode(event.type, orjson.loads(meta), encode(event)) == event
    assert meta_for(ToolCallCompleted(operation="a#1"), b'{"epoch":1}') == b'{"epoch":1}'


def test_a_name_can_be_registered_once() -> None:
    class Again(Event):
        type: ClassVar[str] = "run.started"

    with pytest.raises(ValueError, match=r"run\.started is registered twice"):
        register(Again)


def test_events_are_frozen_and_named_in_the_past_tense_of_a_thing() -> None:
    event = ToolCallCompleted(operation="a#1")
    with pytest.raises(Exception, match="frozen"):
        event.operation = "b#1"
    assert all(name.count(".") == 1 and name == name.lower() for name in EVENT_TYPES)


def test_an_unknown_type_is_kept_whatever_its_payload_is() -> None:
    event = decode("run.teleported", {}, b"\xff not JSON")
    assert isinstance(event, Unknown)
    assert event.state == {"base64": "/yBub3QgSlNPTg=="}


@pytest.mark.parametrize("schema", ["2", None, 0, 99, [1]])
def test_a_schema_version_that_is_none_is_unknown(schema: JsonValue) -> None:
    event = decode("run.started", {"schema": schema}, b"{}")
    assert isinstance(event, Unknown)
    assert event.schema_version == schema
