"""Where frames are kept, as writer and reader see it, and the statements that every kind of it understands."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from evrt.live.frames import Frame, Place
from evrt.log.subscribe import Bell

SCHEMA_VERSION = 1

EVERY_EPOCH = 2**62

FRAMES_MAX = 1_000
"""Of one operation, that are read at once."""

TABLES = (
    """CREATE {unlogged} TABLE @.calls (
        id bigint PRIMARY KEY, run text NOT NULL, operation text NOT NULL, epoch bigint NOT NULL,
        attempt bigint NOT NULL, written bigint NOT NULL)""",
    "CREATE INDEX calls_of_run ON @.calls (run)",
    "CREATE {unlogged} TABLE @.frames (call bigint, start bigint, piece text NOT NULL, PRIMARY KEY (call, start)){clustered}",
)
"""``@.`` stands for the schema, where there is one. ``written`` is seconds since 1970 by the writer's clock."""

_OLDER = "run = ? AND operation = ? AND (epoch < ? OR (epoch = ? AND attempt < ?))"
_OF_OPERATION = "run = ? AND operation = ? AND epoch <= ?"
_OF_RUN = "run = ? AND epoch <= ?"

_CALL = """
INSERT INTO @.calls (id, run, operation, epoch, attempt, written) VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT (id) DO UPDATE SET written = excluded.written
"""
_FRAME = "INSERT INTO @.frames (call, start, piece) VALUES (?, ?, ?) ON CONFLICT DO NOTHING"
_ORPHANS = "DELETE FROM @.frames WHERE NOT EXISTS (SELECT 1 FROM @.calls WHERE id = call)"
_RUNS = "SELECT DISTINCT run FROM @.calls WHERE written < ? ORDER BY run LIMIT ?"

_CALLS_OF_RUN = "SELECT id, operation, epoch, attempt FROM @.calls WHERE run = ? ORDER BY epoch, attempt"
_FRAMES_FROM = """
SELECT start, piece FROM @.frames WHERE call = ? AND start >= coalesce(
    (SELECT max(start) FROM @.frames WHERE call = ? AND start <= ?), 0
) AND start + length(piece) > ? ORDER BY start LIMIT ?
"""


class Call(NamedTuple):
    """One attempt that streams. ``id`` is random; ``first``: nothing of it has been written yet."""

    id: int
    run: str
    operation: str
    epoch: int
    attempt: int
    first: bool


class Piece(NamedTuple):
    """Text of a call, at an offset."""

    call: int
    offset: int
    text: str


class Removal(NamedTuple):
    """Of a run, or of one of its operations: what was written under this claim and those before it, up to now."""

    run: str
    operation: str | None
    epoch: int


class Batch(NamedTuple):
    """What one transaction writes."""

    calls: Sequence[Call] = ()
    pieces: Sequence[Piece] = ()
    removals: Sequence[Removal] = ()


class Executes(Protocol):
    """A connection inside a transaction."""

    def execute(self, sql: str, parameters: Sequence[object] = (), /) -> Any: ...


def write_batch(connection: Executes, batch: Batch) -> None:
    """Write a batch in the transaction that has been begun."""
    now = int(time.time())
    # First, for the next attempt may be speaking already.
    for run, operation, epoch in batch.removals:
        if operation is None:
            _remove(connection, _OF_RUN, (run, epoch))
        else:
            _remove(connection, _OF_OPERATION, (run, operation, epoch))
    for call in batch.calls:
        if call.first:
            _remove(connection, _OLDER, (call.run, call.operation, call.epoch, call.epoch, call.attempt))
        connection.execute(_CALL, (call.id, call.run, call.operation, call.epoch, call.attempt, now))
    for piece in batch.pieces:
        connection.execute(_FRAME, piece)


def sweep(connection: Executes, kept_seconds: float, quiet_seconds: float, runs_max: int) -> list[str]:
    """Remove what nobody has added to for so long; returns some runs of which there is more that lies quiet."""
    now = int(time.time())
    _remove(connection, "written < ?", (now - int(kept_seconds),))
    connection.execute(_ORPHANS)
    return [run for (run,) in connection.execute(_RUNS, (now - int(quiet_seconds), runs_max)).fetchall()]


def _remove(connection: Executes, which: str, parameters: Sequence[object]) -> None:
    connection.execute(
        f"DELETE FROM @.frames WHERE call IN (SELECT id FROM @.calls WHERE {which})", parameters
    )
    connection.execute(f"DELETE FROM @.calls WHERE {which}", parameters)


class LiveStore(ABC):
    """What writes frames, from one thread at a time; it connects when it is first used. Raises EvrtError."""

    @abstractmethod
    def write(self, batch: Batch) -> None:
        """Write a batch in one transaction, and tell readers."""

    @abstractmethod
    def sweep(self, kept_seconds: float, quiet_seconds: float, runs_max: int) -> list[str]:
        """See ``sweep``."""

    @abstractmethod
    def close(self) -> None: ...


class LiveReader(ABC):
    """What reads frames, on one event loop."""

    def __init__(self, bell: Bell) -> None:
        self.bell = bell

    async def read(self, run: str, places: Mapping[str, Place]) -> list[Frame]:
        """The frames of a run from these places on, by operation: of the newest attempt of each and no other."""
        calls = await self._fetch(_CALLS_OF_RUN, (run,))
        newest = {operation: (epoch, attempt, call) for call, operation, epoch, attempt in calls}
        frames: list[Frame] = []
        for operation, (epoch, attempt, call) in newest.items():
            place = places.get(operation)
            start = place.offset if place is not None and place[:2] == (epoch, attempt) else 0
            for offset, text in await self._fetch(_FRAMES_FROM, (call, call, start, start, FRAMES_MAX)):
                frames.append(Frame(run, operation, attempt, epoch, offset, text))
        return frames

    @abstractmethod
    async def _fetch(self, sql: str, parameters: Sequence[object]) -> list[Any]:
        """Rows of one SELECT; none where nothing is kept yet. Raises EvrtError."""

    @abstractmethod
    async def changed(self, seen: int, timeout_seconds: float) -> None:
        """Return when the bell has rung since its count was ``seen``, or when the time is over."""

    @abstractmethod
    async def aclose(self) -> None:
        """Let go of connections."""
