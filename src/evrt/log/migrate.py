"""A log of an older version of the schema made one of today's: what ``evrt db migrate`` does.

Forward only, in one transaction under the writers' lock, after a copy has been made and checked: a process
that dies meanwhile leaves the log as it was or as it is to be. No event changes, so neither does any proof.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from typing import NamedTuple

from evrt.errors import Denied, Unavailable, UnusableLog
from evrt.log.backup import backup, existing_file, files_of
from evrt.log.check import Progress
from evrt.log.sqlite.connect import (
    connect_to_migrate,
    lock_path,
    may_write,
    read_schema_version,
    refuse_newer,
    translate,
)
from evrt.log.sqlite.lock import FileLock
from evrt.log.sqlite.recovery import write_wal_anew
from evrt.log.sqlite.schema import SCHEMA_VERSION, steps_from

LOCK_TIMEOUT_SECONDS = 30.0


class Migrated(NamedTuple):
    """From which version to which, and where the copy is; None where there was nothing to do."""

    before: int
    after: int
    copy: str | None


def migrate(
    url: str,
    *,
    copying: Progress | None = None,
    checking: Progress | None = None,
    lock_timeout_seconds: float = LOCK_TIMEOUT_SECONDS,
) -> Migrated:
    """Bring the SQLite log at this URL to today's schema. Blocks; run it in a thread where an event loop runs.

    Processes that have the log open and know only the older schema refuse to write from then on.
    Raises UsageError, NotFound, Denied, UnusableLog (newer, or not sound), Unavailable.
    """
    path = existing_file(url)
    if not may_write(path):
        raise Denied(f"{path} cannot be migrated: this user may not write the file and its folder.")
    lock = FileLock(lock_path(path))
    try:
        if not lock.acquire_within(lock_timeout_seconds):
            raise Unavailable(
                f"{path} could not be locked within {lock_timeout_seconds:g} seconds: {lock.holder()} is writing to "
                "it. Nothing has been changed; try again."
            )
        return _migrate(url, path, copying, checking)
    except sqlite3.Error as error:
        raise translate(error, path, "The log could not be migrated and is as it was") from error
    finally:
        lock.close()


def _migrate(url: str, path: str, copying: Progress | None, checking: Progress | None) -> Migrated:
    """Under the lock: nobody writes between the copy and the change."""
    # A process may have died in a sync that failed: what it left is made sure of before it is built upon.
    write_wal_anew(path)
    with closing(connect_to_migrate(path)) as connection:
        before = read_schema_version(connection)
        refuse_newer(path, before)
        if before == SCHEMA_VERSION:
            return Migrated(before, before, None)
        if before < 1:
            raise UnusableLog(f"{path} does not say which version it has. It has been left as it is.")
        copy = _free_name(f"{path}-v{before}")
        backup(url, copy, copying=copying, checking=checking)
        connection.execute("BEGIN IMMEDIATE")
        for version in range(before, SCHEMA_VERSION):
            for statement in steps_from(version):
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        connection.execute("COMMIT")
        # So that the header of the file itself says it, as far as readers allow; if not, the WAL does.
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        return Migrated(before, SCHEMA_VERSION, copy)


def _free_name(wanted: str) -> str:
    """The name, or the first with a number behind it: an earlier copy is never replaced."""
    name, number = wanted, 2
    while any(map(os.path.lexists, files_of(name))):
        name = f"{wanted}.{number}"
        number += 1
    return name
