"""The mapper reads what it validates: events of evrt, pydantic models, and the library's own classes."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, ClassVar
from uuid import UUID, uuid4

import orjson
import pytest
from eventsourcing import persistence
from eventsourcing.domain import Aggregate
from eventsourcing.persistence import (
    DatetimeAsISO,
    JSONTranscoder,
    MapperDeserialisationError,
    ProgrammingError,
    StoredEvent,
    UUIDAsHex,
)
from eventsourcing.utils import get_topic, resolve_topic
from hypothesis import given
from pydantic import BaseModel, ConfigDict

from evrt.codec import encode
from evrt.events import EVENT_TYPES, Erased, Event, Unknown
from evrt.events.run import RunRequested
from evrt.log.foreign.events import META, OwnEvent
from evrt.log.foreign.mapper import Mapper
from evrt.log.sqlite.factory import Factory
from pure.streams import any_event


class Line(BaseModel):
    """A part of an order."""

    model_config = ConfigDict(frozen=True)

    article: str
    price: Decimal


class OrderPlaced(BaseModel):
    """A domain event that somebody has written as a model."""

    model_config = ConfigDict(frozen=True)
    class_version: ClassVar[int] = 2

    originator_id: UUID
    originator_version: int
    lines: tuple[Line, ...]
    at: datetime
    currency: str

    @staticmethod
    def upcast_v1_v2(state: dict[str, Any]) -> None:
        state["currency"] = "EUR"


def mapper(**settings: str) -> persistence.Mapper[UUID]:
    factory = Factory({"SQLITE_DBNAME": ":memory:", **settings})
    transcoder = JSONTranscoder()
    transcoder.register(UUIDAsHex())
    transcoder.register(DatetimeAsISO())
    found: persistence.Mapper[UUID] = factory.mapper(transcoder)
    return found


def order() -> OrderPlaced:
    return OrderPlaced(
        originator_id=uuid4(),
        originator_version=3,
        lines=(Line(article="tea", price=Decimal("2.50")),),
        at=datetime(2026, 11, 27, 18, 0, tzinfo=UTC),
        currency="CHF",
    )


def own(event: Event, payload: bytes | None, meta: bytes = b"{}") -> OwnEvent:
    return OwnEvent("run-1", 4, event.type, payload or b"", meta, payload)


READING = mapper()


def read(stored_event: StoredEvent) -> Any:
    return READING.to_domain_event(stored_event)


@given(event=any_event)
def test_an_event_of_evrt_is_read_as_the_one_that_was_recorded(event: Event) -> None:
    again = read(own(event, encode(event)))
    assert type(again) is type(event)
    assert again == event
    assert event == again
    assert again.model_dump() == event.model_dump()
    place: Any = again
    assert (place.originator_id, place.originator_version) == ("run-1", 4)


def test_an_erased_event_is_read_as_erased_and_an_unknown_one_as_unknown() -> None:
    requested = RunRequested(target="t", kind="agent")
    assert read(own(requested, None)) == Erased(logical_type="run.requested")
    newer = read(own(requested, b'{"a":1}', meta=b'{"schema":99}'))
    assert newer == Unknown(logical_type="run.requested", schema_version=99, state={"a": 1})


def test_an_event_of_evrt_that_does_not_have_its_shape_is_refused_in_words() -> None:
    with pytest.raises(
        MapperDeserialisationError, match=r"Version 4 of run-1, a run.requested, cannot be read"
    ):
        read(own(RunRequested(target="t", kind="agent"), b"{}"))


def test_a_state_of_another_program_is_never_read_as_an_event_of_evrt() -> None:
    event = RunRequested(target="t", kind="agent")
    assert isinstance(read(own(event, encode(event), meta=META)), Unknown)
    assert read(own(event, None, meta=META)) == Erased(logical_type="run.requested")


def test_only_evrt_records_its_events() -> None:
    event: Any = RunRequested(target="t", kind="agent")
    with pytest.raises(ProgrammingError, match=r"run.requested is an event of evrt"):
        READING.to_stored_event(event)


def test_the_types_of_evrt_are_their_topics() -> None:
    for name, cls in EVENT_TYPES.items():
        assert get_topic(cls) == name
        assert resolve_topic(name) is cls


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"COMPRESSOR_TOPIC": "zlib"},
        {"CIPHER_KEY": "S2V5S2V5S2V5S2V5S2V5Sw==", "COMPRESSOR_TOPIC": "zlib"},
    ],
)
def test_a_model_is_read_as_the_one_that_was_stored(settings: dict[str, str]) -> None:
    placed: Any = order()
    stored = mapper(**settings).to_stored_event(placed)
    assert (stored.originator_id, stored.originator_version) == (placed.originator_id, 3)
    again = mapper(**settings).to_domain_event(stored)
    assert again == placed
    assert placed == again


def test_a_model_of_an_older_shape_is_upcast_before_it_is_validated() -> None:
    placed: Any = order()
    stored = READING.to_stored_event(placed)
    state = orjson.loads(stored.state)
    assert state.pop("class_version") == 2
    del state["currency"]
    older = StoredEvent(stored.originator_id, 3, stored.topic, orjson.dumps(state))
    assert read(older) == placed.model_copy(update={"currency": "EUR"})


def test_a_model_that_does_not_fit_its_class_is_refused() -> None:
    placed: Any = order()
    stored = READING.to_stored_event(placed)
    wrong = StoredEvent(stored.originator_id, 3, stored.topic, b'{"lines":7}')
    with pytest.raises(MapperDeserialisationError, match=r"a .*OrderPlaced, cannot be read"):
        read(wrong)


def test_the_librarys_own_classes_are_as_they_were() -> None:
    [created] = Aggregate().collect_events()
    assert read(READING.to_stored_event(created)) == created


def test_another_mapper_can_be_chosen() -> None:
    assert type(mapper(MAPPER_TOPIC="eventsourcing.persistence:Mapper")) is persistence.Mapper
    assert type(READING) is Mapper
