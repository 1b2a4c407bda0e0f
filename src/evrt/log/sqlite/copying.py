"""A log's SQLite file as an end of a copy: written row by row as the other has it, or sealed (see ``evrt.log.ends``)."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, suppress

from evrt.errors import Conflict, Denied, Unavailable, UnusableLog
from evrt.log.beside import BLOBS, Difference, Table
from evrt.log.ends import LOCK_TIMEOUT_SECONDS, BlobPiece, Source, heads_after
from evrt.log.sqlite.blobs import OF_BLOB, place_of, places_of
from evrt.log.sqlite.committing import HARMLESS
from evrt.log.sqlite.connect import (
    BUSY_TIMEOUT_SECONDS,
    cannot_read,
    check_place,
    check_schema,
    connect_reading,
    file_identity,
    hold,
    inspect,
    let_go,
    lock_path,
    make,
    may_write,
    read_log_id,
    read_standing,
    translate,
    write_standing,
)
from evrt.log.sqlite.lock import FileLock
from evrt.log.sqlite.recovery import Acknowledged, LostEvents, reopen, write_wal_anew
from evrt.log.sqlite.rows import SqliteRows, open_sqlite_rows
from evrt.log.sqlite.transaction import EVENT_COLUMNS, INSERTED
from evrt.log.standing import Origin, Standing
from evrt.log.walk import Rows, Step

CHECKPOINT_BYTES = 16 * 1024 * 1024
"""When about so many bytes have gone to the WAL, they are copied into the database."""

NOT_READ = "The log could not be copied"
NOT_WRITTEN = "The copy could not be written"


class SqliteSource:
    """See ``evrt.log.ends.Source``."""

    def __init__(self, path: str) -> None:
        self._reading = open_sqlite_rows(path, NOT_READ)
        rows = self._reading.__enter__()
        assert isinstance(rows, SqliteRows)
        self.rows: SqliteRows = rows
        self._file = hold(rows.place)

    def standing(self) -> Standing:
        return read_standing(self.rows.connection)

    def check_sealable(self) -> None:
        path = self.rows.place
        if not may_write(path):
            raise Denied(
                f"{path} cannot be marked as moved: this user may not write the file and its folder."
            )
        check_schema(self.rows.connection, path)

    def seal(self, moved_to: str) -> None:
        path = self.rows.place
        with _locked(path) as lock:
            try:
                with closing(_reopened(path, lock)) as connection:
                    connection.execute("BEGIN IMMEDIATE")
                    write_standing(connection, Standing(moved_to=moved_to))
                    connection.execute("COMMIT")
            except sqlite3.Error as error:
                _mark(lock, error)
                raise translate(error, path, "The log could not be marked as moved") from error

    def close(self) -> None:
        self._reading.__exit__(None, None, None)
        let_go(self._file)


class SqliteTarget:
    """See ``evrt.log.ends.Target``."""

    def __init__(self, path: str) -> None:
        self.place = check_place(path, read_only=False)
        # One whose making was cut off is made ready when the copy begins.
        self.is_there = inspect(self.place) == "ready"
        if not may_write(self.place):
            raise Denied(f"{self.place} cannot be written: this user may not write the file and its folder.")
        self._connection: sqlite3.Connection | None = None
        self._lock: FileLock | None = None
        self._file: tuple[int, int] | None = None
        self._origin = ""
        self._names: set[int] = set()
        """Numbers of streams that are known to be there."""
        self._wal_bytes = 0

    def is_same_as(self, source: Source) -> bool:
        rows = source.rows
        return (
            isinstance(rows, SqliteRows)
            and os.path.exists(self.place)
            and os.path.samefile(self.place, rows.place)
        )

    def standing(self) -> Standing:
        try:
            with closing(connect_reading(self.place)) as connection:
                return read_standing(connection)
        except sqlite3.Error as error:
            raise cannot_read(error, self.place, NOT_WRITTEN) from error

    def rows(self) -> AbstractContextManager[Rows]:
        return open_sqlite_rows(self.place, "The copy could not be read")

    # ---------------------------------------------------------------------------------- writing

    def begin(self, origin: Origin, position: int) -> None:
        self._lock = lock = FileLock(lock_path(self.place))
        with _held(lock, self.place), self._told(lock):
            if inspect(self.place) != "ready":
                make(self.place, BUSY_TIMEOUT_SECONDS, origin)
            self.is_there = True
            self._file = hold(self.place)
            self._connection = connection = _reopened(self.place, lock)
            if read_log_id(connection) != origin.log:
                raise Conflict(f"{self.place} is another log by now. It has been left as it is.")
            connection.execute("BEGIN IMMEDIATE")
            self._expect(connection, position)
            write_standing(connection, Standing(copied_from=origin.place))
            connection.execute("COMMIT")
        self._origin = origin.place

    def write(self, steps: Sequence[Step]) -> None:
        with self._transaction() as connection:
            self._expect(connection, steps[0].event.position - 1)
            connection.executemany(_INSERT_EVENT, map(_to_values, steps))
            self._write_heads(connection, steps)
        self._written(sum(512 + len(step.event.meta) + len(step.event.payload or b"") for step in steps))

    def erase(self, positions: Sequence[int]) -> None:
        with self._transaction() as connection:
            connection.executemany(
                "UPDATE events SET salt = NULL, payload = NULL WHERE position = ?",
                [(position,) for position in positions],
            )
        # What was erased leaves the WAL as well.
        self._written(CHECKPOINT_BYTES)

    def change(self, table: Table, differences: Sequence[Difference]) -> None:
        # A digest may go from one blob to another, and a ref's text to another ref: what is in the way goes first.
        where = " AND ".join(f"{column} = ?" for column in table.key_columns)
        values = ", ".join("?" * len(table.columns))
        with self._transaction() as connection:
            connection.executemany(
                f"DELETE FROM {table.name} WHERE {where}", [difference.key for difference in differences]
            )
            connection.executemany(
                f"INSERT INTO {table.name} ({table.listed}) VALUES ({values})",
                [difference.row for difference in differences if difference.row is not None],
            )
        self._written(256 * len(differences))

    def write_pieces(self, pieces: Sequence[BlobPiece]) -> None:
        with self._transaction() as connection:
            connection.executemany(
                "INSERT OR REPLACE INTO blob_pieces VALUES (?, ?)",
                [(place_of(piece.blob, piece.number), piece.content) for piece in pieces],
            )
        self._written(sum(len(piece.content) for piece in pieces))

    def drop_pieces(self, blobs: Sequence[int]) -> None:
        with self._transaction() as connection:
            connection.executemany(
                f"DELETE FROM blob_pieces WHERE {OF_BLOB}", [places_of(blob) for blob in blobs]
            )
        self._written(CHECKPOINT_BYTES)

    def finish(self) -> None:
        with self._transaction() as connection:
            # What a process that was killed has left of a blob that is not there.
            connection.execute(f"DELETE FROM {BLOBS.name} WHERE digest IS NULL")
            connection.execute("DELETE FROM moves")
        self._written(CHECKPOINT_BYTES)

    def close(self) -> None:
        if self._connection is not None:
            with suppress(sqlite3.Error):
                self._connection.close()
        if self._lock is not None:
            self._lock.close()
        if self._file is not None:
            let_go(self._file)
        self._connection = self._lock = self._file = None

    # ------------------------------------------------------------------------------------------

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        connection, lock = self._connection, self._lock
        assert connection is not None, "A copy is begun first."
        assert lock is not None
        with _held(lock, self.place), self._told(lock):
            if not os.path.exists(self.place) or file_identity(self.place) != self._file:
                raise Unavailable(f"{self.place} is gone, or has been replaced, while it was written.")
            connection.execute("BEGIN IMMEDIATE")
            if read_standing(connection).copied_from != self._origin:
                raise Conflict(f"{self.place} is not what was begun any more: somebody else has finished it.")
            yield connection
            connection.execute("COMMIT")

    @contextmanager
    def _told(self, lock: FileLock) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            _mark(lock, error)
            raise translate(error, self.place, NOT_WRITTEN) from error
        except OSError as error:
            raise Unavailable(f"{NOT_WRITTEN}: {self.place}: {error.strerror}.") from error
        finally:
            if self._connection is not None and self._connection.in_transaction:
                with suppress(sqlite3.Error):
                    self._connection.execute("ROLLBACK")

    def _written(self, size: int) -> None:
        """Copy the WAL into the database when there is much in it."""
        self._wal_bytes += size
        if self._wal_bytes >= CHECKPOINT_BYTES and self._connection is not None and self._lock is not None:
            self._wal_bytes = 0
            with _held(self._lock, self.place), self._told(self._lock):
                self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
                # SQLite does not sync the cut.
                write_wal_anew(self.place)

    def _expect(self, connection: sqlite3.Connection, position: int) -> None:
        (there,) = connection.execute("SELECT coalesce(max(position), 0) FROM events").fetchone()
        if there != position:
            raise Conflict(
                f"{self.place} ended at position {position} and now ends at {there}: somebody else writes to it. "
                "End whatever does, then copy again."
            )

    def _write_heads(self, connection: sqlite3.Connection, steps: Sequence[Step]) -> None:
        for stream, head in heads_after(steps).items():
            if not self._is_known(connection, stream):
                connection.execute(
                    "INSERT INTO streams VALUES (?, ?, ?, ?, ?)",
                    (stream, head.name, head.version, head.leaf, head.epoch),
                )
            elif head.leaf is not None:
                connection.execute(
                    "UPDATE streams SET version = ?, leaf = ?, epoch = max(epoch, ?) WHERE id = ?",
                    (head.version, head.leaf, head.epoch, stream),
                )
            self._names.add(stream)

    def _is_known(self, connection: sqlite3.Connection, stream: int) -> bool:
        if len(self._names) > 50_000:
            self._names.clear()
        return (
            stream in self._names
            or connection.execute("SELECT 1 FROM streams WHERE id = ?", (stream,)).fetchone() is not None
        )


_INSERT_EVENT = f"INSERT INTO events ({INSERTED}) VALUES ({', '.join('?' * EVENT_COLUMNS)})"


def _to_values(step: Step) -> tuple[object, ...]:
    """The row of an event with the numbers of its names."""
    event = step.event
    return (
        event.position,
        bytes.fromhex(event.event_id.replace("-", "")),
        event.time,
        step.stream,
        event.version,
        event.type,
        step.correlation,
        *event[7:],
    )


def _reopened(path: str, lock: FileLock) -> sqlite3.Connection:
    """A connection that writes, all that was left there made sure of. Only under the lock."""
    log_id = _log_id(path)
    try:
        connection = reopen(path, log_id, Acknowledged(), BUSY_TIMEOUT_SECONDS)
    except LostEvents as error:
        raise UnusableLog(f"{path} is damaged: {error}. Run `evrt db check`.") from error
    except OSError as error:
        raise Unavailable(f"{path} cannot be written: {error.strerror}.") from error
    lock.unmark()
    return connection


def _log_id(path: str) -> str:
    with closing(connect_reading(path)) as connection:
        return read_log_id(connection)


def _mark(lock: FileLock, error: sqlite3.Error) -> None:
    """Have the next to write begin with a recovery, unless SQLite has only refused."""
    if not (getattr(error, "sqlite_errorname", "") or "").startswith(HARMLESS):
        lock.mark()


@contextmanager
def _held(lock: FileLock, path: str) -> Iterator[None]:
    if not lock.acquire_within(LOCK_TIMEOUT_SECONDS):
        raise Unavailable(
            f"{path} could not be locked within {LOCK_TIMEOUT_SECONDS:g} seconds: {lock.holder()} is writing to it. "
            "Nothing is lost; try again."
        )
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _locked(path: str) -> Iterator[FileLock]:
    lock = FileLock(lock_path(path))
    try:
        with _held(lock, path):
            yield lock
    finally:
        lock.close()
