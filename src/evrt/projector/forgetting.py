"""Views forget what has been erased: the documents of a conversation are made again from what is left of its events.

A view keeps what events said, so erasing their payloads is not enough. Where the log says that everything in a
conversation is gone, each view folds again whatever the conversation's events had a part in, before it goes on: its
documents are then those of a view that is built anew, and so are those that were kept for reading as of a moment.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from evrt.history import belonging_to, is_its_own
from evrt.log import Log
from evrt.log.envelopes import Row
from evrt.projection import AnyProjection, Correlation, Source, Stream
from evrt.projector.sources import read_source

FORGETS = "conversation.erased"
"""Type of the event that says that the payloads of a conversation are gone."""


def parts_of(rows: Sequence[Row]) -> list[Sequence[Row]]:
    """The rows in parts, each of which begins with an event that has something forgotten, or with the first."""
    starts = [0, *(number for number, row in enumerate(rows) if number and row.type == FORGETS)]
    return [rows[start:end] for start, end in zip(starts, [*starts[1:], len(rows)], strict=True)]


class Erased:
    """The events of a conversation that is gone, up to a position; read once for all views."""

    def __init__(self, log: Log, rows: Sequence[Row], upto: int) -> None:
        self._log = log
        self._rows = rows
        self._upto = upto
        self._streams = {row.stream for row in rows if is_its_own(row.recorded)}
        self._correlations = {row.correlation for row in rows}

    @classmethod
    async def read(cls, log: Log, conversation: str, upto: int) -> Erased:
        """Read them."""
        rows = [Row(recorded) async for recorded in belonging_to(log, conversation, upto=upto)]
        return cls(log, sorted(rows, key=lambda row: row.position), upto)

    def keys(self, projection: AnyProjection) -> list[str]:
        """The keys of the documents that they had a part in."""
        found: dict[str, None] = {}
        for row in self._rows:
            if projection.wants(row.type) and is_its_own(row.recorded):
                key = projection.key(row)
                if key is not None:
                    found[key] = None
        return list(found)

    async def rows(self, sources: Iterable[Source]) -> list[Row]:
        """All events of these sources, in order, those of other conversations too."""
        found: dict[int, Row] = {}
        for source in dict.fromkeys(sources):
            found |= {row.position: row for row in await self._of(source)}
        return [found[position] for position in sorted(found)]

    async def _of(self, source: Source) -> list[Row]:
        if isinstance(source, Stream) and source.name in self._streams:
            return [row for row in self._rows if row.stream == source.name]
        if isinstance(source, Correlation) and source.name in self._correlations:
            return [row for row in self._rows if row.correlation == source.name]
        return [
            Row(recorded)
            async for page in read_source(self._log, source, after=0, upto=self._upto)
            for recorded in page
        ]
