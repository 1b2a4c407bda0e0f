"""Folding batches: from rows of the log to what they change in a view, documents kept in memory from batch to batch.

This is the hot path of every view, several times for each event of the log: documents stay in slots that are changed
in place, and what is to be written is gathered once at the end of a batch. A folding whose batch could not be written is
thrown away, and another begins at what the file holds.
"""

from __future__ import annotations

import asyncio
import time
import traceback
from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any, Generic, NamedTuple, TypeAlias, TypeVar

from pydantic import BaseModel

from evrt.errors import InvalidInput
from evrt.log.envelopes import Row
from evrt.projection import WHOLE, AnyProjection, Everything, Place, Projection, encode_value
from evrt.projector.forgetting import Erased
from evrt.projector.records import Change, Family, Generation, Kept, Mark, Misfit
from evrt.projector.schema import MARK_POSITIONS
from evrt.projector.store import ViewStore

D = TypeVar("D", bound=BaseModel)

AsColumn = Callable[[AnyProjection, str, object], object]
"""An indexed value as its column takes it."""

MARK_EVENTS = 500
"""Events of a key after which its documents are kept: what a reader as of a moment has to fold at most.

Where they lie far apart, they are kept more often: see ``MARK_POSITIONS``.
"""

CACHED_DOCUMENTS_MAX = 2_000
CACHED_BYTES_MAX = 16 * 1024 * 1024
"""What is held in memory of one view between batches: documents, and bytes of their JSON."""

TURN_SECONDS = 0.005
TURN_EVENTS = 100
TURN_BYTES = 256 * 1024
"""What is folded before whoever else waits for the event loop has a turn: about that long, at most so many events, and so
many bytes of JSON to be written."""

ERROR_CHARS_MAX = 1_000


RAISED = (Exception, asyncio.CancelledError, GeneratorExit, SystemExit)
"""What parks a projection. Nothing is awaited while it has the word, so no cancellation in there is the projector's."""


class Trouble(NamedTuple):
    """What a projection raised, and at which event."""

    position: int
    text: str


class Counted:
    """A key: how many events it has had, where its documents were kept last, and when that is due again."""

    __slots__ = (
        "due",
        "due_position",
        "events",
        "first",
        "keeps_all",
        "key",
        "known",
        "mark",
        "marked",
        "touched",
    )

    def __init__(self, key: str, keeps_all: bool) -> None:
        self.key = key
        self.keeps_all = keeps_all
        self.touched = False
        self.take_up(Family())
        self.known = False

    def take_up(self, family: Family) -> None:
        """Go on from what the file holds."""
        self.known = True
        self.events, self.marked, self.mark, self.first = family
        self._plan()

    def begin(self, position: int) -> None:
        """Its first event is here."""
        self.first = position
        self._plan()

    def kept_at(self, position: int) -> None:
        """Its documents have been kept as of this position."""
        self.marked, self.mark = self.events, position
        self._plan()

    def _plan(self) -> None:
        self.due = self.marked + (1 if self.keeps_all else MARK_EVENTS)
        self.due_position = (self.mark or self.first) + MARK_POSITIONS


class Slot(Generic[D]):
    """A place for a document, and the one that is there. ``stored`` is the ``first`` of the one in the file.

    ``misfit`` says why the one in the file cannot be gone on from. ``position`` is -1 until it has been looked up.
    """

    __slots__ = ("counted", "first", "misfit", "part", "position", "stored", "touched", "value")

    def __init__(self, counted: Counted, part: str) -> None:
        self.counted = counted
        self.part = part
        self.value: D | None = None
        self.first = 0
        self.position = -1
        self.stored: int | None = None
        self.misfit: str | None = None
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
        self._bytes = 0

    async def fold(self, rows: Sequence[Row]) -> Change:
        """What these rows, which begin right after the cursor or before, make of the view.

        Where the projection raises, the change goes as far as the event before, and says so. The folding is then of no
        use unless the change is written: see ``committed``.
        """
        if rows[0].position > self.generation.cursor + 1:
            raise ValueError(
                f"Events between {self.generation.cursor} and {rows[0].position} would be passed over."
            )
        change = await self._try(rows, careful=False)
        if change is None:
            # Some document is too large, or cannot be written as JSON: find the event that made it so.
            self._forget()
            change = await self._try(rows, careful=True)
            assert change is not None
        return change

    async def refold(self, erased: Erased, at: Row) -> Change:
        """Make the documents again that erased events had a part in, as of the cursor; ``at`` says that they are gone.

        Where the projection raises, the change says so. The folding is then of no use.
        """
        self._forget()
        before = self.generation
        change = Change(before, before.cursor, before.leaf)
        try:  # Nothing is awaited in here: a cancellation is the projector's.
            change.forgotten = erased.keys(self.projection)
            sources = [self.projection.source(key) for key in change.forgotten]
        except RAISED as error:
            return _parked(before, Trouble(at.position, _told(at, error)))
        wanted = set(change.forgotten)
        routed, trouble = await self._route(await erased.rows(sources), 0)
        routed = [(row, slot) for row, slot in routed if slot.counted.key in wanted]
        for _, slot in routed:
            # Nothing is looked up: what the file holds of them is thrown away with the change.
            slot.position, slot.counted.known = 0, True
        batch = _Batch(self.projection, self.store.as_column, 0, careful=True)
        trouble = trouble or await batch.take(routed)
        if trouble is not None:
            return _parked(before, trouble)
        await batch.describe(change)
        self._forget()
        return change

    def committed(self, change: Change) -> None:
        """The change has been written: go on from there."""
        self.generation = self.generation._replace(
            cursor=change.cursor, leaf=change.leaf, error=change.error, error_position=change.error_position
        )
        if len(self._slots) > CACHED_DOCUMENTS_MAX or self._bytes > CACHED_BYTES_MAX:
            self._forget()

    def _forget(self) -> None:
        """Begin again at what the file holds."""
        self._slots, self._keys, self._bytes = {}, {}, 0

    async def _try(self, rows: Sequence[Row], *, careful: bool) -> Change | None:
        """None where something cannot be written, and nobody was careful to see at which event that came to be."""
        before = self.generation
        routed, trouble = await self._route(rows, before.cursor)
        await self._load([slot for _, slot in routed if slot.position < 0])
        batch = _Batch(self.projection, self.store.as_column, before.cursor, careful=careful)
        try:
            trouble = await batch.take(routed) or trouble
        except Exception:
            if careful:
                raise
            return None
        change = Change(before, rows[-1].position, rows[-1].recorded.leaf)
        if trouble is not None:
            change.cursor = trouble.position - 1
            leaves = {row.position: row.recorded.leaf for row in rows}
            change.leaf = before.leaf if change.cursor == before.cursor else leaves[change.cursor]
            change.error, change.error_position = trouble.text, trouble.position
        if not await batch.describe(change):
            return None
        for key, since, mark, seen in batch.older:
            older = await self.store.changed_since(before, key, since)
            change.kept += [kept._replace(position=mark.position) for kept in older if kept.part not in seen]
        self._bytes += batch.written_bytes
        return change

    async def _route(self, rows: Sequence[Row], cursor: int) -> tuple[list[Routed], Trouble | None]:
        """The events behind the cursor that belong to documents, up to where the projection raises."""
        projection, wants, slots = self.projection, self._wants, self._slots
        key_of = projection.key
        part_of = None if type(projection).part is projection.part else projection.part
        part: str | None = WHOLE
        routed: list[Routed] = []
        for number, row in enumerate(rows, 1):
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
                    slot = self._new_slot(key, part)
            except RAISED as error:  # Whatever it raises is its author's, and parks it alone.
                return routed, Trouble(row.position, _told(row, error))
            routed.append((row, slot))
            if number % TURN_EVENTS == 0 and part_of is not None:
                await asyncio.sleep(0)
        return routed, None

    def _new_slot(self, key: object, part: object) -> Slot[D]:
        key, part = _text(key), _text(part)
        counted = self._keys.get(key)
        if counted is None:
            counted = Counted(key, isinstance(self.projection.source(key), Everything))
            self._keys[key] = counted
        slot: Slot[D] = Slot(counted, part)
        self._slots[key, part] = slot
        return slot

    async def _load(self, missing: Sequence[Slot[D]]) -> None:
        """Look up documents and counts, all at once."""
        keys = list(dict.fromkeys(slot.counted.key for slot in missing if not slot.counted.known))
        if keys:
            families = await self.store.families(self.generation, keys)
            for key in keys:
                self._keys[key].take_up(families.get(key) or Family())
        places = list(dict.fromkeys(slot.place for slot in missing))
        if not places:
            return
        found, loaded_bytes = await self.store.load(self.generation, self.projection, places)
        self._bytes += loaded_bytes
        for place in places:
            slot = self._slots[place]
            document = found.get(place)
            slot.position = 0
            if isinstance(document, Misfit):
                slot.misfit = document.text
            elif document is not None:
                slot.value, slot.position = document.value, document.position
                slot.first = slot.stored = document.first


class _Batch(Generic[D]):
    """What one batch touches; and what is to be kept for reading as of a moment."""

    def __init__(self, projection: Projection[D], as_column: AsColumn, cursor: int, *, careful: bool) -> None:
        self._projection = projection
        self._columns = _columns(projection, as_column)
        self._cursor = cursor
        self._careful = careful
        """Whether every document is encoded after every event, to see at which one it cannot be."""
        self._touched: list[Slot[D]] = []
        self._counted: list[Counted] = []
        self._marks: list[tuple[str, Mark]] = []
        self._kept: dict[tuple[str, str, int], Kept] = {}
        self.older: list[tuple[str, int, Mark, frozenset[str]]] = []
        """Marks for which the documents that this batch had not touched by then are still to be looked up."""
        self.written_bytes = 0

    async def take(self, routed: Sequence[Routed]) -> Trouble | None:
        """Fold the events, up to where the projection raises. Raises where a document cannot be kept as of a mark."""
        start, events = 0, 1
        while start < len(routed):
            begun = time.perf_counter()
            trouble = self._take(routed[start : start + events])
            if trouble is not None:
                return trouble
            start += events
            in_turn = int(events * TURN_SECONDS / max(time.perf_counter() - begun, 1e-6))
            events = max(1, min(in_turn, 8 * events, TURN_EVENTS))
            await asyncio.sleep(0)
        return None

    def _take(self, routed: Sequence[Routed]) -> Trouble | None:
        projection, careful = self._projection, self._careful
        evolve, initial, document = projection.evolve, projection.initial, projection.document
        for row, slot in routed:
            before = slot.value
            counted = slot.counted
            if slot.misfit is not None:
                return Trouble(row.position, f"{slot.misfit}, at event {row.position}")
            try:
                value = evolve(initial(counted.key, slot.part) if before is None else before, row.envelope)
                if value is not None:
                    # Not of a class below it either: what that adds is lost when the document is read again.
                    if value.__class__ is not document:
                        raise TypeError(
                            f"evolve returned a {type(value).__name__}, not a {document.__name__}"
                        )
                    if careful:
                        self._encoded(slot, value)
                        self._columns(value)
            except RAISED as error:  # As above.
                return Trouble(row.position, _told(row, error))
            slot.value, slot.position = value, row.position
            if before is None:
                slot.first = row.position
            if not slot.touched:
                slot.touched = True
                self._touched.append(slot)
            counted.events += 1
            if not counted.touched:
                counted.touched = True
                self._counted.append(counted)
                if not counted.first:
                    counted.begin(row.position)
            if counted.events >= counted.due or row.position >= counted.due_position:
                self._mark(counted, slot, before, row)
            elif value is None and before is not None and counted.mark:
                # The mark to come would not find it among the documents.
                self._keep(slot, row.position)
        return None

    def _mark(self, counted: Counted, slot: Slot[D], before: D | None, row: Row) -> None:
        """Keep the documents of a key that have changed since its last mark, as of this event."""
        if counted.keeps_all:
            if slot.value is not None or before is not None:
                self._keep(slot, row.position)
        else:
            mark, since = Mark(row.position, row.version), counted.mark
            of_key = [one for one in self._touched if one.counted is counted]
            for one in of_key:
                if one.position > since:
                    self._keep(one, row.position)
            if since <= self._cursor:
                self.older.append((counted.key, since, mark, frozenset(one.part for one in of_key)))
            self._marks.append((counted.key, mark))
        counted.kept_at(row.position)

    def _keep(self, slot: Slot[D], position: int) -> None:
        key, part = slot.place
        kept = Kept(key, part, position, None, None, None)
        if slot.value is not None:
            kept = Kept(key, part, position, slot.first, slot.position, self._encoded(slot, slot.value))
        self._kept[key, part, position] = kept

    def _encoded(self, slot: Slot[D], value: D) -> str:
        return encode_value(self._projection, slot.place, value).decode()

    async def describe(self, change: Change) -> bool:
        """Say what is to be written. False where a document cannot be."""
        told, told_bytes = 0, 0
        while told < len(self._touched):
            try:
                for slot in self._touched[told : told + TURN_EVENTS]:
                    self._describe(slot, change)
                    told += 1
                    if self.written_bytes - told_bytes >= TURN_BYTES:
                        break
            except Exception:  # Which event it was, and why, a careful batch finds out.
                if self._careful:
                    raise
                return False
            told_bytes = self.written_bytes
            await asyncio.sleep(0)
        for counted in self._counted:
            counted.touched = False
            change.families[counted.key] = Family(counted.events, counted.marked, counted.mark, counted.first)
        change.marks = self._marks
        change.kept = list(self._kept.values())
        return True

    def _describe(self, slot: Slot[D], change: Change) -> None:
        value, stored, first = slot.value, slot.stored, slot.first
        slot.touched = False
        if stored is not None and (value is None or first != stored):
            change.deletes.append(stored)
            slot.stored = stored = None
        if value is None:
            return
        encoded = self._encoded(slot, value)
        self.written_bytes += len(encoded)
        if stored is not None:
            change.updates.append((slot.position, encoded, *self._columns(value), first))
        else:
            change.inserts.append(
                (first, slot.counted.key, slot.part, slot.position, encoded, *self._columns(value))
            )
            slot.stored = first


def _parked(before: Generation, trouble: Trouble) -> Change:
    """Where it stands, with what the projection raised."""
    return Change(before, before.cursor, before.leaf, error=trouble.text, error_position=trouble.position)


def _columns(projection: Projection[D], as_column: AsColumn) -> Callable[[D], tuple[object, ...]]:
    """What the indexed columns of a document hold."""
    fields = projection.indexed
    if not fields:
        return lambda value: ()
    read = attrgetter(*fields)

    def columns(value: D) -> tuple[object, ...]:
        found = read(value) if len(fields) > 1 else (read(value),)
        return tuple([as_column(projection, name, one) for name, one in zip(fields, found, strict=True)])

    return columns


def _text(text: object) -> str:
    """A key or a part. Raises what says that this cannot be one."""
    if not isinstance(text, str):
        raise InvalidInput(f"a key or part has to be a text, not {text!r:.80}")
    if not text.isascii():
        text.encode()
    return text


def _told(row: Row, error: BaseException) -> str:
    """An author's error in one line: what it is, at which event, and where in the code."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({frames[-1].filename.rpartition('/')[2]}, line {frames[-1].lineno})" if frames else ""
    text = " ".join(str(error).split())[:ERROR_CHARS_MAX].encode(errors="replace").decode()
    return f"{type(error).__name__}: {text}{where}, at event {row.position}, {row.type} of {row.stream}"
