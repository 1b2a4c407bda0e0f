"""Events to bytes and back. Decoding only ever builds registered types.

A payload is the compact JSON of an event's fields, without those that are None. The version
of the shape travels in meta (key ``schema``, left out while it is 1). What this program does
not know is kept as ``Unknown`` and shown; what was erased is ``Erased``.
"""

from __future__ import annotations

from base64 import b64encode

import orjson
from pydantic import ValidationError

from evrt.errors import InvalidInput, UnusableLog
from evrt.events import EVENT_TYPES, Erased, Event, JsonObject, JsonValue, Unknown
from evrt.events.canonical import plain

FORMAT = "format"
"""Key in the meta of events that another program wrote: whose format the payload has. The types are its own."""


def encode(event: Event) -> bytes:
    """The payload of an event.

    Raises InvalidInput when a value is not JSON: a lone surrogate, an integer beyond 64 bits.
    """
    fields = {name: value for name, value in event.__dict__.items() if value is not None}
    try:
        return orjson.dumps(fields, default=plain)
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"A value of {event.type} cannot be recorded as JSON: {error}.") from error


def meta_for(event: Event, meta: bytes) -> bytes:
    """Meta, which is compact JSON, with the version of the event's shape added where that is not 1."""
    if event.class_version == 1:
        return meta
    return orjson.dumps({**orjson.loads(meta), "schema": event.class_version})


def _whatever(payload: bytes) -> JsonValue:
    """A payload of unknown shape, to be shown: JSON where it is that, else its bytes in base64."""
    try:
        state: JsonValue = orjson.loads(payload)
    except orjson.JSONDecodeError:
        return {"base64": b64encode(payload).decode()}
    return state


def decode(type: str, meta: JsonObject, payload: bytes | None) -> Event:
    """The event in a payload: a registered type, ``Unknown`` or ``Erased``.

    Raises UnusableLog when a known type's payload does not fit its shape.
    """
    if payload is None:
        return Erased(logical_type=type)
    if FORMAT in meta:
        return Unknown(logical_type=type, schema_version=1, state=_whatever(payload))
    schema = meta.get("schema", 1)
    cls = EVENT_TYPES.get(type)
    if cls is None or not isinstance(schema, int) or not 1 <= schema <= cls.class_version:
        return Unknown(logical_type=type, schema_version=schema, state=_whatever(payload))
    try:
        state = orjson.loads(payload)
    except orjson.JSONDecodeError as error:
        raise UnusableLog(f"The payload of a {type} event is not JSON: {error}.") from error
    for version in range(schema, cls.class_version):
        state = getattr(cls, f"upcast_v{version}_v{version + 1}")(state)
    try:
        # As model_validate does it, without the three calls in between: this is half of reading a history.
        event: Event = cls.__pydantic_validator__.validate_python(state)
    except ValidationError as error:
        raise UnusableLog(
            f"The payload of a {type} event does not have the shape of its type: {error}"
        ) from error
    return event
