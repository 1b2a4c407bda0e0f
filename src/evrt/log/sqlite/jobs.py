"""What a writer can be asked to do, and the job that carries the work and its outcome."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, NamedTuple

from evrt.log.plan import Checked
from evrt.log.sqlite.blobs import BlobBegun, BlobErased, BlobFinished, BlobGone, BlobPiece


class WantedRef(NamedTuple):
    kind: str
    external: str


class Erasure(NamedTuple):
    position: int


class Stop(NamedTuple):
    """Write what was queued before this, then close."""


Work = Checked | WantedRef | Erasure | BlobBegun | BlobPiece | BlobFinished | BlobGone | BlobErased | Stop


@dataclass(slots=True, eq=False)
class Job:
    """Work with the future that waits for its outcome, if somebody waits."""

    work: Work
    answer: asyncio.Future[Any] | None
    deadline: float
    result: Any = None
    error: BaseException | None = None
