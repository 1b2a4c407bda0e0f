"""Values, times and events as short text."""

from __future__ import annotations

import time
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

import pytest
from pydantic import BaseModel

from evrt.cli.details import detail
from evrt.cli.output import Cell, out_table
from evrt.cli.text import ago, counted, duration, json_or_text, listed, rfc3339, short, words
from evrt.events import EVENT_TYPES, Erased, Unknown
from evrt.folds.clip import clip

NASTY = "two\nlines \x1b[31m\u2028"


def test_times_are_rfc_3339_in_utc_to_the_microsecond() -> None:
    assert rfc3339(0) == "1970-01-01T00:00:00.000000Z"
    assert rfc3339(1_795_316_844_312_987) == "2026-11-22T03:07:24.312987Z"


@pytest.mark.parametrize(
    "seconds, text",
    [(0.0004, "0 ms"), (0.25, "250 ms"), (3.21, "3.2 s"), (42, "42 s"), (90, "1 min"), (3_700, "1 h 1 min")],
)
def test_durations_have_the_unit_that_suits_them(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_how_long_ago_something_was_is_told_roughly() -> None:
    now = time.time()
    assert ago(int(now * 1e6)) == "just now"
    assert ago(int((now - 150) * 1e6)) == "2 min ago"
    assert ago(int((now - 10 * 86_400 - 5) * 1e6)) == "10 days ago"
    assert ago(int((now + 1_000) * 1e6)).endswith("Z")


def test_what_is_typed_is_json_where_it_is_json() -> None:
    assert json_or_text('{"a": [1, null]}') == {"a": [1, None]}
    assert json_or_text("42") == 42
    assert json_or_text('"42"') == "42"
    for text in ("yes", "{", "NaN", "-Infinity", "1e999", '{"a": [-1e999]}', "[" * 100_000, ""):
        assert json_or_text(text) == text


def test_short_texts_are_one_line() -> None:
    assert short("two\nlines") == '"two\\nlines"'
    assert words(" two\n lines ") == "two lines"
    assert short("x" * 500, 10) == '"xxxxxxxx…'
    assert short(clip("a long story " * 500, 1_200, 17), 10) == "a long s…"
    assert short({"$clipped": 5}) == '{"$clipped": 5}'
    assert listed(["a", "b", "c"], "or") == "a, b or c"
    assert counted(1, "event") == "1 event"


WITHOUT_DETAIL = frozenset(
    {"run.started", "run.paused", "run.unpaused", "input.received", "step.started"}
    | {"timer.fired", "wait.cancelled", "agent.retired", "conversation.started"}
)
"""Types that may say all there is to say."""


@pytest.mark.parametrize("name", sorted(EVENT_TYPES))
def test_every_event_has_a_detail_of_one_line_whatever_it_holds(name: str) -> None:
    cls = EVENT_TYPES[name]
    for every_field in (True, False):
        text = detail(cls.model_validate(_example(cls, every_field=every_field)))
        assert text.isprintable()
        assert text or name in WITHOUT_DETAIL


def test_events_that_cannot_be_read_have_a_detail_too() -> None:
    assert detail(Erased(logical_type="run.started")) == "(erased)"
    assert "does not know" in detail(Unknown(logical_type="moon.landed", schema_version=1, state={"crew": 3}))


def _example(cls: type[BaseModel], *, every_field: bool) -> dict[str, Any]:
    """Something in every field, or only in those that must have it."""
    fields = cls.model_fields.items()
    return {name: _value(field.annotation) for name, field in fields if every_field or field.is_required()}


def _value(annotation: Any) -> Any:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return _example(annotation, every_field=True)
    if origin is Literal:
        return arguments[-1]
    if origin in (Union, UnionType):
        return _value(arguments[0])
    if origin is tuple:
        return [_value(arguments[0])]
    if origin is dict:
        return {"role": 3} if arguments[1] is int else {"role": "assistant", "content": NASTY}
    values: dict[Any, Any] = {str: NASTY, int: 3, float: 12.5, bool: True, Any: {NASTY: [NASTY, None]}}
    return values[annotation]


def test_a_row_of_a_table_is_one_line_whatever_it_holds(capsys: pytest.CaptureFixture[str]) -> None:
    out_table(("TARGET", "ABOUT"), [(Cell("a\nb"), Cell("\x1b[31mred\nnew"))])
    assert capsys.readouterr().out.splitlines() == ["TARGET  ABOUT", "a\\nb    \\x1b[31mred\\nnew"]
