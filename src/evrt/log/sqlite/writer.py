"""The writer: one thread per open log that takes what is queued, writes it in one transaction, and answers.

It lives apart from every event loop, so a loop that is busy delays nobody else's commit. While
one commit syncs, the next batch gathers: that is the whole of group commit, there is no timer.
The file lock is taken first and the queue after it, so a request that waits for the lock is
still in the queue and can be given up there, for good, when its time is over.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any, NamedTuple

from evrt.errors import EvrtError, Unavailable, UsageError
from evrt.log.plan import Checked
from evrt.log.sqlite.connect import (
    connect_writing,
    inspect,
    lock_path,
    make,
    read_log_id,
    translate,
    wal_pages,
)
from evrt.log.sqlite.lock import FileLock
from evrt.log.sqlite.transaction import Transaction
from evrt.log.subscribe import Bells, call_in

BATCH_EVENTS_MAX = 2_000
BATCH_BYTES_MAX = 8 * 1024 * 1024
"""A batch takes requests until it is beyond one of these; a single request may be larger."""

QUEUE_REQUESTS_MAX = 100_000
"""Requests that may wait at once; more are refused, for memory has an end."""

WAL_PAGES_MAX = 1_000
"""When about this many pages (4 MiB) have gone to the WAL, they are copied into the database."""


class WantedRef(NamedTuple):
    kind: str
    external: str


class Erasure(NamedTuple):
    position: int


class Stop(NamedTuple):
    """Write what was queued before this, then close."""


Work = Checked | WantedRef | Erasure | Stop


@dataclass(slots=True, eq=False)
class Job:
    """Work with the future that waits for its outcome."""

    work: Work
    answer: asyncio.Future[Any]
    deadline: float
    result: Any = None
    error: BaseException | None = None


class Writer:
    """Starts its thread at once; ``opened`` tells the log's id when the file is ready."""

    def __init__(self, path: str, bells: Bells, *, lock_timeout_seconds: float) -> None:
        self._path = path
        self._bells = bells
        self._lock_timeout_seconds = lock_timeout_seconds
        self._queue: deque[Job] = deque()
        self._taking = threading.Lock()
        """Held by whoever takes from the queue; putting needs no lock."""
        self._idle = False
        self._wake: SimpleQueue[None] = SimpleQueue()
        self._waiting_for_lock = False
        self._watch: threading.Thread | None = None
        self._stopped = threading.Event()
        self._owner = os.getpid()
        loop = asyncio.get_running_loop()
        self.opened: asyncio.Future[str] = loop.create_future()
        self._thread = threading.Thread(
            target=self._run, args=(loop, self.opened), name=f"evrt writer {path}", daemon=True
        )
        self._thread.start()

    def submit(self, work: Work) -> asyncio.Future[Any]:
        """Queue work, in call order. Only from a running event loop."""
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        if len(self._queue) >= QUEUE_REQUESTS_MAX:
            answer.set_exception(
                Unavailable(
                    f"{QUEUE_REQUESTS_MAX} requests wait for the writer of {self._path} already. "
                    "Await appends before making more."
                )
            )
            return answer
        self._queue.append(Job(work, answer, time.monotonic() + self._lock_timeout_seconds))
        # The writer says that it is idle before it looks at the queue a last time.
        if self._idle:
            self._idle = False
            self._wake.put(None)
        return answer

    # ------------------------------------------------------------------------------- the thread

    def _run(self, loop: asyncio.AbstractEventLoop, opened: asyncio.Future[str]) -> None:
        try:
            self._open()
        except BaseException as error:  # noqa: BLE001  # Whatever it is, it belongs to who opens the log.
            call_in(loop, lambda error=error: _settle(opened, None, error))
            return
        log_id = self._log_id
        call_in(loop, lambda: _settle(opened, log_id, None))
        while self._turn():
            pass

    def _open(self) -> None:
        state = inspect(self._path)
        self._lock = FileLock(lock_path(self._path))
        try:
            if state != "ready":
                self._make()
            self._connection = connect_writing(self._path)
            self._log_id = read_log_id(self._connection)
        except sqlite3.Error as error:
            self._lock.close()
            raise translate(error, self._path, "The log cannot be opened") from error
        except BaseException:
            self._lock.close()
            raise
        self._transaction = Transaction(self._connection, self._log_id)
        # What processes that were killed have left there counts from the start.
        self._wal_pages = wal_pages(self._path)

    def _make(self) -> None:
        if not self._lock.acquire_within(self._lock_timeout_seconds):
            raise Unavailable(self._lock_text())
        try:
            # Somebody may have made it while this process waited.
            if inspect(self._path) != "ready":
                make(self._path)
        finally:
            self._lock.release()

    def _turn(self) -> bool:
        """Write one batch. Whether there is a next turn."""
        if not self._queue:
            self._idle = True
            if self._queue:
                self._idle = False
            else:
                self._wake.get()
                self._idle = False
            if not self._queue:
                return True
        self._acquire()
        batch = self._take()
        stop = bool(batch) and isinstance(batch[-1].work, Stop)
        wrote = False
        if not stop or len(batch) > 1:
            wrote = self._write(batch)
        if stop:
            self._close()
        self._lock.release()
        if stop:
            self._lock.close()
            self._stopped.set()
        self._deliver(batch, wrote)
        return not stop

    def _acquire(self) -> None:
        if self._lock.try_acquire():
            return
        if self._watch is None:
            self._watch = threading.Thread(
                target=self._watch_queue, name=f"evrt lock watch {self._path}", daemon=True
            )
            self._watch.start()
        self._waiting_for_lock = True
        self._lock.acquire()
        self._waiting_for_lock = False

    def _take(self) -> list[Job]:
        """The next batch, in order. Empty when all that waited has been given up."""
        batch: list[Job] = []
        events = size = 0
        with self._taking:
            while self._queue and events < BATCH_EVENTS_MAX and size < BATCH_BYTES_MAX:
                job = self._queue.popleft()
                batch.append(job)
                if isinstance(job.work, Checked):
                    events += len(job.work.drafts)
                    size += job.work.bytes
                elif isinstance(job.work, Stop):
                    break
        return batch

    def _write(self, batch: list[Job]) -> bool:
        """Do a batch in one transaction. Whether anything was committed."""
        transaction = self._transaction
        doing = "Nothing was recorded"
        try:
            transaction.begin()
            transaction.salt(sum(len(job.work.drafts) for job in batch if isinstance(job.work, Checked)))
            for job in batch:
                try:
                    job.result = self._do(job.work)
                except EvrtError as error:
                    job.error = error
            if all(job.error is not None for job in batch):
                transaction.roll_back()
                return False
            doing = "It is not known whether the events were recorded; repeat the append with repeat_after to learn it"
            self._wal_pages += transaction.commit()
            if self._wal_pages >= WAL_PAGES_MAX:
                self._checkpoint()
        except BaseException as error:  # noqa: BLE001  # Whatever it is, those who wait must hear of it.
            self._fail(batch, error, doing)
            return False
        return True

    def _do(self, work: Work) -> Any:
        match work:
            case Checked():
                return self._transaction.append(work)
            case WantedRef(kind, external):
                return self._transaction.ref(kind, external)
            case Erasure(position):
                return self._transaction.erase(position)
            case Stop():
                return None

    def _fail(self, batch: list[Job], error: BaseException, doing: str) -> None:
        if isinstance(error, sqlite3.Error):
            error = translate(error, self._path, doing)
        for job in batch:
            if job.error is None and not isinstance(job.work, Stop):
                job.result, job.error = None, error
        try:
            self._transaction.roll_back()
        except sqlite3.Error:
            # The transaction is over in any case; a next one begins with what the disk holds.
            pass

    def _checkpoint(self) -> None:
        """Copy the WAL into the database, as far as readers allow. Only under the file lock."""
        self._wal_pages = 0
        self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

    def _close(self) -> None:
        """Close under the file lock, because the last connection to go copies the WAL as well."""
        try:
            self._connection.execute("PRAGMA busy_timeout = 0")
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        except sqlite3.Error:
            # What is in the WAL stays there, as durable as in the database.
            pass
        self._connection.close()

    def _deliver(self, batch: list[Job], wrote: bool) -> None:
        """Answer everybody, with one call into each loop, and ring for those who follow."""
        by_loop: dict[asyncio.AbstractEventLoop, list[Job]] = {}
        for job in batch:
            by_loop.setdefault(job.answer.get_loop(), []).append(job)
        bells = dict(self._bells.heard_in()) if wrote else {}
        for loop in by_loop.keys() | bells.keys():
            ring = bells[loop].ring if loop in bells else None
            jobs = by_loop.get(loop, [])
            call_in(loop, lambda jobs=jobs, ring=ring: _answer(jobs, ring))

    # -------------------------------------------------------------------------------- lock watch

    def _watch_queue(self) -> None:
        """Give up requests that have waited too long while another process holds the lock.

        Whoever is put into the queue during a sleep has a deadline after its end, so nobody has to
        wake this thread.
        """
        while not self._stopped.wait(self._next_deadline()):
            given_up: list[Job] = []
            with self._taking:
                while self._waiting_for_lock and self._queue and self._queue[0].deadline <= time.monotonic():
                    given_up.append(self._queue.popleft())
            for job in given_up:
                if not isinstance(job.work, Stop):
                    job.error = Unavailable(self._lock_text())
            if given_up:
                self._deliver(given_up, wrote=False)

    def _next_deadline(self) -> float:
        with self._taking:
            left = self._queue[0].deadline - time.monotonic() if self._queue else self._lock_timeout_seconds
        return max(left, 0.01)

    def _lock_text(self) -> str:
        return (
            f"The log {self._path} could not be written within {self._lock_timeout_seconds:g} seconds: "
            f"{self._lock.holder()} holds its write lock ({lock_path(self._path)}). "
            "Nothing was recorded. If that process is stuck, end it; then try again."
        )


def _answer(jobs: list[Job], ring: Callable[[], None] | None) -> None:
    for job in jobs:
        _settle(job.answer, job.result, job.error)
    if ring is not None:
        ring()


def _settle(answer: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
    """Answer, unless whoever waited has gone."""
    if answer.done():
        return
    if error is not None:
        answer.set_exception(error)
    else:
        answer.set_result(result)
