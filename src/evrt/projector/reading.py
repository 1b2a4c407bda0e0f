"""Reading views: documents and the cursor they are as of, in one look that sees one committed state of the file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

from pydantic import BaseModel, ValidationError

from evrt.errors import EvrtError, InvalidInput, Unavailable, UnusableLog, UsageError
from evrt.log.sqlite.connect import Identity, file_identity
from evrt.log.sqlite.reader import LoopReaders
from evrt.log.subscribe import Bell
from evrt.projection import (
    AnyProjection,
    Document,
    Documents,
    Projection,
    decode_document,
)
from evrt.projector.opening import in_the_way
from evrt.projector.records import Generation, Mark, Start, fits, misfit, newer
from evrt.projector.schema import (
    INDEX_COLUMN,
    MARK_POSITIONS,
    column,
    documents,
    families,
    marks,
    snapshots,
)

D = TypeVar("D", bound=BaseModel)

LOOKS_MAX = 10
"""How often a reader looks again when a view has been rebuilt under its eyes."""

WHAT = "The file of the views"

GENERATION = "v.id, v.name, v.version, v.shape, v.stage, v.cursor, v.leaf, v.owner, v.error, v.error_position"
DOCUMENT = "d.key, d.part, d.first, d.position, d.document"


class Seen(NamedTuple, Generic[D]):
    """Documents of one generation of a view, and the generation as it was then: its cursor is what they are as of."""

    generation: Generation
    documents: list[Document[D]]


class Encoded(NamedTuple):
    """A document in its place, as it is stored."""

    key: str
    part: str
    first: int
    position: int
    document: str | None


class ViewReader:
    """Reads views, on the event loop that made it. ``bell`` is rung when this process has changed views."""

    def __init__(self, path: str) -> None:
        self._path = path
        self.bell = Bell()
        self._identity: Identity | None = None
        self._readers = LoopReaders(path, self.bell, WHAT)

    async def generations(self) -> list[Generation]:
        """Every generation of every view."""
        rows = await self._fetch(f"SELECT {GENERATION} FROM views AS v ORDER BY v.name, v.stage DESC")
        return [Generation(*row) for row in rows]

    async def live(self, projection: AnyProjection) -> Generation | None:
        """The generation that readers see; None where the view has never been built.

        Raises UsageError where it is of a newer version of the projection than this program has.
        """
        rows = await self._fetch(
            f"SELECT {GENERATION} FROM views AS v WHERE v.name = ? AND v.stage = 'live'", projection.name
        )
        if not rows:
            return None
        found = Generation(*rows[0])
        if found.version > projection.version:
            raise newer(found, projection)
        return found

    async def document(self, projection: Projection[D], key: str, part: str) -> Seen[D] | None:
        """One document, or none. None where there is nothing to be read yet (see ``_seen``)."""
        return await self._seen(projection, "WHERE d.key = ? AND d.part = ?", (key, part))

    async def family(self, projection: Projection[D], key: str) -> Seen[D] | None:
        """All documents of a key, in the order of their parts."""
        return await self._seen(projection, "WHERE d.key = ? ORDER BY d.part", (key,))

    async def listed(
        self,
        projection: Projection[D],
        *,
        where: Mapping[str, object],
        since: Mapping[str, object],
        until: Mapping[str, object],
        beyond: int | None,
        limit: int,
        oldest_first: bool,
    ) -> Seen[D] | None:
        """Documents whose indexed fields are so, in the order in which they began, from the newest on.

        ``beyond`` is the ``first`` of the last document of the page before.
        """
        chosen, parameters = _chosen(projection, where, since, until)
        if beyond is not None:
            chosen += f" AND d.first {'>' if oldest_first else '<'} ?"
            parameters.append(beyond)
        order = f"ORDER BY d.first {'ASC' if oldest_first else 'DESC'} LIMIT ?"
        return await self._seen(projection, f"{chosen} {order}", (*parameters, limit))

    async def listed_unless_known(
        self,
        projection: AnyProjection,
        where: Mapping[str, object],
        limit: int,
        generation: int,
        known: Sequence[tuple[int, int]],
    ) -> tuple[Generation, list[Encoded]] | None:
        """The newest documents whose indexed fields are so, not decoded; where one is known already, its text is None.

        What is known of each: ``first`` and position, all of the generation with this id. None as above.
        """
        chosen, parameters = _chosen(projection, where, {}, {})
        values = ", ".join(["(?, ?)"] * len(known)) or "(0, 0)"
        return await self._rows(
            projection,
            lambda view: (
                f"SELECT d.key, d.part, d.first, d.position, CASE WHEN {view} = {generation} "
                f"AND (d.first, d.position) IN (VALUES {values}) THEN NULL ELSE d.document END "
                f"FROM {documents(view)} AS d {chosen} ORDER BY d.first DESC LIMIT ?"
            ),
            [*(value for one in known for value in one), *parameters, limit],
        )

    async def unless_known(
        self, projection: AnyProjection, known: Sequence[tuple[str, str, int, int]]
    ) -> tuple[Generation, list[Encoded]] | None:
        """Documents by their places, not decoded; where one is known already, its text is None.

        What is known of each: key, part, the id of its generation and its position, or 0 twice.
        """
        return await self._rows(
            projection,
            lambda view: (
                "SELECT d.key, d.part, d.first, d.position, "
                f"CASE WHEN w.column3 = {view} AND w.column4 = d.position THEN NULL ELSE d.document END "
                f"FROM (VALUES {', '.join(['(?, ?, ?, ?)'] * len(known))}) AS w "
                f"CROSS JOIN {documents(view)} AS d ON d.key = w.column1 AND d.part = w.column2"
            ),
            [value for one in known for value in one],
        )

    async def _seen(
        self, projection: Projection[D], which: str, parameters: Sequence[object]
    ) -> Seen[D] | None:
        """The documents that a clause chooses. None where the view has not been built in the projection's version yet."""
        found = await self._rows(
            projection, lambda view: f"SELECT {DOCUMENT} FROM {documents(view)} AS d {which}", parameters
        )
        if found is None:
            return None
        return Seen(
            found[0],
            [
                Document(key, part, first, position, decoded(projection, document or ""))
                for key, part, first, position, document in found[1]
            ],
        )

    async def _rows(
        self, projection: AnyProjection, select: Callable[[int], str], parameters: Sequence[object]
    ) -> tuple[Generation, list[Encoded]] | None:
        """What is selected from the live generation, whose id ``select`` is given; and the generation. None as above."""
        for _ in range(LOOKS_MAX):
            live = await self.live(projection)
            if live is None or not fits(live, projection):
                return None
            try:
                # One statement, so that cursor and documents are of one moment. The generation may be gone by now.
                rows = await self._fetch(
                    f"SELECT {GENERATION} FROM views AS v WHERE v.id = ? AND v.stage = 'live' "
                    f"UNION ALL SELECT *, NULL, NULL, NULL, NULL, NULL FROM ({select(live.id)})",
                    *(live.id, *parameters),
                )
            except EvrtError as error:
                # In another file that has taken this one's place, a generation may have the same id.
                if "no such table" not in str(error.__cause__) and await self._is_there(live):
                    raise
                continue
            if rows and rows[0][:2] == (live.id, live.name):
                return Generation(*rows[0]), [Encoded(*row[:5]) for row in rows[1:]]
        raise Unavailable(f"The view {projection.name} is being rebuilt again and again; try again later.")

    async def _is_there(self, generation: Generation) -> bool:
        return bool(await self._fetch("SELECT 1 FROM views WHERE id = ? AND stage = 'live'", generation.id))

    # ---------------------------------------------------------------------------- as of a moment

    async def mark(self, generation: Generation, key: str, position: int) -> Mark | None:
        """The last moment up to this position for which the documents of a key have been kept."""
        rows = await self._fetch(
            f"SELECT position, version FROM {marks(generation.id)} WHERE key = ? AND position <= ? "
            "ORDER BY position DESC LIMIT 1",
            *(key, position),
        )
        return Mark(*rows[0]) if rows else None

    async def start(self, generation: Generation, key: str, position: int) -> Start | None:
        """Where to begin reading a key as of a position before the view's cursor; None where nothing is known of it.

        At the last moment up to it for which the key's documents have been kept, else before its first event.
        """
        mark = await self.mark(generation, key, position)
        if mark is not None:
            return Start(mark.position, mark.version, mark.position + MARK_POSITIONS - 1)
        rows = await self._fetch(
            f"SELECT first, mark = 0 OR EXISTS (SELECT 1 FROM {marks(generation.id)} WHERE key = ? AND position > ?) "
            f"FROM {families(generation.id)} WHERE key = ?",
            *(key, position, key),
        )
        if not rows:
            return Start(position, None, position)  # The key has had no event.
        [(first, all_there)] = rows
        return Start(first - 1, None, first + MARK_POSITIONS - 1) if all_there else None

    async def kept(
        self,
        projection: Projection[D],
        generation: Generation,
        key: str,
        position: int,
        part: str | None = None,
    ) -> Documents[D]:
        """The documents of a key, or one of them, as they were kept last up to this position."""
        table = snapshots(generation.id)
        if part is None:
            # From part to part, and in each to one row: the others of a key with many events are not looked at.
            rows = await self._fetch(
                f"WITH RECURSIVE parts (part) AS (SELECT min(part) FROM {table} WHERE key = ? UNION ALL "
                f"SELECT (SELECT min(part) FROM {table} WHERE key = ? AND part > parts.part) FROM parts "
                "WHERE part IS NOT NULL) "
                f"SELECT s.key, s.part, s.first, s.changed, s.document FROM parts AS p CROSS JOIN {table} AS s "
                "ON s.key = ? AND s.part = p.part AND s.position = "
                f"(SELECT max(position) FROM {table} WHERE key = ? AND part = p.part AND position <= ?)",
                *(key, key, key, key, position),
            )
        else:
            rows = await self._fetch(
                f"SELECT key, part, first, changed, document FROM {table} "
                "WHERE key = ? AND part = ? AND position <= ? ORDER BY position DESC LIMIT 1",
                *(key, part, position),
            )
        return {
            (at, its): Document(at, its, first, changed, decoded(projection, document))
            for at, its, first, changed, document in rows
            if document is not None
        }

    async def lost(self, generation: Generation, key: str) -> bool:
        """Whether a key that has events has nothing kept: it was thrown away, or there were too few events yet."""
        rows = await self._fetch(
            f"SELECT 1 FROM {families(generation.id)} WHERE key = ? "
            f"AND NOT EXISTS (SELECT 1 FROM {snapshots(generation.id)} WHERE key = ?)",
            *(key, key),
        )
        return bool(rows)

    # ------------------------------------------------------------------------------ whole views

    async def counted(self) -> list[tuple[Generation, int]]:
        """Every generation of every view, and how many documents it has."""
        for _ in range(LOOKS_MAX):
            there = await self.generations()
            try:
                return [(generation, await self._count(generation)) for generation in there]
            except EvrtError as error:
                # It has been replaced since.
                if "no such table" not in str(error.__cause__):
                    raise
        raise Unavailable("The views are being rebuilt again and again; try again later.")

    async def _count(self, generation: Generation) -> int:
        [(count,)] = await self._fetch(f"SELECT count(*) FROM {documents(generation.id)}")
        return int(count)

    # ---------------------------------------------------------------------------------- waiting

    async def changed(self, seen: int, timeout_seconds: float) -> None:
        """Return when views have changed since the bell's count was ``seen``, or when the time is over."""
        self._readers.watch()
        await self.bell.wait(seen, timeout_seconds)

    async def _fetch(self, sql: str, *parameters: object) -> list[Any]:
        await self._look_for_another_file()
        readers = self._readers
        try:
            return await readers.rows.fetch(sql, parameters)
        except UsageError:
            if readers is self._readers:
                raise
            # Somebody else has just turned to another file.
            return await self._readers.rows.fetch(sql, parameters)
        except UnusableLog as error:
            if getattr(error.__cause__, "sqlite_errorname", "") == "SQLITE_NOTADB":
                raise in_the_way(self._path, "it is no database, or its beginning is damaged") from error
            raise UnusableLog(
                f"The file of the views {self._path} is damaged ({error.__cause__}). Nothing of the log is lost: remove "
                "the file and its -wal and -shm while no program uses it, and the views are built again from the log."
            ) from error
        except Unavailable as error:
            if "no such table: views" in str(error.__cause__):
                return []  # The file has just been made.
            raise
        except (UnicodeEncodeError, OverflowError) as error:
            raise InvalidInput(
                f"No view can be asked for what is no text or no number in 64 bits: {error}."
            ) from error

    async def _look_for_another_file(self) -> None:
        """Read the file that is there now, where the one that was open has been removed and made anew."""
        there = _identity(self._path)
        if there is None or there == self._identity:
            return
        before, self._identity = self._identity, there
        if before is not None:
            readers, self._readers = self._readers, LoopReaders(self._path, self.bell, WHAT)
            await readers.close()

    async def aclose(self) -> None:
        """Close the connections; whoever waits is woken."""
        self.bell.ring()
        await self._readers.close()


def _chosen(
    projection: AnyProjection,
    where: Mapping[str, object],
    since: Mapping[str, object],
    until: Mapping[str, object],
) -> tuple[str, list[object]]:
    """The clause that chooses documents by their indexed fields, and its parameters."""
    conditions, parameters = ["TRUE"], list[object]()
    for operator, wanted in (("IS", where), (">=", since), ("<", until)):
        for name, value in wanted.items():
            check_indexed(projection, name)
            conditions.append(f'd."{INDEX_COLUMN}{name}" {operator} ?')
            parameters.append(column(value))
    return f"WHERE {' AND '.join(conditions)}", parameters


def decoded(projection: Projection[D], document: str) -> D:
    """A stored document. Raises UsageError where its class does not take it."""
    try:
        return decode_document(projection, document)
    except ValidationError as error:
        raise UsageError(
            f"The view {projection.name} cannot be read: {misfit(projection, error)}."
        ) from error


def _identity(path: str) -> Identity | None:
    try:
        return file_identity(path)
    except OSError:
        return None


def check_indexed(projection: AnyProjection, name: str) -> None:
    """Raises InvalidInput where a view cannot be listed by this field."""
    if name not in projection.indexed:
        raise InvalidInput(
            f"The view {projection.name} has no index on {name!r}, so it cannot be listed by it. It can by: "
            f"{', '.join(projection.indexed) or 'nothing'}."
        )
