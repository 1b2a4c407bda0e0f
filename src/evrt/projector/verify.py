"""Verifying a view: what is stored, the same built anew from the log, and what is read as of a moment have to be equal."""

from __future__ import annotations

import os
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any, NamedTuple

from evrt.errors import Unavailable, UnusableLog, UsageError
from evrt.log import Log
from evrt.log.envelopes import Row
from evrt.projection import (
    AnyProjection,
    Digest,
    Document,
    Documents,
    Everything,
    encode_document,
    fold,
)
from evrt.projector.files import FileReader, open_file
from evrt.projector.folding import Folding
from evrt.projector.keeping import Advance
from evrt.projector.projector import BATCH_EVENTS, of_other_histories
from evrt.projector.reading import decoded
from evrt.projector.records import Generation, Mark, fits, newer
from evrt.projector.registry import named
from evrt.projector.schema import documents, marks, snapshots
from evrt.projector.sources import read_source
from evrt.projector.views import Views

ROWS = 500
"""Documents, or keys, that are held at once."""

Encoded = tuple[str, str, int, int, bytes]
"""Key, part, first, position and JSON of a document."""


class Verified(NamedTuple):
    """Digests of one view as of one position, in hex: of what is stored; of the same built anew; and of the same where
    each key that has been kept as of a moment is read from there, and the events since then folded."""

    name: str
    position: int
    incremental: str
    rebuilt: str
    snapshot_and_tail: str

    @property
    def agrees(self) -> bool:
        """Whether the view is what the log says."""
        return self.incremental == self.rebuilt == self.snapshot_and_tail


async def verify_view(views: Views, name: str, advance: Advance = lambda done, total: None) -> Verified:
    """Compare a view with the log, as of the position where it stands now, while both go on.

    It needs room for the view once more, in the folder of temporary files, and hardly any memory.
    Raises NotFound, UsageError (of a newer program), Unavailable (never built yet), UnusableLog.
    """
    projection = named(views.projections, name)
    async with views.reader.standing_still() as fetch:
        moment = Moment(fetch)
        generation = await moment.live(projection)
        if await of_other_histories(views.log, [generation], {name}):
            raise UnusableLog(
                f"The view {name} was built from events that are not in the log, as where that has been put back from a "
                "copy. It is built anew as soon as views are opened again."
            )
        incremental = await _digest(moment.stored(generation))
        tail = await _digest(_by_marks(views.log, moment, projection, generation))
    rebuilt = await _rebuilt(views.log, projection, generation.cursor, advance)
    return Verified(name, generation.cursor, incremental, rebuilt, tail)


async def _digest(rows: AsyncIterator[Encoded]) -> str:
    digest = Digest()
    async for row in rows:
        digest.add(*row)
    return digest.hex()


async def _rebuilt(log: Log, projection: AnyProjection, upto: int, advance: Advance) -> str:
    """The digest of a view that is built from the first event, in a file of its own."""
    with tempfile.TemporaryDirectory(prefix="evrt-verify-") as folder:
        path = os.path.join(folder, "views")
        async with aclosing(await open_file(path, log.id)) as store:
            generation = await store.ensure(projection)
            assert generation is not None
            folding: Folding[Any] = Folding(store, generation, projection)
            while (done := folding.generation.cursor) < upto:
                advance(done, upto)
                recorded = await log.read(after=done, upto=upto, limit=BATCH_EVENTS)
                change = await folding.fold([Row(one) for one in recorded])
                if change.error is not None:
                    raise UsageError(
                        f"The projection {projection.name} fails where its view did not: {change.error}. It was changed "
                        "without a new version; raise that."
                    )
                await store.commit([change], "verify")
                folding.committed(change)
            advance(upto, upto)
        async with aclosing(FileReader(path)) as reader, reader.standing_still() as fetch:
            moment = Moment(fetch)
            return await _digest(moment.stored(await moment.live(projection)))


# ------------------------------------------------------------------------------------ as of the marks


async def _by_marks(
    log: Log, moment: Moment, projection: AnyProjection, generation: Generation
) -> AsyncIterator[Encoded]:
    """Every document as it is stored; but those of keys that have been kept, from there and the events since then."""
    async for key in moment.keys(generation):
        kept_all = isinstance(projection.source(key), Everything)
        mark = Mark(generation.cursor, 0) if kept_all else await moment.last_mark(generation, key)
        if mark is None:
            async for row in moment.of_key(generation, key):
                yield row
            continue
        found = await moment.kept(projection, generation, key)
        if not kept_all:
            found = await _folded(log, projection, key, mark, generation.cursor, found)
        for place in sorted(found):
            one = found[place]
            yield (*place, one.first, one.position, encode_document(projection, one))


async def _folded(
    log: Log, projection: AnyProjection, key: str, mark: Mark, upto: int, found: Documents[Any]
) -> Documents[Any]:
    source = projection.source(key)
    async for page in read_source(log, source, after=mark.position, upto=upto, version=mark.version):
        rows = [Row(recorded) for recorded in page]
        mine = [row.envelope for row in rows if projection.wants(row.type) and projection.key(row) == key]
        found = fold(projection, mine, found)
    return found


# ------------------------------------------------------------------------------------------ one moment


class Moment:
    """The views as of one moment: a transaction that only reads, and sees nothing that comes after it."""

    def __init__(self, fetch: Callable[..., Awaitable[list[Any]]]) -> None:
        self._fetch = fetch

    async def live(self, projection: AnyProjection) -> Generation:
        rows = await self._fetch(
            "SELECT id, name, version, shape, stage, cursor, leaf, owner, error, error_position FROM views "
            "WHERE name = ? AND stage = 'live'",
            projection.name,
        )
        found = Generation(*rows[0]) if rows else None
        if found is not None and found.version > projection.version:
            raise newer(found, projection)
        if found is None or not fits(found, projection):
            raise Unavailable(
                f"The view {projection.name} has not been built in version {projection.version} yet, so there is nothing to "
                f"verify. `evrt projections rebuild {projection.name}` builds it, as does whoever reads it."
            )
        return found

    async def stored(self, generation: Generation) -> AsyncIterator[Encoded]:
        """Every document in the order of places."""
        async for key in self.keys(generation):
            async for row in self.of_key(generation, key):
                yield row

    async def keys(self, generation: Generation) -> AsyncIterator[str]:
        """Every key that has a document or has had one when it was kept, in order."""
        last: str | None = None
        while True:
            after, given = ("", ()) if last is None else ("WHERE key > ?", (last, last))
            rows = await self._fetch(
                f"SELECT DISTINCT key FROM {documents(generation.id)} {after} "
                f"UNION SELECT DISTINCT key FROM {snapshots(generation.id)} {after} ORDER BY key LIMIT {ROWS}",
                *given,
            )
            for (key,) in rows:
                yield key
            if len(rows) < ROWS:
                return
            last = rows[-1][0]

    async def of_key(self, generation: Generation, key: str) -> AsyncIterator[Encoded]:
        """The documents of a key in the order of parts."""
        last: str | None = None
        while True:
            after, given = ("", ()) if last is None else ("AND part > ?", (last,))
            rows = await self._fetch(
                f"SELECT key, part, first, position, document FROM {documents(generation.id)} WHERE key = ? {after} "
                f"ORDER BY part LIMIT {ROWS}",
                *(key, *given),
            )
            for its, part, first, position, document in rows:
                yield its, part, first, position, document.encode()
            if len(rows) < ROWS:
                return
            last = rows[-1][1]

    async def last_mark(self, generation: Generation, key: str) -> Mark | None:
        rows = await self._fetch(
            f"SELECT position, version FROM {marks(generation.id)} WHERE key = ? ORDER BY position DESC LIMIT 1",
            key,
        )
        return Mark(*rows[0]) if rows else None

    async def kept(self, projection: AnyProjection, generation: Generation, key: str) -> Documents[Any]:
        """The documents of a key as they were kept at its last mark."""
        mark = await self.last_mark(generation, key)
        rows = await self._fetch(
            f"SELECT s.part, s.first, s.changed, s.document FROM {snapshots(generation.id)} AS s WHERE s.key = ? "
            f"AND s.position = (SELECT max(l.position) FROM {snapshots(generation.id)} AS l "
            "WHERE l.key = s.key AND l.part = s.part AND l.position <= ?)",
            *(key, generation.cursor if mark is None else mark.position),
        )
        return {
            (key, part): Document(key, part, first, changed, decoded(projection, document))
            for part, first, changed, document in rows
            if document is not None
        }
