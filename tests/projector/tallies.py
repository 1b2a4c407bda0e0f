"""Projections that count, the histories they count, and what a view of them has to be: the fold of the log."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, cast

import orjson
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict

from evrt.events import Envelope, Erased, Unknown
from evrt.log import Append, Draft, Log, open_log
from evrt.log.envelopes import Row
from evrt.log.ids import new_event_id
from evrt.projection import (
    AnyProjection,
    Columns,
    Correlation,
    Documents,
    Everything,
    Projection,
    Stream,
    digest,
    digest_encoded,
    fold,
)
from evrt.projector import folding, projector
from evrt.projector.files import FileReader
from evrt.projector.reading import ViewReader
from evrt.projector.records import Generation
from evrt.projector.schema import documents as table_of
from evrt.projector.views import Views, open_views

T = TypeVar("T")

STREAMS = ("box-1", "box-2", "box-3")
TALKS = ("talk-1", "talk-2")
PARTS = ("a", "b", "c")


class Item(NamedTuple):
    """Something that is put into a box, or taken out of it; ``lost`` where the payload is erased afterwards."""

    box: str = STREAMS[0]
    part: str = PARTS[0]
    gone: bool = False
    talk: str = TALKS[0]
    lost: bool = False
    text: str = ""


items = st.builds(
    Item,
    box=st.sampled_from(STREAMS),
    part=st.sampled_from(PARTS),
    gone=st.sampled_from([False, False, True]),
    talk=st.sampled_from(TALKS),
    lost=st.sampled_from([False] * 9 + [True]),
)


def draft(item: Item) -> Draft:
    payload = orjson.dumps({"part": item.part, "gone": item.gone, "text": item.text})
    return Draft(item.box, "item.moved", new_event_id(), item.talk, b"{}", payload)


async def put(log: Log, *moved: Item) -> int:
    """Record these; returns the position of the last."""
    appended = await log.append(Append([draft(item) for item in moved], {}))
    for position, item in zip(appended.positions, moved, strict=True):
        if item.lost:
            await log.erase_payload(position)
    return appended.position


async def rows_of(log: Log, upto: int | None = None) -> list[Row]:
    return [Row(recorded) for recorded in await log.read(upto=upto, limit=1_000_000)]


# -------------------------------------------------------------------------------------- projections


class Tally(BaseModel):
    """How many events there were, the positions of the last ones, and the version of the projection."""

    model_config = ConfigDict(frozen=True)

    count: int = 0
    last: tuple[int, ...] = ()
    text: str = ""
    of_version: int = 1
    share: float = 0.0


def _moved(envelope: Envelope) -> dict[str, Any] | None:
    event = envelope.event
    return cast("dict[str, Any]", event.state) if isinstance(event, Unknown) else None


def _count(before: Tally, envelope: Envelope) -> Tally:
    moved = _moved(envelope) or {}
    return before.model_copy(
        update={
            "count": before.count + 1,
            "last": (*before.last[-2:], envelope.position),
            "text": moved.get("text", ""),
        }
    )


def _count_or_go(before: Tally, envelope: Envelope) -> Tally | None:
    moved = _moved(envelope)
    return None if moved is not None and moved["gone"] else _count(before, envelope)


def _part(envelope: Envelope) -> str | None:
    moved = _moved(envelope)
    return None if moved is None else str(moved["part"])


def tally(
    name: str, key: Any = lambda columns: columns.stream, version: int = 1, **more: Any
) -> Projection[Tally]:
    """A projection that counts, by streams where nothing else is said."""
    given: dict[str, Any] = {
        "document": Tally,
        "handles": frozenset({"item.*"}),
        "source": Stream,
        "initial": lambda key, part: Tally(of_version=version),
        "evolve": _count,
        "indexes": ("count",),
    }
    return Projection(name=name, version=version, key=key, **(given | more))


def _talk(columns: Columns) -> str:
    return columns.correlation


BOXES = tally("boxes")
THINGS = tally("things", evolve=_count_or_go, part=_part, indexes=())
SPOKEN = tally("spoken", _talk, source=Correlation, evolve=_count_or_go, part=lambda e: e.stream)
KINDS = tally("kinds", lambda c: c.type, source=lambda key: Everything(), evolve=_count_or_go, part=_part)
PROJECTIONS: Sequence[AnyProjection] = (BOXES, THINGS, SPOKEN, KINDS)
"""A document for each stream · with parts that go and come back · of correlations · of what can be anywhere."""


def by_name(projections: Iterable[AnyProjection]) -> dict[str, AnyProjection]:
    return {projection.name: projection for projection in projections}


# ------------------------------------------------------------------------------------- views of a log


@asynccontextmanager
async def opened(url: str, *own: AnyProjection) -> AsyncIterator[tuple[Log, Views]]:
    """A log, and views of these projections alone."""
    async with aclosing(await open_log(url)) as log, viewed(log, *own) as views:
        yield log, views


@asynccontextmanager
async def viewed(log: Log, *own: AnyProjection) -> AsyncIterator[Views]:
    async with aclosing(await open_views(log, own, only=[projection.name for projection in own])) as views:
        yield views


async def stored(reader: ViewReader, projection: AnyProjection) -> tuple[Generation, str]:
    """The live generation of a view that nobody changes now, and its digest."""
    generation = await reader.live(projection)
    assert generation is not None
    return generation, await digest_stored(reader, generation)


async def folded(log: Log, projection: AnyProjection, upto: int) -> Documents[Any]:
    """What a view has to be at this position."""
    return fold(projection, [row.envelope for row in await rows_of(log, upto)])


async def check_views(log: Log, path: str, *projections: AnyProjection, upto: int | None = None) -> None:
    """Every view is the fold of the log up to its cursor, and that is ``upto`` where it is given."""
    async with aclosing(FileReader(path)) as reader:
        for projection in projections:
            generation, found = await stored(reader, projection)
            assert upto is None or generation.cursor == upto, (projection.name, generation)
            assert found == digest(projection, await folded(log, projection, generation.cursor)), generation


def erased(envelope: Envelope) -> bool:
    return isinstance(envelope.event, Erased)


def url_in(folder: Path) -> str:
    return f"sqlite:///{folder / 'log.db'}"


def small(monkeypatch: Any, *, batch: int = 7, mark: int = 5) -> None:
    """Batches and marks of few events."""
    monkeypatch.setattr(projector, "BATCH_EVENTS", batch)
    monkeypatch.setattr(folding, "MARK_EVENTS", mark)


async def until(condition: Any, seconds: float = 30.0) -> None:
    """Wait for what has to come about; how long it takes is not judged."""
    async with asyncio.timeout(seconds):
        while not await condition():  # noqa: ASYNC110  # It may be another process that makes it so.
            await asyncio.sleep(0.01)


async def digest_stored(reader: ViewReader, generation: Generation) -> str:
    """The digest of a view's documents as its file has them."""
    rows = await reader._fetch(
        f"SELECT key, part, first, position, document FROM {table_of(generation.id)} ORDER BY key, part"
    )
    return digest_encoded((*row, document.encode()) for *row, document in rows)
