"""Bugs in what goes into events and comes out of them, and what is to stay out of them."""

from __future__ import annotations

from mutants.mutant import mutant

CODEC = (
    mutant(
        "false and zero taken for nothing",
        "codec.py",
        "if value is not None}",
        "if value}",
        "tests/pure/test_codec.py::test_every_event_comes_back_as_it_was",
    ),
    mutant(
        "older shapes taken for the present one",
        "codec.py",
        "    for version in range(schema, cls.class_version):\n",
        "    for version in range(0):\n",
        "tests/pure/test_codec.py::test_older_shapes_are_turned_into_the_present_one_step_by_step",
    ),
    mutant(
        "a newer shape that is guessed at",
        "codec.py",
        "not 1 <= schema <= cls.class_version",
        "not 1 <= schema",
        "tests/pure/test_codec.py::test_a_newer_version_of_a_known_type_is_kept_and_not_guessed_at",
    ),
    mutant(
        "the version of a shape left out",
        "codec.py",
        'return orjson.dumps({**orjson.loads(meta), "schema": event.class_version})',
        "return meta",
        "tests/pure/test_codec.py::test_the_version_of_a_shape_travels_in_meta",
    ),
    mutant(
        "digests that depend on the order of keys",
        "events/canonical.py",
        "option=orjson.OPT_SORT_KEYS",
        "option=0",
        "tests/pure/test_canonical.py::test_the_order_of_keys_does_not_count",
    ),
    mutant(
        "a history's digest that leaves outcomes out",
        "folds/digest.py",
        "    return event.type, _fields(event)\n",
        "    return event.type, {}\n",
        "tests/pure/test_digest.py::test_another_outcome_gives_another_digest",
    ),
    mutant(
        "a value that is walked twice on its way to JSON",
        "seal.py",
        "orjson.dumps(value, option=LEFT_TO_PYDANTIC)",
        "orjson.dumps(value, default=to_jsonable, option=LEFT_TO_PYDANTIC)",
        "tests/pure/test_seal.py::test_what_has_a_json_shape_takes_it",
    ),
    mutant(
        "a secret that is written in capitals",
        "secret_patterns.py",
        "    folded = text.lower()\n",
        "    folded = text\n",
        "tests/pure/test_secret_patterns.py::test_a_secret_goes_wherever_it_stands[AWS]",
    ),
    mutant(
        "a secret of which only the first line goes",
        "secret_patterns.py",
        r"(?:[A-Za-z0-9+/=]{16,}(?:\s|\\[nr])*)+",
        r"(?:[A-Za-z0-9+/=]{16,}(?:\s|\\[nr])*)",
        "tests/pure/test_secret_patterns.py::test_every_line_of_a_private_key_goes",
    ),
    mutant(
        "a secret that is the name of a field",
        "secret_patterns.py",
        "shown, number = _without_secrets(name), 1",
        "shown, number = name, 1",
        "tests/pure/test_secret_patterns.py::test_a_secret_goes_wherever_it_stands[npm]",
    ),
    mutant(
        "a secret field that is called otherwise in headers",
        "secret_patterns.py",
        'name.replace("_", "[_-]?")',
        "name",
        "tests/pure/test_secret_patterns.py::"
        "test_the_text_of_a_field_with_such_a_name_goes_whatever_it_looks_like",
    ),
)
