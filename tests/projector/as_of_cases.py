"""What is read as of moments: any history of runs, conversations and memory, and projections of every kind of source."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import entry_points
from typing import Any, NamedTuple, cast

from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict

from evrt.codec import encode
from evrt.events import Envelope, Erased, Event
from evrt.events.conversation import ConversationStarted
from evrt.events.memory import MemorySet
from evrt.log import Append, Draft, Log
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
    evolved,
    place_of,
)
from evrt.projector.folding import Folding
from evrt.projector.store import ViewStore
from pure.streams import any_event, memory_event

# ---------------------------------------------------------------------------------------- histories

CONVERSATION = "conversation-1"
STREAMS: Sequence[tuple[str, str]] = (
    ("run-a", CONVERSATION),
    ("run-b", CONVERSATION),
    ("run-c", "run-c"),
    ("memory-user-1", CONVERSATION),
    ("memory-user-1", "run-c"),
    (f"memory-{CONVERSATION}", CONVERSATION),
    (CONVERSATION, CONVERSATION),
)
"""A stream and a correlation its events may have. What a user's memory remembers comes from many conversations."""


class Happened(NamedTuple):
    """An event to be recorded; ``payload`` where it is not the event's own: damaged, or None where it was erased."""

    stream: str
    correlation: str
    event: Event
    payload: bytes | None


def _event_of(stream: str) -> st.SearchStrategy[Event]:
    if stream.startswith("memory-"):
        return cast("st.SearchStrategy[Event]", memory_event)
    if stream.startswith("run-"):
        return any_event
    return st.builds(ConversationStarted, target=st.text(max_size=3))


@st.composite
def _happened(draw: st.DrawFn) -> Happened:
    stream, correlation = draw(st.sampled_from(STREAMS))
    event = draw(_event_of(stream))
    fate = draw(st.sampled_from(["whole"] * 8 + ["damaged", "erased"]))
    payload = None if fate == "erased" else b"{" if fate == "damaged" else encode(event)
    return Happened(stream, correlation, event, payload)


histories = st.lists(_happened(), min_size=10, max_size=30)
"""Long enough for several marks of one key in most of them."""


async def record(log: Log, history: Sequence[Happened]) -> list[Row]:
    """Append a history to an empty log, and give its rows."""
    drafts = [
        Draft(one.stream, one.event.type, new_event_id(), one.correlation, b"{}", one.payload or b"{}")
        for one in history
    ]
    await log.append(Append(drafts, {}))
    for position, one in enumerate(history, 1):
        if one.payload is None:
            await log.erase_payload(position)
    return [Row(recorded) for recorded in await log.read()]


# -------------------------------------------------------------------------------------- projections


class Count(BaseModel):
    """How many events there were, and the positions of the last ones."""

    model_config = ConfigDict(frozen=True)

    count: int = 0
    last: tuple[int, ...] = ()


def _counted(before: Count, envelope: Envelope) -> Count:
    return Count(count=before.count + 1, last=(*before.last[-2:], envelope.position))


def _mortal(before: Count, envelope: Envelope) -> Count | None:
    """Counts to three; the next event deletes."""
    return _counted(before, envelope) if before.count < 3 else None


def _remembered(before: Count, envelope: Envelope) -> Count | None:
    return _counted(before, envelope) if isinstance(envelope.event, MemorySet) else None


def _conversation(columns: Columns) -> str | None:
    return columns.correlation if columns.correlation.startswith("conversation-") else None


def _memory_key(envelope: Envelope) -> str | None:
    return None if isinstance(envelope.event, Erased) else getattr(envelope.event, "key", None)


def count_of(
    name: str, handles: set[str], key: Any, source: Any, evolve: Any = _mortal, part: Any = None
) -> Projection[Count]:
    parts = {} if part is None else {"part": part}
    return Projection[Count](
        name=name,
        version=1,
        document=Count,
        handles=frozenset(handles),
        key=key,
        source=source,
        initial=lambda key, part: Count(),
        evolve=evolve,
        indexes=("count",),
        **parts,
    )


NOTES = count_of(
    "notes",
    {"memory.set", "memory.forgotten"},
    _conversation,
    Correlation,
    evolve=_remembered,
    part=_memory_key,
)
"""What the runs of a conversation remembered, in whichever scope: a document for each key; forgetting deletes."""

TALKS = count_of("talks", {"*"}, _conversation, Correlation)
"""One document for a conversation, which goes and comes."""

ROOTS = count_of(
    "roots", {"run.*", "memory.set"}, lambda c: c.correlation, Correlation, _counted, lambda e: e.stream
)
"""Of each correlation, a document for each stream."""

FAMILIES = count_of(
    "families", {"*"}, lambda c: c.type.partition(".")[0], lambda key: Everything(), part=lambda e: e.stream
)
"""Of each family of types, a document for each stream, wherever in the log."""

TYPES = count_of("types", {"*"}, lambda c: c.type, lambda key: Everything(), _counted)
"""One document for each type."""

STREAMS_BY_TYPE = count_of("streams", {"*"}, lambda c: c.stream, Stream, part=lambda e: e.type)
"""Of each stream, a document for each type."""

OWN: Sequence[AnyProjection] = (NOTES, TALKS, ROOTS, FAMILIES, TYPES, STREAMS_BY_TYPE)
BUILT_IN: Sequence[AnyProjection] = tuple(
    entry_point.load() for entry_point in sorted(entry_points(group="evrt.projections"))
)
PROJECTIONS = (*OWN, *BUILT_IN)


def every_state(projection: AnyProjection, rows: Sequence[Row]) -> list[Documents[Any]]:
    """The documents before the first event, and after each: what reading as of a moment has to give."""
    states: list[Documents[Any]] = [{}]
    for row in rows:
        documents = dict(states[-1])
        place = place_of(projection, row.envelope)
        if place is not None:
            after = evolved(projection, documents.pop(place, None), place, row.envelope)
            if after is not None:
                documents[place] = after
        states.append(documents)
    return states


async def keep(store: ViewStore, projection: AnyProjection, rows: Sequence[Row], cuts: Sequence[int]) -> None:
    """Fold rows into a view, in batches that end at these positions."""
    generation = await store.ensure(projection)
    assert generation is not None
    folding = Folding[Any](store, generation, projection)
    begin = 0
    for end in cuts:
        if batch := rows[begin:end]:
            change = await folding.fold(batch)
            assert change.error is None
            await store.commit([change], "the test")
            folding.committed(change)
        begin = max(begin, end)
