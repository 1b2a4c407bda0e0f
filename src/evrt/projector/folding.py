"""Folding batches: from rows of the log to what they change in a view, documents kept in memory from batch to batch."""

from __future__ import annotations

import traceback
from collections.abc import Iterable, Sequence
from typing import Generic, NamedTuple, TypeAlias, TypeVar

from pydantic import BaseModel, ValidationError

from evrt.events import Envelope
from evrt.log.envelopes import Row
from evrt.projection import (
    Document,
    Everything,
    Place,
    Projection,
    encode_document,
)
from evrt.projector.store import Change, Family, Generation, Kept, Mark, ViewStore, Written

D = TypeVar("D", bound=BaseModel)

MARK_EVENTS = 500
"""Events of a key after which its documents are kept: what a reader as of a moment has to fold at most."""

CACHED_DOCUMENTS_MAX = 20_000
"""Documents of one view that are held in memory from batch to batch."""


class Trouble(NamedTuple):
    """What a projection raised, and at which event."""

    position: int
    text: str


Routed: TypeAlias = tuple[Row, Place]
"""An event, and the document that it belongs to."""


class Folding(Generic[D]):
    """One generation of a view, being folded on by one projector."""

    def __init__(self, store: ViewStore, generation: Generation, projection: Projection[D]) -> None:
        self.generation = generation
        self.projection = projection
        self.store = store
        self._documents: dict[Place, Document[D] | None] = {}
        """As of the cursor; None where there is known to be none."""
        self._families: dict[str, Family] = {}
        self._wants: dict[str, bool] = {}
        self._keeps_all: dict[str, bool] = {}

    async def fold(self, rows: Sequence[Row]) -> Change:
        """What these rows, which begin right after the cursor or before, make of the view.

        Where the projection raises, the change goes as far as the event before, and says so.
        """
        routed, trouble = self._route(rows)
        stored = await self._prepare(routed)
        if isinstance(stored, Trouble):
            routed, trouble, stored = [], stored, {}
        batch, failed = self._take(routed, stored)
        trouble = failed or trouble
        change = Change(self.generation, rows[-1].position, rows[-1].recorded.leaf)
        if trouble is not None:
            change.cursor = trouble.position - 1
            leaves = {row.position: row.recorded.leaf for row in rows}
            change.leaf = leaves.get(change.cursor, self.generation.leaf)
            change.error, change.error_position = trouble.text, trouble.position
        await batch.describe(change)
        # Should the change not be written, nobody goes on with this folding.
        self._documents |= batch.documents
        self._families |= change.families
        return change

    def _take(
        self, routed: list[Routed], stored: dict[Place, Document[D] | None]
    ) -> tuple[_Batch[D], Trouble | None]:
        batch = _Batch(self, stored)
        trouble = batch.take(routed)
        if batch.can_be_written():
            return batch, trouble
        # Some document is too large, or cannot be written as JSON: find the event that made it so.
        batch = _Batch(self, stored, careful=True)
        trouble = batch.take(routed)
        batch.can_be_written()
        return batch, trouble

    def committed(self, change: Change) -> None:
        """The change has been written: go on from there."""
        self.generation = self.generation._replace(
            cursor=change.cursor, leaf=change.leaf, error=change.error, error_position=change.error_position
        )
        if len(self._documents) > CACHED_DOCUMENTS_MAX:
            self._documents.clear()
            self._families.clear()
            self._keeps_all.clear()

    def family(self, key: str) -> Family:
        """The key's counts as of the cursor."""
        return self._families[key]

    def keeps_all(self, key: str) -> bool:
        """Whether every version of its documents is kept, as nobody could find the events of one key again."""
        known = self._keeps_all.get(key)
        if known is None:
            known = self._keeps_all[key] = isinstance(self.projection.source(key), Everything)
        return known

    def _route(self, rows: Sequence[Row]) -> tuple[list[Routed], Trouble | None]:
        """The events that belong to documents, up to where the projection raises."""
        projection, wants, cursor = self.projection, self._wants, self.generation.cursor
        whole = type(projection).part is projection.part
        routed: list[Routed] = []
        for row in rows:
            if row.position <= cursor:
                continue
            wanted = wants.get(row.type)
            if wanted is None:
                wanted = wants[row.type] = projection.wants(row.type)
            if not wanted:
                continue
            try:
                key = projection.key(row)
                if key is None:
                    continue
                part = "" if whole else projection.part(row.envelope)
            except Exception as error:  # noqa: BLE001  # Whatever it raises is its author's, and parks it alone.
                return routed, Trouble(row.position, _told(projection, row, error))
            if part is not None:
                routed.append((row, (key, part)))
        return routed, None

    async def _prepare(self, routed: Sequence[Routed]) -> dict[Place, Document[D] | None] | Trouble:
        """The stored documents that the events go on from, all of them loaded at once."""
        places = dict.fromkeys(place for _, place in routed)
        missing = [place for place in places if place not in self._documents]
        if missing:
            try:
                found = await self.store.load(self.generation, self.projection, missing)
            except ValidationError as error:
                return Trouble(
                    routed[0][0].position,
                    f"its stored documents do not fit {self.projection.document.__name__} ({error.error_count()} faults, "
                    f"the first: {error.errors()[0]['msg']}). Raise the projection's version, and the view is built anew.",
                )
            for place in missing:
                self._documents[place] = found.get(place)
        keys = [key for key in dict.fromkeys(key for key, _ in places) if key not in self._families]
        if keys:
            families = await self.store.families(self.generation, keys)
            for key in keys:
                self._families[key] = families.get(key) or Family()
        return {place: self._documents[place] for place in places}


class _Batch(Generic[D]):
    """The documents that one batch touches, before and after; and what is to be kept for reading as of a moment."""

    def __init__(
        self, folding: Folding[D], stored: dict[Place, Document[D] | None], *, careful: bool = False
    ) -> None:
        self._folding = folding
        self._projection = folding.projection
        self._stored = stored
        self._careful = careful
        """Whether every document is encoded after every event, to see at which one it cannot be."""
        self._now = dict(stored)
        self._encoded: dict[Place, str] = {}
        self._families: dict[str, Family] = {}
        self._marks: list[tuple[str, Mark]] = []
        self._kept: list[Kept] = []
        self._older: list[tuple[str, int, Mark, frozenset[Place]]] = []
        """Marks for which documents that this batch had not touched by then are still to be looked up."""

    def take(self, routed: Iterable[Routed]) -> Trouble | None:
        """Fold the events, up to where the projection raises."""
        projection, now = self._projection, self._now
        evolve, initial = projection.evolve, projection.initial
        for row, place in routed:
            before = now[place]
            try:
                envelope = row.envelope
                value = evolve(initial(*place) if before is None else before.value, envelope)
                after: Document[D] | None = None
                if value is not None:
                    first = envelope.position if before is None else before.first
                    after = Document(*place, first, envelope.position, value)
                    if self._careful:
                        encode_document(projection, after)
                self._count(place, before, after, envelope)
            except Exception as error:  # noqa: BLE001  # As above.
                return Trouble(row.position, _told(projection, row, error))
            now[place] = after
        return None

    @property
    def documents(self) -> dict[Place, Document[D] | None]:
        """Those the batch has touched, after it."""
        return self._now

    def can_be_written(self) -> bool:
        """Encode what has changed. False where that fails for a document."""
        try:
            for place, now in self._now.items():
                if now is not None and now is not self._stored[place]:
                    self._encoded[place] = encode_document(self._projection, now).decode()
        except Exception:  # noqa: BLE001  # Which one it is, and why, a careful batch finds out.
            return self._careful
        return True

    def _count(
        self, place: Place, before: Document[D] | None, after: Document[D] | None, envelope: Envelope
    ) -> None:
        """Count the event, and keep what a reader as of a later moment begins from."""
        key = place[0]
        family = self._families.get(key) or self._folding.family(key)
        events = family.events + 1
        if self._folding.keeps_all(key):
            self._kept.append(self._keep(place, envelope.position, after))
            family = Family(events, events, envelope.position)
        elif events - family.marked >= MARK_EVENTS:
            self._mark(key, family.mark, place, after, envelope)
            family = Family(events, events, envelope.position)
        else:
            if after is None and before is not None and family.mark:
                self._kept.append(self._keep(place, envelope.position, None))
            family = Family(events, family.marked, family.mark)
        self._families[key] = family

    def _mark(
        self, key: str, since: int, place: Place, after: Document[D] | None, envelope: Envelope
    ) -> None:
        """Keep the documents of a key that have changed since its last mark, as of this event."""
        mark = Mark(envelope.position, envelope.version)
        touched = {at: now for at, now in self._now.items() if at[0] == key and now is not self._stored[at]}
        touched[place] = after
        self._marks.append((key, mark))
        if since <= self._folding.generation.cursor:
            self._older.append((key, since, mark, frozenset(touched)))
        self._kept.extend(
            self._keep(at, mark.position, now)
            for at, now in touched.items()
            if now is None or now.position > since
        )

    def _keep(self, place: Place, position: int, document: Document[D] | None) -> Kept:
        if document is None:
            return Kept(*place, position, None, None, None)
        encoded = encode_document(self._projection, document).decode()
        return Kept(*place, position, document.first, document.position, encoded)

    async def describe(self, change: Change) -> None:
        """Say what is to be written."""
        folding = self._folding
        for key, since, mark, touched in self._older:
            for kept in await folding.store.changed_since(folding.generation, key, since):
                if (kept.key, kept.part) not in touched:
                    self._kept.append(kept._replace(position=mark.position))
        for place, now in self._now.items():
            before = self._stored[place]
            if now is before:
                continue
            if before is not None and (now is None or now.first != before.first):
                change.deletes.append(before.first)
            if now is not None:
                inserted = before is None or before.first != now.first
                (change.inserts if inserted else change.updates).append(self._written(now))
        change.families = self._families
        change.marks = self._marks
        change.kept = list({(kept.key, kept.part, kept.position): kept for kept in self._kept}.values())

    def _written(self, document: Document[D]) -> Written:
        value = document.value
        fields = tuple(_column(getattr(value, name)) for name in self._projection.indexed)
        encoded = self._encoded[document.place]
        return Written(document.key, document.part, document.first, document.position, encoded, fields)


def _column(value: object) -> object:
    """An indexed value as SQLite takes it; whatever is not a text, a number or None is found as its text."""
    return value if value is None or isinstance(value, str | int | float) else str(value)


def _told(projection: Projection[D], row: Row, error: Exception) -> str:
    """An author's error in one line: what it is, at which event, and where in the code."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({frames[-1].filename.rpartition('/')[2]}, line {frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {error}{where}, at event {row.position}, {row.type} of {row.stream}"
