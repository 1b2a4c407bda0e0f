"""The projector: keeps views current, many of them over one read of the log.

Any number of projectors may work on the same views, in any number of processes. Whoever committed last to a view owns
it, and the others stand by. They go on with it when it has been released, or when it is behind and has not moved for a
while: then its owner is dead, frozen, or cut off. Should the owner still be at it, one of the two is refused.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from evrt.errors import EvrtError
from evrt.log import Log
from evrt.log.envelopes import Row
from evrt.log.ids import new_event_id
from evrt.projection import AnyProjection
from evrt.projector.folding import Folding
from evrt.projector.forgetting import FORGETS, Erased, parts_of
from evrt.projector.records import Change, Generation, Overtaken, fits
from evrt.projector.store import ViewStore

BATCH_EVENTS = 1_000
"""Most events of one transaction. While a view catches up, those that are current wait for it no longer than that."""

BATCH_BYTES = 8 * 1024 * 1024
"""Where events are large, so few are read at once that their payloads have about this many bytes."""

STALLED_SECONDS = 2.0
"""A view that is behind and has not moved for this time has lost its owner."""

LOOK_SECONDS = 0.5
"""How often a projector looks whether views have lost their owner, or new generations have begun."""

PAUSE_SECONDS = 0.5
"""Wait after a failure of the disk."""


@dataclass(slots=True)
class _Watched:
    """A generation of somebody else's: its cursor when it was first seen there, and when that was."""

    cursor: int
    since: float


class Projector:
    """Folds the log into the views of these projections, until it is cancelled.

    ``on_commit`` is called after every transaction that has changed views.
    """

    def __init__(
        self,
        log: Log,
        store: ViewStore,
        projections: Mapping[str, AnyProjection],
        *,
        on_commit: Callable[[], None] = lambda: None,
    ) -> None:
        self._log = log
        self._store = store
        self._projections = projections
        self._on_commit = on_commit
        self.id = new_event_id()
        self._foldings: dict[int, Folding[Any]] = {}
        """Generations that this projector keeps, by their id."""
        self._watched: dict[int, _Watched] = {}
        self._gave_up: dict[int, int] = {}
        """Generations that failed here, and the cursor they stopped at: only another program gets them over that event."""
        self._limit = BATCH_EVENTS
        self.trouble: EvrtError | None = None
        """Why nothing could be written last, as of a full disk."""

    def gave_up(self, generation: Generation) -> bool:
        """Whether this projector has tried the event that the generation stands before, and failed."""
        return generation.cursor <= self._gave_up.get(generation.id, -1)

    async def run(self) -> None:
        """Keep views current until cancelled; then let go of them, so that others take over at once."""
        ensured = False
        try:
            while True:
                try:
                    if not ensured:
                        await self._ensure()
                        ensured = True
                    await self._follow()
                    self.trouble = None
                except Overtaken:
                    self._foldings.clear()
                except StopAsyncIteration:  # The log has been closed.
                    return
                except EvrtError as error:
                    self.trouble = error
                    self._foldings.clear()
                    self._on_commit()
                    await asyncio.sleep(PAUSE_SECONDS)
        finally:
            self._foldings.clear()
            with suppress(EvrtError):
                await asyncio.shield(self._store.release(self.id))

    # ------------------------------------------------------------------------------ whose is what

    async def _ensure(self) -> None:
        for projection in self._projections.values():
            await self._store.ensure(projection)

    async def _look(self) -> None:
        """Take up what has been released or has lost its owner; leave what somebody else goes on with."""
        there = await self._all_there()
        now, head = time.monotonic(), await self._log.position()
        for view in [view for view in self._foldings if view not in there]:
            del self._foldings[view]
        versions = {
            generation.name: generation.version for generation in there.values() if generation.stage == "live"
        }
        for generation in there.values():
            projection = self._projections.get(generation.name)
            if projection is None or not fits(generation, projection) or self.gave_up(generation):
                continue
            if generation.version < versions.get(generation.name, 0):
                # It could never take the place of what others have built meanwhile.
                continue
            mine = self._foldings.get(generation.id)
            if mine is not None and mine.generation.cursor == generation.cursor:
                continue
            if self._may_take(generation, head, now):
                self._foldings[generation.id] = Folding(self._store, generation, projection)
            else:
                self._foldings.pop(generation.id, None)

    async def _all_there(self) -> dict[int, Generation]:
        """Every generation, those that were missing made: as where the file was removed, or the log put back from a copy."""
        there = await self._store.generations()
        strange = await of_other_histories(self._log, there, self._projections)
        for generation in strange:
            await self._store.remove(generation)
        if strange or not self._projections.keys() <= {generation.name for generation in there}:
            await self._ensure()
            there = await self._store.generations()
        return {generation.id: generation for generation in there}

    def _may_take(self, generation: Generation, head: int, now: float) -> bool:
        if generation.owner in (None, self.id) or generation.error is not None:
            # Where another program failed, this one may do better.
            return True
        seen = self._watched.get(generation.id)
        if seen is None or seen.cursor != generation.cursor or generation.cursor >= head:
            self._watched[generation.id] = _Watched(generation.cursor, now)
            return False
        return now - seen.since >= STALLED_SECONDS

    # ----------------------------------------------------------------------------------- folding

    async def _follow(self) -> None:
        """Fold what is there, then wait for more, and look around from time to time."""
        await self._look()
        looked = time.monotonic()
        while await self._step():
            if time.monotonic() - looked >= LOOK_SECONDS:
                return
        await self._switch_idle()
        if not self._foldings:
            await asyncio.sleep(LOOK_SECONDS)
            return
        front = max(folding.generation.cursor for folding in self._foldings.values())
        subscription = self._log.subscribe(after=front)
        until = looked + LOOK_SECONDS
        try:
            while (left := until - time.monotonic()) > 0:
                try:
                    # Not wait_for: on Python 3.11 that can lose a cancellation which comes together with a page.
                    async with asyncio.timeout(left):
                        page = await subscription.page()
                except TimeoutError:
                    return
                await self._fold([Row(recorded) for recorded in page])
        finally:
            await subscription.aclose()

    async def _step(self) -> bool:
        """One batch for the views that are current, and one for those furthest behind. False when all is folded.

        Views whose cursors are within one batch of each other share a read of the log.
        """
        cursors = sorted({folding.generation.cursor for folding in self._foldings.values()})
        if not cursors:
            return False
        front = next(cursor for cursor in cursors if cursor > cursors[-1] - BATCH_EVENTS)
        starts = [cursors[0]] if front - cursors[0] <= BATCH_EVENTS else [front, cursors[0]]
        folded = False
        for start in starts:
            recorded = await self._log.read(after=start, limit=self._limit)
            if recorded:
                read_bytes = sum(row.payload_length for row in recorded)
                self._limit = max(
                    1, min(BATCH_EVENTS, BATCH_BYTES * len(recorded) // max(read_bytes, 1), 2 * self._limit)
                )
                folded |= await self._fold([Row(one) for one in recorded])
        return folded

    async def _fold(self, rows: Sequence[Row]) -> bool:
        """Fold rows into the views that have come to where they begin, and commit. Whether there were any."""
        folded = False
        for part in parts_of(rows):
            if part[0].type == FORGETS:
                await self._forget(part[0])
            changes: list[tuple[Folding[Any], Change]] = [
                (folding, await folding.fold(part))
                for folding in list(self._foldings.values())
                if part[0].position - 1 <= folding.generation.cursor < part[-1].position
            ]
            if changes:
                await self._commit(changes)
            folded |= bool(changes)
        return folded

    async def _forget(self, row: Row) -> None:
        """Make again what has to do with a conversation that is gone, in the views that come to this event now."""
        foldings = [one for one in self._foldings.values() if one.generation.cursor == row.position - 1]
        if foldings:
            erased = await Erased.read(self._log, row.stream, row.position - 1)
            await self._commit([(folding, await folding.refold(erased, row)) for folding in foldings])

    async def _switch_idle(self) -> None:
        """Let generations take their place that have been built when nothing more comes: a commit is what switches."""
        built = [folding for folding in self._foldings.values() if folding.generation.stage == "building"]
        if built:
            await self._commit(
                [(f, Change(f.generation, f.generation.cursor, f.generation.leaf)) for f in built]
            )

    async def _commit(self, changes: Sequence[tuple[Folding[Any], Change]]) -> None:
        switched = await self._store.commit([change for _, change in changes], self.id)
        self.trouble = None
        for folding, change in changes:
            folding.committed(change)
            if change.error is not None:
                self._gave_up[folding.generation.id] = change.cursor
                self._foldings.pop(folding.generation.id, None)
        if switched:
            # What was built is live now, and the one before it gone.
            self._foldings.clear()
            await self._look()
        self._on_commit()


async def of_other_histories(
    log: Log, generations: Iterable[Generation], names: Container[str]
) -> list[Generation]:
    """Those of the views named that were built from events which the log does not have: it was put back from a copy."""
    known: dict[tuple[int, bytes | None], bool] = {}
    strange = []
    for generation in generations:
        at = (generation.cursor, generation.leaf)
        if generation.name in names and at not in known:
            known[at] = await is_of_this_history(log, generation)
        if not known.get(at, True) and generation.name in names:
            strange.append(generation)
    return strange


async def is_of_this_history(log: Log, generation: Generation) -> bool:
    """Whether the event at its cursor is the one it was built with."""
    if generation.cursor == 0:
        return True
    rows = await log.read(after=generation.cursor - 1, limit=1)
    return bool(rows) and rows[0].leaf == generation.leaf
