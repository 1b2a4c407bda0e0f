"""What is done to the file of the views, each function inside one transaction that somebody else has begun."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol, TypeVar

import orjson
from pydantic import BaseModel, ValidationError

from evrt.projection import AnyProjection, Document, Place, Projection, decode_document
from evrt.projector.records import (
    Change,
    Family,
    Generation,
    Kept,
    Misfit,
    Overtaken,
    Stage,
    fits,
    misfit,
    newer,
)
from evrt.projector.schema import (
    INDEX_COLUMN,
    documents,
    drop_tables_of,
    families,
    marks,
    shape,
    snapshots,
    tables_of,
)

D = TypeVar("D", bound=BaseModel)

PLACES_AT_ONCE = 400
"""Documents that one statement looks for."""


class Rows(Protocol):
    """What a statement came to."""

    @property
    def rowcount(self) -> int: ...
    def fetchone(self) -> Any: ...
    def __iter__(self) -> Any: ...


class Connection(Protocol):
    """A connection inside a transaction: sqlite3's own, or one to PostgreSQL that takes the same statements."""

    def execute(self, sql: str, parameters: Any = ..., /) -> Rows: ...
    def executemany(self, sql: str, parameters: Iterable[Any], /) -> object: ...


def generations(connection: Connection) -> list[Generation]:
    """Every generation of every view."""
    rows = connection.execute(
        "SELECT id, name, version, shape, stage, cursor, leaf, owner, error, error_position FROM views ORDER BY id"
    )
    return [Generation(*row) for row in rows]


def _of(connection: Connection, projection: AnyProjection) -> tuple[Generation | None, Generation | None]:
    """The live generation of a view, and the one that is being built."""
    known = {g.stage: g for g in generations(connection) if g.name == projection.name}
    return known.get("live"), known.get("building")


def ensure(connection: Connection, projection: AnyProjection) -> Generation | None:
    """See ``ViewStore.ensure``."""
    live, building = _of(connection, projection)
    if live is None:
        return _make(connection, projection, "live")
    if building is not None and building.version < live.version:
        # It was begun for a version that somebody has left behind since.
        _remove(connection, building.id)
        building = None
    if fits(live, projection):
        return live
    if live.version > projection.version:
        return None
    if building is not None:
        if fits(building, projection):
            return building
        if building.version > projection.version:
            return None
        _remove(connection, building.id)
    return _make(connection, projection, "building")


def build(connection: Connection, projection: AnyProjection, anew: bool) -> Generation:
    """See ``ViewStore.build``."""
    live, building = _of(connection, projection)
    for known in (live, building):
        if known is not None and known.version > projection.version:
            raise newer(known, projection)
    if building is not None:
        if fits(building, projection) and not anew:
            return building
        _remove(connection, building.id)
    return _make(connection, projection, "building")


def _make(connection: Connection, projection: AnyProjection, stage: Stage) -> Generation:
    (view,) = connection.execute(
        "INSERT INTO views (name, version, shape, stage, cursor) VALUES (?, ?, ?, ?, 0) RETURNING id",
        (projection.name, projection.version, shape(projection), stage),
    ).fetchone()
    make = getattr(connection, "tables_of", tables_of)
    for statement in make(view, projection):
        connection.execute(statement)
    return Generation(
        view, projection.name, projection.version, shape(projection), stage, 0, None, None, None, None
    )


def remove_unmoved(connection: Connection, generation: Generation) -> None:
    """See ``ViewStore.remove``."""
    there = connection.execute(
        "SELECT 1 FROM views WHERE id = ? AND cursor = ? AND leaf IS ?",
        (generation.id, generation.cursor, generation.leaf),
    ).fetchone()
    if there:
        _remove(connection, generation.id)


def _remove(connection: Connection, view: int) -> None:
    connection.execute("DELETE FROM views WHERE id = ?", (view,))
    for statement in drop_tables_of(view):
        connection.execute(statement)


def load(
    connection: Connection,
    generation: Generation,
    projection: Projection[D],
    places: Sequence[Place],
) -> tuple[dict[Place, Document[D] | Misfit], int]:
    """See ``ViewStore.load``."""
    _check_there(connection, generation)
    found: dict[Place, Document[D] | Misfit] = {}
    loaded_bytes = 0
    for start in range(0, len(places), PLACES_AT_ONCE):
        some = places[start : start + PLACES_AT_ONCE]
        rows = connection.execute(
            f"WITH wanted (key, part) AS (VALUES {', '.join(['(?, ?)'] * len(some))}) "
            "SELECT d.key, d.part, d.first, d.position, d.document FROM wanted AS w "
            f"CROSS JOIN {documents(generation.id)} AS d ON d.key = w.key AND d.part = w.part",
            [text for place in some for text in place],
        )
        for key, part, first, position, document in rows:
            loaded_bytes += len(document)
            try:
                value = decode_document(projection, document)
            except ValidationError as error:
                found[key, part] = Misfit(misfit(projection, error))
            else:
                found[key, part] = Document(key, part, first, position, value)
    return found, loaded_bytes


def load_families(connection: Connection, generation: Generation, keys: Sequence[str]) -> dict[str, Family]:
    """See ``ViewStore.families``."""
    _check_there(connection, generation)
    found: dict[str, Family] = {}
    for start in range(0, len(keys), PLACES_AT_ONCE):
        some = keys[start : start + PLACES_AT_ONCE]
        rows = connection.execute(
            f"SELECT key, events, marked, mark, first FROM {families(generation.id)} "
            f"WHERE key IN ({', '.join('?' * len(some))})",
            some,
        )
        found |= {key: Family(*counts) for key, *counts in rows}
    return found


def changed_since(connection: Connection, generation: Generation, key: str, position: int) -> list[Kept]:
    """The documents of a key that an event after this position has changed, as they are now."""
    _check_there(connection, generation)
    rows = connection.execute(
        f"SELECT key, part, position, first, position, document FROM {documents(generation.id)} "
        "WHERE key = ? AND position > ?",
        (key, position),
    )
    return [Kept(*row) for row in rows]


def _check_there(connection: Connection, generation: Generation) -> None:
    """Raises Overtaken where a generation is gone, with its tables."""
    if not connection.execute("SELECT 1 FROM views WHERE id = ?", (generation.id,)).fetchone():
        raise Overtaken(f"The view {generation.name} is being built anew by another projector.")


def commit(connection: Connection, changes: Sequence[Change], owner: str) -> bool:
    """See ``ViewStore.commit``."""
    switched = False
    # Those that are being built come last: one that takes the live one's place must not take it away before its turn.
    changes = sorted(changes, key=lambda change: change.generation.stage == "building")
    for change in changes:
        _move(connection, change, owner)
        _write(connection, change)
        if change.generation.stage == "building" and change.error is None:
            switched |= _switch(connection, change)
    return switched


def _move(connection: Connection, change: Change, owner: str) -> None:
    before = change.generation
    # The leaf too: where the log was put back from a copy, another history has the same positions. And what it is of:
    # where the file of the views was put back from one, another generation may have the same id.
    moved = connection.execute(
        "UPDATE views SET cursor = ?, leaf = ?, owner = ?, error = ?, error_position = ? "
        "WHERE id = ? AND cursor = ? AND leaf IS ? AND stage = ? AND name = ? AND version = ? AND shape = ?",
        (
            *(change.cursor, change.leaf, owner, change.error, change.error_position),
            *(before.id, before.cursor, before.leaf, before.stage, before.name, before.version, before.shape),
        ),
    )
    if moved.rowcount != 1:
        raise Overtaken(f"Another projector keeps the view {before.name}.")


def _write(connection: Connection, change: Change) -> None:
    view = change.generation.id
    fields = [f'"{column}"' for column in _index_columns(change)]
    for table in (documents, families, marks, snapshots):
        connection.executemany(
            f"DELETE FROM {table(view)} WHERE key = ?", ((key,) for key in change.forgotten)
        )
    connection.executemany(
        f"DELETE FROM {documents(view)} WHERE first = ?", ((first,) for first in change.deletes)
    )
    connection.executemany(
        f"UPDATE {documents(view)} SET position = ?, document = ?{''.join(f', {f} = ?' for f in fields)} "
        "WHERE first = ?",
        change.updates,
    )
    connection.executemany(
        f"INSERT INTO {documents(view)} (first, key, part, position, document{''.join(f', {f}' for f in fields)}) "
        f"VALUES (?, ?, ?, ?, ?{', ?' * len(fields)})",
        change.inserts,
    )
    connection.executemany(
        f"INSERT INTO {families(view)} (key, events, marked, mark, first) VALUES (?, ?, ?, ?, ?) "
        "ON CONFLICT (key) DO UPDATE SET events = excluded.events, marked = excluded.marked, mark = excluded.mark",
        ((key, *family) for key, family in change.families.items()),
    )
    connection.executemany(
        f"INSERT INTO {marks(view)} (key, position, version) VALUES (?, ?, ?)",
        ((key, *mark) for key, mark in change.marks),
    )
    connection.executemany(
        f"INSERT INTO {snapshots(view)} (key, part, position, first, changed, document) VALUES (?, ?, ?, ?, ?, ?)",
        change.kept,
    )


def _index_columns(change: Change) -> list[str]:
    indexes: list[list[str]] = orjson.loads(change.generation.shape)[0]
    return list(dict.fromkeys(f"{INDEX_COLUMN}{name}" for index in indexes for name in index))


def _switch(connection: Connection, change: Change) -> bool:
    """Let a generation that has come as far as the live one take its place; never an older version a newer one's."""
    built = change.generation
    live = connection.execute(
        "SELECT id, cursor, version FROM views WHERE name = ? AND stage = 'live'", (built.name,)
    ).fetchone()
    if live is not None:
        view, cursor, version = live
        if cursor > change.cursor or version > built.version:
            return False
        _remove(connection, view)
    connection.execute("UPDATE views SET stage = 'live' WHERE id = ?", (built.id,))
    return True
