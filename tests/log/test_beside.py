"""What a copy does to the tables beside the events: as little as makes them what they are to be."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from evrt.log.beside import REFS, Difference, Row, differences

ROWS = st.dictionaries(st.text("abcde", max_size=2), st.sampled_from("xyz"))


def rows_of(found: dict[str, str]) -> list[Row]:
    """As a table gives them: by key."""
    return [(key, "user", value) for key, value in sorted(found.items())]


@given(ROWS, ROWS)
def test_differences_make_of_what_is_there_what_is_wanted(
    wanted: dict[str, str], there: dict[str, str]
) -> None:
    found = list(differences(REFS, rows_of(wanted), rows_of(there)))
    result = {(row[0],): row for row in rows_of(there)}
    for key, row in found:
        result.pop(key, None)
        if row is not None:
            result[key] = row
    assert result == {(row[0],): row for row in rows_of(wanted)}
    assert {one.key for one in found} == {
        (key,) for key in wanted.keys() | there.keys() if wanted.get(key) != there.get(key)
    }


def test_what_is_the_same_is_left_alone() -> None:
    rows = rows_of({"a": "x", "b": "y"})
    assert list(differences(REFS, rows, rows)) == []
    assert list(differences(REFS, rows[:1], rows)) == [Difference(("b",), None)]
