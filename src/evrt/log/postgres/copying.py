"""A log's PostgreSQL schema as an end of a copy: written row by row as the other has it, or sealed.

See ``evrt.log.ends``. Every transaction begins with the head row locked, as every other writer's does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any

import psycopg
from psycopg.rows import TupleRow

from evrt.errors import Conflict, Denied, EvrtError, NotFound, UnusableLog
from evrt.log.beside import BLOBS, REFS, Difference, Table
from evrt.log.ends import LOCK_TIMEOUT_SECONDS, BlobPiece, Source, StreamRow, heads_after
from evrt.log.postgres.address import Address
from evrt.log.postgres.arrays import Bigints, Byteas, Integers, Texts, Uuids
from evrt.log.postgres.blobs import PIECES_MAX, place_of
from evrt.log.postgres.connect import Timed, connect_writing, translate
from evrt.log.postgres.making import check_version, make_sure
from evrt.log.postgres.rows import PostgresRows, open_postgres_rows
from evrt.log.postgres.schema import named
from evrt.log.postgres.transaction import WRITE_EVENTS
from evrt.log.standing import Origin, Standing
from evrt.log.walk import Rows, Step

NOT_READ = "The log could not be copied"
NOT_WRITTEN = "The copy could not be written"
NOT_SEALED = "The log could not be marked as moved"

_LOCK = "SELECT position, schema_version, copied_from FROM @.head FOR UPDATE"
_STAND = "UPDATE @.head SET moved_to = %s, copied_from = %s"
_HEAD = "UPDATE @.head SET position = %s, time = %s, streams = greatest(streams, %s)"
_STREAMS = (
    "INSERT INTO @.streams AS s (id, name, version, leaf, epoch) SELECT * FROM unnest(%s, %s, %s, %s, %s) "
)
_MOVE_HEADS = (
    f"{_STREAMS} ON CONFLICT (id) DO UPDATE "
    "SET version = excluded.version, leaf = excluded.leaf, epoch = greatest(s.epoch, excluded.epoch)"
)
_NAME_CORRELATIONS = f"{_STREAMS} ON CONFLICT (id) DO NOTHING"


class PostgresSource:
    """See ``evrt.log.ends.Source``."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._reading = open_postgres_rows(address, NOT_READ)
        rows = self._reading.__enter__()
        assert isinstance(rows, PostgresRows)
        self.rows: PostgresRows = rows

    def standing(self) -> Standing:
        return self.rows.standing()

    def check_sealable(self) -> None:
        # Its version has been looked at when it was opened.
        if not self.rows.may_seal():
            raise Denied(
                f"{self.rows.place} cannot be marked as moved: this user may append to it and no more. Name its owner in "
                "the URL."
            )

    def seal(self, moved_to: str) -> None:
        try:
            with (
                connect_writing(self._address, lock_timeout_seconds=LOCK_TIMEOUT_SECONDS) as connection,
                connection.transaction(),
            ):
                _lock(connection, self._address)
                _execute(connection, self._address, _STAND, (moved_to, None))
        except psycopg.Error as error:
            raise translate(error, self._address, NOT_SEALED) from error

    def close(self) -> None:
        with suppress(EvrtError):
            self._reading.__exit__(None, None, None)


class PostgresTarget:
    """See ``evrt.log.ends.Target``."""

    def __init__(self, address: Address) -> None:
        self.place = address.shown
        self._address = address
        self._connection: Timed | None = None
        self._origin = ""
        try:
            with self.rows():
                self.is_there = True
        except NotFound as error:
            if error.__cause__ is not None:  # Not the schema, but the database.
                raise
            self.is_there = False

    def is_same_as(self, source: Source) -> bool:
        other = source.rows
        if not self.is_there or not isinstance(other, PostgresRows):
            return False
        with self.rows() as rows:
            return isinstance(rows, PostgresRows) and rows.identity() == other.identity()

    def standing(self) -> Standing:
        with self.rows() as rows:
            assert isinstance(rows, PostgresRows)
            return rows.standing()

    def rows(self) -> AbstractContextManager[Rows]:
        return open_postgres_rows(self._address, "The copy could not be read")

    # ---------------------------------------------------------------------------------- writing

    def begin(self, origin: Origin, position: int) -> None:
        with self._told():
            self._connection = connection = connect_writing(
                self._address, lock_timeout_seconds=LOCK_TIMEOUT_SECONDS
            )
            log = make_sure(connection, self._address, origin)
            self.is_there = True
            if log != origin.log:
                raise Conflict(f"{self.place} is another log by now. It has been left as it is.")
            with connection.transaction():
                self._expect(_lock(connection, self._address)[0], position)
                _execute(connection, self._address, _STAND, (None, origin.place))
        self._origin = origin.place

    def write(self, steps: Sequence[Step]) -> None:
        with self._transaction() as (connection, position):
            self._expect(position, steps[0].event.position - 1)
            heads = heads_after(steps)
            moved = {number: head for number, head in heads.items() if head.leaf is not None}
            named_only = {number: head for number, head in heads.items() if head.leaf is None}
            with connection.pipeline():
                if named_only:
                    self._send(_NAME_CORRELATIONS, _columns_of_heads(named_only))
                self._send(_MOVE_HEADS, _columns_of_heads(moved))
                self._send(WRITE_EVENTS, _columns_of_events(steps))
                last = steps[-1].event
                self._send(_HEAD, (last.position, last.time, max(heads)))

    def erase(self, positions: Sequence[int]) -> None:
        with self._transaction():
            self._send(
                "UPDATE @.events SET salt = NULL, payload = NULL WHERE position = ANY(%s)", (list(positions),)
            )

    def change(self, table: Table, differences: Sequence[Difference]) -> None:
        # A digest may go from one blob to another, and a ref's text to another ref: what is in the way goes first.
        where = " AND ".join(f"{column} = %s" for column in table.key_columns)
        values = ", ".join(["%s"] * len(table.columns))
        rows = [difference.row for difference in differences if difference.row is not None]
        if table == REFS:
            rows = [(ref, kind, external.encode()) for ref, kind, external in rows]
        with self._transaction() as (connection, _), connection.cursor() as cursor:
            for sql, parameters in (
                (f"DELETE FROM @.{table.name} WHERE {where}", [difference.key for difference in differences]),
                (f"INSERT INTO @.{table.name} ({table.listed}) VALUES ({values})", rows),
            ):
                text: Any = named(sql, self._address.quoted_schema)
                cursor.executemany(text, parameters)

    def write_pieces(self, pieces: Sequence[BlobPiece]) -> None:
        with self._transaction() as (connection, _), connection.pipeline():
            for piece in pieces:
                self._send(
                    "INSERT INTO @.blob_pieces VALUES (%s, %b) ON CONFLICT (place) DO UPDATE SET bytes = excluded.bytes",
                    (place_of(piece.blob, piece.number), piece.content),
                )

    def drop_pieces(self, blobs: Sequence[int]) -> None:
        with self._transaction():
            for blob in blobs:
                self._send(
                    "DELETE FROM @.blob_pieces WHERE place BETWEEN %s AND %s",
                    (place_of(blob, 0), place_of(blob, PIECES_MAX - 1)),
                )

    def finish(self) -> None:
        with self._transaction():
            self._send(f"DELETE FROM @.{BLOBS.name} WHERE digest IS NULL", ())
            self._send(_STAND, (None, None))

    def close(self) -> None:
        if self._connection is not None:
            with suppress(psycopg.Error):
                self._connection.close()
        self._connection = None

    # ------------------------------------------------------------------------------------------

    @contextmanager
    def _transaction(self) -> Iterator[tuple[Timed, int]]:
        """The connection with the head locked, and the position that the log ends at."""
        connection = self._connection
        assert connection is not None, "A copy is begun first."
        with self._told(), connection.transaction():
            position, copied_from = _lock(connection, self._address)
            if copied_from != self._origin:
                raise Conflict(f"{self.place} is not what was begun any more: somebody else has finished it.")
            yield connection, position

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except psycopg.Error as error:
            raise translate(error, self._address, NOT_WRITTEN) from error

    def _send(self, sql: str, parameters: Sequence[object]) -> None:
        assert self._connection is not None
        _execute(self._connection, self._address, sql, parameters)

    def _expect(self, there: int, position: int) -> None:
        if there != position:
            raise Conflict(
                f"{self.place} ended at position {position} and now ends at {there}: somebody else writes to it. "
                "End whatever does, then copy again."
            )


def _execute(connection: Timed, address: Address, sql: str, parameters: Sequence[object]) -> list[TupleRow]:
    text: Any = named(sql, address.quoted_schema)
    cursor = connection.execute(text, parameters or None)
    return [] if sql != _LOCK else cursor.fetchall()


def _lock(connection: Timed, address: Address) -> tuple[int, str | None]:
    """Lock the log's head. Where it is, and what it says it is copied from."""
    found = _execute(connection, address, _LOCK, ())
    if not found:
        raise UnusableLog(f"The log {address.shown} has no head: its row has been removed.")
    [(position, version, copied_from)] = found
    check_version(version, address)
    return position, copied_from


def _columns_of_heads(heads: dict[int, StreamRow]) -> tuple[object, ...]:
    names, versions, leaves, epochs = zip(*heads.values(), strict=True)
    return Bigints(heads), Texts(names), Bigints(versions), Byteas(leaves), Bigints(epochs)


def _columns_of_events(steps: Sequence[Step]) -> tuple[object, ...]:
    events = [step.event for step in steps]
    position, event_id, time, _, version, type_, _, meta, length, digest, salt, payload, leaf = zip(
        *events, strict=True
    )
    return (
        Bigints(position),
        Uuids(event_id),
        Bigints(time),
        Bigints(step.stream for step in steps),
        Bigints(version),
        Texts(type_),
        Bigints(step.correlation for step in steps),
        Byteas(meta),
        Integers(length),
        Byteas(digest),
        Byteas(salt),
        Byteas(payload),
        Byteas(leaf),
    )
