"""Domain events of the eventsourcing library as stored events, and back: as the library has it, but validated.

The library builds what it reads by setting ``__dict__``. A pydantic model built so has never been validated,
and is not equal to the one that was stored; so models are validated here. Events of evrt are decoded by
evrt itself.
"""

from __future__ import annotations

from typing import Any, cast

import orjson
from eventsourcing import persistence
from eventsourcing.domain import DomainEventProtocol, TAggregateID
from eventsourcing.persistence import MapperDeserialisationError, ProgrammingError, StoredEvent
from eventsourcing.utils import get_topic, register_topic
from pydantic import BaseModel, ValidationError

from evrt.codec import decode
from evrt.errors import UnusableLog
from evrt.events import EVENT_TYPES, Event
from evrt.log.foreign.events import OwnEvent, OwnNotification

PLACE = {"originator_id", "originator_version"}
"""Fields of a domain event that are columns of a stored one."""

for _type, _class in EVENT_TYPES.items():
    register_topic(_type, _class)


class Mapper(persistence.Mapper[TAggregateID]):
    """Takes the place of the library's mapper.

    An event of evrt is read as its own class (``Erased`` where it has been erased, ``Unknown`` where this
    program does not know it) and has an ``originator_id`` and an ``originator_version`` besides its fields.
    """

    def to_stored_event(self, domain_event: DomainEventProtocol[TAggregateID]) -> StoredEvent:
        """Raises ProgrammingError for an event of evrt: those are recorded by what happens in a run."""
        if isinstance(domain_event, Event):
            raise ProgrammingError(f"{domain_event.type} is an event of evrt: only evrt records it.")
        if isinstance(domain_event, BaseModel):
            return self._store_model(domain_event)
        return super().to_stored_event(domain_event)

    def to_domain_event(self, stored_event: StoredEvent) -> DomainEventProtocol[TAggregateID]:
        """Raises MapperDeserialisationError for a state that does not fit its class."""
        if isinstance(stored_event, OwnEvent | OwnNotification):
            return cast("DomainEventProtocol[TAggregateID]", _decode(stored_event))
        domain_event = super().to_domain_event(stored_event)
        if not isinstance(domain_event, BaseModel):
            return domain_event
        try:
            return type(domain_event).model_validate(vars(domain_event))
        except ValidationError as error:
            raise _unreadable(stored_event, error) from error

    def _store_model(self, model: BaseModel) -> StoredEvent:
        state = model.model_dump(mode="json", exclude=PLACE)
        class_version = getattr(type(model), "class_version", 1)
        if class_version > 1:
            state["class_version"] = class_version
        encoded = self.transcoder.encode(state)
        if self.compressor:
            encoded = self.compressor.compress(encoded)
        if self.cipher:
            encoded = self.cipher.encrypt(encoded)
        place: Any = model
        return StoredEvent(place.originator_id, place.originator_version, get_topic(type(model)), encoded)


def _decode(stored_event: OwnEvent | OwnNotification) -> Event:
    try:
        event = decode(stored_event.topic, orjson.loads(stored_event.meta), stored_event.payload)
    except UnusableLog as error:
        raise _unreadable(stored_event, error) from error
    # Beside its fields, where pydantic has cached properties: it is no less equal to the one recorded.
    object.__setattr__(event, "originator_id", stored_event.originator_id)
    object.__setattr__(event, "originator_version", stored_event.originator_version)
    return event


def _unreadable(stored_event: StoredEvent, error: Exception) -> MapperDeserialisationError:
    return MapperDeserialisationError(
        f"Version {stored_event.originator_version} of {stored_event.originator_id}, a {stored_event.topic}, "
        f"cannot be read: {error}"
    )
