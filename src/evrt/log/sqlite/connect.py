"""Opening the file: ours or not, whole or half made, writable or not; and the connections to it.

Nothing of another program's file is touched: its header is read as plain bytes, before SQLite
or the lock come near it. A log is made in one transaction with a rollback journal, so that the
header in the file itself says from the first moment whose it is; then it is switched to WAL.
"""

from __future__ import annotations

import os
import sqlite3
import stat
import struct
import threading
import time
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Literal, NamedTuple

from evrt.errors import Denied, EvrtError, NotFound, Unavailable, UnusableLog, UsageError
from evrt.log.ids import new_event_id
from evrt.log.sqlite.schema import APPLICATION_ID, SCHEMA, SCHEMA_VERSION
from evrt.log.standing import Origin, Standing

SQLITE_VERSION_MIN = (3, 37, 0)
"""STRICT tables."""

BUSY_TIMEOUT_SECONDS = 5.0
"""How long a reader waits while the file cannot be read, as when its WAL is made anew after a crash."""

PAGE_BYTES = 4096

MAGIC = b"SQLite format 3\x00"
HEADER_BYTES = 100
JOURNAL_MAGIC = b"\xd9\xd5\x05\xf9\x20\xa1\x63\xd7"

State = Literal["new", "made", "ready"]

Identity = tuple[int, int]
"""What tells a file from another that has been put in its place: its device, its inode."""

_held: Counter[Identity] = Counter()
"""The files of logs that are open in this process, and how often each is."""

_looking = threading.Lock()


def hold(path: str) -> Identity:
    """Say, before connecting to a log that is there, that it is open in this process. Raises OSError.

    SQLite's locks on a file belong to the process, and the system drops them all when the process closes any
    descriptor of that file. Then another process that closes the log takes itself for the last, and removes the
    WAL that this one goes on writing to. So nobody opens a held file but SQLite, which minds this by itself.
    """
    with _looking:
        identity = file_identity(path)
        _held[identity] += 1
        return identity


def let_go(identity: Identity) -> None:
    """Take back one ``hold``, after the connections have been closed."""
    with _looking:
        _held[identity] -= 1
        if not _held[identity]:
            del _held[identity]


def _forget_all() -> None:
    """A forked child has none of the parent's connections, and locks of its own."""
    _held.clear()
    _looking.release()


os.register_at_fork(before=_looking.acquire, after_in_parent=_looking.release, after_in_child=_forget_all)


def lock_path(path: str) -> str:
    return f"{path}-lock"


def check_place(path: str, *, read_only: bool) -> str:
    """The absolute path, for a process may change its folder; or UsageError, NotFound where no log can be."""
    if sqlite3.sqlite_version_info < SQLITE_VERSION_MIN:
        raise UsageError(
            f"This Python uses SQLite {sqlite3.sqlite_version}; evrt needs 3.37 or newer. "
            "Use a newer Python or a newer libsqlite3."
        )
    path = os.path.abspath(path)
    folder = os.path.dirname(path)
    if os.path.exists(path) and not os.path.isdir(path) and not os.path.isfile(path):
        # Opening a named pipe would wait for ever.
        raise UsageError(f"{path} is not a file, but a pipe, a socket or a device. Name another path.")
    if os.path.isdir(path):
        raise UsageError(
            f"{path} is a folder; a log is a file. Give the file a name, such as {path}/evrt.db."
        )
    if not _is_folder(folder):
        raise NotFound(f"There is no folder {folder} for the log {path}. Create it first.")
    if read_only and not os.path.exists(path):
        raise NotFound(f"There is no log at {path}. Check the path, or open it for writing to create one.")
    return path


def _is_folder(path: str) -> bool:
    """Raises Unavailable where the disk does not tell."""
    try:
        return stat.S_ISDIR(os.stat(path).st_mode)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return False
    except OSError as error:
        raise Unavailable(f"The folder {path} of the log cannot be looked at: {error.strerror}.") from None


def may_write(path: str) -> bool:
    """Whether this process may write the file and make files beside it."""
    folder = os.path.dirname(path)
    if not os.path.exists(path):
        if not os.access(folder, os.W_OK | os.X_OK):
            raise Denied(f"The log {path} cannot be created: this user may not write to the folder {folder}.")
        return True
    return os.access(path, os.W_OK) and os.access(folder, os.W_OK | os.X_OK)


def inspect(path: str) -> State:
    """What the file is, from its bytes alone. Raises UnusableLog where it is not for us.

    ``new`` is nothing yet, ``made`` is a log that may still have to be finished, ``ready`` one that is in WAL mode.
    One that is open in this process is ready, and is not looked at (see ``hold``).
    """
    try:
        with _looking:
            if file_identity(path) in _held:
                return "ready"
            with open(path, "rb") as file:
                header = file.read(HEADER_BYTES)
    except FileNotFoundError:
        return "new"
    except PermissionError:
        raise Denied(f"The log {path} cannot be read: this user has no permission to.") from None
    except OSError as error:
        raise Unavailable(f"The log {path} cannot be read: {error.strerror}.") from None
    if not header or _making_was_cut_off(path):
        return "new"
    if len(header) < HEADER_BYTES or not header.startswith(MAGIC):
        raise UnusableLog(
            f"{path} is not a log of evrt: it is not a SQLite database. It has been left as it is; "
            "choose another path."
        )
    write_format, read_format = header[18], header[19]
    (user_version,) = struct.unpack(">I", header[60:64])
    (application_id,) = struct.unpack(">I", header[68:72])
    if application_id != APPLICATION_ID:
        if application_id == 0 and _is_empty_database(path):
            return "new"
        raise UnusableLog(
            f"{path} is not a log of evrt: it is the database of another program. It has been left as it is; "
            "choose another path."
        )
    refuse_newer(path, user_version)
    # With a journal left by a process that was killed, SQLite will take back what the header says.
    wal = write_format == read_format == 2 and not os.path.exists(f"{path}-journal")
    return "ready" if wal else "made"


def refuse_newer(path: str, version: int) -> None:
    """Raises UnusableLog for a version of the schema that this program does not know."""
    if version > SCHEMA_VERSION:
        raise UnusableLog(
            f"{path} was written by a newer evrt: its schema has version {version}, this program knows "
            f"version {SCHEMA_VERSION}. Upgrade evrt to open it; nothing has been changed."
        )


def check_schema(connection: sqlite3.Connection, path: str) -> None:
    """Raises UnusableLog unless the log has the version of the schema that this program writes."""
    version = read_schema_version(connection)
    refuse_newer(path, version)
    if version < SCHEMA_VERSION:
        raise UnusableLog(
            f"{path} was written by an older evrt: its schema has version {version}, this program writes version "
            f"{SCHEMA_VERSION}. It can be read as it is; to write to it, run `evrt db migrate` (it keeps a copy)."
        )


def read_schema_version(connection: sqlite3.Connection) -> int:
    """As of the last commit: the header that ``inspect`` reads may not have it yet."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return int(version)


def read_standing(connection: sqlite3.Connection) -> Standing:
    """What the log says of itself: see ``evrt.log.standing``."""
    if read_schema_version(connection) < 3:
        return Standing()
    row = connection.execute("SELECT moved_to, copied_from FROM moves").fetchone()
    return Standing() if row is None else Standing(*row)


def write_standing(connection: sqlite3.Connection, standing: Standing) -> None:
    """Have the log say so, in the transaction that has been begun."""
    connection.execute("INSERT OR REPLACE INTO moves VALUES (1, ?, ?)", standing)


def _making_was_cut_off(path: str) -> bool:
    """Whether a journal says that the file was empty before what is in it now, none of which was committed.

    A loss of power while a log is made can leave any part of it. SQLite takes all of that back.
    """
    try:
        with open(f"{path}-journal", "rb") as file:
            header = file.read(20)
    except OSError:
        return False
    pages_before = header[16:20]
    return header.startswith(JOURNAL_MAGIC) and pages_before == bytes(4)


def _take_back(path: str, busy_timeout_seconds: float) -> None:
    """Have SQLite empty the file again, by a connection that is closed then.

    It reads settings from the header before that, whatever stands there, and would give them to a new database.
    """
    with closing(_connect(path, "rw", busy_timeout_seconds)) as connection:
        connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()


def _is_empty_database(path: str) -> bool:
    """Whether it holds no tables; looked at without locks and journals, so nothing is touched."""
    if any(os.path.exists(path + suffix) for suffix in ("-wal", "-journal")):
        return False
    try:
        connection = sqlite3.connect(f"{Path(path).as_uri()}?mode=ro&immutable=1", uri=True)
        try:
            return bool(connection.execute("SELECT count(*) FROM sqlite_schema").fetchone() == (0,))
        finally:
            connection.close()
    except sqlite3.Error:
        return False


def connect_writing(path: str, busy_timeout_seconds: float) -> sqlite3.Connection:
    """The connection that writes, its pragmas set and read back. The log must be there, with today's schema.

    The time-out is for programs other than evrt, which lock the database but not the file beside it.
    """
    connection = connect_to_migrate(path, busy_timeout_seconds)
    try:
        check_schema(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def connect_to_migrate(path: str, busy_timeout_seconds: float = BUSY_TIMEOUT_SECONDS) -> sqlite3.Connection:
    """A connection that writes durably, to a log of any version."""
    connection = _connect(path, "rw", busy_timeout_seconds)
    try:
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        # On macOS a plain fsync does not reach the disk.
        connection.execute("PRAGMA fullfsync = ON")
        # What erasure leaves free in a page is overwritten.
        connection.execute("PRAGMA secure_delete = ON")
        check_pragmas(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def check_pragmas(connection: sqlite3.Connection, path: str) -> None:
    """Refuse to write without the settings that make an acknowledged event durable."""
    for pragma, wanted in (("journal_mode", "wal"), ("synchronous", 2), ("wal_autocheckpoint", 0)):
        (found,) = connection.execute(f"PRAGMA {pragma}").fetchone()
        if found != wanted:
            raise UnusableLog(
                f"SQLite did not take a setting that keeps the events of {path} safe: {pragma} is {found!r} "
                f"and has to be {wanted!r}. Some network and virtual file systems cannot do it; "
                "put the log on a local disk."
            )


def reading_uris(path: str) -> list[str]:
    """What to open for reading only, each where the one before it finds no index of the WAL and can make none.

    Where the disk is full, SQLite reads with an index in memory. Where this user, or nobody, can make files,
    and there is nothing in a WAL, the file lies still, and SQLite is told that it does.
    """
    uri = f"{Path(path).as_uri()}?mode=ro"
    uris = [uri, f"{uri}&readonly_shm=1"]
    return uris if wal_pages(path) else [*uris, uri + LYING_STILL]


LYING_STILL = "&immutable=1"
"""Ends the URI of a connection that does not look for changes."""


def lacks_index(error: Exception) -> bool:
    """Whether this is what SQLite reports where it cannot make the index of a WAL."""
    name = getattr(error, "sqlite_errorname", "") or ""
    return name.startswith(("SQLITE_CANTOPEN", "SQLITE_READONLY", "SQLITE_IOERR_SHM"))


def cannot_read(error: sqlite3.Error, path: str, doing: str) -> EvrtError:
    """What it means that the last URI to read could not be opened either."""
    if lacks_index(error) and wal_pages(path) and not os.path.exists(f"{path}-shm"):
        return Unavailable(
            f"{doing}: the last events are still in {path}-wal, and its index {path}-shm is missing and cannot be "
            "made here. Copy the two files to a folder that can be written, and read the log there."
        )
    return translate(error, path, doing)


class Shape(NamedTuple):
    """What changes about the files of a log when somebody writes to it."""

    inode: int
    bytes: int
    modified_ns: int
    wal_pages: int


def shape(path: str) -> Shape:
    """The shape of the log's files now."""
    found = os.stat(path)
    return Shape(found.st_ino, found.st_size, found.st_mtime_ns, wal_pages(path))


def connect_reading(path: str) -> sqlite3.Connection:
    """A connection that cannot write, for who blocks; any thread, one at a time. The log must be there."""
    *others, last = reading_uris(path)
    for uri in others:
        connection = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)
        try:
            connection.execute("SELECT 1 FROM log")
        except sqlite3.OperationalError as error:
            connection.close()
            if not lacks_index(error):
                raise
        else:
            return connection
    return sqlite3.connect(last, uri=True, isolation_level=None, check_same_thread=False)


def make(path: str, busy_timeout_seconds: float, origin: Origin | None = None) -> None:
    """Make the log, or finish one whose making was cut off; a copy, where an origin is given. Only under the file lock."""
    if _making_was_cut_off(path):
        _take_back(path, busy_timeout_seconds)
    connection = _connect(path, "rwc", busy_timeout_seconds)
    try:
        if connection.execute("PRAGMA application_id").fetchone() != (APPLICATION_ID,):
            # EXTRA also syncs the folder after the journal is gone, which is what commits.
            connection.execute("PRAGMA synchronous = EXTRA")
            connection.execute("BEGIN EXCLUSIVE")
            if connection.execute("SELECT count(*) FROM sqlite_schema").fetchone() != (0,):
                raise UnusableLog(
                    f"{path} is not a log of evrt: another program has just made its database there. It has "
                    "been left as it is; choose another path."
                )
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
            for statement in SCHEMA:
                connection.execute(statement)
            if origin is None:
                origin = Origin(new_event_id(), time.time_ns() // 1_000, "")
            else:
                # From the first moment on, so that nobody takes a part of it for the whole.
                write_standing(connection, Standing(copied_from=origin.place))
            connection.execute("INSERT INTO log VALUES (1, ?, ?)", (origin.log, origin.created))
            connection.execute("COMMIT")
        (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
        if mode != "wal":
            # SQLite does not say why: a write that failed for a moment looks the same as a disk that cannot.
            raise Unavailable(
                f"The log {path} could not be made ready: SQLite could not switch it to its WAL. Try again; "
                "if that does not help, put the log on a local disk, for not every file system can do it."
            )
    finally:
        connection.close()
    sync_folder(os.path.dirname(path))


def read_log_id(connection: sqlite3.Connection) -> str:
    (log_id,) = connection.execute("SELECT id FROM log").fetchone()
    return str(log_id)


def wal_pages(path: str) -> int:
    """How many pages the WAL may hold, going by the size of its file."""
    try:
        return os.stat(f"{path}-wal").st_size // PAGE_BYTES
    except FileNotFoundError:
        return 0


def file_identity(path: str) -> Identity:
    """What tells a file from another that has been put in its place."""
    found = os.stat(path)
    return found.st_dev, found.st_ino


def sync_folder(folder: str) -> None:
    """Make the names in a folder durable, not only what is in the files."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except PermissionError:
        return  # Who may make files there, but not list them, cannot sync it either.
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _connect(path: str, mode: str, timeout_seconds: float) -> sqlite3.Connection:
    uri = f"{Path(path).as_uri()}?mode={mode}"
    return sqlite3.connect(uri, uri=True, timeout=timeout_seconds, isolation_level=None)


def translate(error: sqlite3.Error, path: str, doing: str) -> EvrtError:
    """What a failure of SQLite means to the caller."""
    name = getattr(error, "sqlite_errorname", "") or ""
    if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
        return UnusableLog(
            f"{doing}: the file {path} is damaged ({error}). Run `evrt db check` and restore it from a copy."
        )
    if name.startswith("SQLITE_CONSTRAINT"):
        return UnusableLog(
            f"{doing}: the file {path} does not agree with itself ({error}). Something other than evrt has "
            "changed it; run `evrt db check`."
        )
    if name.startswith("SQLITE_BUSY"):
        return Unavailable(f"{doing}: another program has locked {path}. Close it, or try again.")
    if name.startswith("SQLITE_FULL"):
        return Unavailable(f"{doing}: the disk of {path} is full. Make room, then try again.")
    if name.startswith("SQLITE_IOERR_SHM"):
        return Unavailable(
            f"{doing}: there is no room for {path}-shm, the index of its WAL ({name}). Make room on the disk, then "
            "try again."
        )
    if name.startswith("SQLITE_CANTOPEN"):
        return Unavailable(f"{doing}: the file {path} cannot be opened. Check that it is still there.")
    return Unavailable(f"{doing}: SQLite reports {error} ({name or 'no code'}) for {path}.")
