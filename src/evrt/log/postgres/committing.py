"""Commits batches, and finds out what became of one whose answer was lost.

An answer follows a COMMIT that the server has confirmed, or a look at the log, under the same lock, that found the
batch recorded. A connection that has failed is never used again; another is opened within the time that the batch has
left. What the server refuses as a whole (a race it saw, a cancelled statement) is tried again; what cannot be written
is refused with the word that nothing was recorded, or, where even the look was not to be had, that this is not known.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Sequence
from typing import Any

import psycopg

from evrt.errors import EvrtError, Unavailable
from evrt.log.coordination import Change
from evrt.log.foreign.kept import KEPT, Tracked, append_in
from evrt.log.plan import Checked
from evrt.log.postgres.address import Address
from evrt.log.postgres.connect import (
    AGAIN_STATES,
    READ_ONLY_STATE,
    Timed,
    connect_writing,
    is_lost,
    session_name,
    translate,
)
from evrt.log.postgres.jobs import Erasure, Forgetting, WantedRef
from evrt.log.postgres.making import make_sure, warn_of_unsafe
from evrt.log.postgres.transaction import Planned, Transaction
from evrt.log.queueing import QUEUE_WORK, Changing
from evrt.log.writing import NOTHING, UNKNOWN, Job, Stop, refuse

PAUSE_SECONDS = 0.05
PAUSE_SECONDS_MAX = 2.0
"""Between two attempts, twice as long each time, up to the second."""

LEAST_SECONDS = 1.0
"""What even a batch that has waited long is given for its first attempt."""

WHAT = "The log cannot be written"


class Committer:
    """The database's writing end, for one thread. Raises, when made, psycopg.Error, EvrtError."""

    def __init__(self, address: Address, *, lock_timeout_seconds: float) -> None:
        self._address = address
        self._lock_timeout_seconds = lock_timeout_seconds
        connection = connect_writing(address, lock_timeout_seconds=lock_timeout_seconds)
        try:
            self.log_id = make_sure(connection, address)
            warn_of_unsafe(connection, address)
        except BaseException:
            connection.close()
            raise
        self._transaction: Transaction | None = self._begin_using(connection)
        self._former: int | None = None
        """The server's process of the session that was lost last: it may still hold the lock."""

    def commit(self, batch: Sequence[Job]) -> bool:
        """Do a batch in one transaction, its outcomes in the jobs. Whether anything was committed."""
        deadline = max(min(job.deadline for job in batch), time.monotonic() + LEAST_SECONDS)
        unknown: Planned | None = None
        """What an earlier attempt was to commit, where it is not known whether it has."""
        for pause in _pauses():
            planned: Planned | None = None
            try:
                transaction = self._connected(deadline)
                left = max(deadline - time.monotonic(), 0.1)
                if unknown is not None:
                    if transaction.is_recorded(unknown, lock_seconds=left):
                        return True
                    unknown = None
                if not self._plan(transaction, batch, left):
                    transaction.roll_back()
                    return False
                planned = transaction.planned()
                transaction.commit()
            except psycopg.Error as error:
                lost = self._recover(error)
                unknown = unknown or (planned if lost else None)
                if (lost or error.sqlstate in AGAIN_STATES) and time.monotonic() + pause < deadline:
                    time.sleep(pause)
                    continue
                return self._give_up(batch, translate(error, self._address, WHAT), unknown)
            except EvrtError as error:
                # The schema, the server or the way to it is not what it was.
                self.let_go()
                return self._give_up(batch, error, unknown)
            return True
        raise AssertionError("There is always another pause.")

    def _give_up(self, batch: Sequence[Job], error: EvrtError, unknown: Planned | None) -> bool:
        """Refuse a batch; what was only put together with older requests, and has time left, is tried by itself."""
        now = time.monotonic()
        late = [job for job in batch if job.deadline - now < LEAST_SECONDS or unknown is not None]
        if not isinstance(error, Unavailable) or not late:
            late = list(batch)
        refuse(late, error, NOTHING if unknown is None else UNKNOWN)
        rest = [job for job in batch if job not in late]
        return bool(rest) and self.commit(rest)

    def _plan(self, transaction: Transaction, batch: Sequence[Job], lock_seconds: float) -> bool:
        """Lock the log and do the batch, but for writing what was planned. Whether there is anything to commit."""
        events = sum([job.events for job in batch])
        transaction.begin(_names(batch), events, changes=_changes(batch), lock_seconds=lock_seconds)
        refused = 0
        for job in batch:
            job.result = job.error = None
            try:
                job.result = self._do(transaction, job.work)
            except EvrtError as error:
                job.error = error
                refused += 1
        return refused < len(batch)

    def _do(self, transaction: Transaction, work: Any) -> Any:
        if isinstance(work, Checked):
            return transaction.append(work)
        if isinstance(work, Tracked):
            return transaction.append_tracked(work)
        if isinstance(work, WantedRef):
            return transaction.ref(work.kind, work.external)
        if isinstance(work, Erasure):
            return transaction.erase(work.position)
        if isinstance(work, Forgetting):
            return transaction.forget(work.ref)
        if isinstance(work, QUEUE_WORK):
            return transaction.coordinate(work)
        if isinstance(work, KEPT):
            return transaction.keep(work)
        return None if isinstance(work, Stop) else work.make(transaction)

    # -------------------------------------------------------------------------------- connection

    def _begin_using(self, connection: Timed) -> Transaction:
        return Transaction(
            connection, self._address, self.log_id, lock_timeout_seconds=self._lock_timeout_seconds
        )

    def _connected(self, deadline: float) -> Transaction:
        """The connection, opened again if it has been lost. Raises psycopg.Error, EvrtError."""
        if self._transaction is None:
            connection = connect_writing(self._address, lock_timeout_seconds=self._lock_timeout_seconds)
            try:
                self._end_former(connection)
            except BaseException:
                connection.close()
                raise
            self._transaction = self._begin_using(connection)
        # The server watches over the lock itself; this is for one that says nothing at all.
        self._transaction.connection.deadline = deadline + LEAST_SECONDS
        return self._transaction

    def _end_former(self, connection: Timed) -> None:
        """Have the server end the session that was lost, for all it knows its client may still come back."""
        if self._former is not None:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE pid = %s AND pid <> pg_backend_pid() AND application_name = %s",
                (self._former, session_name("writer")),
            )
            self._former = None

    def _recover(self, error: psycopg.Error) -> bool:
        """After an error: take the transaction back where the session lives. Whether it is lost, and all with it."""
        transaction = self._transaction
        if transaction is None:
            return True
        if not (is_lost(error) or transaction.connection.closed):
            try:
                transaction.roll_back()
                alive = error.sqlstate != READ_ONLY_STATE
            except psycopg.Error:
                # The server has said that it refuses; that the connection goes as well changes nothing.
                alive = False
            if not alive:
                # Of several hosts another may be the primary by the next append.
                self.let_go()
            return False
        self.let_go()
        return True

    def let_go(self) -> None:
        """Use this connection no more."""
        if self._transaction is not None:
            self._former = self._transaction.process
            self._transaction.close()
            self._transaction = None

    # --------------------------------------------------------------------------------- announcing

    def announce(self, writer: str) -> bool:
        """Tell those who listen that there is more, in a transaction of its own. Whether that was said."""
        if self._transaction is None:
            return False
        try:
            self._transaction.announce(writer)
        except psycopg.Error as error:
            self._recover(error)
            return False
        return True

    def close(self) -> None:
        self.let_go()


def _names(batch: Sequence[Job]) -> Iterator[str]:
    """Every stream and correlation whose end a batch needs."""
    for job in batch:
        append = append_in(job.work)
        if append is not None:
            yield from append.streams
            for draft in append.drafts:
                yield draft.correlation


def _changes(batch: Sequence[Job]) -> Iterator[Change]:
    """Every change of the queue that something has to be known for."""
    for job in batch:
        if isinstance(job.work, Checked):
            yield from job.work.beside
        elif isinstance(job.work, Changing):
            yield from job.work.changes


def _pauses() -> Iterator[float]:
    """How long to wait before each further attempt; by chance a little less, so that many do not come at once."""
    pause = PAUSE_SECONDS
    while True:
        yield pause * (0.5 + random.random() / 2)
        pause = min(2 * pause, PAUSE_SECONDS_MAX)
