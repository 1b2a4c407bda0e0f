"""What a log is: append, read, subscribe, in terms of bytes.

Everything above the log is written in the terms of this file. A store keeps
events in one order without gaps (their positions) and, within it, each stream
in an order of its own (its versions). It never looks into a payload.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypeVar

from evrt.log.coordination import Change, Coordination

T = TypeVar("T")

PAYLOAD_BYTES_MAX = 1024 * 1024
"""Default limit of one event's payload, in bytes."""

META_BYTES_MAX = 32 * 1024
NAME_BYTES_MAX = 1024
"""Limits that keep every entry under 64 KiB, the largest a tile of a transparency log can hold."""

REQUEST_EVENTS_MAX = 10_000
"""Most events one append may carry."""

BLOB_PIECE_BYTES = 256 * 1024
"""A blob is kept in pieces of this size, the last one shorter."""

BLOB_BYTES_MAX = 1024 * 1024 * 1024
"""Most bytes one blob may have."""


class Draft(NamedTuple):
    """An event on its way into the log: what its author decides.

    ``event_id`` is a canonical lower-case UUID (version 7 by convention).
    ``correlation`` is a stream name: the conversation, else the root run.
    ``meta`` is a compact UTF-8 JSON object; ``payload`` is opaque.
    """

    stream: str
    type: str
    event_id: str
    correlation: str
    meta: bytes
    payload: bytes


class Recorded(NamedTuple):
    """An event as the log holds it. ``salt`` and ``payload`` are None only after erasure.

    ``time`` is microseconds since 1970 in UTC, set by the writer, never decreasing along positions.
    ``payload_digest`` is SHA-256(salt ‖ payload); ``leaf`` is SHA-256(0x00 ‖ entry).
    """

    position: int
    event_id: str
    time: int
    stream: str
    version: int
    type: str
    correlation: str
    meta: bytes
    payload_length: int
    payload_digest: bytes
    salt: bytes | None
    payload: bytes | None
    leaf: bytes


class Head(NamedTuple):
    """The end of a stream: its last version, that event's leaf, its fencing epoch.

    The leaf tells a stream without events, where the version is 0, from one whose last version is 0.
    """

    version: int
    leaf: bytes | None
    epoch: int


EMPTY_HEAD = Head(0, None, 0)


class BlobKey(NamedTuple):
    """What a blob is found and checked by: SHA-256 in lower-case hex, length in bytes."""

    sha256: str
    length: int


@dataclass(frozen=True, slots=True)
class Exact:
    """The stream must be at this version; ``Exact(0)`` means it must be new."""

    version: int


@dataclass(frozen=True, slots=True)
class Next:
    """The stream's next event must have this version; its author counts the versions, not the log.

    So it must be at the version before, or new: streams begin at 1, and at 0 where ``Next(0)`` asks for it.
    """

    version: int


@dataclass(frozen=True, slots=True)
class Fence:
    """The stream's epoch must still be this one: appends of a worker carry it."""

    epoch: int


@dataclass(frozen=True, slots=True)
class Claim:
    """The stream's epoch must be ``epoch - 1`` and becomes ``epoch`` in the same transaction.

    Where a ``version`` is given, the stream must be at it: nothing was written that the claimer has not read.
    """

    epoch: int
    version: int | None = None


Expectation = Exact | Next | Fence | Claim
NEW = Exact(0)


class Append(NamedTuple):
    """One request: all of its drafts are recorded, in this order, or none.

    expect
        what must hold for the streams named; a stream without an entry expects nothing.
    repeat_after
        set when this is a repetition of an append whose outcome is unknown: for each
        of its streams the version it had at the first try, or -1 where the stream was
        to begin at 0. Drafts that are found there with equal content are answered with
        their positions and nothing is written.
    beside
        changes of the queue and its like, made in the same transaction or not at all; see ``evrt.log.coordination``.
    """

    drafts: Sequence[Draft]
    expect: Mapping[str, Expectation]
    repeat_after: Mapping[str, int] | None = None
    beside: Sequence[Change] = ()


class Appended(NamedTuple):
    """Where the drafts of one append landed, in their order."""

    positions: range
    versions: tuple[int, ...]

    @property
    def position(self) -> int:
        """Position of the last event: wait for it to read your own writes."""
        return self.positions[-1]


class Landing(asyncio.Future[T]):
    """The answer to a request that has been handed to a writer. It cannot be cancelled.

    What is queued will be written, so a cancelled task hears of its cancellation when the answer is
    there, and never has to wonder.
    """

    def cancel(self, msg: object | None = None) -> bool:
        """Refuse; asyncio then cancels the awaiting task once this is done."""
        return False


class Subscription(Protocol):
    """The log from a position onward: past, then future, in order, each event once."""

    def __aiter__(self) -> AsyncIterator[Recorded]: ...
    async def __anext__(self) -> Recorded: ...
    async def page(self) -> list[Recorded]:
        """The next events that are there, some hundred at most; waits for the first. Raises StopAsyncIteration."""
        ...

    async def aclose(self) -> None: ...


class Watch(Protocol):
    """Waits for commits to a log, of any process."""

    async def wait(self, timeout_seconds: float) -> bool:
        """Return at the next commit since the last call (at first, since it was made), or when the time is over.

        Whether there was one. Never raises for want of the database: then it waits for the time-out.
        """
        ...


class Log(Protocol):
    """Three verbs over one sequence of events. See ``evrt.log.open_log``."""

    @property
    def id(self) -> str:
        """The log's own id, a UUID; part of every entry."""
        ...

    @property
    def url(self) -> str: ...

    def append(self, request: Append) -> Landing[Appended]:
        """Hand a request to the writer at once; await the answer for durability.

        The request is queued when this returns, in call order. Cancelling the awaiter does not take it
        back; the cancellation arrives after the answer.

        Raises WrongVersion, Fenced, RepeatMismatch, InvalidInput, PayloadTooLarge, what a change beside it raises,
        Denied (read-only), UnusableLog, Unavailable (disk, lock); then nothing of the request is recorded,
        unless an Unavailable says that this is not known: then only a repeat can tell.
        """
        ...

    async def read(
        self,
        *,
        after: int = 0,
        upto: int | None = None,
        limit: int = 1_000,
        correlation: str | None = None,
    ) -> list[Recorded]:
        """Events with ``after < position <= upto``, in order, at most ``limit``."""
        ...

    async def read_stream(
        self, stream: str, *, after: int = -1, upto: int | None = None, limit: int | None = None
    ) -> list[Recorded]:
        """Events of one stream with ``after < version <= upto``, in order. The first has version 1, or 0."""
        ...

    async def head(self, stream: str) -> Head:
        """The end of a stream; ``EMPTY_HEAD`` where there is none."""
        ...

    async def position(self) -> int:
        """Position of the last event, 0 for an empty log."""
        ...

    async def streams(self, prefix: str) -> list[str]:
        """Names of the streams that begin with ``prefix`` and hold events, oldest first."""
        ...

    def subscribe(self, after: int = 0) -> Subscription:
        """Past then future, across processes; never misses, never repeats."""
        ...

    def watch(self) -> Watch:
        """What waits for the next commit without reading anything."""
        ...

    @property
    def coordination(self) -> Coordination:
        """Queue, leases, keys and schedules."""
        ...

    async def ref(self, kind: str, external: str, *, create: bool = True) -> str | None:
        """The random stand-in for an external id, e.g. ``user-7kq…``; None if unknown and not created."""
        ...

    async def external(self, ref: str) -> str | None:
        """The external id behind a ref, or None where it is unknown or erased."""
        ...

    async def forget(self, ref: str) -> None:
        """Forget the external id behind a ref, which stays what it is in the events. Idempotent."""
        ...

    async def erase_payload(self, position: int) -> None:
        """Turn one event's payload and salt to NULL: the only change the log permits."""
        ...

    async def write_blob(self, pieces: AsyncIterable[bytes]) -> BlobKey:
        """Keep a blob, given in pieces of BLOB_PIECE_BYTES; it is durable when this returns.

        What cannot be finished leaves nothing that could be read. Raises Denied, Unavailable.
        """
        ...

    def read_blob(self, sha256: str, *, after: int = 0) -> AsyncIterator[bytes]:
        """Its bytes from offset ``after`` on; checked at the end where ``after`` lies in the first piece.

        Raises NotFound, UnusableLog (other bytes than were written).
        """
        ...

    async def blob_length(self, sha256: str) -> int | None:
        """Its length in bytes, or None where the log does not hold it."""
        ...

    async def erase_blob(self, sha256: str) -> None:
        """Remove a blob's bytes. Raises NotFound."""
        ...

    async def aclose(self) -> None:
        """Write what is queued, then close. Idempotent."""
        ...
