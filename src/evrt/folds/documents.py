"""A frozen document with some fields changed, which is most of what folding events into documents does."""

from __future__ import annotations

from typing import TypeVar

from pydantic import BaseModel

from evrt.events import JsonObject

M = TypeVar("M", bound=BaseModel)

_new = object.__new__
_put = object.__setattr__
_fields: dict[type[BaseModel], set[str]] = {}


def changed(document: M, change: dict[str, object]) -> M:
    """``document.model_copy(update=change)`` of a model without extra or private fields, in a third of its time.

    Nothing is validated: what an event holds has been, where it was decoded. Every field counts as set.
    """
    cls = type(document)
    fields = _fields.get(cls)
    if fields is None:
        fields = _fields[cls] = set(cls.model_fields)
    copy = _new(cls)
    _put(copy, "__dict__", {**document.__dict__, **change})
    _put(copy, "__pydantic_fields_set__", fields)
    _put(copy, "__pydantic_extra__", None)
    _put(copy, "__pydantic_private__", None)
    return copy


META_CHARACTERS_MAX = 256


def is_aside(meta: JsonObject) -> bool:
    """Whether an event is of a child that only shares its parent's correlation, and has no part in its conversation."""
    return "parent" in meta and "parent_correlation" not in meta


def meta_text(meta: JsonObject, name: str) -> str | None:
    """A short text of an event's meta, or None: another program may have written anything there."""
    value = meta.get(name)
    return value[:META_CHARACTERS_MAX] if isinstance(value, str) else None
