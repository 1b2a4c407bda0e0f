"""The bytes that digests are made over: the same for equal values, different for others."""

from __future__ import annotations

from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st

from evrt.events.canonical import canonical

values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
    max_leaves=10,
)


def turned(value: Any) -> Any:
    """An equal value whose keys came in the opposite order."""
    if isinstance(value, dict):
        return {key: turned(value[key]) for key in reversed(value)}
    return [turned(inner) for inner in value] if isinstance(value, list) else value


def test_the_order_of_keys_does_not_count() -> None:
    assert canonical({"b": 1, "a": {"d": 2, "c": 3}}) == b'{"a":{"c":3,"d":2},"b":1}'


@given(values)
def test_equal_values_have_equal_bytes_and_come_back(value: Any) -> None:
    assert canonical(turned(value)) == canonical(value)
    assert orjson.loads(canonical(value)) == value


@given(values, values)
def test_other_values_have_other_bytes(one: Any, other: Any) -> None:
    # repr tells True from 1, as JSON does.
    same = repr(orjson.loads(canonical(one))) == repr(orjson.loads(canonical(other)))
    assert (canonical(one) == canonical(other)) == same
