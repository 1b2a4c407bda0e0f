"""What enters a run is made JSON and redacted, once, at the door."""

from __future__ import annotations

import dataclasses
import enum
import subprocess
import sys
import uuid
from collections import OrderedDict
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from pydantic import BaseModel

from evrt.errors import InvalidInput
from evrt.events import JsonValue
from evrt.seal import admit, admit_arguments, keep
from pure.streams import json


class Point(BaseModel):
    x: Decimal


@dataclasses.dataclass
class Pair:
    one: Any
    two: Any


class Color(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


class Triple(NamedTuple):
    one: Any
    two: Any
    three: Any


@given(value=json)
def test_json_goes_through_unchanged(value: JsonValue) -> None:
    assert admit(value, keep) == value


@pytest.mark.parametrize(
    "value, expected",
    [
        (Point(x=Decimal("1.50")), {"x": "1.50"}),
        (Pair(1, (2, 3)), {"one": 1, "two": [2, 3]}),
        (datetime(2026, 1, 31, tzinfo=UTC), "2026-01-31T00:00:00Z"),
        ({1: "a", None: "b"}, {"1": "a", "None": "b"}),
        (Path("/tmp"), "/tmp"),
        (b"bytes", "bytes"),
        (float("nan"), None),
        (frozenset({1}), [1]),
        (Color.RED, "red"),
        (Level.HIGH, 3),
        (uuid.UUID(int=5), "00000000-0000-0000-0000-000000000005"),
        (timedelta(days=1), "P1D"),
        (Triple(1, date(2026, 1, 31), None), [1, "2026-01-31", None]),
        (OrderedDict(one={2: {3}}), {"one": {"2": [3]}}),
        ([(n for n in (1, 2)), {3: "a"}], [[1, 2], {"3": "a"}]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_has_a_json_shape_takes_it(value: Any, expected: JsonValue) -> None:
    assert admit(value, keep) == expected


@pytest.mark.parametrize(
    "value", [object(), "\ud800", 2**64, b"\xff", [object()], {"\udfff": 1}, lambda: None]
)
def test_what_has_none_is_refused(value: Any) -> None:
    with pytest.raises(InvalidInput, match="cannot be recorded as JSON"):
        admit(value, keep)


def test_the_hook_sees_plain_json_and_its_answer_is_what_counts() -> None:
    seen: list[JsonValue] = []

    def hook(value: JsonValue) -> JsonValue:
        seen.append(value)
        return ["instead"]

    assert admit(Point(x=Decimal(1)), hook) == ["instead"]
    assert seen == [{"x": "1"}]


def test_what_the_hook_gives_has_to_be_json_too() -> None:
    with pytest.raises(InvalidInput):
        admit("x", lambda value: object())  # type: ignore[arg-type, return-value]


def test_a_set_among_arguments_has_the_same_order_in_every_process() -> None:
    """Else a resume in another process would take the same call for another one."""
    code = (
        "from evrt.seal import admit_arguments, keep;"
        "print(admit_arguments({'a': [{'x', 'y', 'z', 'w'}], 'b': frozenset('pqr')}, keep))"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert outputs == {"{'a': [['w', 'x', 'y', 'z']], 'b': ['p', 'q', 'r']}\n"}


@given(value=json)
def test_arguments_are_otherwise_like_any_value(value: JsonValue) -> None:
    assert admit_arguments(value, keep) == admit(value, keep)
