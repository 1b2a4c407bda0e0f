"""A patch turns one document into the other, by our hand and by an outsider's, and never costs more than the document."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jsonpatch
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evrt.errors import InvalidInput
from evrt.projector import patch

LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-2, 2)
    | st.sampled_from([0.0, -0.0, 1.0, 0.5])
    | st.text("ab~/0-", max_size=3)
)
"""Few values, so that documents have much in common, and those that Python holds to be equal and JSON does not."""

DOCUMENTS: st.SearchStrategy[Any] = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=6) | st.dictionaries(st.text("ab~/01-", max_size=2), inner, max_size=4)
    ),
    max_leaves=14,
)

MUCH = "m" * 99
"""Beside what changes, so that replacing the whole document is not the shorter way."""

LISTS = st.lists(st.sampled_from([0, 1, "b" * 20, {"c": 1}, {"c": "d" * 20}]), max_size=9)

PAIRS: st.SearchStrategy[Any] = st.one_of(
    st.tuples(DOCUMENTS, DOCUMENTS),
    # Two that share most of what they are: long items in common, some gone, some come.
    st.tuples(LISTS, LISTS).map(lambda lists: ({"l": lists[0], "m": MUCH}, {"l": lists[1], "m": MUCH})),
    st.tuples(LISTS, LISTS, LISTS, LISTS, LISTS).map(
        lambda parts: (
            [*parts[0], *parts[1], *parts[2], MUCH],
            [*parts[0], *parts[3], *parts[2], MUCH, *parts[4]],
        )
    ),
    # Parsed, as documents are, so that no object stands in two places of one.
).map(lambda pair: orjson.loads(orjson.dumps(pair)))

APPLIERS: dict[str, Callable[[Any, Any], Any]] = {"ours": patch.apply, "jsonpatch": jsonpatch.apply_patch}
APPLY = pytest.mark.parametrize("apply", APPLIERS.values(), ids=APPLIERS)


def text(document: Any) -> bytes:
    return orjson.dumps(document, option=orjson.OPT_SORT_KEYS)


def replacing(document: Any) -> patch.Operations:
    return [{"op": "replace", "path": "", "value": document}]


@given(PAIRS)
def test_whoever_applies_it_has_the_other_document_down_to_the_types(pair: Any) -> None:
    before, after = pair
    operations = patch.diff(before, after)

    for apply in APPLIERS.values():
        assert text(apply(before, operations)) == text(after)


@given(PAIRS)
def test_a_patch_is_never_longer_than_replacing_all_and_is_empty_only_for_equals(
    pair: Any,
) -> None:
    before, after = pair
    operations = patch.diff(before, after)

    assert len(text(operations)) <= len(text(replacing(after)))
    assert (operations == []) is (text(before) == text(after))


@given(DOCUMENTS, st.lists(DOCUMENTS, max_size=4))
def test_patches_one_after_another_are_as_good_as_one(first: Any, others: list[Any]) -> None:
    document = first
    for before, after in zip([first, *others], others, strict=False):
        document = patch.apply(document, patch.diff(before, after))

    assert text(document) == text(others[-1] if others else first)


@given(PAIRS)
def test_neither_document_is_touched_and_what_is_made_shares_nothing_with_them(
    pair: Any,
) -> None:
    before, after = pair
    was, will_be = text(before), text(after)
    made = patch.apply(before, patch.diff(before, after))

    scribble(made)

    assert (text(before), text(after)) == (was, will_be)


def scribble(document: Any) -> None:
    if isinstance(document, dict):
        for inner in document.values():
            scribble(inner)
        document["scribble"] = True
    elif isinstance(document, list):
        for inner in document:
            scribble(inner)
        document.append("scribble")


@pytest.mark.parametrize(
    "before, after, operations",
    [
        (1, True, replacing(True)),
        (1, 1.0, replacing(1.0)),
        (0, False, replacing(False)),
        (0.0, -0.0, replacing(-0.0)),
        (None, {}, replacing({})),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, []),
        (
            {"a/b": 1, "m~n": [0], "": 0, "~1": 0, "m": MUCH},
            {"a/b": 2, "m~n": ["", 0], "": 1, "~1": 1, "m": MUCH},
            [("replace", "/a~1b", 2), ("add", "/m~0n/0", ""), ("replace", "/", 1), ("replace", "/~01", 1)],
        ),
        # Growing at the end, being cut at the beginning, a change in the middle, and a window that moves on.
        ({"l": [1, 2], "m": MUCH}, {"l": [1, 2, 3], "m": MUCH}, [("add", "/l/2", 3)]),
        ({"l": [1, 2, 3], "m": MUCH}, {"l": [2, 3], "m": MUCH}, [("remove", "/l/0")]),
        (["a" * 40, 1, "b" * 40], ["a" * 40, 2, "b" * 40], [("replace", "/1", 2)]),
        (
            ["a" * 40, "b" * 40, "c" * 40],
            ["b" * 40, "c" * 40, "d"],
            [("remove", "/0"), ("add", "/2", "d")],
        ),
        (
            ["a" * 40, 1, 2, 3, "b" * 40],
            ["a" * 40, 9, "b" * 40],
            [("replace", "/1", 9), ("remove", "/2"), ("remove", "/2")],
        ),
        (["a" * 40, 9, "b" * 40], ["a" * 40, 1, 2, "b" * 40], [("replace", "/1", 1), ("add", "/2", 2)]),
        # A list that has nothing in common is replaced, and the document around it is not.
        (
            {"l": [1, 2, 3, 4], "m": MUCH},
            {"l": [5, 6, 7, 8], "m": MUCH},
            [("replace", "/l", [5, 6, 7, 8])],
        ),
    ],
)
def test_operations_say_what_changed_and_little_else(before: Any, after: Any, operations: list[Any]) -> None:
    expected = [
        operation
        if isinstance(operation, dict)
        else dict(zip(("op", "path", "value"), operation, strict=False))
        for operation in operations
    ]
    made = patch.diff(before, after)

    assert text(made) == text(expected)
    for apply in APPLIERS.values():
        assert text(apply(before, made)) == text(after)


def test_a_long_list_is_compared_in_steps_that_grow_as_it_does(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = 0
    same = patch.same

    def counted(one: Any, other: Any) -> bool:
        nonlocal steps
        steps += 1
        return same(one, other)

    monkeypatch.setattr(patch, "same", counted)
    for before, after in (
        ([n % 11 for n in range(10_000)], [n % 13 for n in range(9_000)]),
        ([*range(10_000)], [*range(5_000), *range(5_001, 10_001)]),
        ([0] * 10_000, [*[0] * 9_999, 1, 0]),
    ):
        steps = 0
        assert patch.apply(before, patch.diff(before, after)) == after
        assert steps <= 5 * len(before)


@APPLY
def test_whoever_applies_a_patch_to_another_document_hears_of_it(apply: Any) -> None:
    operations = patch.diff({"a": {"b": 1}, "m": MUCH}, {"a": {}, "m": MUCH})
    assert operations == [{"op": "remove", "path": "/a/b"}]

    others: list[Any] = [{"a": {}}, {"a": [1]}, {"a": 1}, {}, [], None, "text"]
    for other in others:
        with pytest.raises((InvalidInput, jsonpatch.JsonPatchException, jsonpatch.JsonPointerException)):
            apply(other, operations)


@pytest.mark.parametrize(
    "operation",
    [
        {},
        {"op": "move", "from": "/0", "path": "/1"},
        {"op": "add", "path": "/0"},
        {"op": "remove", "path": "/0", "value": 1},
        {"op": "remove", "path": ""},
        {"op": "add", "path": "0", "value": 1},
        {"op": "add", "path": 0, "value": 1},
        {"op": "add", "path": "/3", "value": 1},
        {"op": "add", "path": "/01", "value": 1},
        {"op": "add", "path": "/-1", "value": 1},
        {"op": "add", "path": "/0/0", "value": 1},
        {"op": "replace", "path": "/-", "value": 1},
        {"op": "replace", "path": "/2", "value": 1},
        {"op": "remove", "path": "/٠"},
    ],
)
def test_what_is_no_operation_for_a_list_of_two_is_refused(operation: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        patch.apply([0, 1], [operation])


def test_an_outsiders_additions_are_understood() -> None:
    operations: list[dict[str, Any]] = [
        {"op": "add", "path": "/l/-", "value": 3},
        {"op": "add", "path": "/l/0", "value": 0},
        {"op": "add", "path": "/n", "value": {}},
        {"op": "add", "path": "/n/deep", "value": [1]},
        {"op": "replace", "path": "/n/deep/0", "value": 2},
    ]
    document = {"l": [1, 2]}

    made = patch.apply(document, operations)

    assert made == jsonpatch.apply_patch(document, operations) == {"l": [0, 1, 2, 3], "n": {"deep": [2]}}
    assert operations[2:4] == [
        {"op": "add", "path": "/n", "value": {}},
        {"op": "add", "path": "/n/deep", "value": [1]},
    ]
