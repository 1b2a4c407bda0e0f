"""What a writer can be asked to do, and the job that carries the work and its outcome."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, NamedTuple

from evrt.errors import EvrtError
from evrt.log.plan import Checked
from evrt.log.queueing import Changing, Claiming, Leaving, Renewing, TellingNews
from evrt.log.sqlite.blobs import BlobBegun, BlobErased, BlobFinished, BlobGone, BlobPiece
from evrt.log.sqlite.foreign import Place, Snapshots, Tracked


class WantedRef(NamedTuple):
    kind: str
    external: str


class Erasure(NamedTuple):
    position: int


class Stop(NamedTuple):
    """Write what was queued before this, then close."""


NOTHING = "Nothing was recorded"
UNKNOWN = "Whether this was recorded is not known; a repeat of the append will tell"

Work = (
    Checked
    | WantedRef
    | Erasure
    | Tracked
    | Place
    | Snapshots
    | BlobBegun
    | BlobPiece
    | BlobFinished
    | BlobGone
    | BlobErased
    | Changing
    | Claiming
    | Renewing
    | Leaving
    | TellingNews
    | Stop
)

Answer = asyncio.Future[Any] | Future[Any]
"""Where the outcome goes: into an event loop, or to a thread that blocks until it is there."""


@dataclass(slots=True, eq=False)
class Job:
    """Work with the future that waits for its outcome, if somebody waits."""

    work: Work
    answer: Answer | None
    deadline: float
    result: Any = None
    error: BaseException | None = None

    @property
    def events(self) -> int:
        """How many events this would add to the log."""
        if isinstance(self.work, Checked):
            return len(self.work.drafts)
        return len(self.work.append.drafts) if isinstance(self.work, Tracked) else 0


def refuse(batch: Iterable[Job], error: EvrtError, words: str) -> None:
    """Fail what has not failed already. ``words`` say what is known of the outcome; of a repeat, only the log can.

    Each gets an error of its own, for raising one in several tasks would mix their traces.
    """
    for job in batch:
        if job.error is None and not isinstance(job.work, Stop):
            repeated = isinstance(job.work, Checked) and job.work.repeat_after is not None
            job.error = type(error)(f"{UNKNOWN if repeated else words}. {error}")
