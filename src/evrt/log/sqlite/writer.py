"""The writer of a SQLite file: a batch is written under the file lock, which other processes hold in their turn.

The file lock is taken first and the queue after it, so a request that waits for the lock is
still in the queue and can be given up there, for good, when its time is over.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Sequence

from evrt.errors import EvrtError, Unavailable
from evrt.log.queueing import gave_nothing
from evrt.log.sqlite.committing import Committer
from evrt.log.sqlite.connect import file_identity, hold, inspect, let_go, lock_path, make, translate
from evrt.log.sqlite.jobs import NOTHING, UNKNOWN, Answer, Job, Stop, refuse
from evrt.log.sqlite.lock import FileLock
from evrt.log.subscribe import Bells
from evrt.log.writing import WritingThread, is_writing_thread


class Writer(WritingThread):
    """Starts its thread at once; ``opened`` is given the log's id when the file is ready."""

    def __init__(self, path: str, bells: Bells, opened: Answer, *, lock_timeout_seconds: float) -> None:
        self._path = path
        self._waiting_for_lock = False
        self._watch: threading.Thread | None = None
        super().__init__(path, bells, opened, timeout_seconds=lock_timeout_seconds)

    def _open(self) -> str:
        state = inspect(self._path)
        self._lock = FileLock(lock_path(self._path))
        try:
            if state != "ready":
                self._make()
            self._file = hold(self._path)
            try:
                self._committer = Committer(self._path, self._lock, self._timeout_seconds)
            except BaseException:
                let_go(self._file)
                raise
        except sqlite3.Error as error:
            self._lock.close()
            raise translate(error, self._path, "The log cannot be opened") from error
        except OSError as error:
            self._lock.close()
            raise Unavailable(f"The log {self._path} cannot be opened: {error.strerror}.") from error
        except BaseException:
            self._lock.close()
            raise
        return self._committer.log_id

    def _make(self) -> None:
        if not self._lock.acquire_within(self._timeout_seconds):
            raise Unavailable(self._lock_text())
        try:
            # Somebody may have made it while this process waited.
            if inspect(self._path) != "ready":
                make(self._path, self._timeout_seconds)
        finally:
            self._lock.release()

    def _turn(self) -> bool:
        """Write one batch. Whether there is a next turn."""
        self._await_work()
        trouble = self._acquire()
        batch = self._take()
        last = self._is_last(batch)
        wrote = trouble is None and self._write(batch)
        if trouble is not None:
            refuse(batch, trouble, NOTHING)
        if last:
            if trouble is None:
                self._committer.make_sure()
            self._close()
            self._deliver(batch, wrote)
            return False
        full = trouble is None and self._committer.wal_is_full
        if full:
            # After the answers, for nobody waits for this but the next batch.
            self._deliver(batch, wrote)
            self._committer.checkpoint("PASSIVE")
        if trouble is None:
            self._lock.release()
        if not full:
            self._deliver(batch, wrote)
        return True

    def _break_off(self, error: BaseException) -> bool:
        self._committer.poison(error)
        self._lock.release()
        batch = self._batch
        last = self._is_last(batch)
        # Who has been answered already hears nothing more.
        refuse(batch, Unavailable(f"Writing to {self._path} was broken off: {error!r}."), UNKNOWN)
        if last:
            self._close()
        self._deliver(batch, wrote=False)
        return not last

    def _acquire(self) -> Unavailable | None:
        """Take the file lock; or the reason why nothing can be written now."""
        try:
            if not self._lock.try_acquire():
                self._wait_for_lock()
            if file_identity(self._path) == self._file:
                return None
            text = "is not the file any more that was opened: it has been replaced"
        except FileNotFoundError:
            text = "is gone: it has been moved or deleted since it was opened"
        except EvrtError as error:
            return Unavailable(str(error))
        except (OSError, RuntimeError) as error:
            self._lock.release()
            return Unavailable(
                f"The write lock of {self._path} cannot be taken: {error}. See to the disk; every "
                "further append tries again."
            )
        self._lock.release()
        return Unavailable(f"{self._path} {text}. Put it back, or open the log again.")

    def _wait_for_lock(self) -> None:
        if self._watch is None:
            watch = threading.Thread(
                target=self._watch_queue, name=f"evrt lock watch {self._path}", daemon=True
            )
            watch.start()
            self._watch = watch  # Only now: where no thread can be started, the next to wait tries again.
        self._waiting_for_lock = True
        try:
            self._lock.acquire()
        finally:
            self._waiting_for_lock = False

    def _write(self, batch: Sequence[Job]) -> bool:
        """Whether anything was committed that others want to hear of."""
        if not batch or isinstance(batch[0].work, Stop):
            return False
        return self._committer.commit(batch) and not all(gave_nothing(job.work, job.result) for job in batch)

    def _close(self) -> None:
        # Before the lock is let go, because the last connection to close copies the WAL as well.
        self._committer.close()
        if not self._ended:
            let_go(self._file)
        self._lock.close()
        self._end()

    # -------------------------------------------------------------------------------- lock watch

    def _watch_queue(self) -> None:
        """Give up requests that have waited too long while another process holds the lock.

        Whoever is put into the queue during a sleep has a deadline after its end, so nobody has to
        wake this thread.
        """
        is_writing_thread()
        while not self._stopped.wait(self._next_deadline()):
            given_up: list[Job] = []
            with self._taking:
                while self._waiting_for_lock and self._queue and self._queue[0].deadline <= time.monotonic():
                    given_up.append(self._queue.popleft())
            for job in given_up:
                if isinstance(job.work, Stop):
                    self._closing_given_up = True
            if given_up:
                refuse(given_up, Unavailable(self._lock_text()), NOTHING)
                self._deliver(given_up, wrote=False)

    def _next_deadline(self) -> float:
        with self._taking:
            left = self._queue[0].deadline - time.monotonic() if self._queue else self._timeout_seconds
        return max(left, 0.01)

    def _lock_text(self) -> str:
        return (
            f"The log {self._path} could not be written within {self._timeout_seconds:g} seconds: "
            f"{self._lock.holder()} holds its write lock ({lock_path(self._path)}). "
            "If that process is stuck, end it; then try again."
        )
