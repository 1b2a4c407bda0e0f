"""Keeping views: the projector in the background of a program that reads them, and waiting until they are fresh enough."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Mapping

from evrt.errors import Denied, EvrtError, InvalidInput, Unavailable, UnusableLog, UsageError
from evrt.log import Log
from evrt.projection import AnyProjection
from evrt.projector.projector import Projector
from evrt.projector.reading import ViewReader
from evrt.projector.records import Generation, fits, newer
from evrt.projector.store import ViewStore, forked

BELL_SECONDS = 1.0
"""Who waits looks again after this time even if no bell rang."""

Advance = Callable[[int, int], None]
"""Is told how many events of how many have been folded."""


class Keeper:
    """Keeps the views of this program current, on the event loop that made it, from the first reader on."""

    def __init__(
        self, log: Log, store: ViewStore, reader: ViewReader, projections: Mapping[str, AnyProjection]
    ) -> None:
        self._log = log
        self._store = store
        self._reader = reader
        self._process = os.getpid()
        self._loop = asyncio.get_running_loop()
        self._projector = Projector(log, store, projections, on_commit=reader.bell.ring)
        self._projecting: asyncio.Task[None] | None = None
        self.closed = False

    @property
    def trouble(self) -> EvrtError | None:
        """Why views could not be written the last time that was tried, as of a full disk."""
        return self._projector.trouble

    def project(self) -> None:
        """Keep the views current in the background, from now until they are closed."""
        if self._process != os.getpid():
            raise forked(self._store.place)
        if self.closed:
            raise UsageError("These views have been closed; open them again.")
        if asyncio.get_running_loop() is not self._loop:
            raise UsageError(
                f"The views {self._store.place} were opened in another event loop. Close them there, or open others here "
                "with evrt.projector.views.open_views: any number of them can be open at once."
            )
        projecting = self._projecting
        if projecting is not None and projecting.done() and not projecting.cancelled():
            self._projecting = None
            # Whoever is first hears of an error that nobody thought of.
            projecting.result()
        if self._projecting is None or self._projecting.done():
            self._projecting = asyncio.get_running_loop().create_task(self._projector.run(), name="projector")
            # Where the log is closed the projector ends, and whoever waits is to hear of it.
            self._projecting.add_done_callback(lambda _: self._reader.bell.ring())

    def goes_on(self) -> bool:
        """Keep the views current, for somebody who waits. False where they, or their log, have been closed."""
        if self.closed:
            return False
        if self._projecting is not None and self._projecting.done() and not self._projecting.cancelled():
            self._projecting.result()
            return False
        self.project()
        self._raise_if_hopeless()
        return True

    async def reached(
        self, projection: AnyProjection, position: int, until: float | None, advance: Advance
    ) -> None:
        """Return when readers of a view see it at this position or beyond; ``until`` is of the monotonic clock.

        Raises Unavailable (not in time, or parked), UsageError (built by a newer program), UnusableLog, Denied.
        """
        while True:
            self.project()
            rung = self._reader.bell.rung
            generation = await self._read_by(projection)
            if generation is not None:
                if generation.cursor >= position and generation.stage == "live":
                    return
                self._raise_if_parked(generation)
                advance(min(generation.cursor, position), position)
            self._raise_if_hopeless()
            left = BELL_SECONDS if until is None else min(until - time.monotonic(), BELL_SECONDS)
            if left <= 0:
                raise _too_late(
                    projection,
                    position,
                    generation or await self._instead(projection),
                    self._projector.trouble,
                )
            await self._reader.changed(rung, left)

    async def _read_by(self, projection: AnyProjection) -> Generation | None:
        """The generation that this program's readers wait for."""
        await self._reader.live(projection)
        generations = [g for g in await self._reader.generations() if g.name == projection.name]
        return next((g for g in generations if fits(g, projection) and g.stage == "live"), None) or next(
            (g for g in generations if fits(g, projection)), None
        )

    async def _instead(self, projection: AnyProjection) -> Generation | None:
        """The live generation that this program's readers cannot use."""
        return next(
            (g for g in await self._reader.generations() if g.name == projection.name and g.stage == "live"),
            None,
        )

    def _raise_if_parked(self, generation: Generation) -> None:
        """Raises Unavailable where the projection has failed, and this program has tried it."""
        if generation.error is not None and self._projector.gave_up(generation):
            raise Unavailable(
                f"The view {generation.name} stands still at position {generation.cursor}, as its projection failed: "
                f"{generation.error}. The others go on. Mend the projection and start the program again: it goes on "
                "from there."
            )

    def _raise_if_hopeless(self) -> None:
        """Raises what keeps views from being written, where waiting does not mend it."""
        trouble = self._projector.trouble
        if isinstance(trouble, UnusableLog | Denied | UsageError):
            raise trouble

    async def check_position(self, position: int) -> None:
        """Raises InvalidInput for what is no position, or one that the log does not have yet."""
        if isinstance(position, bool) or not isinstance(position, int):
            raise InvalidInput(f"A position is a whole number, not {position!r:.80}.")
        head = await self._log.position()
        if position > head or position < 0:
            raise InvalidInput(
                f"There is no event {position} to wait for: the log has positions 1 to {head}."
                if head
                else f"There is no event {position} to wait for: the log is empty."
            )

    async def rebuild(self, projection: AnyProjection, *, anew: bool, advance: Advance) -> None:
        """See ``Views.rebuild``. Raises UsageError where a newer program builds the view meanwhile."""
        self.project()
        begun = await self._store.build(projection, anew=anew)
        while True:
            self.project()
            rung = self._reader.bell.rung
            of_view = [g for g in await self._store.generations() if g.name == projection.name]
            found = next((g for g in of_view if g.id == begun.id), None)
            if found is None:
                # It was live and has been replaced, unless somebody else has begun anew before it was.
                found = next((g for g in of_view if g.stage == "building" and fits(g, projection)), None)
                begun = found or begun
                later = next((g for g in of_view if g.version > projection.version), None)
                if found is None and later is not None:
                    raise newer(later, projection)
            if found is None or found.stage == "live":
                break
            self._raise_if_parked(found)
            if self.trouble is not None:
                # What has been built is kept: called again, it goes on.
                raise self.trouble
            advance(found.cursor, await self._log.position())
            await self._reader.changed(rung, BELL_SECONDS)

    async def aclose(self) -> None:
        """Stop, and let others take over."""
        self.closed = True
        if self._projecting is not None and asyncio.get_running_loop() is self._loop:
            self._projecting.cancel()
            await asyncio.wait([self._projecting])


def _too_late(
    projection: AnyProjection, position: int, generation: Generation | None, trouble: EvrtError | None
) -> Unavailable:
    if trouble is not None:
        detail = str(trouble)
    elif generation is None:
        detail = "nobody has begun to build it yet."
    elif not fits(generation, projection):
        detail = (
            f"it is there as another program built it: version {generation.version}, with other indexes or of another "
            "variant. Start this program again, and it builds its own."
        )
    elif generation.stage == "building":
        detail = f"version {generation.version} of it is being built, and has come to position {generation.cursor}."
    else:
        detail = f"it has come to position {generation.cursor}. Wait longer, or see `evrt projections lag`."
    return Unavailable(f"The view {projection.name} has not come to position {position} in time: {detail}")
