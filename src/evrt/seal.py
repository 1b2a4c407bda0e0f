"""Redaction: what must not be recorded is taken out before code or log sees it.

The hook runs on every value on its way in: a run's input, arguments as they are recorded, replies,
results, memory, answers. Code then gets the redacted value after one trip through JSON, exactly
as a replay will give it.
"""

from __future__ import annotations

from collections.abc import Callable

import orjson
from pydantic_core import PydanticSerializationError, to_jsonable_python

from evrt.errors import InvalidInput
from evrt.events import JsonValue

LEFT_TO_PYDANTIC = orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME
"""What orjson would write too, but not as pydantic does."""

Redact = Callable[[JsonValue], JsonValue]
"""Takes a JSON value, returns the value to record in its place. Must be pure: a replay runs it again."""


def keep(value: JsonValue) -> JsonValue:
    """The default hook: nothing is taken out."""
    return value


def admit(
    value: object, redact: Redact, to_jsonable: Callable[[object], object] = to_jsonable_python
) -> JsonValue:
    """Turn any value into the JSON value that is recorded and that the code gets to see.

    Raises InvalidInput when it cannot be JSON: bytes that are not UTF-8, a lone surrogate, an
    integer beyond 64 bits, an object of an unknown class. Not-a-number becomes null, as JSON has none.
    """
    try:
        try:
            text = orjson.dumps(value, option=LEFT_TO_PYDANTIC)
        except TypeError:  # Not JSON as it is.
            text = orjson.dumps(to_jsonable(value))
        admitted: JsonValue = orjson.loads(text)
        if redact is not keep:
            admitted = orjson.loads(orjson.dumps(redact(admitted)))
    except (PydanticSerializationError, TypeError, ValueError) as error:
        raise InvalidInput(
            f"A value of type {type(value).__name__} cannot be recorded as JSON: {error}. "
            "Return text, numbers, lists, objects with text keys, or a pydantic model."
        ) from error
    return admitted


def admit_arguments(value: object, redact: Redact) -> JsonValue:
    """``admit`` for what an operation is recognised by: a set in it has the same order in every process."""
    return admit(value, redact, _ordered_jsonable)


def _ordered_jsonable(value: object) -> object:
    return to_jsonable_python(_ordered(value))


def _ordered(value: object) -> object:
    match value:
        case dict():
            return {key: _ordered(inner) for key, inner in value.items()}
        case list() | tuple():
            return [_ordered(inner) for inner in value]
        case set() | frozenset():
            return sorted((_ordered(inner) for inner in value), key=repr)
    return value
