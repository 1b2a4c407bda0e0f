"""Files of definitions: read as JSON values with their lines, and refused where they could mean two things or grow."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evrt.definitions.files import FILE_BYTES_MAX, read_definitions, write_definitions
from evrt.errors import InvalidInput
from evrt.events import JsonValue

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)


@given(JSON, st.booleans())
def test_what_is_written_is_read_as_the_same(value: JsonValue, as_json: bool) -> None:
    """B4: a round trip of any value, its types included."""
    text = write_definitions(value, as_json=as_json)
    read = read_definitions(text, "a.json" if as_json else "a.yaml").value
    assert repr(read) == repr(value)


@pytest.mark.parametrize(
    "text, value",
    [
        ("a: yes", {"a": "yes"}),
        ("a: no", {"a": "no"}),
        ("a: 2026-11-28", {"a": "2026-11-28"}),
        ("a: 1e3", {"a": 1000.0}),
        ("a: 012", {"a": 12}),
        ("a: 0x1F", {"a": "0x1F"}),
        ("a: 12:30:00", {"a": "12:30:00"}),
        ("a: ~\nb: null\nc:", {"a": None, "b": None, "c": None}),
        ("a: 72°F", {"a": "72°F"}),
        ("<<: {a: 1}", {"<<": {"a": 1}}),
        ("a: &x [1]\nb: *x", {"a": [1], "b": [1]}),
        ("", None),
    ],
)
def test_scalars_are_what_yaml_1_2_says(text: str, value: JsonValue) -> None:
    """B4: no text becomes a truth value or a date."""
    assert read_definitions(text, "a.yaml").value == value


BOMB = "a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n" + "\n".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]"
    for before, name in zip("abcdefg", "bcdefgh", strict=True)
)


@pytest.mark.parametrize(
    "text, refusal",
    [
        ("a: 1\nb: 2\na: 3", "a.yaml:3: the key 'a' is given twice."),
        ("a:\n  b: 1\n  b: 2", "a.yaml:3: the key 'b' is given twice."),
        (BOMB, "with its aliases written out this has more than 100,000 values."),
        ("a: &x [*x]", "this nests more than 64 deep."),
        ("a: &x 1\nb: [" + "*x, " * 1_001 + "]", "a.yaml:2: there are more than 1,000 aliases."),
        ("[" * 100 + "]" * 100, "a.yaml:1: this nests more than 64 deep."),
        ("[" * 100_000, "this"),
        ("a: !!python/object/apply:os.system [ls]", "is a tag, and definitions have none."),
        ("a: !secret x", "'!secret' is a tag, and definitions have none."),
        ("a: 1\n---\nb: 2", "a.yaml:2: a second document begins here, and a file has one."),
        ("a: [1", "this is not YAML"),
        ("a: b: c", "a.yaml:1: this is not YAML: mapping values are not allowed in this context."),
        ("? [a]\n: 1", "a.yaml:1: a key is a text."),
        ("a: 1e999", "a.yaml:1: this number is too large."),
        ("a: " + "9" * 100, "a.yaml:1: this number has too many digits."),
        ("a: \x00", "this is not YAML"),
        ("x" * (FILE_BYTES_MAX + 1), "has more than 4,194,304 bytes"),
    ],
    ids=lambda value: value[:20] if len(value) < 5_000 else "long",
)
def test_what_could_be_meant_in_two_ways_or_grows_is_refused(text: str, refusal: str) -> None:
    """B4: duplicate keys, tags, bombs of aliases, nesting, several documents; each with its line."""
    with pytest.raises(InvalidInput) as raised:
        read_definitions(text, "a.yaml")
    assert refusal in str(raised.value)


@pytest.mark.parametrize(
    "text, refusal",
    [
        ('{"a": 1,\n "a": 2}', "the key 'a' is given twice"),
        ('{"a": 1,\n}', "a.json:2: this is not JSON"),
        ('{"a": NaN}', "NaN is not JSON"),
        ('{"a": 1e999}', "has too long a number"),
        ("[" * 100 + "]" * 100, "nests more than 64 deep"),
        ("[" * 100_000, "nests too deep"),
        ("a: 1", "a.json:1: this is not JSON"),
    ],
    ids=lambda value: value[:20],
)
def test_json_is_read_as_strictly(text: str, refusal: str) -> None:
    """B4: the same of JSON."""
    with pytest.raises(InvalidInput) as raised:
        read_definitions(text, "a.json")
    assert refusal in str(raised.value)


def test_every_value_knows_its_line_in_yaml_and_in_json() -> None:
    """B4: what is refused later says where it stands."""
    yaml = read_definitions("a:\n  b:\n    - 1\n    - c: 2\n", "a.yaml")
    assert [yaml.line(path) for path in (("a",), ("a", "b"), ("a", "b", 1), ("a", "b", 1, "c"))] == [
        1,
        2,
        4,
        4,
    ]
    assert yaml.line(("a", "b", 1, "missing")) == 4
    json = read_definitions('{\n\t"é\\ud83d\\ude00": {"b":\n\t[1,\n{"c\\"": "\x7f"}]}}', "a.json")
    key = "é😀"
    assert [json.line(path) for path in ((key,), (key, "b", 0), (key, "b", 1, 'c"'))] == [2, 3, 4]
