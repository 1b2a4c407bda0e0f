"""The projector: keeps views current, many of them over one read of the log.

Any number of projectors may work on the same views, in any number of processes. Whoever committed last to a view owns
it, and the others stand by. They go on with it when it has been released, or when it is behind and has not moved for a
while: then its owner is dead, frozen, or cut off. Should the owner still be at it, one of the two is refused.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from evrt.errors import EvrtError
from evrt.log import Log
from evrt.log.envelopes import Row
from evrt.log.ids import new_event_id
from evrt.projection import AnyProjection
from evrt.projector.folding import Folding
from evrt.projector.store import Change, Generation, Overtaken, ViewStore, fits

BATCH_EVENTS = 1_000
"""Most events of one transaction. While a view catches up, those that are current wait for it no longer than that."""

STALLED_SECONDS = 2.0
"""A view that is behind and has not moved for this time has lost its owner."""

LOOK_SECONDS = 0.5
"""How often a projector with nothing to do looks whether views have lost their owner, or new generations begun."""

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
        self._gave_up: set[int] = set()
        """Parked here: only another program can do better."""
        self.trouble: EvrtError | None = None
        """Why nothing could be written last, as of a full disk."""

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
            await self._release()

    # ------------------------------------------------------------------------------ whose is what

    async def _ensure(self) -> None:
        head = await self._log.position()
        for projection in self._projections.values():
            generation = await self._store.ensure(projection)
            if generation is not None and not await self._is_of_this_history(generation, head):
                await self._store.remove(generation)
                await self._store.ensure(projection)

    async def _is_of_this_history(self, generation: Generation, head: int) -> bool:
        """Whether the event at its cursor is the one it was built with: the log may have been put back from a copy."""
        if generation.cursor == 0:
            return True
        if generation.cursor > head:
            return False
        rows = await self._log.read(after=generation.cursor - 1, limit=1)
        return bool(rows) and rows[0].leaf == generation.leaf

    async def _look(self) -> None:
        """Take up what has been released or has lost its owner; leave what somebody else goes on with."""
        now, head = time.monotonic(), await self._log.position()
        there = {g.id: g for g in await self._store.generations()}
        for view in [view for view in self._foldings if view not in there]:
            del self._foldings[view]
        for generation in there.values():
            projection = self._projections.get(generation.name)
            if projection is None or not fits(generation, projection) or generation.id in self._gave_up:
                continue
            mine = self._foldings.get(generation.id)
            if mine is not None and mine.generation.cursor == generation.cursor:
                continue
            if self._may_take(generation, head, now):
                self._foldings[generation.id] = Folding(self._store, generation, projection)
            else:
                self._foldings.pop(generation.id, None)

    def _may_take(self, generation: Generation, head: int, now: float) -> bool:
        if generation.owner in (None, self.id):
            return True
        seen = self._watched.get(generation.id)
        if seen is None or seen.cursor != generation.cursor or generation.cursor >= head:
            self._watched[generation.id] = _Watched(generation.cursor, now)
            return False
        return now - seen.since >= STALLED_SECONDS

    async def _release(self) -> None:
        self._foldings.clear()
        with suppress(EvrtError):
            await asyncio.shield(self._store.release(self.id))

    # ----------------------------------------------------------------------------------- folding

    async def _follow(self) -> None:
        """Fold what is there, then wait for more, and look around from time to time."""
        await self._look()
        looked = time.monotonic()
        while await self._step() is not None:
            if time.monotonic() - looked >= LOOK_SECONDS:
                return
        if not self._foldings:
            await asyncio.sleep(LOOK_SECONDS)
            return
        front = max(folding.generation.cursor for folding in self._foldings.values())
        subscription = self._log.subscribe(after=front)
        until = looked + LOOK_SECONDS
        try:
            while (left := until - time.monotonic()) > 0:
                try:
                    page = await asyncio.wait_for(subscription.page(), left)
                except TimeoutError:
                    return
                await self._fold(list(self._foldings.values()), [Row(recorded) for recorded in page])
        finally:
            await subscription.aclose()

    async def _step(self) -> int | None:
        """One batch for the views that are current, and one for those furthest behind. None when all is folded.

        Views whose cursors are within one batch of each other share a read of the log.
        """
        cursors = sorted({folding.generation.cursor for folding in self._foldings.values()})
        if not cursors:
            return None
        front = next(cursor for cursor in cursors if cursor > cursors[-1] - BATCH_EVENTS)
        starts = [cursors[0]] if front - cursors[0] <= BATCH_EVENTS else [front, cursors[0]]
        folded = 0
        for start in starts:
            recorded = await self._log.read(after=start, limit=BATCH_EVENTS)
            if recorded:
                rows = [Row(one) for one in recorded]
                folded += await self._fold(self._within(start, rows[-1].position), rows)
        return folded or None

    def _within(self, start: int, last: int) -> list[Folding[Any]]:
        return [f for f in self._foldings.values() if start <= f.generation.cursor < last]

    async def _fold(self, foldings: Sequence[Folding[Any]], rows: Sequence[Row]) -> int:
        """Fold rows into views and commit; returns how many events that were for the one furthest behind."""
        changes: list[tuple[Folding[Any], Change]] = []
        for folding in foldings:
            if folding.generation.cursor < rows[-1].position:
                changes.append((folding, await folding.fold(rows)))
                await asyncio.sleep(0)
        if not changes:
            return 0
        before = min(folding.generation.cursor for folding, _ in changes)
        switched = await self._store.commit([change for _, change in changes], self.id)
        self.trouble = None
        for folding, change in changes:
            folding.committed(change)
            if change.error is not None:
                self._gave_up.add(folding.generation.id)
                self._foldings.pop(folding.generation.id, None)
        if switched:
            # Ids stay; what they stand for has changed.
            self._foldings.clear()
            await self._look()
        self._on_commit()
        return rows[-1].position - before
