"""Sources: all events of a key and no others, read from one position to another in pages."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import TypeAlias

from evrt.log import Log, Recorded
from evrt.projection import Correlation, Source, Stream

PAGE_EVENTS = 1_000
FIRST_PAGE_EVENTS = 125
"""Pages of a stream begin small and double, as only a page's last row tells that it went too far."""

Page: TypeAlias = Sequence[Recorded]


async def read_source(
    log: Log, source: Source, *, after: int, upto: int, version: int | None = None
) -> AsyncIterator[Page]:
    """The events of a source with ``after < position <= upto``, in order, in pages that are not empty.

    ``version`` is that of the event at ``after`` in the source's stream, where the caller knows it and it is there:
    then the place to begin at needs no looking for. What lies outside is not read, but for less than a page.
    """
    if after >= upto:
        return
    if isinstance(source, Stream):
        begun = await _version_at(log, source.name, after) if version is None else version
        pages = _stream(log, source.name, begun, after, upto)
    else:
        pages = _log(log, source.name if isinstance(source, Correlation) else None, after, upto)
    async for page in pages:
        yield page


async def _log(log: Log, correlation: str | None, after: int, upto: int) -> AsyncIterator[Page]:
    while page := await log.read(after=after, upto=upto, limit=PAGE_EVENTS, correlation=correlation):
        yield page
        after = page[-1].position
        if len(page) < PAGE_EVENTS:
            return


async def _stream(log: Log, stream: str, version: int, after: int, upto: int) -> AsyncIterator[Page]:
    """A stream's events behind a version, whose position is ``after`` or before."""
    page_events = FIRST_PAGE_EVENTS
    while after < upto:
        # Of so many positions the stream has no more events than that.
        limit = min(page_events, upto - after)
        rows = await log.read_stream(stream, after=version, limit=limit)
        within = [row for row in rows if row.position <= upto]
        if within:
            yield within
        if len(within) < limit:
            return
        version, after = within[-1].version, within[-1].position
        page_events = min(2 * page_events, PAGE_EVENTS)


async def _version_at(log: Log, stream: str, position: int) -> int:
    """The version of a stream's last event at this position or before it; -1 where there is none."""
    if position <= 0:
        return -1
    # The event of version low is within, or there is none; that of version high is beyond, or there is none.
    low, high = -1, (await log.head(stream)).version + 1
    while high - low > 1:
        middle = (low + high) // 2
        rows = await log.read_stream(stream, after=middle - 1, upto=middle)
        # A stream that begins at version 1 has no event of version 0.
        if not rows or rows[0].position <= position:
            low = middle
        else:
            high = middle
    return low
