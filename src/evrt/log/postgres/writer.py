"""The writer of a log on PostgreSQL: batches go to the database, and whoever listens is told of them in between."""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence

import psycopg

from evrt.errors import Unavailable
from evrt.log.postgres.address import Address
from evrt.log.postgres.committing import Committer
from evrt.log.postgres.connect import translate
from evrt.log.queueing import gave_nothing
from evrt.log.subscribe import Bells
from evrt.log.writing import UNKNOWN, Answer, Job, Stop, WritingThread, refuse

ANNOUNCE_SECONDS = 0.005
"""Between two notifications. They say no more than that there is something new, so one is as good as many."""


class Writer(WritingThread):
    """Starts its thread at once; ``opened`` is given the log's id when the database is ready."""

    def __init__(
        self, address: Address, bells: Bells, opened: Answer, *, lock_timeout_seconds: float
    ) -> None:
        self.name = secrets.token_hex(8)
        """What its notifications are signed with."""
        self._address = address
        self._announced = 0.0
        self._unannounced = False
        super().__init__(address.shown, bells, opened, timeout_seconds=lock_timeout_seconds)

    def _open(self) -> str:
        try:
            self._committer = Committer(self._address, lock_timeout_seconds=self._timeout_seconds)
        except psycopg.Error as error:
            raise translate(error, self._address, "The log cannot be opened") from error
        return self._committer.log_id

    def _turn(self) -> bool:
        """Write one batch, or announce those before. Whether there is a next turn."""
        due = self._announced + ANNOUNCE_SECONDS
        if not self._await_work(due if self._unannounced else None) or (
            self._unannounced and time.monotonic() >= due
        ):
            self._announce()
            return True
        batch = self._take()
        last = self._is_last(batch)
        wrote = self._write(batch)
        self._unannounced |= wrote
        if last:
            self._close()
        self._deliver(batch, wrote)
        return not last

    def _write(self, batch: Sequence[Job]) -> bool:
        """Whether anything was committed that others want to hear of."""
        if not batch or isinstance(batch[0].work, Stop):
            return False
        return self._committer.commit(batch) and not all(gave_nothing(job.work, job.result) for job in batch)

    def _announce(self) -> None:
        # Those who were not reached look by themselves before long.
        self._committer.announce(self.name)
        self._announced = time.monotonic()
        self._unannounced = False

    def _break_off(self, error: BaseException) -> bool:
        self._committer.let_go()
        batch = self._batch
        last = self._is_last(batch)
        # Who has been answered already hears nothing more.
        refuse(batch, Unavailable(f"Writing to {self._name} was broken off: {error!r}."), UNKNOWN)
        if last:
            self._close()
        self._deliver(batch, wrote=False)
        return not last

    def _close(self) -> None:
        if self._unannounced:
            self._announce()
        self._committer.close()
        self._end()
