"""Commits batches to the file. A write that fails poisons: nothing more is written or answered before a recovery.

An answer follows a COMMIT that succeeded on a healthy connection, or a recovery that found the
batch recorded, all of it verified and durable anew. What is remembered of the log goes with the
connection that failed. See ``evrt.log.sqlite.recovery`` for why a failed sync takes so much care.
"""

from __future__ import annotations

import errno
import os
import sqlite3
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from evrt.errors import Conflict, Denied, EvrtError, NotFound, Unavailable, UnusableLog
from evrt.log.foreign.kept import KEPT, Tracked
from evrt.log.plan import Checked
from evrt.log.queueing import QUEUE_WORK
from evrt.log.sqlite.blobs import BlobErased
from evrt.log.sqlite.connect import connect_writing, read_log_id, sync_folder, translate, wal_pages
from evrt.log.sqlite.jobs import NOTHING, UNKNOWN, Erasure, Forgetting, Job, Stop, WantedRef, Work, refuse
from evrt.log.sqlite.lock import FileLock
from evrt.log.sqlite.recovery import Acknowledged, LostEvents, is_recorded, reopen, write_wal_anew
from evrt.log.sqlite.transaction import Planned, Transaction

WAL_PAGES_MAX = 1_000
"""When about this many pages (4 MiB) have gone to the WAL, they are copied into the database."""

RECOVERY_PAUSE_SECONDS = 0.25
"""Between two attempts at a recovery. Appends that come in between are refused at once."""

HARMLESS = ("SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_CONSTRAINT")
"""Begin the names of errors by which SQLite refuses a statement and leaves file and connection as they were."""

ERASING = (Erasure, BlobErased, Forgetting)

DAMAGED = ("SQLITE_CORRUPT", "SQLITE_NOTADB")


class Committer:
    """The file's writing end, for one thread. Every method only under the file lock, but ``close``.

    Raises, when made, sqlite3.Error, OSError, UnusableLog.
    """

    def __init__(self, path: str, lock: FileLock, busy_timeout_seconds: float) -> None:
        self._path = path
        self._lock = lock
        self._busy_timeout_seconds = busy_timeout_seconds
        self._erased = False
        """Whether the WAL still holds what has been erased."""
        self._acknowledged = Acknowledged()
        self._unsure = wal_pages(path) > 0
        """Whether there was a WAL whose writer may have died with a sync that failed: nobody has marked the lock."""
        self._connection = connect_writing(path, busy_timeout_seconds)
        try:
            self.log_id = read_log_id(self._connection)
            # SQLite syncs the folder of a WAL that it has made, but does not say when that failed.
            sync_folder(os.path.dirname(path))
        except BaseException:
            self._connection.close()
            raise
        self._transaction = Transaction(self._connection, path, self.log_id)
        # What processes that were killed have left there counts from the start.
        self._wal_pages = wal_pages(path)
        self._poison: BaseException | None = None
        """The failure after which there has been no recovery."""
        self._refusal: EvrtError | None = None
        """Why the last attempt at a recovery failed."""
        self._next_recovery = 0.0
        self._lost = False

    # ---------------------------------------------------------------------------------- batches

    def commit(self, batch: Sequence[Job]) -> bool:
        """Do a batch in one transaction, its outcomes in the jobs. Whether anything was committed."""
        self.make_sure()
        if self._poison is not None or self._lock.is_marked():
            try:
                self._recover()
            except EvrtError as refusal:
                refuse(batch, refusal, NOTHING)
                return False
        return self._commit(batch, again=True)

    def _commit(self, batch: Sequence[Job], *, again: bool) -> bool:
        planned: Planned | None = None
        transaction = self._transaction
        try:
            transaction.begin(sum([job.events for job in batch]))
            refused = 0
            for job in batch:
                try:
                    job.result = self._do(job.work)
                except EvrtError as error:
                    job.error = error
                    refused += 1
            if refused == len(batch):
                transaction.roll_back()
                return False
            transaction.flush()
            planned = transaction.planned()
            self._wal_pages += transaction.commit()
            self._acknowledged.add(planned)
        except BaseException as error:  # noqa: BLE001  # Whatever it is, those who wait must hear of it.
            refusal = None if planned is not None else self._refused(error)
            if refusal is None:
                return self._commit_after(error, batch, planned, again=again)
            refuse(batch, refusal, NOTHING)
            return False
        if self._erased or any(isinstance(job.work, ERASING) for job in batch):
            # What was erased leaves the WAL as well, before anybody is told that it is gone. A reader who holds an
            # older state keeps it there; then it leaves with the first batch after that reader.
            self._erased = not self.checkpoint("TRUNCATE")
            # SQLite does not sync the cut; without that, a loss of power could bring it back.
            self._write_wal_anew()
        return True

    def _refused(self, error: BaseException) -> EvrtError | None:
        """What to say where the file and the connection are as they were, the transaction taken back; else None."""
        if isinstance(error, sqlite3.Error) and _name(error).startswith(HARMLESS):
            refusal = translate(error, self._path, "The log cannot be written")
        elif isinstance(error, UnusableLog | Denied):
            # Somebody has brought the log to a schema that this program does not know, or has moved it.
            refusal = error
        else:
            return None
        try:
            self._transaction.roll_back()
        except sqlite3.Error:
            return None
        return refusal

    def _commit_after(
        self, error: BaseException, batch: Sequence[Job], planned: Planned | None, *, again: bool
    ) -> bool:
        """What becomes of a batch whose writing failed. It has been planned if its COMMIT was tried.

        After the recovery the log tells whether it was recorded; if not, it is written once more.
        """
        self.poison(error)
        try:
            self._recover()
            recorded = planned is not None and self._is_recorded(planned)
        except EvrtError as refusal:
            refuse(batch, refusal, NOTHING if planned is None or _is_full(error) else UNKNOWN)
            return False
        if recorded and planned is not None:
            self._acknowledged.add(planned)
            return True
        first = [(job.result, job.error) for job in batch]
        for job in batch:
            job.result = job.error = None
        if again:
            committed = self._commit(batch, again=False)
            for job, (result, failure) in zip(batch, first, strict=True):
                if planned is not None and failure is None and isinstance(job.error, Conflict | NotFound):
                    # Where no leaf tells whether the batch was recorded: what was right the first time and is
                    # refused the second has been done, for nobody else has held the lock.
                    job.result, job.error = result, None
            return committed
        text = f"{self._path} could not be written: {_reason(error)}. {_remedy(error)}, then try again; nothing has to be restarted."
        refuse(batch, Unavailable(text), NOTHING)
        return False

    def _do(self, work: Work) -> Any:
        if isinstance(work, Checked):
            return self._transaction.append(work)
        if isinstance(work, Tracked):
            return self._transaction.append_tracked(work)
        if isinstance(work, WantedRef):
            return self._transaction.ref(work.kind, work.external)
        if isinstance(work, Erasure):
            return self._transaction.erase(work.position)
        if isinstance(work, Forgetting):
            return self._transaction.forget(work.ref)
        if isinstance(work, QUEUE_WORK):
            return self._transaction.coordinate(work)
        if isinstance(work, KEPT):
            return self._transaction.keep(work)
        if not isinstance(work, Stop):
            return self._transaction.change(work)
        return None

    # --------------------------------------------------------------------------------- recovery

    def poison(self, error: BaseException) -> None:
        """Write nothing more through this connection."""
        self._poison = error
        self._lock.mark()
        with suppress(sqlite3.Error):
            self._connection.close()

    def _recover(self) -> None:
        """Raises EvrtError where the log takes no events now; then its text says why."""
        if self._refusal is not None and (self._lost or time.monotonic() < self._next_recovery):
            raise _again(self._refusal)
        try:
            with suppress(sqlite3.Error):
                self._connection.close()
            self._connection = reopen(self._path, self.log_id, self._acknowledged, self._busy_timeout_seconds)
            self._transaction = Transaction(self._connection, self._path, self.log_id)
            self._wal_pages = wal_pages(self._path)
            self._lock.unmark()
        except LostEvents as error:
            raise self._lose(error) from error
        except (EvrtError, sqlite3.Error, OSError, MemoryError) as error:
            self._next_recovery = time.monotonic() + RECOVERY_PAUSE_SECONDS
            self._poison = self._poison or error  # Where it was another process whose write had failed.
            raise self._refuse_all(error) from error
        self._poison = self._refusal = None

    def _is_recorded(self, planned: Planned) -> bool:
        """Raises EvrtError."""
        try:
            if planned.leaves:
                return is_recorded(self._connection, planned)
            return planned.changes is not None and self._transaction.changes() == planned.changes
        except LostEvents as error:
            raise self._lose(error) from error
        except (sqlite3.Error, MemoryError) as error:
            self.poison(error)
            raise self._refuse_all(error) from error

    def _refuse_all(self, error: BaseException) -> EvrtError:
        """Why nothing is taken until a recovery succeeds."""
        first = self._poison or error
        text = (
            f"A write to {self._path} failed ({_reason(first)}), and it could not be reopened and verified "
            f"since: {_reason(error)}. {_remedy(error)}; every further append tries again, nothing has to be restarted."
        )
        damaged = isinstance(error, sqlite3.Error) and _name(error).startswith(DAMAGED)
        self._refusal = UnusableLog(text) if damaged else Unavailable(text)
        return _again(self._refusal)

    def _lose(self, error: LostEvents) -> EvrtError:
        self._lost = True
        self._poison = error
        self._refusal = UnusableLog(
            f"{self._path} HAS LOST EVENTS that were acknowledged: after a failed write it was reopened, and "
            f"{error}. The disk or its file system did not keep what it had confirmed. This log takes no more "
            f"events. Keep all files that begin with {self._path} as they are, look at them with "
            "`evrt db check`, and restore the log from a copy."
        )
        return _again(self._refusal)

    # ------------------------------------------------------------------------------------- the WAL

    @property
    def wal_is_full(self) -> bool:
        return self._poison is None and self._wal_pages >= WAL_PAGES_MAX

    def checkpoint(self, mode: str) -> bool:
        """Copy the WAL into the database, as far as readers allow, without waiting for them. Whether that was all.

        If it fails, what is in the WAL stays there, no less durable; but nothing is written before a recovery.
        """
        self._wal_pages = 0
        try:
            self._connection.execute("PRAGMA busy_timeout = 0")
            [(busy, *_)] = self._connection.execute(f"PRAGMA wal_checkpoint({mode})").fetchall()
            self._connection.execute(f"PRAGMA busy_timeout = {self._busy_timeout_seconds * 1_000:.0f}")
        except (sqlite3.Error, MemoryError) as error:
            if not _name(error).startswith(HARMLESS):
                self.poison(error)
            return False
        return not busy

    def make_sure(self) -> None:
        """Have the disk hold what can be read in the WAL, before anything is written behind it or copied from it."""
        if self._unsure:
            self._unsure = False
            self._write_wal_anew()

    def _write_wal_anew(self) -> None:
        try:
            write_wal_anew(self._path)
        except (EvrtError, OSError) as error:
            self.poison(error)

    def close(self) -> None:
        """Copy the WAL and close the file."""
        if self._poison is None:
            self.checkpoint("TRUNCATE")
        with suppress(sqlite3.Error):
            self._connection.close()


def _again(error: EvrtError) -> EvrtError:
    """A new error like this one, whose traces belong to who raises it."""
    return type(error)(*error.args)


def _name(error: BaseException) -> str:
    return getattr(error, "sqlite_errorname", "") or ""


def _is_full(error: BaseException) -> bool:
    """Whether there was no room. Where a COMMIT found none, a frame is missing, and it counts for nobody."""
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    return _name(error).startswith("SQLITE_FULL")


def _remedy(error: BaseException) -> str:
    if _is_full(error) or _name(error).startswith("SQLITE_IOERR_SHM"):
        return "Make room on the disk"
    return "Give it more memory" if isinstance(error, MemoryError) else "See to the disk"


def _reason(error: BaseException) -> str:
    """What failed, in words that fit into a sentence."""
    if _is_full(error):
        return "the disk is full"
    if _name(error).startswith("SQLITE_IOERR_SHM"):
        return f"there is no room for the index of its WAL, {_name(error)}"
    if isinstance(error, sqlite3.Error):
        return f"SQLite reports {error} ({_name(error) or 'no code'})"
    if isinstance(error, MemoryError):
        return "this process has run out of memory"
    if isinstance(error, OSError):
        return error.strerror or repr(error)
    if isinstance(error, EvrtError):
        return str(error).rstrip(".")
    return repr(error)
