"""Canonical JSON: the bytes that digests of values are computed over."""

from __future__ import annotations

import orjson
from pydantic import BaseModel

from evrt.events.base import JsonValue


def plain(value: object) -> object:
    """What orjson cannot write itself: the models inside events, as their fields."""
    if isinstance(value, BaseModel):
        return value.__dict__
    raise TypeError(f"{type(value).__name__} is not JSON")


def canonical(value: JsonValue) -> bytes:
    """JSON in UTF-8 with sorted keys and no white space."""
    return orjson.dumps(value, default=plain, option=orjson.OPT_SORT_KEYS)
