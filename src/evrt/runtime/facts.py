"""Facts on other streams than the run's own (memory, journeys): folded as they are, written with the run's note of them.

A fact and the note of it in the run are one append, so there is never one without the other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, Protocol, TypeVar

import orjson

from evrt.codec import encode, meta_for
from evrt.errors import EvrtError
from evrt.events import Envelope, Event, JsonObject
from evrt.log.contract import Draft, Exact
from evrt.log.envelopes import envelopes
from evrt.log.ids import new_event_id
from evrt.runtime.execution import Execution
from evrt.runtime.stop import Stop


class Fold(Protocol):
    """A stream as far as it has been folded."""

    version: int

    def apply(self, envelope: Envelope) -> None:
        """Take in the next event of the stream, and be at its version."""


F = TypeVar("F", bound=Fold)


class Facts(Generic[F]):
    """Streams of one kind, as one run folds and writes them."""

    def __init__(self, execution: Execution, initial: Callable[[], F]) -> None:
        self._execution = execution
        self._initial = initial
        self._folds: dict[str, F] = {}

    async def fold(self, stream: str) -> F:
        """The stream as it is now, this run's own facts included; reads only what is new. Part of a work with the world."""
        fold = self._folds.get(stream)
        if fold is None:
            fold = self._folds[stream] = self._initial()
        for envelope in await self.read(stream, fold.version):
            if envelope.version > fold.version:
                fold.apply(envelope)
        return fold

    async def read(self, stream: str, after: int = 0) -> list[Envelope]:
        """The events of the stream after a version, this run's own included. Part of a work with the world.

        A run whose stream cannot be read is stopped, as where it cannot be written: it goes on when it is resumed.
        """
        execution = self._execution
        writer = execution.writer
        assert writer is not None
        if writer.landed < execution.facts_recorded:  # Else nothing has to become durable only to be read.
            await execution.barrier()
        try:
            return envelopes(await execution.world.log.read_stream(stream, after=after))
        except EvrtError as error:
            raise execution.stop(Stop("log", error)) from error

    def draft(self, stream: str, event: Event) -> Draft:
        """A fact, encoded, with who acts and for whom in its meta. Raises InvalidInput, PayloadTooLarge."""
        execution = self._execution
        meta: JsonObject = {"run": execution.run, "actor": execution.actor}
        if execution.owner is not None:
            meta["on_behalf_of"] = execution.owner
        return Draft(
            stream,
            event.type,
            new_event_id(),
            execution.correlation,
            meta_for(event, orjson.dumps(meta)),
            encode(event),
        )

    def record(self, facts: Sequence[Draft], note: Event) -> None:
        """Write facts with the note of them, whatever the streams have come to meanwhile."""
        writer = self._execution.writer
        assert writer is not None
        writer.record(*facts, writer.draft(note))
        self._execution.facts_recorded = writer.recorded

    async def append(self, stream: str, version: int, facts: Sequence[Draft], note: Event) -> None:
        """Write facts with the note of them if the stream is at this version still. Raises WrongVersion."""
        execution = self._execution
        writer = execution.writer
        assert writer is not None
        # The code goes on when this is there, so no outcome of another branch may come in between.
        with execution.progress.pinned():
            await writer.append_now(
                [*facts, writer.draft(note)], {stream: Exact(version)}, too_late=execution.strike_next
            )
