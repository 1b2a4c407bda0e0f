"""A command's look at views: the log opened for reading, its views brought up to the log's head, and what was named."""

from __future__ import annotations

import asyncio
import gc
import re
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from evrt.cli.output import note, prints_aside, progress
from evrt.cli.place import Place
from evrt.errors import InvalidInput, Unavailable, UsageError
from evrt.log import Log
from evrt.projection import AnyProjection, Document
from evrt.projector.registry import named, projections
from evrt.projector.views import LIST_LIMIT_MAX, Views, open_views

COLLECT_ALLOCATIONS = 50_000
"""Objects made before a command that reads views looks for garbage among the youngest; Python's own number is 700."""

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECONDS = 1_000_000
EARLIEST = (datetime.min.replace(tzinfo=UTC) - EPOCH) // EPOCH.resolution
LATEST = (datetime.max.replace(tzinfo=UTC) - EPOCH) // EPOCH.resolution
"""What a calendar has a day for: who asks for more is given all of it."""

UNITS = {"s": 1, "min": 60, "m": 60, "h": 3_600, "d": 86_400, "w": 7 * 86_400}
AGO = re.compile(rf"(?P<number>\d{{1,9}}) ?(?P<unit>{'|'.join(UNITS)})( ago)?")
DATE = re.compile(r"\d{4}-\d\d-\d\d")


@dataclass(frozen=True, slots=True)
class Seen:
    """A log and views of it that have seen its last event, the one at ``head``."""

    log: Log
    views: Views
    head: int

    async def listed(
        self,
        name: str,
        *,
        limit: int | None = None,
        oldest_first: bool = False,
        where: Mapping[str, object] | None = None,
        since: Mapping[str, object] | None = None,
        until: Mapping[str, object] | None = None,
    ) -> tuple[list[Document[Any]], bool]:
        """The documents that are so, or ``limit`` of them, and whether there are more. See ``Views.list``."""
        found: list[Document[Any]] = []
        more: int | None = None
        while True:
            left = LIST_LIMIT_MAX if limit is None else min(limit - len(found), LIST_LIMIT_MAX)
            page = await self.views.list(
                name,
                where=where,
                since=since,
                until=until,
                limit=left,
                more=more,
                oldest_first=oldest_first,
                min_position=self.head,
            )
            found += page.documents
            more = page.more
            if more is None or len(found) == limit:
                return found, more is not None

    async def names(self, refs: Iterable[str]) -> dict[str, str | None]:
        """The ids behind refs, None where one is not known any more."""
        return {ref: await self.log.external(ref) for ref in refs}

    async def family(self, name: str, key: str, as_of: str | None = None) -> Sequence[Document[Any]]:
        """The documents of a key, now or as of a moment."""
        if as_of is None:
            return await self.views.family(name, key, min_position=self.head)
        return await self.views.family(name, key, as_of=as_of)


@asynccontextmanager
async def viewing(place: Place, *names: str, as_of: bool = False) -> AsyncIterator[Seen]:
    """The log, with these views of it as fresh as the log. ``as_of``: only the past is looked at, so nothing is waited for.

    What takes long is shown on stderr. A build that is interrupted goes on with the next command.
    """
    async with AsyncExitStack() as stack:
        views = await stack.enter_async_context(opened(place, *names))
        log = views.log
        head = await log.position()
        if not as_of:
            try:
                await catch_up(views, head, *names)
            except Unavailable as error:
                if error is not views.trouble or views.temporary:
                    raise
                # A full disk, say, is no reason not to see what the log holds.
                views = await stack.enter_async_context(aclosing(await _alone(error, log, views.projections)))
                await catch_up(views, head, *names)
        yield Seen(log, views, head)


@asynccontextmanager
async def opened(place: Place, *names: str, only: Sequence[str] | None = None) -> AsyncIterator[Views]:
    """The views with these names, or all, as they are. Where they cannot be kept, they are built for this command alone.

    ``only`` keeps those with these names and no others, even none.
    """
    chosen_names = names or None if only is None else only
    own = own_projections(place)
    # What is folded lives as long as its batch. Looking for garbage among it so often took a sixth of the time.
    gc.set_threshold(COLLECT_ALLOCATIONS, 20, 100)
    async with place.reading() as log:
        try:
            with prints_aside():  # Packages with projections are imported here.
                views = await open_views(log, own, only=chosen_names)
        except Unavailable as error:
            chosen = projections(own)
            some = chosen if chosen_names is None else chosen_names
            views = await _alone(error, log, {name: named(chosen, name) for name in some})
        async with aclosing(views):
            yield views


async def _alone(error: Unavailable, log: Log, chosen: Mapping[str, AnyProjection]) -> Views:
    note(f"{error} What is asked for is built for this command alone.")
    return await open_views(log, chosen, keep=False)


async def catch_up(views: Views, head: int, *names: str) -> None:
    """Have these views see the event at the position, however long that takes, and show how it goes.

    Raises Unavailable where they cannot be written.
    """
    if not head:
        return
    try:
        with progress("Building views", "events") as show:

            def advance(done: int, total: int) -> None:
                if views.trouble is not None:
                    raise views.trouble
                show(done, total)

            await views.wait_for(head, *names, timeout_seconds=None, advance=advance)
    except asyncio.CancelledError:
        if not views.temporary:
            note("Interrupted. What has been built is kept, and the next command goes on from there.")
        raise


def own_projections(place: Place) -> Sequence[AnyProjection]:
    """Those of the app, where one is named. Where the log is named too, an app that cannot be loaded is no obstacle."""
    try:
        app = place.load_app_if_named()
    except UsageError as error:
        if place.url is None:
            raise UsageError(f"{error} --db FILE looks into a log without the app.") from error
        note(f"{error} Its own projections are left out.")
        return ()
    return () if app is None else app.projections


# --------------------------------------------------------------------------------------------- times


def now() -> int:
    """Microseconds since 1970, UTC."""
    return time.time_ns() // 1_000


def day(microseconds: int) -> str:
    """The day of a time in UTC, such as ``2026-11-27``."""
    return (EPOCH + timedelta(microseconds=microseconds)).date().isoformat()


@dataclass(frozen=True, slots=True)
class Period:
    """From one time on (``since``) and before another (``until``), in microseconds since 1970; None where it is open."""

    since: int | None
    until: int | None

    def holds(self, time: int) -> bool:
        return (self.since is None or self.since <= time) and (self.until is None or time < self.until)


def period(since: str | None, until: str | None) -> Period:
    """What ``--since`` and ``--until`` say. Raises InvalidInput."""
    found = Period(_time(since, "--since"), _time(until, "--until"))
    if found.since is not None and found.until is not None and found.since >= found.until:
        raise InvalidInput(
            f"--since {since} is not before --until {until}, so that nothing can lie between them."
        )
    return found


def _time(text: str | None, option: str) -> int | None:
    if text is None:
        return None
    if ago := AGO.fullmatch(text.strip()):
        return max(now() - int(ago["number"]) * UNITS[ago["unit"]] * MICROSECONDS, EARLIEST)
    try:
        if DATE.fullmatch(text.strip()):
            moment = datetime.fromisoformat(text.strip()).replace(tzinfo=UTC)
        else:
            moment = datetime.fromisoformat(text.strip().upper())
    except ValueError:
        raise InvalidInput(
            f"{option} takes a time, which {text!r} is not. Write 2026-11-27 (a day in UTC), 2026-11-27T12:00:00Z, or how "
            "long ago it was: 30min, 2h, 3d."
        ) from None
    if moment.tzinfo is None:
        raise InvalidInput(
            f"{option} {text} has no zone, so that it could be any of many moments. Write {text}Z for UTC, or the offset "
            f"behind it: {text}+01:00."
        )
    return min(max((moment - EPOCH) // EPOCH.resolution, EARLIEST), LATEST)
