"""Watching views: a document and then what changes of it; a list and then what comes, changes and goes.

A reader pulls. At each pull it looks at the view as it is now, and is sent what lies between that and what it was sent
last. So there is no queue to grow and no task to die: a reader that pulls seldom is sent one patch for all that has
happened, and one that does not pull holds the document that it was sent last, and holds up nobody. The bell of the
views only says when to look again; every wait for it ends after a second besides.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Generic, NamedTuple, TypeAlias, TypeVar
from weakref import WeakValueDictionary

from pydantic import BaseModel
from pydantic_core import from_json, to_json

from evrt.errors import EvrtError, UsageError
from evrt.projection import AnyProjection, Place
from evrt.projector.frames import Changes, Cursor, Parked, Patch, Row, Rows, Snapshot
from evrt.projector.patch import Plain, diff, same
from evrt.projector.reading import Encoded, ViewReader, decoded
from evrt.projector.records import Generation, fits

WAIT_SECONDS = 1.0
"""A reader that waits looks again after this time even if no bell rang."""

PLACES_AT_ONCE = 400
"""Documents that one statement looks at."""

F = TypeVar("F")

GoesOn: TypeAlias = Callable[[], bool]
"""Keeps the views current; False where they or their log have been closed, so that nothing more will come."""


class _Watching(AsyncIterator[F], Generic[F]):
    """What watching a document and watching a list have in common: pulling, waiting and coming to an end."""

    def __init__(self, reader: ViewReader, projection: AnyProjection, goes_on: GoesOn) -> None:
        self._reader = reader
        self._projection = projection
        self._goes_on = goes_on
        self._parked = Parked(None, None)
        self._pulling = False
        self._closed = False

    def __aiter__(self) -> AsyncIterator[F]:
        return self

    async def __anext__(self) -> F:
        """The next frame, as soon as there is one. Cancelling it loses nothing."""
        if self._pulling:
            raise UsageError("A watch can be read by one task at a time; open one for each.")
        self._pulling = True
        try:
            return await self._pull()
        finally:
            self._pulling = False

    async def aclose(self) -> None:
        """End it, also for a task that waits for its next frame. One that is left without closing holds nothing either."""
        self._closed = True
        if self._pulling:
            self._reader.bell.ring()

    async def _pull(self) -> F:
        bell, waited = self._reader.bell, False
        while not self._over():
            # Taken before the look, so that no change falls between them.
            seen = bell.rung
            try:
                frame = await self._look(waited)
            except EvrtError:
                if self._over():
                    break
                raise
            if frame is not None:
                return frame
            await self._reader.changed(seen, WAIT_SECONDS)
            waited = bell.rung == seen
        raise StopAsyncIteration

    def _over(self) -> bool:
        return self._closed or not self._goes_on()

    async def _look(self, waited: bool) -> F | None:
        """What is to be sent now, if anything. ``waited``: no bell has rung since the last look of this pull."""
        raise NotImplementedError

    def _standing(self, generation: Generation) -> Parked | None:
        """Says once that the view stands still, and once that it goes on."""
        parked = Parked(generation.error_position, generation.error)
        if parked == self._parked:
            return None
        self._parked = parked
        return parked


# -------------------------------------------------------------------------------------- documents


@dataclass(slots=True, weakref_slot=True, eq=False)
class Held:
    """A document as readers have been sent it, one for all who are at the same version of it.

    ``version`` is the position of its last event; where there is no document, that of a moment when there was none.
    """

    generation: int
    version: int
    encoded: bytes | None
    """As JSON; None where there is no document."""
    snapshot: Snapshot | None = None
    patch: Patch | None = None
    """To this from the document that most readers had before."""


class Look(NamedTuple):
    """What a look has found: the generation as it was then, and the document or why it cannot be read."""

    generation: Generation
    held: Held | EvrtError


class Looks:
    """The looks of all who watch documents of one view: who looks, looks for everybody that waits by then.

    So a change costs a statement or two for each few hundred documents, and not two for each of a thousand readers.
    """

    def __init__(self, reader: ViewReader, projection: AnyProjection) -> None:
        self._reader = reader
        self._projection = projection
        self._lock = asyncio.Lock()
        self._asking: Counter[Place] = Counter()
        self._known: WeakValueDictionary[Place, Held] = WeakValueDictionary()
        """The newest of each document, as long as somebody has it."""
        self.begun = 0
        self.begun_at = 0.0
        self._found: dict[Place, Look] = {}
        self._found_by = 0
        """The number of the look that has found it."""

    @contextmanager
    def asking(self, place: Place) -> Iterator[None]:
        """Have others' looks look for this document too."""
        self._asking[place] += 1
        try:
            yield
        finally:
            self._asking[place] -= 1
            if not self._asking[place]:
                del self._asking[place]
                if not self._asking:
                    self._found = {}

    async def look(self, place: Place, after: int) -> Look | None:
        """What a look finds that is later than the one numbered ``after``. None where the view has not been built yet."""
        async with self._lock:
            if self._found_by <= after:
                self.begun = number = self.begun + 1
                self.begun_at = asyncio.get_running_loop().time()
                self._found = await self._find([*self._asking])
                self._found_by = number
            return self._found.get(place)

    async def _find(self, places: Sequence[Place]) -> dict[Place, Look]:
        found: dict[Place, Look] = {}
        left = iter(places)
        while some := list(islice(left, PLACES_AT_ONCE)):
            known = {place: self._known.get(place) for place in some}
            answer = await self._reader.unless_known(
                self._projection,
                [
                    (*place, held.generation, held.version) if held and held.encoded else (*place, 0, 0)
                    for place, held in known.items()
                ],
            )
            if answer is None:
                return {}
            generation, rows = answer
            there = {(row.key, row.part): row for row in rows}
            for place, held in known.items():
                now = self._held(generation, there.get(place), held)
                found[place] = Look(generation, now)
                if isinstance(now, Held):
                    self._known[place] = now
        return found

    def _held(self, generation: Generation, row: Encoded | None, known: Held | None) -> Held | EvrtError:
        if row is None:
            # Of this moment, for nobody knows whether there was one since the look before.
            return Held(generation.id, generation.cursor, None)
        if row.document is None and known is not None:
            return known
        try:
            value = decoded(self._projection, row.document or "")
        except UsageError as error:
            return error
        return Held(generation.id, row.position, _whole(value))


class Watch(_Watching[Snapshot | Patch | Parked]):
    """One document, watched: an async iterator of frames. ``Views.watch`` gives one, and says what comes."""

    def __init__(
        self,
        looks: Looks,
        reader: ViewReader,
        projection: AnyProjection,
        place: Place,
        after: Cursor | None,
        goes_on: GoesOn,
    ) -> None:
        super().__init__(reader, projection, goes_on)
        self._looks = looks
        self._place = place
        self._after = after
        self._sent: Held | None = None
        self._version = 0 if after is None else after.version
        """That of the reader's document, as far as the reader knows."""

    async def _pull(self) -> Snapshot | Patch | Parked:
        with self._looks.asking(self._place):
            return await super()._pull()

    async def _look(self, waited: bool) -> Snapshot | Patch | Parked | None:
        looks = self._looks
        after = looks.begun
        if waited and asyncio.get_running_loop().time() - looks.begun_at < WAIT_SECONDS:
            # Where no bell rings, one look in a second is enough for all who wait.
            after -= 1
        found = await looks.look(self._place, after)
        if found is None:
            return None
        if isinstance(found.held, EvrtError):
            raise found.held
        return self._frame(found.generation, found.held) or self._standing(found.generation)

    def _frame(self, generation: Generation, now: Held) -> Snapshot | Patch | None:
        """What lies between what the reader has and what there is now."""
        before, self._sent = self._sent, now
        if before is None:
            spared = self._after is not None and _covers(self._after, generation, now)
            return None if spared else self._snapshot(generation, now)
        if before.generation == now.generation:
            if before.version == now.version or before.encoded is now.encoded is None:
                return None
            return self._patch(before, now)
        if generation.cursor >= self._version and same(_parsed(before), _parsed(now)):
            return None
        return self._snapshot(generation, now)

    def _snapshot(self, generation: Generation, now: Held) -> Snapshot:
        # The document is also the one of any later moment up to the view's cursor, and so a reader's version need not go
        # back when a new generation dates its document earlier. It does where the log was put back from a copy.
        version = now.version if self._version > generation.cursor else max(now.version, self._version)
        self._version = version
        if now.snapshot is None or now.snapshot.version != version:
            projection = self._projection
            now.snapshot = Snapshot(
                version,
                now.generation,
                projection.name,
                projection.version,
                *self._place,
                now.encoded or b"null",
            )
        return now.snapshot

    def _patch(self, before: Held, now: Held) -> Patch:
        prev, self._version = self._version, now.version
        if now.patch is None or now.patch.prev != prev:
            operations = diff(_parsed(before), _parsed(now))
            now.patch = Patch(now.version, now.generation, prev, to_json(operations))
        return now.patch


def _covers(after: Cursor, generation: Generation, now: Held) -> bool:
    """Whether a reader that left with this cursor has the present document: it has not changed since."""
    return after.generation in (None, generation.id) and now.version <= after.version <= generation.cursor


def _parsed(held: Held) -> Plain:
    return None if held.encoded is None else from_json(held.encoded)


def _whole(value: BaseModel) -> bytes:
    """A document as JSON, with what is as its class has it by default."""
    encoded: bytes = value.__pydantic_serializer__.to_json(value)
    return encoded


# ------------------------------------------------------------------------------------------ lists


class ListWatch(_Watching[Rows | Changes | Parked]):
    """A list, watched: an async iterator of frames. ``Views.watch_list`` gives one, and says what comes."""

    def __init__(
        self,
        reader: ViewReader,
        projection: AnyProjection,
        where: Mapping[str, object],
        limit: int,
        goes_on: GoesOn,
    ) -> None:
        super().__init__(reader, projection, goes_on)
        self._where = where
        self._limit = limit
        self._seen: tuple[int, int] | None = None
        """The generation and cursor of the last look."""
        self._generation: int | None = None
        self._version = 0
        self._sent: dict[tuple[str, str, int], int] = {}
        """Versions of the rows that the reader has, by key, part and first event: one made anew is another row."""

    async def _look(self, waited: bool) -> Rows | Changes | Parked | None:
        live = await self._reader.live(self._projection)
        if live is None or not fits(live, self._projection):
            return None
        if self._seen == (live.id, live.cursor):
            return self._standing(live)
        seen = await self._reader.listed_unless_known(
            self._projection,
            self._where,
            self._limit,
            self._generation or 0,
            [(first, version) for (_, _, first), version in self._sent.items()],
        )
        if seen is None:
            return None
        generation, there = seen
        # Only what the reader does not have is made of JSON, before anything is held to be sent.
        new = {row.first: self._row(row) for row in there if row.document is not None}
        self._seen = generation.id, generation.cursor
        return self._frame(generation, there, new) or self._standing(generation)

    def _frame(
        self, generation: Generation, there: Sequence[Encoded], new: Mapping[int, Row]
    ) -> Rows | Changes | None:
        had, self._sent = self._sent, {(row.key, row.part, row.first): row.position for row in there}
        prev, whole = self._version, self._generation != generation.id
        self._generation = generation.id
        if whole:
            self._version = generation.cursor
            rows = tuple(new[row.first] for row in there)
            return Rows(self._projection.name, self._projection.version, self._version, rows)
        places = [(row.key, row.part, row.first) for row in there]
        changes = Changes(
            generation.cursor,
            prev,
            tuple((key, part) for key, part, first in had if (key, part, first) not in self._sent),
            tuple(new[place[2]] for place in places if place in had and place[2] in new),
            tuple((at, new[place[2]]) for at, place in enumerate(places) if place not in had),
        )
        if not (changes.removed or changes.changed or changes.added):
            return None
        self._version = generation.cursor
        return changes

    def _row(self, row: Encoded) -> Row:
        return Row(row.key, row.part, row.position, _whole(decoded(self._projection, row.document or "")))
