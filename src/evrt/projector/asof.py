"""As of a moment: the documents of a key as they were after any event of the log, whether a view holds them or not.

A view knows some moments of a key already: the one it has come to, and those for which the projector has kept its
documents. The last of them before the moment asked for is where reading begins, and the events of the key's source
from there on are folded. Without a view that knows any, reading begins with the first event. The answer is the same.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Generic, NamedTuple, TypeVar

from pydantic import BaseModel

from evrt.errors import EvrtError, UsageError
from evrt.log import Log
from evrt.log.envelopes import Row
from evrt.projection import WHOLE, Document, Documents, Everything, Projection, evolved
from evrt.projector.projector import is_of_this_history
from evrt.projector.reading import Seen, ViewReader
from evrt.projector.sources import read_source

D = TypeVar("D", bound=BaseModel)

LOOKS_MAX = 10
"""How often a view is looked at anew that was replaced while it was being read."""


class _Known(NamedTuple, Generic[D]):
    """Documents of a key as of a position, and the version of the event there in the key's stream, where it is known.

    Up to the moment asked for nothing of the key happened after ``upto``, where that is known.
    """

    documents: Documents[D]
    position: int
    version: int | None = None
    upto: int | None = None


async def document_as_of(
    log: Log, views: ViewReader | None, projection: Projection[D], key: str, part: str, position: int
) -> Document[D] | None:
    """One document as it was after the event at this position, which the log has; None where there was none.

    ``views`` makes it quick for keys with many events; without them it is the same. Raises UsageError where the
    projection fails at one of the key's events, or a newer program has built the view; Unavailable, UnusableLog.
    """
    return (await _as_of(log, views, projection, key, part, position)).get((key, part))


async def family_as_of(
    log: Log, views: ViewReader | None, projection: Projection[D], key: str, position: int
) -> list[Document[D]]:
    """All documents of a key as they were then, in the order of their parts. See ``document_as_of``."""
    whole = type(projection).part is projection.part
    found = await _as_of(log, views, projection, key, WHOLE if whole else None, position)
    return [found[place] for place in sorted(found)]


async def documents_as_of(
    log: Log,
    views: ViewReader | None,
    projection: Projection[D],
    key: str,
    part: str,
    positions: Sequence[int],
) -> list[Document[D] | None]:
    """One document as it was at each of these positions, which rise: one walk along its events for all of them."""
    if not positions:
        return []
    known = await _known(log, views, projection, key, part, positions[0])
    place, found = (key, part), list[Document[D] | None]()
    document = known.documents.get(place)
    async for position, documents in _states(log, projection, key, part, known, positions[-1]):
        while positions[len(found)] < position:
            found.append(document)
        document = documents.get(place)
    return found + [document] * (len(positions) - len(found))


async def _as_of(
    log: Log, views: ViewReader | None, projection: Projection[D], key: str, part: str | None, position: int
) -> Documents[D]:
    """The documents of a key then, or the one of a part."""
    known = await _known(log, views, projection, key, part, position)
    upto = position if known.upto is None else min(known.upto, position)
    async for _ in _states(log, projection, key, part, known, upto):
        pass
    return known.documents


async def _known(
    log: Log, views: ViewReader | None, projection: Projection[D], key: str, part: str | None, position: int
) -> _Known[D]:
    """Where to begin: the last moment up to the position of which the documents are known."""
    if views is None:
        return _Known({}, 0)
    return await _from_view(log, views, projection, key, part, position) or _Known({}, 0)


# ------------------------------------------------------------------------------------ what a view knows


async def _from_view(
    log: Log, views: ViewReader, projection: Projection[D], key: str, part: str | None, position: int
) -> _Known[D] | None:
    """The last moment up to the position that the view knows the documents of; None where it knows none."""
    for _ in range(LOOKS_MAX):
        if part is None:
            seen = await views.family(projection, key)
        else:
            seen = await views.document(projection, key, part)
        if seen is None or not await is_of_this_history(log, seen.generation):
            return None
        try:
            return await _from_generation(views, projection, key, part, position, seen)
        except EvrtError:
            # A generation that has been replaced takes its tables with it.
            live = await views.live(projection)
            if live is not None and live.id == seen.generation.id:
                raise
    return None


async def _from_generation(
    views: ViewReader, projection: Projection[D], key: str, part: str | None, position: int, seen: Seen[D]
) -> _Known[D] | None:
    generation, documents = seen.generation, {document.place: document for document in seen.documents}
    if generation.cursor <= position:
        return _Known(documents, generation.cursor)
    if part is not None and documents and documents[key, part].position <= position:
        # It has not changed since, nor been deleted: it is there.
        return _Known(documents, position)
    if isinstance(projection.source(key), Everything):
        # Each of its events is a moment that is kept, so that nobody has to read along the whole log.
        moment = _Known[D]({}, position)
    else:
        start = await views.start(generation, key, position)
        if start is None:
            return None
        moment = _Known[D]({}, *start)
        if start.version is None:
            return moment
    kept = await views.kept(projection, generation, key, moment.position, part)
    if not kept and await views.lost(generation, key):
        return None
    return moment._replace(documents=kept)


# ------------------------------------------------------------------------------------------- the rest


async def _states(
    log: Log, projection: Projection[D], key: str, part: str | None, known: _Known[D], position: int
) -> AsyncIterator[tuple[int, Documents[D]]]:
    """The known documents, changed in place by each of the key's events up to the position."""
    documents = known.documents
    source = projection.source(key)
    async for page in read_source(log, source, after=known.position, upto=position, version=known.version):
        for recorded in page:
            if not projection.wants(recorded.type):
                continue
            row = Row(recorded)
            try:
                if projection.key(row) != key:
                    continue
                its = projection.part(row.envelope)
                if its is None or part not in (None, its):
                    continue
                place = (key, its)
                after = evolved(projection, documents.get(place), place, row.envelope)
            except Exception as error:
                raise UsageError(
                    f"The projection {projection.name} failed at event {row.position}, {row.type} of {row.stream}, so it "
                    f"cannot be read as of a moment from there on: {type(error).__name__}: {error}. Mend the projection."
                ) from error
            if after is None:
                documents.pop(place, None)
            else:
                documents[place] = after
            yield row.position, documents
