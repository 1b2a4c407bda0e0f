"""Views: what the projections of a program make of the log, kept current and read. ``open_views`` gives them."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Generic, NamedTuple, TypeVar
from weakref import WeakValueDictionary

from pydantic import BaseModel

from evrt.errors import Denied, EvrtError, InvalidInput, NotFound, UsageError
from evrt.log import Log
from evrt.projection import WHOLE, AnyProjection, Document, Projection
from evrt.projector.asof import document_as_of, family_as_of
from evrt.projector.files import FileReader, open_file
from evrt.projector.frames import Cursor
from evrt.projector.keeping import Advance, Keeper
from evrt.projector.moments import Moment, position_of
from evrt.projector.places import TemporaryFolder, address_of, may_keep, views_path
from evrt.projector.projector import of_other_histories
from evrt.projector.reading import Seen, ViewReader, check_indexed
from evrt.projector.records import fits
from evrt.projector.registry import named, projections
from evrt.projector.store import ViewStore
from evrt.projector.watch import ListWatch, Looks, Watch

D = TypeVar("D", bound=BaseModel)

WAIT_SECONDS = 10.0
"""How long a reader waits, by default, for a view to be as fresh as was asked."""

LIST_LIMIT = 50
LIST_LIMIT_MAX = 1_000
"""Documents of one page."""


class Page(NamedTuple, Generic[D]):
    """Documents in the order in which they began. ``position`` is what they are as of; ``more`` leads to the next page."""

    documents: Sequence[Document[D]]
    position: int
    more: int | None


class ViewStatus(NamedTuple):
    """How a generation of a view stands. ``lag`` is in events; a ``building`` one takes the live one's place."""

    name: str
    version: int
    stage: str
    position: int
    lag: int
    documents: int
    error: str | None
    error_position: int | None
    known: bool
    """Whether this program has the projection, in this version."""


class Views:
    """The views of a log, for one event loop. They are kept current from the first read on, here or by another process."""

    def __init__(
        self,
        log: Log,
        store: ViewStore,
        reader: ViewReader,
        own: Mapping[str, AnyProjection],
        folder: TemporaryFolder | None,
    ) -> None:
        self.log = log
        self.projections = own
        self.store = store
        self.reader = reader
        self._folder = folder
        self._process = os.getpid()
        self._keeper = Keeper(log, store, self.reader, own)
        self._closing: asyncio.Future[None] | None = None
        self._looks: WeakValueDictionary[str, Looks] = WeakValueDictionary()

    @property
    def path(self) -> str:
        """Where the views are: a file, or the schema of a database."""
        return self.store.place

    @property
    def temporary(self) -> bool:
        """Whether they are built for this process alone, as nothing can be kept beside the log."""
        return self._folder is not None

    @property
    def trouble(self) -> EvrtError | None:
        """Why they could not be written the last time that was tried, as of a full disk."""
        return self._keeper.trouble

    # ------------------------------------------------------------------------------------ reading

    async def view(
        self,
        name: str,
        key: str,
        part: str = WHOLE,
        *,
        as_of: Moment | None = None,
        min_position: int | None = None,
        timeout_seconds: float = WAIT_SECONDS,
    ) -> Document[Any]:
        """One document of a view, as it is, or as it was after a moment.

        ``as_of`` is a position of the log, a time (a datetime with a zone, or RFC 3339), or a revision of a run
        (``RUN@42``): any that has been, whether or not the view has come as far.
        ``min_position`` is the position of an event that a view as it is has to have seen: without it that of the log's
        last event now, and 0 takes what is there.

        Raises NotFound (no such projection, run, moment or document), InvalidInput (no moment, no text),
        Unavailable (not that fresh in time, or parked), UsageError (built by a newer program, or both of the above).
        """
        projection = named(self.projections, name)
        _check_texts(key, part)
        if as_of is not None:
            position = await self._moment(as_of, min_position)
            found = await document_as_of(self.log, self.reader, projection, key, part, position)
            if found is None:
                raise no_document(projection, key, part, position)
            return found
        seen = await self._fresh(
            projection, lambda: self.reader.document(projection, key, part), min_position, timeout_seconds
        )
        if not seen.documents:
            raise no_document(projection, key, part, seen.generation.cursor)
        return seen.documents[0]

    async def family(
        self,
        name: str,
        key: str,
        *,
        as_of: Moment | None = None,
        min_position: int | None = None,
        timeout_seconds: float = WAIT_SECONDS,
    ) -> Sequence[Document[Any]]:
        """All documents of a key in the order of their parts, none where there are none. See ``view``."""
        projection = named(self.projections, name)
        _check_texts(key)
        if as_of is not None:
            position = await self._moment(as_of, min_position)
            return await family_as_of(self.log, self.reader, projection, key, position)
        seen = await self._fresh(
            projection, lambda: self.reader.family(projection, key), min_position, timeout_seconds
        )
        return seen.documents

    async def list(
        self,
        name: str,
        *,
        where: Mapping[str, object] | None = None,
        since: Mapping[str, object] | None = None,
        until: Mapping[str, object] | None = None,
        limit: int = LIST_LIMIT,
        more: int | None = None,
        oldest_first: bool = False,
        min_position: int | None = None,
        timeout_seconds: float = WAIT_SECONDS,
    ) -> Page[Any]:
        """Documents whose indexed fields are so: equal to ``where``, not below ``since``, below ``until``.

        The newest come first, by the event that began them. ``more`` is that of the page before. Raises InvalidInput
        for a field without an index, or a limit outside 1 to 1,000; and what ``view`` raises.
        """
        projection = named(self.projections, name)
        _check_limit(limit)
        _check_fields(where=where, since=since, until=until)
        if not isinstance(more, int | None):
            raise InvalidInput(f"more is what the page before gave as its more, not {more!r:.80}.")
        seen = await self._fresh(
            projection,
            lambda: self.reader.listed(
                projection,
                where=where or {},
                since=since or {},
                until=until or {},
                beyond=more,
                limit=limit + 1,
                oldest_first=oldest_first,
            ),
            min_position,
            timeout_seconds,
        )
        shown = seen.documents[:limit]
        return Page(shown, seen.generation.cursor, shown[-1].first if len(seen.documents) > limit else None)

    async def _moment(self, as_of: Moment, min_position: int | None) -> int:
        if min_position is not None:
            raise UsageError("A view as of a moment waits for nothing: give as_of or min_position, not both.")
        return await position_of(self.log, as_of, now=time.time_ns() // 1_000)

    # ------------------------------------------------------------------------------------ waiting

    async def wait_for(
        self,
        position: int,
        *names: str,
        timeout_seconds: float | None = WAIT_SECONDS,
        advance: Advance = lambda done, total: None,
    ) -> None:
        """Return when these views, or all, have seen the event at this position.

        Raises NotFound, InvalidInput (there is no such event yet), Unavailable (not in time, or parked before it).
        """
        self.project()
        await self._keeper.check_position(position)
        until = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        for name in names or self.projections:
            await self._keeper.reached(named(self.projections, name), position, until, advance)

    async def _fresh(
        self,
        projection: Projection[D],
        read: Callable[[], Any],
        min_position: int | None,
        timeout_seconds: float,
    ) -> Seen[D]:
        """What ``read`` finds once the view has come to the position asked for."""
        self.project()
        until = time.monotonic() + timeout_seconds
        if min_position is None:
            min_position = await self.log.position()
        else:
            await self._keeper.check_position(min_position)
        while True:
            seen: Seen[D] | None = await read()
            if seen is not None and seen.generation.cursor >= min_position:
                return seen
            await self._keeper.reached(projection, min_position, until, lambda done, total: None)

    # ---------------------------------------------------------------------------------- watching

    def watch(self, name: str, key: str, part: str = WHOLE, *, after: str | int | None = None) -> Watch:
        """One document from now on, as frames: a Snapshot of it, then a Patch whenever it has changed.

        A document that is not there yet, or not any more, is None. ``after`` is the cursor of the last frame that arrived
        when the reader was here before, or a position: if the document is still the one of then, only patches follow, and
        otherwise they follow a snapshot. Another generation of the view is a snapshot too, where the document differs.
        Versions never go back, unless the log was put back from a copy. Parked says that the view stands still, and later
        that it goes on: the document remains as it was.

        It ends when it is closed, or the views or the log are. Raises NotFound (no such projection), InvalidInput (no
        cursor); while it is read Unavailable, UnusableLog, and UsageError (built by a newer program).
        """
        projection = named(self.projections, name)
        _check_texts(key, part)
        looks = self._looks.get(name) or Looks(self.reader, projection)
        self._looks[name] = looks
        since = None if after is None else Cursor.parse(after)
        return Watch(looks, self.reader, projection, (key, part), since, self._keeper.goes_on)

    def watch_list(
        self, name: str, *, where: Mapping[str, object] | None = None, limit: int = LIST_LIMIT
    ) -> ListWatch:
        """The newest documents whose indexed fields are so, from now on, as frames: Rows, then Changes of them.

        At most 1,000 are watched. Another generation of the view is Rows anew. Ends as ``watch`` does. Raises NotFound,
        InvalidInput (a field without an index, a limit outside 1 to 1,000); while it is read what ``watch`` raises.
        """
        projection = named(self.projections, name)
        _check_limit(limit)
        _check_fields(where=where)
        for field in where or {}:
            check_indexed(projection, field)
        return ListWatch(self.reader, projection, dict(where or {}), limit, self._keeper.goes_on)

    # ----------------------------------------------------------------------------------- keeping

    def project(self) -> None:
        """Keep the views current in the background, from now until they are closed. Every reader does this."""
        self._keeper.project()

    async def rebuild(
        self, name: str, *, anew: bool = False, advance: Advance = lambda done, total: None
    ) -> None:
        """Build a view from the log's first event, while readers see the old one, and put it in its place.

        A rebuild that was interrupted goes on where it stopped, unless it is to begin ``anew``.
        Raises NotFound, Unavailable (its projection raised).
        """
        await self._keeper.rebuild(named(self.projections, name), anew=anew, advance=advance)

    async def remove(self, name: str) -> None:
        """Throw a view and what is being built of it away. One whose projection is there is built again when it is read.

        Raises NotFound.
        """
        there = [generation for generation in await self.reader.generations() if generation.name == name]
        if not there:
            raise NotFound(f"There is no view {name!r}. `evrt projections list` shows those that there are.")
        while there:
            for generation in there:
                await self.store.remove(generation)
            known = name in self.projections
            there = [] if known else [g for g in await self.reader.generations() if g.name == name]

    async def status(self) -> Sequence[ViewStatus]:
        """How every view stands, those of other programs too."""
        head = await self.log.position()
        found = []
        for generation, count in await self.reader.counted():
            projection = self.projections.get(generation.name)
            found.append(
                ViewStatus(
                    generation.name,
                    generation.version,
                    generation.stage,
                    generation.cursor,
                    head - generation.cursor,
                    count,
                    generation.error,
                    generation.error_position,
                    projection is not None and fits(generation, projection),
                )
            )
        return found

    async def aclose(self) -> None:
        """Stop keeping them, let others take over, close the file. Idempotent."""
        if self._process != os.getpid():
            self._keeper.closed = True
            return  # The connections are the parent's, and so is what its event loop waits for.
        if self._closing is None:
            self._closing = asyncio.ensure_future(self._close())
        # Shielded: whoever is cancelled here must not leave them half closed.
        if self._closing.get_loop() is asyncio.get_running_loop():
            await asyncio.shield(self._closing)

    async def _close(self) -> None:
        await self._keeper.aclose()
        await self.reader.aclose()
        await self.store.aclose()
        if self._folder is not None:
            self._folder.cleanup()


async def open_views(
    log: Log,
    own: Iterable[AnyProjection] | Mapping[str, AnyProjection] = (),
    *,
    only: Collection[str] | None = None,
    keep: bool = True,
) -> Views:
    """The views of a log: of the projections that are installed, and of one's own; or ``only`` those with these names.

    A mapping of names to projections stands for exactly those. Views are kept in the file ``<log>-views``, those of a
    log on PostgreSQL in the schema ``<schema>_views`` beside it. Where that cannot be written, for a log in memory, and without ``keep``, they are built for this process alone, in a temporary
    file.

    Raises NotFound (no such projection), UsageError, UnusableLog (another file is in the way, or of a newer evrt),
    Unavailable (a full disk, say).
    """
    found = own if isinstance(own, Mapping) else projections(own)
    if only is not None:
        found = {name: named(found, name) for name in only}
    if keep and (address := address_of(log)) is not None:
        from evrt.projector.postgres import SchemaReader, open_schema

        with suppress(Denied):  # Who may only read the log builds them for himself.
            return await _opened(log, await open_schema(address, log.id), SchemaReader(address), found, None)
    path = views_path(log.url)
    if keep and path is not None and may_keep(path):
        return await _opened(log, await open_file(path, log.id), FileReader(path), found, None)
    folder = TemporaryFolder()
    path = os.path.join(folder.name, "views")
    try:
        return await _opened(log, await open_file(path, log.id), FileReader(path), found, folder)
    except BaseException:
        folder.cleanup()
        raise


async def _opened(
    log: Log,
    store: ViewStore,
    reader: ViewReader,
    found: Mapping[str, AnyProjection],
    folder: TemporaryFolder | None,
) -> Views:
    try:
        # Before anybody reads: what was built from events that are gone would look as if it were ahead.
        for generation in await of_other_histories(log, await store.generations(), found):
            await store.remove(generation)
    except BaseException:
        await store.aclose()
        raise
    return Views(log, store, reader, found, folder)


def _check_texts(*texts: str) -> None:
    for text in texts:
        try:
            text.encode()
        except (AttributeError, UnicodeEncodeError) as error:
            raise InvalidInput(
                f"Keys and parts of documents are texts, and {text!r:.80} is none: {error}."
            ) from None


def _check_limit(limit: int) -> None:
    if not isinstance(limit, int) or not 1 <= limit <= LIST_LIMIT_MAX:
        raise InvalidInput(f"A list has 1 to {LIST_LIMIT_MAX:,} documents, not {limit!r:.80}.")


def _check_fields(**given: object) -> None:
    for name, fields in given.items():
        if not isinstance(fields, Mapping | None):
            raise InvalidInput(
                f"{name} has to be fields and their values, as in {{'status': 'waiting'}}, not {fields!r:.80}."
            )


def no_document(projection: AnyProjection, key: str, part: str, position: int) -> NotFound:
    """What a reader is told who asks for a document that is not there."""
    which = f"{key} {part}".strip() if part else key
    return NotFound(
        f"The view {projection.name} has no document {which!r:.200} as of position {position}. `evrt projections list` shows the "
        "views and how many documents they have."
    )
