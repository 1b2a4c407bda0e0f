"""Reading views: documents and the cursor they are as of, in one look that sees one committed state."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Generic, NamedTuple, TypeVar

from pydantic import BaseModel, ValidationError

from evrt.errors import EvrtError, InvalidInput, Unavailable, UsageError
from evrt.log.subscribe import Bell
from evrt.projection import (
    AnyProjection,
    Document,
    Documents,
    Projection,
    decode_document,
)
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

Fetch = Callable[..., Awaitable[list[Any]]]
"""Takes a SELECT and its parameters."""

LOOKS_MAX = 10
"""How often a reader looks again when a view has been rebuilt under its eyes."""

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


class ViewReader(ABC):
    """Reads views, on the event loop that made it. ``bell`` is rung when this process has changed views."""

    def __init__(self) -> None:
        self.bell = Bell()

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
        chosen, parameters = self._chosen(projection, where, since, until)
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
        chosen, parameters = self._chosen(projection, where, {}, {})
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
                    f"SELECT {GENERATION}, s.* FROM views AS v LEFT JOIN ({select(live.id)}) AS s ON TRUE "
                    "WHERE v.id = ? AND v.stage = 'live'",
                    *(*parameters, live.id),
                )
            except EvrtError as error:
                # In another file that has taken this one's place, a generation may have the same id.
                if not self._is_gone(error) and await self._is_there(live):
                    raise
                continue
            if rows and rows[0][:2] == (live.id, live.name):
                of = len(Generation._fields)
                return Generation(*rows[0][:of]), [Encoded(*row[of:]) for row in rows if row[of] is not None]
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
                if not self._is_gone(error):
                    raise
        raise Unavailable("The views are being rebuilt again and again; try again later.")

    async def _count(self, generation: Generation) -> int:
        [(count,)] = await self._fetch(f"SELECT count(*) FROM {documents(generation.id)}")
        return int(count)

    def _chosen(
        self,
        projection: AnyProjection,
        where: Mapping[str, object],
        since: Mapping[str, object],
        until: Mapping[str, object],
    ) -> tuple[str, list[object]]:
        """The clause that chooses documents by their indexed fields, and its parameters."""
        conditions, parameters = ["TRUE"], list[object]()
        for operator, wanted in (("=", where), (">=", since), ("<", until)):
            for name, value in wanted.items():
                check_indexed(projection, name)
                if value is None and operator == "=":
                    conditions.append(f'd."{INDEX_COLUMN}{name}" IS NULL')
                    continue
                conditions.append(f'd."{INDEX_COLUMN}{name}" {operator} ?')
                parameters.append(self._parameter(projection, name, value))
        return f"WHERE {' AND '.join(conditions)}", parameters

    # ------------------------------------------------------------------------------- the database

    @abstractmethod
    async def changed(self, seen: int, timeout_seconds: float) -> None:
        """Return when views have changed since the bell's count was ``seen``, or when the time is over."""

    @abstractmethod
    async def _fetch(self, sql: str, *parameters: object) -> list[Any]:
        """All rows of one SELECT, which sees one committed state of the views."""

    @abstractmethod
    def standing_still(self) -> AbstractAsyncContextManager[Fetch]:
        """A transaction that sees nothing that comes after it, and what fetches the rows of a SELECT in it."""

    @abstractmethod
    def _is_gone(self, error: EvrtError) -> bool:
        """Whether a statement failed because a table of a generation is not there."""

    def _parameter(self, projection: AnyProjection, field: str, value: object) -> object:
        """A value as the column of an indexed field is compared with it."""
        return column(value)

    @abstractmethod
    async def aclose(self) -> None:
        """Close the connections; whoever waits is woken."""


def decoded(projection: Projection[D], document: str) -> D:
    """A stored document. Raises UsageError where its class does not take it."""
    try:
        return decode_document(projection, document)
    except ValidationError as error:
        raise UsageError(
            f"The view {projection.name} cannot be read: {misfit(projection, error)}."
        ) from error


def check_indexed(projection: AnyProjection, name: str) -> None:
    """Raises InvalidInput where a view cannot be listed by this field."""
    if name not in projection.indexed:
        raise InvalidInput(
            f"The view {projection.name} has no index on {name!r}, so it cannot be listed by it. It can by: "
            f"{', '.join(projection.indexed) or 'nothing'}."
        )
