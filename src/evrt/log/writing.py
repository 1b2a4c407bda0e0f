"""The writer's thread, whatever it writes to: it takes what is queued, has it written in one transaction, and answers.

It lives apart from every event loop, so a loop that is busy delays nobody else's commit. While
one commit is under way, the next batch gathers: that is the whole of group commit, there is no timer.
"""

from __future__ import annotations

import asyncio
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple, TypeVar

from evrt.errors import EvrtError, Unavailable, UsageError
from evrt.log.contract import Landing
from evrt.log.plan import Checked
from evrt.log.subscribe import Bell, Bells, call_in

BATCH_EVENTS_MAX = 2_000
BATCH_BYTES_MAX = 8 * 1024 * 1024
"""A batch takes requests until it is beyond one of these; a single request may be larger."""

QUEUE_REQUESTS_MAX = 100_000
"""Requests that may wait at once; more are refused, for memory has an end."""

MEMORY_PAUSE_SECONDS = 0.05
"""Without memory even to say so, the thread waits for some, this long at a time."""

NOTHING = "Nothing was recorded"
UNKNOWN = "Whether this was recorded is not known; a repeat of the append will tell"

Answer = asyncio.Future[Any] | Future[Any]
"""Where the outcome goes: into an event loop, or to a thread that blocks until it is there."""

A = TypeVar("A", bound=Answer)


class Stop(NamedTuple):
    """Write what was queued before this, then close."""


@dataclass(slots=True, eq=False)
class Job:
    """Work with the future that waits for its outcome, if somebody waits.

    Work is what the store knows how to do; ``events`` and ``bytes`` of it, where it has them, fill a batch.
    """

    work: Any
    answer: Answer | None
    deadline: float
    result: Any = None
    error: BaseException | None = None

    @property
    def events(self) -> int:
        """How many events this would add to the log."""
        return int(getattr(self.work, "events", 0))

    @property
    def bytes(self) -> int:
        """How many bytes it would write, roughly."""
        return int(getattr(self.work, "bytes", 0))


def refuse(batch: Iterable[Job], error: EvrtError, words: str) -> None:
    """Fail what has not failed already. ``words`` say what is known of the outcome; of a repeat, only the log can.

    Each gets an error of its own, for raising one in several tasks would mix their traces.
    """
    for job in batch:
        if job.error is None and not isinstance(job.work, Stop):
            repeated = isinstance(job.work, Checked) and job.work.repeat_after is not None
            job.error = type(error)(f"{UNKNOWN if repeated else words}. {error}")


class WritingThread(ABC):
    """Starts its thread at once; ``opened`` is given the log's id when what it writes to is ready.

    A store says how that is opened, how a turn writes a batch, and what becomes of a turn that broke off.
    """

    def __init__(self, name: str, bells: Bells, opened: Answer, *, timeout_seconds: float) -> None:
        self._name = name
        """What is written to, for messages."""
        self._bells = bells
        self._timeout_seconds = timeout_seconds
        self._queue: deque[Job] = deque()
        self._taking = threading.Lock()
        """Held by whoever takes from the queue; putting needs no lock."""
        self._batch: list[Job] = []
        """What has been taken last."""
        self._idle = False
        self._wake: SimpleQueue[None] = SimpleQueue()
        self._closing_given_up = False
        self._ended = False
        self._stopped = threading.Event()
        thread = threading.Thread(target=self._run, args=(opened,), name=f"evrt writer {name}", daemon=True)
        thread.start()

    def submit(self, work: object) -> Landing[Any]:
        """Queue work, in call order. Only from a running event loop."""
        return self._submit(work, Landing(loop=asyncio.get_running_loop()))

    def submit_from_thread(self, work: object) -> Future[Any]:
        """Queue work, in call order, for a caller that may block until it is answered."""
        return self._submit(work, Future())

    def _submit(self, work: object, answer: A) -> A:
        if len(self._queue) >= QUEUE_REQUESTS_MAX and not isinstance(work, Stop):
            answer.set_exception(
                Unavailable(
                    f"{QUEUE_REQUESTS_MAX} requests wait for the writer of {self._name} already. "
                    "Await appends before making more."
                )
            )
        else:
            self._put(work, answer)
        return answer

    def abandon(self) -> None:
        """Write what is queued and close, though nobody will hear of it."""
        self._put(Stop(), None)

    def _put(self, work: object, answer: Answer | None) -> None:
        self._queue.append(Job(work, answer, time.monotonic() + self._timeout_seconds))
        # The writer says that it is idle, or that it has ended, before it looks at the queue a last time.
        if self._idle:
            self._idle = False
            self._wake.put(None)
        if self._ended:
            self._refuse_rest()

    # ------------------------------------------------------------------------------- the thread

    @abstractmethod
    def _open(self) -> str:
        """Open what is written to, and make it where there is none. The log's id."""

    @abstractmethod
    def _turn(self) -> bool:
        """Write one batch and answer it. Whether there is a next turn."""

    @abstractmethod
    def _break_off(self, error: BaseException) -> bool:
        """Have the next turn begin with a recovery, and answer those of this one. Whether there is a next turn."""

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
                going_on = self._end_broken_turn(error)

    def _end_broken_turn(self, error: BaseException) -> bool:
        while True:
            try:
                return self._break_off(error)
            except MemoryError:
                time.sleep(MEMORY_PAUSE_SECONDS)

    def _await_work(self, until: float | None = None) -> bool:
        """Return when there is work, or at this time of the monotonic clock. Whether there is work."""
        while not self._queue:
            self._idle = True
            if not self._queue:
                try:
                    self._wake.get(timeout=None if until is None else max(until - time.monotonic(), 0.0))
                except Empty:
                    self._idle = False
                    return bool(self._queue)
            self._idle = False
        return True

    def _take(self) -> list[Job]:
        """The next batch, in order. Empty when all that waited has been given up."""
        self._batch = batch = []
        events = size = 0
        with self._taking:
            while self._queue and events < BATCH_EVENTS_MAX and size < BATCH_BYTES_MAX:
                job = self._queue[0]
                batch.append(job)
                self._queue.popleft()
                if isinstance(job.work, Stop):
                    break
                events += job.events
                size += job.bytes
        return batch

    def _is_last(self, batch: Sequence[Job]) -> bool:
        return self._closing_given_up or (bool(batch) and isinstance(batch[-1].work, Stop))

    def _end(self) -> None:
        """Say that nothing is written any more."""
        self._stopped.set()
        self._ended = True
        self._refuse_rest()

    def _refuse_rest(self) -> None:
        """Answer those who came in from another thread while the log was being closed."""
        with self._taking:
            rest = [self._queue.popleft() for _ in range(len(self._queue))]
        for job in rest:
            if not isinstance(job.work, Stop):
                job.error = closed_error()
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


_here = threading.local()


def is_writing_thread() -> None:
    """Say that this thread belongs to a writer."""
    _here.writing = True


def in_writing_thread() -> bool:
    """Whether a writer runs in this thread. It must wait for no other: that one may wait for its lock."""
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


def closed_error() -> UsageError:
    return UsageError("This log has been closed; open it again.")


def forked_error(shown: str) -> UsageError:
    return UsageError(
        f"The log {shown} was opened before this process was forked and its threads stayed behind. "
        "Open it again here, or start workers by spawning them."
    )
