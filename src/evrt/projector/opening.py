"""Opening the file of the views: ours or not, of this log or of another; and what its failures mean."""

from __future__ import annotations

import os
import secrets
import sqlite3

from evrt.errors import EvrtError, Unavailable, UnusableLog
from evrt.log.sqlite.connect import BUSY_TIMEOUT_SECONDS, translate
from evrt.projector.schema import APPLICATION_ID, SCHEMA_VERSION, TABLES

FIRST_ID_BITS = 40
"""A file numbers its generations from a random number on, as none may be taken for one of a file that was there before."""

CHECKPOINT_PAGES = 4_000
"""Pages of the WAL after which SQLite copies it into the file: 16 MB, as views change in large strokes."""


def connect(path: str, log: str) -> sqlite3.Connection:
    """A connection that writes the views of the log with this id; the file is made, or emptied, where it has to be.

    Any thread may use it, one at a time. Raises UnusableLog where the file is something else, or of a newer evrt;
    Denied; Unavailable.
    """
    if os.path.lexists(path) and not os.path.isfile(path):
        # Opening a named pipe would wait for ever.
        raise in_the_way(path, "it is not a file")
    try:
        connection = sqlite3.connect(
            path, timeout=BUSY_TIMEOUT_SECONDS, isolation_level=None, check_same_thread=False
        )
    except sqlite3.Error as error:
        raise trouble(error, path, "The views cannot be opened") from error
    try:
        _check_header(connection, path)
        _prepare(connection, log)
    except sqlite3.Error as error:
        connection.close()
        raise trouble(error, path, "The views cannot be opened") from error
    except BaseException:
        connection.close()
        raise
    return connection


def _check_header(connection: sqlite3.Connection, path: str) -> None:
    try:
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    except sqlite3.DatabaseError as error:
        if getattr(error, "sqlite_errorname", "") != "SQLITE_NOTADB":
            raise
        raise in_the_way(path, "it is no database, or its beginning is damaged") from error
    if application != APPLICATION_ID and (application or tables):
        raise in_the_way(path, "it is the database of another program")
    if application == APPLICATION_ID and version > SCHEMA_VERSION:
        raise UnusableLog(
            f"{path} was written by a newer evrt. Upgrade evrt, or remove the file and its -wal and -shm while "
            "no program uses it: views are built again from the log."
        )


def in_the_way(path: str, what: str) -> UnusableLog:
    """What is told where the views are to be kept and something else is."""
    return UnusableLog(
        f"{path} is in the way: views are to be kept there, and {what}. It has been left as it is; move it to another "
        "name, and the views are built from the log."
    )


def _prepare(connection: sqlite3.Connection, log: str) -> None:
    for pragma in (
        "journal_mode = WAL",
        "synchronous = NORMAL",
        # What is deleted is overwritten, as far as that costs no more.
        "secure_delete = FAST",
        f"wal_autocheckpoint = {CHECKPOINT_PAGES}",
    ):
        connection.execute(f"PRAGMA {pragma}").fetchall()
    # Who only reads what is there must not have to wait for a writer, which may be frozen.
    if _is_prepared(connection, log):
        return
    connection.execute("BEGIN IMMEDIATE")
    if not _is_prepared(connection, log):
        for name in _tables(connection):
            connection.execute(f'DROP TABLE "{name}"')
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        for statement in TABLES:
            connection.execute(statement)
        connection.execute("INSERT INTO log VALUES (1, ?)", (log,))
        connection.execute("DELETE FROM sqlite_sequence")
        connection.execute(
            "INSERT INTO sqlite_sequence VALUES ('views', ?)", (secrets.randbits(FIRST_ID_BITS),)
        )
    connection.execute("COMMIT")


def _is_prepared(connection: sqlite3.Connection, log: str) -> bool:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return version == SCHEMA_VERSION and "log" in _tables(connection) and is_of_log(connection, log)


def _tables(connection: sqlite3.Connection) -> list[str]:
    rows = connection.execute(
        "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
    ).fetchall()
    return [name for (name,) in rows]


def is_of_log(connection: sqlite3.Connection, log: str) -> bool:
    """Whether the file holds views of the log with this id."""
    return connection.execute("SELECT id FROM log").fetchall() == [(log,)]


def trouble(error: sqlite3.Error, path: str, doing: str) -> EvrtError:
    """What a failure of SQLite at the file of the views means to the caller."""
    name = getattr(error, "sqlite_errorname", "") or ""
    if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB", "SQLITE_CONSTRAINT")):
        return UnusableLog(
            f"{doing}: the file {path} is damaged ({error}). Nothing of the log is lost: remove the file and its -wal "
            f"and -shm ({os.path.basename(path)}*) while no program uses it, and the views are built again from the log."
        )
    if name.startswith("SQLITE_READONLY"):
        return Unavailable(
            f"{doing}: {path} cannot be written ({error}), or has been put in another's place while it was open."
        )
    return translate(error, path, doing)
