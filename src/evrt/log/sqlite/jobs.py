"""What the writer of a SQLite file can be asked to do."""

from __future__ import annotations

from typing import NamedTuple

from evrt.log.foreign.kept import Place, Snapshots, Tracked
from evrt.log.plan import Checked
from evrt.log.queueing import Changing, Claiming, Leaving, Renewing, TellingNews
from evrt.log.sqlite.blobs import BlobBegun, BlobErased, BlobFinished, BlobGone, BlobPiece
from evrt.log.writing import NOTHING, UNKNOWN, Answer, Job, Stop, refuse

__all__ = [
    "NOTHING",
    "UNKNOWN",
    "Answer",
    "Erasure",
    "Forgetting",
    "Job",
    "Stop",
    "WantedRef",
    "Work",
    "refuse",
]


class WantedRef(NamedTuple):
    kind: str
    external: str


class Erasure(NamedTuple):
    position: int


class Forgetting(NamedTuple):
    ref: str


Work = (
    Checked
    | WantedRef
    | Erasure
    | Forgetting
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
