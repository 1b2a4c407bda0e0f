"""What a conversation may be given: how long a title, how much metadata, which names. Pure."""

from __future__ import annotations

import orjson

from evrt.errors import InvalidInput
from evrt.events import JsonObject, JsonValue

TITLE_CHARACTERS_MAX = 300
METADATA_BYTES_MAX = 16 * 1024
"""Of metadata as JSON."""
METADATA_LEVELS_MAX = 20
RESOURCES_MAX = 50
"""What one conversation may have attached."""
NAME_CHARACTERS_MAX = 120
MEDIA_TYPE_CHARACTERS_MAX = 120
REFERENCE_CHARACTERS_MAX = 400
TEXT_BYTES_MAX = 512 * 1024
"""Of a document that stands in the log itself; a longer one is a file."""


def checked_title(title: str | None) -> str | None:
    """Raises InvalidInput for what is no title."""
    if title is None:
        return None
    if not isinstance(title, str) or not title.strip() or len(title) > TITLE_CHARACTERS_MAX:
        raise InvalidInput(
            f"A title is a text of 1 to {TITLE_CHARACTERS_MAX} characters, not {title!r:.80}. None takes it away."
        )
    return title


def checked_metadata(metadata: JsonValue) -> JsonObject:
    """Raises InvalidInput for what cannot be metadata."""
    if not isinstance(metadata, dict):
        raise InvalidInput(f"Metadata is a JSON object, not {metadata!r:.80}.")
    size = len(orjson.dumps(metadata))
    if size > METADATA_BYTES_MAX:
        raise InvalidInput(
            f"The metadata of a conversation may have {METADATA_BYTES_MAX:,} bytes as JSON, and this has {size:,}. Attach "
            "what is large as a file or a document."
        )
    if _levels(metadata) > METADATA_LEVELS_MAX:
        raise InvalidInput(f"Metadata nests at most {METADATA_LEVELS_MAX} levels deep.")
    return metadata


def checked_name(name: str) -> str:
    """Raises InvalidInput for a name that nothing can be attached by.

    It is the name of a file wherever somebody saves it, so it has no part of a path in it.
    """
    if (
        not isinstance(name, str)
        or not 1 <= len(name) <= NAME_CHARACTERS_MAX
        or not name.isprintable()
        or name.strip() != name
        or name in (".", "..")
        or any(character in name for character in "/\\")
    ):
        raise InvalidInput(
            f"What is attached has a name of 1 to {NAME_CHARACTERS_MAX} printable characters without '/', '\\' and "
            f"blanks at its ends, not {name!r:.80}."
        )
    return name


def checked_short(what: str, text: str | None, characters_max: int) -> str | None:
    """Raises InvalidInput for a text that is empty, too long, or not to be printed."""
    if text is not None and (
        not isinstance(text, str) or not 1 <= len(text) <= characters_max or not text.isprintable()
    ):
        raise InvalidInput(
            f"A {what} is a text of 1 to {characters_max} printable characters, not {text!r:.80}."
        )
    return text


def _levels(value: JsonValue) -> int:
    levels, layer = 0, [value]
    while layer:
        levels += 1
        layer = [
            inner
            for one in layer
            for inner in (one.values() if isinstance(one, dict) else one if isinstance(one, list) else ())
        ]
    return levels
