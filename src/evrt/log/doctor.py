"""Looks at what a log stands on: SQLite, the file system, locks, room, and the log itself. ``evrt doctor``.

Each examination answers for itself, so that one which cannot be made hides no other. Nothing is changed: what
has to be tried is tried with a file of its own, in the log's folder, that goes again.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing

from evrt.errors import EvrtError
from evrt.log.diagnosis import CHECKED_EVENTS_MAX, Diagnosis, examine_events, examine_python, examine_standing
from evrt.log.sqlite.connect import (
    SQLITE_VERSION_MIN,
    check_place,
    connect_reading,
    inspect,
    lock_path,
    may_write,
    read_schema_version,
    read_standing,
    wal_pages,
)
from evrt.log.sqlite.lock import FileLock
from evrt.log.sqlite.schema import SCHEMA_VERSION

ROOM_BYTES_MIN = 64 * 1024 * 1024
ROOM_BYTES_GOOD = 1024 * 1024 * 1024
FILES_FREE_MIN = 100

WAL_PAGES_GOOD = 25_000
"""A WAL beyond 100 MiB is one that is not copied back: somebody reads without end."""

SYNCS = 15

REMOTE = (
    "nfs",
    "cifs",
    "smb",
    "9p",
    "fuse",
    "ceph",
    "gluster",
    "lustre",
    "afs",
    "gpfs",
    "virtiofs",
    "vboxsf",
)
"""Begin the names of file systems whose locks and syncs are another machine's, or nobody's."""

GONE_AT_POWER_OFF = ("tmpfs", "ramfs", "devtmpfs")


def examine(path: str) -> Iterator[Diagnosis]:
    """Examine the place of a log, and the log if there is one. Yields as it goes; blocks."""
    path = os.path.abspath(path)
    folder = os.path.dirname(path)
    yield examine_python()
    yield _sqlite()
    if not os.path.isdir(folder):
        yield Diagnosis("folder", "bad", f"there is no folder {folder}", "Create it first.")
        return
    writable = os.access(folder, os.W_OK | os.X_OK)
    yield _guarded("folder", lambda: _folder(path, folder))
    yield _guarded("file system", lambda: _file_system(folder))
    yield _guarded("room", lambda: _room(folder))
    if writable:
        yield _guarded("locks", lambda: _locks(folder))
        yield _guarded("syncs", lambda: _syncs(folder))
    there = _guarded("log", lambda: _there(path))
    if there.found:
        yield there
        return
    for name, look in (
        ("log", lambda: _log(path)),
        ("settings", lambda: _settings(path)),
        ("WAL", lambda: _wal(path)),
        ("write lock", lambda: _write_lock(path)),
        ("events", lambda: _events(path)),
    ):
        yield _guarded(name, look)


def _guarded(name: str, look: Callable[[], Diagnosis]) -> Diagnosis:
    try:
        return look()
    except EvrtError as error:
        return Diagnosis(name, "bad", str(error).removesuffix("."))
    except sqlite3.Error as error:
        return Diagnosis(
            name,
            "bad",
            f"SQLite reports: {error}",
            "Run `evrt db check`; what is damaged, restore from a copy.",
        )
    except OSError as error:
        return Diagnosis(name, "bad", f"could not be looked at: {error.strerror or error}")


# ----------------------------------------------------------------------------------- what is installed


def _sqlite() -> Diagnosis:
    version = sqlite3.sqlite_version
    if sqlite3.sqlite_version_info < SQLITE_VERSION_MIN:
        return Diagnosis(
            "SQLite", "bad", f"{version}, and evrt needs 3.37", "Use a newer Python or a newer libsqlite3."
        )
    if sqlite3.threadsafety == 0:
        return Diagnosis("SQLite", "bad", f"{version}, built without threads", "Use another libsqlite3.")
    if sqlite3.sqlite_version_info < (3, 51, 3):
        # Fixed in 3.51.3. Distributions may have taken the fix into older versions; that cannot be seen.
        return Diagnosis(
            "SQLite",
            "ok",
            f"{version}; before 3.51.3 writing and checkpointing at the same instant can damage a file, which evrt's "
            "own lock keeps from happening",
            "Do not write to the log with other programs.",
        )
    return Diagnosis("SQLite", "ok", version)


# --------------------------------------------------------------------------------------- the place


def _folder(path: str, folder: str) -> Diagnosis:
    if not may_write(path):
        return Diagnosis(
            "folder",
            "mind",
            f"this user may not write {path} and its folder, so the log can only be read",
            "Whoever writes a log needs to write the folder as well: files beside it belong to it.",
        )
    return Diagnosis("folder", "ok", folder)


def _file_system(folder: str) -> Diagnosis:
    found = _mount_of(folder)
    if found is None:
        return Diagnosis("file system", "mind", "this system does not say what it is", "Use a local disk.")
    kind, options = found
    if kind.startswith(REMOTE):
        return Diagnosis(
            "file system",
            "bad",
            f"{kind}: locks between machines and syncs are not to be relied on there",
            "Put the log on a local disk.",
        )
    if kind in GONE_AT_POWER_OFF:
        return Diagnosis("file system", "mind", f"{kind}: the log is gone when the power is", "Use a disk.")
    if "nobarrier" in options or "barrier=0" in options:
        return Diagnosis(
            "file system",
            "bad",
            f"{kind} without barriers: a power cut loses what was synced",
            "Mount it with them.",
        )
    if "ro" in options:
        return Diagnosis("file system", "mind", f"{kind}, mounted read-only", "Mount it for writing.")
    return Diagnosis("file system", "ok", kind)


def _mount_of(folder: str) -> tuple[str, list[str]] | None:
    """Type and options of the file system that holds a folder, as far as /proc/self/mounts tells."""
    folder = os.path.realpath(folder)
    best: tuple[int, str, list[str]] | None = None
    for line in _mounts():
        _, point, kind, options, *_ = line.split(" ")
        point = point.replace("\\040", " ")
        inside = folder == point or folder.startswith(point.rstrip("/") + "/")
        # The last of several mounted on one point is the one that is seen.
        if inside and (best is None or len(point) >= best[0]):
            best = len(point), kind, options.split(",")
    return None if best is None else best[1:]


def _mounts() -> list[str]:
    """What is mounted where, a line each; nothing on a system that does not tell."""
    try:
        with open("/proc/self/mounts", encoding="utf-8", errors="surrogateescape") as mounts:
            return mounts.read().splitlines()
    except OSError:
        return []


def _room(folder: str) -> Diagnosis:
    found = os.statvfs(folder)
    free = found.f_bavail * found.f_frsize
    text = f"{free / 1024**3:.1f} GiB free" if free >= ROOM_BYTES_GOOD else f"{free // 1024**2} MiB free"
    if found.f_files and found.f_favail < FILES_FREE_MIN:
        return Diagnosis("room", "bad", f"{text}, but only {found.f_favail} more files", "Remove some.")
    if free < ROOM_BYTES_MIN:
        return Diagnosis("room", "bad", text, "Make room: a full disk takes no events.")
    if free < ROOM_BYTES_GOOD:
        return Diagnosis("room", "mind", text, "Make room soon.")
    return Diagnosis("room", "ok", text)


_TRY_LOCK = """
import fcntl, sys
file = open(sys.argv[1], "r+b")
try:
    (fcntl.flock if sys.argv[2] == "flock" else fcntl.lockf)(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
except OSError:
    sys.exit(3)
"""


def _locks(folder: str) -> Diagnosis:
    """Both kinds of lock, for evrt uses the one and SQLite the other: another process must be refused."""
    for kind, take in (("flock", fcntl.flock), ("fcntl", fcntl.lockf)):
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".evrt-doctor-") as file:
            take(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
            other = subprocess.run(
                [sys.executable, "-I", "-S", "-c", _TRY_LOCK, file.name, kind],
                check=False,
                capture_output=True,
            )
        if other.returncode != 3:
            return Diagnosis(
                "locks",
                "bad",
                f"a lock of the kind {kind} that one process holds is given to another one too",
                "Put the log on a file system with working locks, which a local disk has.",
            )
    return Diagnosis("locks", "ok", "exclusive between processes, both kinds")


def _syncs(folder: str) -> Diagnosis:
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".evrt-doctor-") as file:
        taken = []
        for _ in range(SYNCS):
            os.pwrite(file.fileno(), b"x" * 4096, 0)
            began = time.perf_counter()
            os.fdatasync(file.fileno()) if hasattr(os, "fdatasync") else os.fsync(file.fileno())
            taken.append(time.perf_counter() - began)
    median = statistics.median(taken)
    text = f"one takes {median * 1_000:.3f} ms"
    if median > 0.05:
        return Diagnosis(
            "syncs", "mind", text, "This disk is slow to confirm; a local SSD is a hundred times faster."
        )
    return Diagnosis("syncs", "ok", text)


# ----------------------------------------------------------------------------------------- the log


def _there(path: str) -> Diagnosis:
    """What is to be said instead of examining a log, where there is none; nothing where there is one."""
    try:
        os.stat(path)
    except FileNotFoundError:
        return Diagnosis("log", "ok", f"there is none at {path} yet; the first run makes it")
    if inspect(check_place(path, read_only=True)) == "new":
        return Diagnosis("log", "mind", f"{path} is empty: no log has been made there yet")
    return Diagnosis("log", "ok", "")


def _log(path: str) -> Diagnosis:
    with closing(connect_reading(path)) as connection:
        version = read_schema_version(connection)
        (log_id,) = connection.execute("SELECT id FROM log").fetchone()
        (events,) = connection.execute("SELECT coalesce(max(position), 0) FROM events").fetchone()
        standing = read_standing(connection)
    text = f"{log_id}, {events:,} events, schema {version}"
    if version < SCHEMA_VERSION:
        return Diagnosis("log", "mind", f"{text}, which can only be read", "Run `evrt db migrate`.")
    if version > SCHEMA_VERSION:
        return Diagnosis("log", "bad", f"{text}, which is newer than this evrt", "Upgrade evrt.")
    return examine_standing(text, standing)


def _settings(path: str) -> Diagnosis:
    """As far as the file has them; the rest is set and read back whenever a log is opened for writing."""
    if inspect(path) != "ready":
        return Diagnosis(
            "settings", "mind", "the file is not in WAL mode", "Opening the log for writing sets it."
        )
    return Diagnosis(
        "settings", "ok", "WAL mode; synchronous=FULL is set and read back whenever it is opened"
    )


def _wal(path: str) -> Diagnosis:
    pages = wal_pages(path)
    text = f"{pages * 4 // 1024:,} MiB" if pages >= 256 else f"{pages * 4:,} KiB"
    if pages > WAL_PAGES_GOOD:
        return Diagnosis(
            "WAL",
            "mind",
            f"{text} wait to be copied into the database, which no reader may hold up for so long",
            "Look for a process that has kept reading since then: a backup, an open transaction.",
        )
    return Diagnosis("WAL", "ok", text)


def _write_lock(path: str) -> Diagnosis:
    if not os.path.exists(lock_path(path)) or not may_write(path):
        return Diagnosis("write lock", "ok", "free")
    lock = FileLock(lock_path(path))
    try:
        if lock.acquire_within(1.0):
            lock.release()
            return Diagnosis("write lock", "ok", "free")
        return Diagnosis(
            "write lock",
            "bad",
            f"{lock.holder()} has held it for at least a second, so nobody else can write",
            "If that process is stuck, end it.",
        )
    finally:
        lock.close()


def _events(path: str) -> Diagnosis:
    with closing(connect_reading(path)) as connection:
        (events,) = connection.execute("SELECT coalesce(max(position), 0) FROM events").fetchone()
    if events > CHECKED_EVENTS_MAX:
        return Diagnosis("events", "ok", f"{events:,}, too many to check now", "Run `evrt db check`.")
    return examine_events(f"sqlite:///{path}")
