"""Long values cut for documents: a reader recognises what was cut, sees its size and beginning, and where it is whole.

An event may hold a value of 1 MiB, a document not. ``clip`` puts in the place of a long value

    {"$clipped": {"bytes": 1048576, "begins": "…", "position": 17}}

with the bytes of its JSON, a beginning of it, and the position of the event that has it whole. A text that has to
stay a text ends in a note that says the same. Nesting counts too: JSON readers have a limit of their own.
"""

from __future__ import annotations

import orjson

from evrt.events import JsonObject, JsonValue
from evrt.events.run import Failure

CLIPPED = "$clipped"
DEPTH_MAX = 100
"""Most lists and objects inside one another. pydantic reads 200, a document around its value included."""
JSON_BYTES_PER_CHARACTER = 6
"""What one character can become in JSON: a control character is written as six."""
NOTE_BYTES = 120
"""Room for the note at the end of a text."""
FAILURE_BYTES_MAX = 2_048


def is_clipped(value: JsonValue) -> bool:
    """Whether ``clip`` made this: it is an object with the one key ``$clipped``."""
    return isinstance(value, dict) and len(value) == 1 and CLIPPED in value


def clip(value: JsonValue, bytes_max: int, position: int) -> JsonValue:
    """A value as it is, or what stands for it where its JSON has more bytes than that, or nests too deep.

    ``position`` is that of the event that holds the value. What stands for it has at most ``bytes_max`` bytes, which
    are 1,200 or more. A value that looks as if it had been clipped is clipped, so that the look can be relied on.
    """
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str):
        if len(value) * JSON_BYTES_PER_CHARACTER + 2 <= bytes_max:
            return value
        encoded = orjson.dumps(value)
        return value if len(encoded) <= bytes_max else _clipped(len(encoded), value, bytes_max, position)
    try:
        encoded = orjson.dumps(value)
    except orjson.JSONEncodeError:  # Nested deeper than anything can be written; only read from elsewhere.
        return _clipped(None, "", bytes_max, position)
    if len(encoded) > bytes_max or is_clipped(value) or is_deep(value, encoded):
        return _clipped(len(encoded), encoded[:bytes_max].decode("utf-8", "ignore"), bytes_max, position)
    return value


def clip_text(text: str, bytes_max: int, position: int) -> str:
    """The same for a text that has to stay one: its beginning, and a note of what is missing."""
    if len(text) * JSON_BYTES_PER_CHARACTER + 2 <= bytes_max:
        return text
    size = len(orjson.dumps(text))
    if size <= bytes_max:
        return text
    beginning = _beginning(text, bytes_max - NOTE_BYTES)
    return f"{beginning}… [clipped: {size:,} bytes, whole in the event at position {position}]"


def clip_failure(failure: Failure, position: int) -> Failure:
    """A failure whose texts have at most FAILURE_BYTES_MAX bytes together."""
    error_type = clip_text(failure.error_type, FAILURE_BYTES_MAX // 4, position)
    message = clip_text(failure.message, FAILURE_BYTES_MAX * 3 // 4, position)
    if error_type is failure.error_type and message is failure.message:
        return failure
    return Failure(error_type=error_type, message=message)


def clip_texts(texts: tuple[str, ...], bytes_max: int, position: int) -> tuple[str, ...]:
    """As many of these texts as have room, and then a note of how many there are."""
    room = bytes_max - NOTE_BYTES
    if sum(map(len, texts)) * JSON_BYTES_PER_CHARACTER + 3 * len(texts) <= room:
        return texts
    kept: list[str] = []
    for text in texts:
        room -= len(orjson.dumps(text)) + 1
        if room < 0:
            note = f"… [clipped: {len(texts):,} in all, whole in the event at position {position}]"
            return (*kept, note)
        kept.append(text)
    return texts


def _clipped(size: int | None, text: str, bytes_max: int, position: int) -> JsonObject:
    return {CLIPPED: {"bytes": size, "begins": _beginning(text, bytes_max // 2), "position": position}}


def _beginning(text: str, bytes_max: int) -> str:
    """As much of a text as its JSON has room for, roughly."""
    beginning = text[:bytes_max]
    while (size := len(orjson.dumps(beginning))) > bytes_max:
        beginning = beginning[: len(beginning) * bytes_max // size - 1]
    return beginning


def is_deep(value: JsonValue, encoded: bytes) -> bool:
    if len(encoded) <= 2 * DEPTH_MAX or encoded.count(b"[") + encoded.count(b"{") <= DEPTH_MAX:
        return False
    layer = [value]
    for _ in range(DEPTH_MAX + 1):
        layer = [
            inner
            for outer in layer
            if isinstance(outer, dict | list | tuple)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
        if not layer:
            return False
    return True
