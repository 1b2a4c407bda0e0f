"""Folding batches: from rows of the log to what they change in a view, documents kept in memory from batch to batch.

This is the hot path of every view, several times for each event of the log: documents stay in slots that are changed
in place, and what is to be written is gathered once at the end of a batch. A folding whose batch could not be written is
thrown away, and another begins at what the file holds.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable, Sequence
from operator import attrgetter
from typing import Any, Generic, NamedTuple, TypeAlias, TypeVar

from pydantic import BaseModel, ValidationError

from evrt.log.envelopes import Row
from evrt.projection import WHOLE, Everything, Place, Projection, encode_value
from evrt.projector.store import Change, Family, Generation, Kept, Mark, ViewStore

D = TypeVar("D", bound=BaseModel)

MARK_EVENTS = 500
"""Events of a key after which its documents are kept: what a reader as of a moment has to fold at most."""

CACHED_DOCUMENTS_MAX = 2_000
"""Documents of one view that are held in memory between batches."""

AS_THEY_ARE = (str, int, float, type(None))
"""Types of indexed values that SQLite takes; any other is found as its text."""


class Trouble(NamedTuple):
    """What a projection raised, and at which event."""

    position: int
    text: str


class Counted:
    """A key: how many events it has had, and where its documents were kept last."""

    __slots__ = ("due", "events", "keeps_all", "key", "mark", "marked", "touched")

    def __init__(self, key: str, keeps_all: bool) -> None:
        self.key = key
        self.keeps_all = keeps_all
        self.touched = False
        self.take_up(Family())

    def take_up(self, family: Family) -> None:
        """Go on from what the file holds."""
        self.events, self.marked, self.mark = family
        self.due = self.marked + (1 if self.keeps_all else MARK_EVENTS)

    def kept_at(self, position: int) -> None:
        """Its documents have been kept as of this position."""
        self.marked, self.mark = self.events, position
        self.due = self.marked + (1 if self.keeps_all else MARK_EVENTS)


class Slot(Generic[D]):
    """A place for a document, and the one that is there. ``stored`` is the ``first`` of the one in the file."""

    __slots__ = ("counted", "first", "part", "position", "stored", "touched", "value")

    def __init__(self, counted: Counted, part: str) -> None:
        self.counted = counted
        self.part = part
        self.value: D | None = None
        self.first = 0
        self.position = 0
        self.stored: int | None = None
        self.touched = False

    @property
    def place(self) -> Place:
        return self.counted.key, self.part


Routed: TypeAlias = tuple[Row, Slot[Any]]
"""An event, and the place of the document that it belongs to."""


class Folding(Generic[D]):
    """One generation of a view, being folded on by one projector."""

    def __init__(self, store: ViewStore, generation: Generation, projection: Projection[D]) -> None:
        self.store = store
        self.generation = generation
        self.projection = projection
        self._slots: dict[Place, Slot[D]] = {}
        self._keys: dict[str, Counted] = {}
        self._wants: dict[str, bool] = {}

    async def fold(self, rows: Sequence[Row]) -> Change:
        """What these rows, which begin right after the cursor or before, make of the view.

        Where the projection raises, the change goes as far as the event before, and says so.
        """
        change = await self._try(rows, careful=False)
        if change is None:
            # Some document is too large, or cannot be written as JSON: find the event that made it so.
            self._forget(lambda slot: False)
            change = await self._try(rows, careful=True)
            assert change is not None
        return change

    def committed(self, change: Change) -> None:
        """The change has been written: go on from there."""
        self.generation = self.generation._replace(
            cursor=change.cursor, leaf=change.leaf, error=change.error, error_position=change.error_position
        )
        if len(self._slots) > CACHED_DOCUMENTS_MAX:
            self._forget(lambda slot: slot.position == change.cursor or slot.touched)
        for slot in self._slots.values():
            slot.touched = False

    def _forget(self, but: Callable[[Slot[D]], bool]) -> None:
        self._slots = {place: slot for place, slot in self._slots.items() if but(slot)}
        self._keys = {slot.counted.key: slot.counted for slot in self._slots.values()}

    async def _try(self, rows: Sequence[Row], *, careful: bool) -> Change | None:
        """None where something cannot be written, and nobody was careful to see at which event that came to be."""
        routed, trouble = self._route(rows)
        unreadable = await self._load([slot for _, slot in routed if slot.position < 0])
        if unreadable is not None:
            routed, trouble = [], Trouble(rows[0].position, unreadable)
        batch = _Batch(self.projection, self.generation.cursor, careful=careful)
        trouble = batch.take(routed) or trouble
        change = Change(self.generation, rows[-1].position, rows[-1].recorded.leaf)
        if trouble is not None:
            change.cursor = max(trouble.position - 1, self.generation.cursor)
            leaves = {row.position: row.recorded.leaf for row in rows}
            change.leaf = leaves.get(change.cursor, self.generation.leaf)
            change.error, change.error_position = trouble.text, change.cursor + 1
        if not batch.describe(change):
            return None
        for counted, since, mark, seen in batch.older:
            older = await self.store.changed_since(self.generation, counted.key, since)
            change.kept.extend(
                kept._replace(position=mark.position) for kept in older if kept.part not in seen
            )
        return change

    def _route(self, rows: Sequence[Row]) -> tuple[list[Routed], Trouble | None]:
        """The events that belong to documents, up to where the projection raises."""
        projection, wants, cursor, slots = self.projection, self._wants, self.generation.cursor, self._slots
        key_of = projection.key
        part_of = None if type(projection).part is projection.part else projection.part
        part: str | None = WHOLE
        routed: list[Routed] = []
        for row in rows:
            wanted = wants.get(row.type)
            if wanted is None:
                wanted = wants[row.type] = projection.wants(row.type)
            if not wanted or row.position <= cursor:
                continue
            try:
                key = key_of(row)
                if key is None:
                    continue
                if part_of is not None:
                    part = part_of(row.envelope)
                    if part is None:
                        continue
                slot = slots.get((key, part))  # type: ignore[arg-type]
                if slot is None:
                    slot = self._new_slot(key, part)  # type: ignore[arg-type]
            except Exception as error:  # noqa: BLE001  # Whatever it raises is its author's, and parks it alone.
                return routed, Trouble(row.position, _told(row, error))
            routed.append((row, slot))
        return routed, None

    def _new_slot(self, key: str, part: str) -> Slot[D]:
        counted = self._keys.get(key)
        if counted is None:
            counted = Counted(key, isinstance(self.projection.source(key), Everything))
            counted.mark = -1  # Until it has been looked up.
            self._keys[key] = counted
        slot: Slot[D] = Slot(counted, part)
        slot.position = -1  # Likewise.
        self._slots[key, part] = slot
        return slot

    async def _load(self, missing: Sequence[Slot[D]]) -> str | None:
        """Look up documents and counts, all at once. Returns why the documents cannot be read, if so."""
        keys = list(dict.fromkeys(slot.counted.key for slot in missing if slot.counted.mark < 0))
        families = await self.store.families(self.generation, keys) if keys else {}
        for key in keys:
            self._keys[key].take_up(families.get(key) or Family())
        places = list(dict.fromkeys(slot.place for slot in missing))
        try:
            found = await self.store.load(self.generation, self.projection, places) if places else {}
        except ValidationError as error:
            self._forget(lambda slot: slot.position >= 0)
            return (
                f"its stored documents do not fit {self.projection.document.__name__} ({error.error_count()} faults, the "
                f"first: {error.errors()[0]['msg']}). Raise the projection's version, and the view is built anew"
            )
        for slot in missing:
            slot.position = 0
        for place, document in found.items():
            slot = self._slots[place]
            slot.value, slot.position = document.value, document.position
            slot.first = slot.stored = document.first
        return None


class _Batch(Generic[D]):
    """What one batch touches; and what is to be kept for reading as of a moment."""

    def __init__(self, projection: Projection[D], cursor: int, *, careful: bool) -> None:
        self._projection = projection
        self._cursor = cursor
        self._careful = careful
        """Whether every document is encoded after every event, to see at which one it cannot be."""
        self._touched: list[Slot[D]] = []
        self._counted: list[Counted] = []
        self._marks: list[tuple[str, Mark]] = []
        self._kept: dict[tuple[str, str, int], Kept] = {}
        self.older: list[tuple[Counted, int, Mark, frozenset[str]]] = []
        """Marks for which the documents that this batch had not touched by then are still to be looked up."""

    def take(self, routed: Iterable[Routed]) -> Trouble | None:
        """Fold the events, up to where the projection raises."""
        projection, careful = self._projection, self._careful
        evolve, initial = projection.evolve, projection.initial
        touch, count = self._touched.append, self._counted.append
        for row, slot in routed:
            before = slot.value
            counted = slot.counted
            try:
                value = evolve(initial(counted.key, slot.part) if before is None else before, row.envelope)
                if careful and value is not None:
                    encode_value(projection, slot.place, value)
            except Exception as error:  # noqa: BLE001  # As above.
                return Trouble(row.position, _told(row, error))
            slot.value = value
            slot.position = row.position
            if before is None:
                slot.first = row.position
            elif value is None and counted.mark:
                self._keep(slot, row.position)
            if not slot.touched:
                slot.touched = True
                touch(slot)
            counted.events += 1
            if not counted.touched:
                counted.touched = True
                count(counted)
            if counted.events >= counted.due:
                self._mark(counted, slot, row)
        return None

    def _mark(self, counted: Counted, slot: Slot[D], row: Row) -> None:
        """Keep the documents of a key that have changed since its last mark, as of this event."""
        if counted.keeps_all:
            self._keep(slot, row.position)
        else:
            mark, since = Mark(row.position, row.version), counted.mark
            of_key = [one for one in self._touched if one.counted is counted]
            for one in of_key:
                if one.position > since:
                    self._keep(one, row.position)
            if since <= self._cursor:
                self.older.append((counted, since, mark, frozenset(one.part for one in of_key)))
            self._marks.append((counted.key, mark))
        counted.kept_at(row.position)

    def _keep(self, slot: Slot[D], position: int) -> None:
        key, part = slot.place
        kept = Kept(key, part, position, None, None, None)
        if slot.value is not None:
            document = encode_value(self._projection, slot.place, slot.value).decode()
            kept = Kept(key, part, position, slot.first, slot.position, document)
        self._kept[key, part, position] = kept

    def describe(self, change: Change) -> bool:
        """Say what is to be written. False where a document cannot be."""
        projection = self._projection
        columns = _columns(projection)
        inserts, updates, deletes = change.inserts, change.updates, change.deletes
        for slot in self._touched:
            value, stored = slot.value, slot.stored
            if value is None:
                if stored is not None:
                    deletes.append(stored)
                slot.stored = None
                continue
            try:
                encoded = encode_value(projection, slot.place, value).decode()
            except Exception:  # Which event it was, and why, a careful batch finds out.
                if self._careful:
                    raise
                return False
            first = slot.first
            if stored == first:
                updates.append((slot.position, encoded, *columns(value), first))
                continue
            if stored is not None:
                deletes.append(stored)
            inserts.append((first, slot.counted.key, slot.part, slot.position, encoded, *columns(value)))
            slot.stored = first
        for counted in self._counted:
            counted.touched = False
            change.families[counted.key] = Family(counted.events, counted.marked, counted.mark)
        change.marks = self._marks
        change.kept = list(self._kept.values())
        return True


def _columns(projection: Projection[D]) -> Callable[[D], tuple[object, ...]]:
    """What the indexed columns of a document hold."""
    fields = projection.indexed
    if not fields:
        return lambda value: ()
    read = attrgetter(*fields)

    def columns(value: D) -> tuple[object, ...]:
        found = read(value) if len(fields) > 1 else (read(value),)
        return tuple(one if isinstance(one, AS_THEY_ARE) else str(one) for one in found)

    return columns


def _told(row: Row, error: Exception) -> str:
    """An author's error in one line: what it is, at which event, and where in the code."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({frames[-1].filename.rpartition('/')[2]}, line {frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {error}{where}, at event {row.position}, {row.type} of {row.stream}"
