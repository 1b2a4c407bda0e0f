"""The lock between writers: one file beside the database, held from BEGIN to COMMIT.

SQLite's own waiting starves: of three writers with a busy time-out one got everything. The
lock belongs to the open file, not to the process, so two logs opened in one process exclude
each other too, and the system releases it when a process dies.
"""

from __future__ import annotations

import fcntl
import os
import time

RETRY_SECONDS = 0.005


class FileLock:
    """An exclusive lock on ``path``. Not for use by two threads at once."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        self._name = b"%-20d" % os.getpid()

    def try_acquire(self) -> bool:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        self._sign()
        return True

    def acquire(self) -> None:
        """Wait as long as it takes."""
        fcntl.flock(self._file, fcntl.LOCK_EX)
        self._sign()

    def acquire_within(self, seconds: float) -> bool:
        """Whether the lock was free within this time."""
        until = time.monotonic() + seconds
        while not self.try_acquire():
            if time.monotonic() >= until:
                return False
            time.sleep(RETRY_SECONDS)
        return True

    def release(self) -> None:
        fcntl.flock(self._file, fcntl.LOCK_UN)

    def close(self) -> None:
        os.close(self._file)

    def holder(self) -> str:
        """Who holds the lock, in words, as far as the file tells."""
        name = os.pread(self._file, 20, 0).strip().decode("ascii", "replace")
        return f"process {name}" if name else "another process"

    def _sign(self) -> None:
        os.pwrite(self._file, self._name, 0)
