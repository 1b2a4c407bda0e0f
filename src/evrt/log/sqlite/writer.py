"""The writer: one thread per open log that takes what is queued, writes it in one transaction, and answers.

It lives apart from every event loop, so a loop that is busy delays nobody else's commit. While
one commit syncs, the next batch gathers: that is the whole of group commit, there is no timer.
The file lock is taken first and the queue after it, so a request that waits for the lock is
still in the queue and can be given up there, for good, when its time is over.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from functools import partial
from queue import SimpleQueue
from typing import Any, TypeVar

from evrt.errors import EvrtError, Unavailable, UsageError
from evrt.log.contract import Landing
from evrt.log.plan import Checked
from evrt.log.sqlite.blobs import BlobPiece
from evrt.log.sqlite.committing import Committer
from evrt.log.sqlite.connect import file_identity, hold, inspect, let_go, lock_path, make, translate
from evrt.log.sqlite.foreign import Snapshots, Tracked
from evrt.log.sqlite.jobs import NOTHING, UNKNOWN, Answer, Job, Stop, Work, refuse
from evrt.log.sqlite.lock import FileLock
from evrt.log.subscribe import Bell, Bells, call_in

BATCH_EVENTS_MAX = 2_000
BATCH_BYTES_MAX = 8 * 1024 * 1024
"""A batch takes requests until it is beyond one of these; a single request may be larger."""

QUEUE_REQUESTS_MAX = 100_000
"""Requests that may wait at once; more are refused, for memory has an end."""

MEMORY_PAUSE_SECONDS = 0.05
"""Without memory even to say so, the thread waits for some, this long at a time."""

A = TypeVar("A", bound=Answer)


class Writer:
    """Starts its thread at once; ``opened`` is given the log's id when the file is ready."""

    def __init__(self, path: str, bells: Bells, opened: Answer, *, lock_timeout_seconds: float) -> None:
        self._path = path
        self._bells = bells
        self._lock_timeout_seconds = lock_timeout_seconds
        self._queue: deque[Job] = deque()
        self._taking = threading.Lock()
        """Held by whoever takes from the queue; putting needs no lock."""
        self._batch: list[Job] = []
        """What has been taken last."""
        self._idle = False
        self._wake: SimpleQueue[None] = SimpleQueue()
        self._waiting_for_lock = False
        self._watch: threading.Thread | None = None
        self._closing_given_up = False
        self._ended = False
        self._stopped = threading.Event()
        thread = threading.Thread(target=self._run, args=(opened,), name=f"evrt writer {path}", daemon=True)
        thread.start()

    def submit(self, work: Work) -> Landing[Any]:
        """Queue work, in call order. Only from a running event loop."""
        return self._submit(work, Landing(loop=asyncio.get_running_loop()))

    def submit_from_thread(self, work: Work) -> Future[Any]:
        """Queue work, in call order, for a caller that may block until it is answered."""
        return self._submit(work, Future())

    def _submit(self, work: Work, answer: A) -> A:
        if len(self._queue) >= QUEUE_REQUESTS_MAX and not isinstance(work, Stop):
            answer.set_exception(
                Unavailable(
                    f"{QUEUE_REQUESTS_MAX} requests wait for the writer of {self._path} already. "
                    "Await appends before making more."
                )
            )
        else:
            self._put(work, answer)
        return answer

    def abandon(self) -> None:
        """Write what is queued and close, though nobody will hear of it."""
        self._put(Stop(), None)

    def _put(self, work: Work, answer: Answer | None) -> None:
        self._queue.append(Job(work, answer, time.monotonic() + self._lock_timeout_seconds))
        # The writer says that it is idle, or that it has ended, before it looks at the queue a last time.
        if self._idle:
            self._idle = False
            self._wake.put(None)
        if self._ended:
            self._refuse_rest()

    # ------------------------------------------------------------------------------- the thread

    def _run(self, opened: Answer) -> None:
        _here.writing = True
        try:
            log_id = self._open()
        except BaseException as error:  # noqa: BLE001  # Whatever it is, it belongs to who opens the log.
            _tell(opened, None, error)
            return
        _tell(opened, log_id, None)
        going_on = True
        while going_on:
            try:
                going_on = self._turn()
            except BaseException as error:  # noqa: BLE001  # Out of memory, or a bug: nobody may be left waiting.
                going_on = self._break_off(error)

    def _open(self) -> str:
        state = inspect(self._path)
        self._lock = FileLock(lock_path(self._path))
        try:
            if state != "ready":
                self._make()
            self._file = hold(self._path)
            try:
                self._committer = Committer(self._path, self._lock, self._lock_timeout_seconds)
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
        if not self._lock.acquire_within(self._lock_timeout_seconds):
            raise Unavailable(self._lock_text())
        try:
            # Somebody may have made it while this process waited.
            if inspect(self._path) != "ready":
                make(self._path, self._lock_timeout_seconds)
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

    def _is_last(self, batch: Sequence[Job]) -> bool:
        return self._closing_given_up or (bool(batch) and isinstance(batch[-1].work, Stop))

    def _break_off(self, error: BaseException) -> bool:
        """Answer those whose turn could not be ended, and begin the next with a recovery."""
        while True:
            try:
                self._committer.poison(error)
                self._lock.release()
                batch = self._batch
                last = self._is_last(batch)
                # Who has been answered already hears nothing more.
                refuse(batch, Unavailable(f"Writing to {self._path} was broken off: {error!r}."), UNKNOWN)
                if last:
                    self._close()
                self._deliver(batch, wrote=False)
            except MemoryError:
                time.sleep(MEMORY_PAUSE_SECONDS)
            else:
                return not last

    def _await_work(self) -> None:
        while not self._queue:
            self._idle = True
            if not self._queue:
                self._wake.get()
            self._idle = False

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

    def _take(self) -> list[Job]:
        """The next batch, in order. Empty when all that waited has been given up."""
        self._batch = batch = []
        events = size = 0
        with self._taking:
            while self._queue and events < BATCH_EVENTS_MAX and size < BATCH_BYTES_MAX:
                job = self._queue[0]
                batch.append(job)
                self._queue.popleft()
                events += job.events
                if isinstance(job.work, (Checked, Tracked, Snapshots, BlobPiece)):
                    size += job.work.bytes
                elif isinstance(job.work, Stop):
                    break
        return batch

    def _write(self, batch: Sequence[Job]) -> bool:
        """Whether anything was committed."""
        if not batch or isinstance(batch[0].work, Stop):
            return False
        return self._committer.commit(batch)

    def _close(self) -> None:
        # Before the lock is let go, because the last connection to close copies the WAL as well.
        self._committer.close()
        if not self._ended:
            let_go(self._file)
        self._lock.close()
        self._stopped.set()
        self._ended = True
        self._refuse_rest()

    def _refuse_rest(self) -> None:
        """Answer those who came in from another thread while the log was being closed."""
        with self._taking:
            rest = [self._queue.popleft() for _ in range(len(self._queue))]
        for job in rest:
            if not isinstance(job.work, Stop):
                job.error = UsageError("This log has been closed; open it again.")
        self._deliver(rest, wrote=False)

    def _deliver(self, batch: list[Job], wrote: bool) -> None:
        """Answer everybody, with one call into each loop, and ring for those who follow."""
        by_loop: dict[asyncio.AbstractEventLoop, list[Job]] = {}
        for job in batch:
            if isinstance(job.answer, asyncio.Future):
                by_loop.setdefault(job.answer.get_loop(), []).append(job)
            elif job.answer is not None:
                _settle(job.answer, job.result, job.error)
        if wrote:
            self._bells.ring_threads()
        bells = dict(self._bells.heard_in()) if wrote else {}
        for loop, jobs in by_loop.items():
            call_in(loop, partial(_answer, jobs, bells.pop(loop, None)))
        for loop, bell in bells.items():
            call_in(loop, bell.ring)

    # -------------------------------------------------------------------------------- lock watch

    def _watch_queue(self) -> None:
        """Give up requests that have waited too long while another process holds the lock.

        Whoever is put into the queue during a sleep has a deadline after its end, so nobody has to
        wake this thread.
        """
        _here.writing = True
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
            left = self._queue[0].deadline - time.monotonic() if self._queue else self._lock_timeout_seconds
        return max(left, 0.01)

    def _lock_text(self) -> str:
        return (
            f"The log {self._path} could not be written within {self._lock_timeout_seconds:g} seconds: "
            f"{self._lock.holder()} holds its write lock ({lock_path(self._path)}). "
            "If that process is stuck, end it; then try again."
        )


_here = threading.local()


def in_writing_thread() -> bool:
    """Whether a writer runs in this thread. It must wait for no other: that one may wait for its file lock."""
    return getattr(_here, "writing", False)


def _tell(answer: Answer, result: Any, error: BaseException | None) -> None:
    if isinstance(answer, asyncio.Future):
        call_in(answer.get_loop(), partial(_settle, answer, result, error))
    else:
        _settle(answer, result, error)


def _answer(jobs: list[Job], bell: Bell | None) -> None:
    for job in jobs:
        if job.answer is not None:
            _settle(job.answer, job.result, job.error)
    if bell is not None:
        bell.ring()


def _settle(answer: Answer, result: Any, error: BaseException | None) -> None:
    """Answer, unless whoever waited has gone."""
    if answer.done():
        return
    if error is not None:
        answer.set_exception(error)
    else:
        answer.set_result(result)
