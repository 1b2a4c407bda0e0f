"""The file of the views, as its writer sees it: generations, documents to fold on from, and what a batch changes.

Documents and cursor change in one transaction, and only where the cursor is still the one that the batch began at.
So of two projectors that work on one view, dead, frozen or alive, one is always refused and looks again, and a view
is at every moment the fold of the events up to its cursor.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, TypeVar

import aiosqlite
from pydantic import BaseModel

from evrt.errors import Conflict, EvrtError, Unavailable, UnusableLog
from evrt.log.sqlite.connect import BUSY_TIMEOUT_SECONDS, translate
from evrt.projection import AnyProjection, Document, Place, Projection, decode_document
from evrt.projector.schema import (
    APPLICATION_ID,
    INDEX_COLUMN,
    SCHEMA_VERSION,
    TABLES,
    documents,
    drop_tables_of,
    families,
    marks,
    shape,
    snapshots,
    tables_of,
)

D = TypeVar("D", bound=BaseModel)

Stage = Literal["live", "building"]

PLACES_AT_ONCE = 400
"""Documents that one statement looks for."""

CHECKPOINT_PAGES = 4_000
"""Pages of the WAL after which SQLite copies it into the file: 16 MB, as views change in large strokes."""


class Overtaken(Conflict):
    """Another projector has moved the cursor of a view since this one looked."""


class Generation(NamedTuple):
    """A row of the table of views. ``cursor`` is the position up to which its documents are folded."""

    id: int
    name: str
    version: int
    shape: str
    stage: Stage
    cursor: int
    leaf: bytes | None
    owner: str | None
    error: str | None
    error_position: int | None


class Family(NamedTuple):
    """The documents of one key, counted: events of it, how many of them up to its last mark, and where that is."""

    events: int = 0
    marked: int = 0
    mark: int = 0


class Mark(NamedTuple):
    """A moment for which the documents of a key have been kept; ``version`` is that of its event in its stream."""

    position: int
    version: int


class Kept(NamedTuple):
    """A document as of a mark, or a deletion where ``document`` is None; ``position`` is that of the mark or deletion."""

    key: str
    part: str
    position: int
    first: int | None
    changed: int | None
    document: str | None


@dataclass(slots=True)
class Change:
    """What one batch makes of one generation.

    ``inserts`` are rows of the table of documents, their indexed fields last; ``updates`` a position, a document, the
    indexed fields, and the ``first`` of the row; ``deletes`` the ``first`` of documents that are no more.
    """

    generation: Generation
    cursor: int
    leaf: bytes | None
    inserts: list[tuple[object, ...]] = field(default_factory=list)
    updates: list[tuple[object, ...]] = field(default_factory=list)
    deletes: list[int] = field(default_factory=list)
    families: dict[str, Family] = field(default_factory=dict)
    marks: list[tuple[str, Mark]] = field(default_factory=list)
    kept: list[Kept] = field(default_factory=list)
    error: str | None = None
    error_position: int | None = None


class ViewStore:
    """The connection that writes, of one event loop. ``open_store`` gives one."""

    def __init__(self, path: str, connection: aiosqlite.Connection) -> None:
        self.path = path
        self._connection = connection
        self._lock = asyncio.Lock()

    # ------------------------------------------------------------------------------- generations

    async def generations(self) -> list[Generation]:
        """Every generation of every view."""
        async with self._transaction("BEGIN"):
            return await self._generations()

    async def ensure(self, projection: AnyProjection) -> Generation | None:
        """The generation that a program with this projection has to keep; made where there is none.

        It is the live one, or where that is of an older version or has other indexes, one that is built beside it.
        None where the live one is of a newer version.
        """
        async with self._transaction():
            known = {g.stage: g for g in await self._generations() if g.name == projection.name}
            live, building = known.get("live"), known.get("building")
            if live is None:
                return await self._make(projection, "live")
            if fits(live, projection):
                return live
            if live.version > projection.version:
                return None
            if building is not None and fits(building, projection):
                return building
            if building is not None and building.version > projection.version:
                return None
            if building is not None:
                await self._remove(building.id)
            return await self._make(projection, "building")

    async def build(self, projection: AnyProjection, *, anew: bool = False) -> Generation:
        """A generation beside the live one, to take its place when it has been built; ``anew`` drops one begun before."""
        async with self._transaction():
            for known in await self._generations():
                if known.name == projection.name and known.stage == "building":
                    if fits(known, projection) and not anew:
                        return known
                    await self._remove(known.id)
            return await self._make(projection, "building")

    async def remove(self, generation: Generation) -> None:
        """Throw a generation and its documents away."""
        async with self._transaction():
            await self._remove(generation.id)

    async def release(self, owner: str) -> None:
        """Let others go on at once with what this owner has kept."""
        async with self._transaction():
            await self._execute("UPDATE views SET owner = NULL WHERE owner = ?", owner)

    async def _generations(self) -> list[Generation]:
        rows = await self._fetch(
            "SELECT id, name, version, shape, stage, cursor, leaf, owner, error, error_position FROM views ORDER BY id"
        )
        return [Generation(*row) for row in rows]

    async def _make(self, projection: AnyProjection, stage: Stage) -> Generation:
        made = Generation(
            0, projection.name, projection.version, shape(projection), stage, 0, None, None, None, None
        )
        await self._execute(
            "INSERT INTO views (name, version, shape, stage, cursor) VALUES (?, ?, ?, ?, 0)",
            *(made.name, made.version, made.shape, made.stage),
        )
        [(view,)] = await self._fetch("SELECT last_insert_rowid()")
        for statement in tables_of(view, projection):
            await self._execute(statement)
        return made._replace(id=view)

    async def _remove(self, view: int) -> None:
        await self._execute("DELETE FROM views WHERE id = ?", view)
        for statement in drop_tables_of(view):
            await self._execute(statement)

    # --------------------------------------------------------------------------------- documents

    async def load(
        self, generation: Generation, projection: Projection[D], places: Sequence[Place]
    ) -> dict[Place, Document[D]]:
        """Those of the documents in these places that there are."""
        found: dict[Place, Document[D]] = {}
        for start in range(0, len(places), PLACES_AT_ONCE):
            some = places[start : start + PLACES_AT_ONCE]
            rows = await self._fetch(
                f"WITH wanted (key, part) AS (VALUES {', '.join(['(?, ?)'] * len(some))}) "
                f"SELECT d.key, d.part, d.first, d.position, d.document FROM wanted AS w "
                f"CROSS JOIN {documents(generation.id)} AS d ON d.key = w.key AND d.part = w.part",
                *(text for place in some for text in place),
            )
            for key, part, first, position, document in rows:
                value = decode_document(projection, document)
                found[key, part] = Document(key, part, first, position, value)
        return found

    async def families(self, generation: Generation, keys: Sequence[str]) -> dict[str, Family]:
        """What is known of these keys."""
        found: dict[str, Family] = {}
        for start in range(0, len(keys), PLACES_AT_ONCE):
            some = keys[start : start + PLACES_AT_ONCE]
            rows = await self._fetch(
                f"SELECT key, events, marked, mark FROM {families(generation.id)} "
                f"WHERE key IN ({', '.join('?' * len(some))})",
                *some,
            )
            found |= {key: Family(*counts) for key, *counts in rows}
        return found

    async def changed_since(self, generation: Generation, key: str, position: int) -> list[Kept]:
        """The documents of a key that an event after this position has changed, as they are now."""
        rows = await self._fetch(
            f"SELECT key, part, position, first, position, document FROM {documents(generation.id)} "
            "WHERE key = ? AND position > ?",
            *(key, position),
        )
        return [Kept(*row) for row in rows]

    async def commit(self, changes: Sequence[Change], owner: str) -> bool:
        """Write batches of several generations, all or none. Returns whether a built one has taken its view's place.

        Raises Overtaken, and then nothing is written; Unavailable.
        """
        switched = False
        async with self._transaction():
            for change in changes:
                await self._move(change, owner)
                await self._write(change)
                if change.generation.stage == "building" and change.error is None:
                    switched |= await self._switch(change)
        return switched

    async def _move(self, change: Change, owner: str) -> None:
        moved = await self._connection.execute(
            "UPDATE views SET cursor = ?, leaf = ?, owner = ?, error = ?, error_position = ? "
            "WHERE id = ? AND cursor = ? AND stage = ?",
            (
                change.cursor,
                change.leaf,
                owner,
                change.error,
                change.error_position,
                change.generation.id,
                change.generation.cursor,
                change.generation.stage,
            ),
        )
        if moved.rowcount != 1:
            raise Overtaken(f"Another projector keeps the view {change.generation.name}.")

    async def _write(self, change: Change) -> None:
        view = change.generation.id
        fields = [f'"{column}"' for column in self._index_columns(change)]
        if change.deletes:
            await self._many(
                f"DELETE FROM {documents(view)} WHERE first = ?", ((first,) for first in change.deletes)
            )
        if change.updates:
            await self._many(
                f"UPDATE {documents(view)} SET position = ?, document = ?{''.join(f', {f} = ?' for f in fields)} "
                "WHERE first = ?",
                change.updates,
            )
        if change.inserts:
            await self._many(
                f"INSERT INTO {documents(view)} (first, key, part, position, document{''.join(f', {f}' for f in fields)}) "
                f"VALUES (?, ?, ?, ?, ?{', ?' * len(fields)})",
                change.inserts,
            )
        if change.families:
            await self._many(
                f"INSERT INTO {families(view)} (key, events, marked, mark) VALUES (?, ?, ?, ?) "
                "ON CONFLICT (key) DO UPDATE SET events = excluded.events, marked = excluded.marked, mark = excluded.mark",
                ((key, *family) for key, family in change.families.items()),
            )
        if change.marks:
            await self._many(
                f"INSERT INTO {marks(view)} (key, position, version) VALUES (?, ?, ?)",
                ((key, *mark) for key, mark in change.marks),
            )
        if change.kept:
            await self._many(
                f"INSERT INTO {snapshots(view)} (key, part, position, first, changed, document) VALUES (?, ?, ?, ?, ?, ?)",
                change.kept,
            )

    @staticmethod
    def _index_columns(change: Change) -> list[str]:
        import orjson

        indexes: list[list[str]] = orjson.loads(change.generation.shape)
        return list(dict.fromkeys(f"{INDEX_COLUMN}{name}" for index in indexes for name in index))

    async def _switch(self, change: Change) -> bool:
        """Let a generation that has come as far as the live one take its place."""
        built = change.generation
        live = await self._fetch("SELECT id, cursor FROM views WHERE name = ? AND stage = 'live'", built.name)
        if live and live[0][1] > change.cursor:
            return False
        for view, _ in live:
            await self._remove(view)
        await self._execute("UPDATE views SET stage = 'live' WHERE id = ?", built.id)
        return True

    # ------------------------------------------------------------------------------------- SQLite

    @asynccontextmanager
    async def _transaction(self, begin: str = "BEGIN IMMEDIATE") -> AsyncIterator[None]:
        """All of it or nothing; one at a time, for there is one connection. Raises Unavailable, UnusableLog."""
        async with self._lock:
            try:
                await self._connection.execute(begin)
                try:
                    yield
                    await self._connection.execute("COMMIT")
                except BaseException:
                    await self._roll_back()
                    raise
            except (sqlite3.Error, ValueError) as error:
                raise trouble(error, self.path, "The views cannot be written") from error

    async def _roll_back(self) -> None:
        # Shielded: a transaction that a cancelled task leaves open would take in the next one's work.
        rolling = asyncio.ensure_future(self._end_transaction())
        try:
            await asyncio.shield(rolling)
        except asyncio.CancelledError:
            await rolling
            raise

    async def _end_transaction(self) -> None:
        if self._connection.in_transaction:
            await self._connection.execute("ROLLBACK")

    async def _execute(self, sql: str, *parameters: object) -> None:
        await self._connection.execute(sql, parameters)

    async def _many(self, sql: str, rows: Iterable[Iterable[Any]]) -> None:
        await self._connection.executemany(sql, rows)

    async def _fetch(self, sql: str, *parameters: object) -> list[Any]:
        try:
            return list(await self._connection.execute_fetchall(sql, parameters))
        except (sqlite3.Error, ValueError) as error:
            raise trouble(error, self.path, "The views cannot be read") from error

    async def aclose(self) -> None:
        """Close the connection."""
        await self._connection.close()


def fits(generation: Generation, projection: AnyProjection) -> bool:
    """Whether the generation's documents are those of this projection, with these indexes."""
    return (generation.version, generation.shape) == (projection.version, shape(projection))


async def open_store(path: str, log: str) -> ViewStore:
    """The views of the log with this id, at this path; made where there are none, emptied where they are of another log.

    Raises UnusableLog where the file is something else, or of a newer evrt; Denied; Unavailable.
    """
    connection = aiosqlite.connect(path, timeout=BUSY_TIMEOUT_SECONDS, isolation_level=None)
    # Views that nobody closed must not keep the interpreter from ending.
    connection._thread.daemon = True
    try:
        await connection
    except sqlite3.Error as error:
        raise trouble(error, path, "The views cannot be opened") from error
    store = ViewStore(path, connection)
    try:
        await _prepare(store, log)
    except BaseException:
        await store.aclose()
        raise
    return store


async def _prepare(store: ViewStore, log: str) -> None:
    await _check_header(store)
    for pragma in (
        "journal_mode = WAL",
        "synchronous = NORMAL",
        # What is deleted is overwritten, as far as that costs no more.
        "secure_delete = FAST",
        f"wal_autocheckpoint = {CHECKPOINT_PAGES}",
    ):
        await store._fetch(f"PRAGMA {pragma}")
    async with store._transaction():
        tables = await store._fetch(
            "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
        )
        [(version,)] = await store._fetch("PRAGMA user_version")
        of_log = (
            await store._fetch("SELECT id FROM log")
            if ("log",) in tables and version == SCHEMA_VERSION
            else []
        )
        if of_log == [(log,)]:
            return
        for (name,) in tables:
            await store._execute(f'DROP TABLE "{name}"')
        await store._execute(f"PRAGMA application_id = {APPLICATION_ID}")
        await store._execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        for statement in TABLES:
            await store._execute(statement)
        await store._execute("INSERT INTO log VALUES (1, ?)", log)


async def _check_header(store: ViewStore) -> None:
    [(application,)] = await store._fetch("PRAGMA application_id")
    [(version,)] = await store._fetch("PRAGMA user_version")
    [(tables,)] = await store._fetch("SELECT count(*) FROM sqlite_schema")
    if application != APPLICATION_ID and (application or tables):
        raise UnusableLog(
            f"{store.path} is in the way: views are to be kept there, and it is the database of another program. It has "
            "been left as it is; move it to another name."
        )
    if application == APPLICATION_ID and version > SCHEMA_VERSION:
        raise UnusableLog(
            f"{store.path} was written by a newer evrt. Upgrade evrt, or remove the file and its -wal and -shm while "
            "no program uses it: views are built again from the log."
        )


def trouble(error: Exception, path: str, doing: str) -> EvrtError:
    """What a failure of SQLite at the file of the views means to the caller."""
    name = getattr(error, "sqlite_errorname", "") or ""
    if not isinstance(error, sqlite3.Error):
        return Unavailable(f"{doing}: {path} has been closed.")
    if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB", "SQLITE_CONSTRAINT")):
        return UnusableLog(
            f"{doing}: the file {path} is damaged ({error}). Nothing of the log is lost: remove the file and its -wal "
            f"and -shm ({os.path.basename(path)}*) while no program uses it, and the views are built again from the log."
        )
    return translate(error, path, doing)
