"""What is cut fits, says so, and is left alone where it fits as it is."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evrt.events.run import Failure
from evrt.folds.clip import (
    CLIPPED,
    DEPTH_MAX,
    FAILURE_BYTES_MAX,
    clip,
    clip_failure,
    clip_text,
    clip_texts,
    is_clipped,
)
from evrt.folds.documents import changed
from evrt.folds.run import RunState
from pure.streams import json

LIMIT = 1_200
alphabets = st.sampled_from(["x", "é", "🎉", "\x00", '"\\', "x\x00é🎉"])
long_texts = st.builds(lambda letters, times: letters * times, alphabets, st.integers(0, 3_000))
values = (
    json
    | long_texts
    | st.lists(long_texts, max_size=4)
    | st.dictionaries(st.text(max_size=3), long_texts, max_size=4)
)


def size(value: object) -> int:
    return len(orjson.dumps(value))


@given(value=values)
def test_a_value_fits_and_is_itself_where_it_did(value: Any) -> None:
    cut = clip(value, LIMIT, 17)
    assert size(cut) <= LIMIT
    assert is_clipped(cut) == (size(value) > LIMIT)
    if is_clipped(cut):
        assert cut[CLIPPED]["bytes"] == size(value)  # type: ignore[index, call-overload]
        assert cut[CLIPPED]["position"] == 17  # type: ignore[index, call-overload]
    else:
        assert cut is value


@given(text=long_texts)
def test_a_text_stays_a_text_and_begins_as_it_did(text: str) -> None:
    cut = clip_text(text, LIMIT, 17)
    assert size(cut) <= LIMIT
    if size(text) <= LIMIT:
        assert cut is text
    else:
        beginning, mark, note = cut.rpartition("… [clipped: ")
        assert mark
        assert text.startswith(beginning)
        assert note == f"{size(text):,} bytes, whole in the event at position 17]"
        assert len(beginning) > 50


@given(texts=st.lists(long_texts, max_size=30).map(tuple))
def test_of_many_texts_the_first_stay(texts: tuple[str, ...]) -> None:
    cut = clip_texts(texts, LIMIT, 17)
    assert size(cut) <= LIMIT
    assert cut == texts or (cut[:-1] == texts[: len(cut) - 1] and f"{len(texts)} in all" in cut[-1])


@given(error_type=long_texts, message=long_texts)
def test_a_failure_fits(error_type: str, message: str) -> None:
    cut = clip_failure(Failure(error_type=error_type, message=message), 17)
    assert size(cut.error_type) + size(cut.message) <= FAILURE_BYTES_MAX


@pytest.mark.parametrize("depth, cut", [(DEPTH_MAX, False), (DEPTH_MAX + 1, True), (250, True), (900, True)])
def test_a_value_that_nests_too_deep_is_cut(depth: int, cut: bool) -> None:
    value: Any = 1
    for number in range(depth):
        value = {"in": value} if number % 2 else [value]
    assert is_clipped(clip(value, 64 * 1024, 17)) == cut


def test_many_lists_beside_one_another_are_not_deep() -> None:
    value = [[number] for number in range(1_000)]
    assert clip(value, 64 * 1024, 17) is value


def test_what_only_looks_cut_is_cut_so_that_the_look_can_be_relied_on() -> None:
    forged: Any = {CLIPPED: {"bytes": 3, "begins": "mine", "position": 1}}
    cut = clip(forged, LIMIT, 17)
    assert is_clipped(cut)
    assert cut[CLIPPED]["position"] == 17  # type: ignore[index, call-overload]


@given(events=st.integers(0, 9), output=json)
def test_a_changed_document_is_a_copy_with_other_fields(events: int, output: Any) -> None:
    before = RunState(run="run-a", target="helper")
    after = changed(before, {"events": events, "output": output})
    assert after == before.model_copy(update={"events": events, "output": output})
    assert before == RunState(run="run-a", target="helper")
    assert RunState.model_validate(after.model_dump()) == after
