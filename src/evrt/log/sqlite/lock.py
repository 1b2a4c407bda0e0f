"""The lock between writers: one file beside the database, held from BEGIN to COMMIT.

SQLite's own waiting starves: of three writers with a busy time-out one got everything. A lock on
a file wakes who waits in turn: three writers whose queues were never empty came out even, within
ten in a hundred. It belongs to the open file, not to the process, so two logs opened in one process
exclude each other too, and the system releases it when a process dies.
"""

from __future__ import annotations

import fcntl
import os
import time
import weakref
from contextlib import suppress

from evrt.errors import Denied, Unavailable

RETRY_SECONDS = 0.005
CLOSED = -1

NAME_BYTES = 20
"""At the beginning of the file: the process that holds the lock. The mark stands behind it."""


class FileLock:
    """An exclusive lock on ``path``. Not for use by two threads at once."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._file = self._open()
        _locks.add(self)

    def try_acquire(self) -> bool:
        self._have_file()
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return self._sign()

    def acquire(self) -> None:
        """Wait as long as it takes."""
        self._have_file()
        fcntl.flock(self._file, fcntl.LOCK_EX)
        while not self._sign():
            fcntl.flock(self._file, fcntl.LOCK_EX)

    def acquire_within(self, seconds: float) -> bool:
        """Whether the lock was free within this time."""
        until = time.monotonic() + seconds
        while not self.try_acquire():
            if time.monotonic() >= until:
                return False
            time.sleep(RETRY_SECONDS)
        return True

    def mark(self) -> None:
        """Tell whoever holds the lock next that a write failed and nothing has been verified since.

        Like what it warns of, the mark lives in memory until the disk takes it or the machine goes down.
        """
        with suppress(OSError):
            os.pwrite(self._file, b"!", NAME_BYTES)

    def unmark(self) -> None:
        if self.is_marked():
            with suppress(OSError):
                os.pwrite(self._file, b" ", NAME_BYTES)

    def is_marked(self) -> bool:
        """Only for who holds the lock."""
        try:
            return os.pread(self._file, 1, NAME_BYTES) == b"!"
        except OSError:
            return False

    def release(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_UN)
        except OSError:
            # Closing the file lets go of the lock in any case; the next to acquire it opens the file again.
            self._close_file()

    def close(self) -> None:
        _locks.discard(self)
        self._close_file()

    def holder(self) -> str:
        """Who holds the lock, in words, as far as the file tells."""
        name = os.pread(self._file, NAME_BYTES, 0).strip().decode("ascii", "replace")
        return f"process {name}" if name else "another process"

    def _have_file(self) -> None:
        if self._file == CLOSED:
            self._file = self._open()

    def _close_file(self) -> None:
        file, self._file = self._file, CLOSED
        if file != CLOSED:
            with suppress(OSError):
                os.close(file)

    def _open(self) -> int:
        try:
            return os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except PermissionError:
            raise Denied(
                f"The lock file {self._path} cannot be opened: this user has no permission to. "
                "Whoever writes a log needs to write all files that begin with its name."
            ) from None
        except OSError as error:
            raise Unavailable(f"The lock file {self._path} cannot be opened: {error.strerror}.") from None

    def _sign(self) -> bool:
        """Leave the name of this process in the file. False if the file is not the one to lock any more."""
        if os.fstat(self._file).st_nlink == 0:
            # Somebody has tidied the lock file away; others lock the new one.
            gone, self._file = self._file, self._open()
            os.close(gone)
            return False
        # A disk without room for a name is no reason not to hold the lock.
        with suppress(OSError):
            os.pwrite(self._file, b"%-*d" % (NAME_BYTES, os.getpid()), 0)
        return True


_locks: weakref.WeakSet[FileLock] = weakref.WeakSet()


def _leave_to_parent() -> None:
    """In a forked child: let go of the locks' files, else they would outlive a parent that dies."""
    for lock in list(_locks):
        lock.close()


os.register_at_fork(after_in_child=_leave_to_parent)
