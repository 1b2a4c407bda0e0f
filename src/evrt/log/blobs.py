"""Blobs: what is too large for a payload, kept beside the events and found by its SHA-256.

An event holds the reference, which pins the content: a digest and a length. Writing the same bytes twice keeps
them once. Both ways are streams, so a large blob costs no more memory than a small one.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass
from hashlib import sha256
from typing import Annotated, Any, BinaryIO, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

from evrt.errors import InvalidInput, NotFound, PayloadTooLarge, UnusableLog, UsageError
from evrt.log.contract import BLOB_BYTES_MAX, BLOB_PIECE_BYTES, BlobKey, Log

READ_ALL_BYTES_MAX = 64 * 1024 * 1024
"""What ``Blobs.read_all`` takes into memory unless told otherwise."""

Source: TypeAlias = bytes | bytearray | memoryview | AsyncIterable[bytes] | Iterable[bytes] | BinaryIO
"""Bytes, a stream of them, or a file opened for reading in binary mode."""


class Blob(BaseModel):
    """A reference to a blob, small enough for any event: return it from a tool, put it into a checkpoint.

    ``sha256`` in lower-case hex; ``length`` in bytes.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    length: Annotated[int, Field(ge=0)]
    media_type: str | None = None


@dataclass(frozen=True, slots=True)
class Blobs:
    """The blobs of a log. ``open`` gives the log."""

    _open: Callable[[], Awaitable[Log]]

    async def write(self, source: Source, *, media_type: str | None = None) -> Blob:
        """Keep a blob; returns when it is durable. Idempotent: what is known already is not kept again.

        Raises PayloadTooLarge beyond ``BLOB_BYTES_MAX``, InvalidInput for what is no bytes, Denied, Unavailable;
        then nothing of it is kept.
        """
        log = await self._open()
        key = await log.write_blob(in_pieces(source))
        return Blob(sha256=key.sha256, length=key.length, media_type=media_type)

    async def read(self, blob: Blob | str, *, after: int = 0) -> AsyncIterator[bytes]:
        """Its bytes from offset ``after`` on, piece by piece. Read from the start, they are checked at the end.

        Raises NotFound for a blob that the log does not hold (any more), UnusableLog where the bytes are not
        those that were written, InvalidInput for an offset below 0.
        """
        if after < 0:
            raise InvalidInput(f"A blob is read from an offset of 0 or more, not from {after}.")
        log = await self._open()
        async for piece in log.read_blob(_sha256(blob), after=after):
            yield piece

    async def read_all(self, blob: Blob | str, *, bytes_max: int = READ_ALL_BYTES_MAX) -> bytes:
        """All of its bytes, checked. Raises what ``read`` raises, and PayloadTooLarge beyond ``bytes_max``."""
        length = await self.length(blob)
        if length is not None and length > bytes_max:
            raise PayloadTooLarge(
                f"The blob has {length:,} bytes, and {bytes_max:,} are as many as were to be taken into memory. "
                "Read it piece by piece, or give a larger bytes_max."
            )
        return b"".join([piece async for piece in self.read(blob)])

    async def length(self, blob: Blob | str) -> int | None:
        """How many bytes it has, or None where the log does not hold it."""
        return await (await self._open()).blob_length(_sha256(blob))

    async def erase(self, blob: Blob | str) -> None:
        """Remove its bytes for good; references to it stay, and lead to NotFound. Raises NotFound, Denied."""
        await (await self._open()).erase_blob(_sha256(blob))


def _sha256(blob: Blob | str) -> str:
    return blob.sha256 if isinstance(blob, Blob) else blob.lower()


async def _no_log() -> Log:
    raise UsageError(
        "This context was made by hand, so there is no log to keep blobs in. Give it blobs of a log."
    )


NO_BLOBS = Blobs(_no_log)


async def in_pieces(source: Source) -> AsyncIterator[bytes]:
    """The same bytes in pieces of BLOB_PIECE_BYTES, the last one shorter. Raises InvalidInput, PayloadTooLarge."""
    waiting = bytearray()
    length = 0
    async for part in _parts(source):
        if not isinstance(part, (bytes, bytearray, memoryview)):
            raise InvalidInput(f"A blob is made of bytes, not of {type(part).__name__}. Encode text first.")
        length += len(part)
        if length > BLOB_BYTES_MAX:
            raise PayloadTooLarge(
                f"A blob may have {BLOB_BYTES_MAX:,} bytes, and this one has more. Keep it in an object store and "
                "record a reference to it."
            )
        waiting += part
        while len(waiting) >= BLOB_PIECE_BYTES:
            yield bytes(waiting[:BLOB_PIECE_BYTES])
            del waiting[:BLOB_PIECE_BYTES]
    if waiting:
        yield bytes(waiting)


async def _parts(source: Any) -> AsyncIterator[bytes]:
    if isinstance(source, (bytes, bytearray, memoryview)):
        view = memoryview(source).cast("B")
        for start in range(0, len(view), BLOB_PIECE_BYTES):
            yield bytes(view[start : start + BLOB_PIECE_BYTES])
    elif isinstance(source, AsyncIterable):
        async for part in source:
            yield part
    elif isinstance(source, str):
        raise InvalidInput("A blob is made of bytes, not of text. Encode it first, or open the file.")
    elif hasattr(source, "read"):
        # A disk may be slow, and others run on this loop.
        while part := await asyncio.to_thread(source.read, BLOB_PIECE_BYTES):
            yield part
    else:
        for part in source:
            yield part


class Counted:
    """Pieces on their way, and what they amount to."""

    def __init__(self, pieces: AsyncIterable[bytes]) -> None:
        self._pieces = pieces
        self._digest = sha256()
        self._length = 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for piece in self._pieces:
            self._digest.update(piece)
            self._length += len(piece)
            yield piece

    @property
    def key(self) -> BlobKey:
        return BlobKey(self._digest.hexdigest(), self._length)


async def checked(wanted: BlobKey, pieces: AsyncIterable[bytes], *, after: int) -> AsyncIterator[bytes]:
    """The bytes behind offset ``after``, from pieces that begin where that piece does; from 0 on they are checked."""
    counted = Counted(pieces)
    skip = after % BLOB_PIECE_BYTES
    async for piece in counted:
        if len(piece) > skip:
            yield piece[skip:]
        skip = 0
    if after < BLOB_PIECE_BYTES and counted.key != wanted:
        raise UnusableLog(
            f"The bytes of blob {wanted.sha256} are not those that were written. Run `evrt db check`, and take them "
            "from a copy of the log."
        )


def unknown_blob(digest: str) -> NotFound:
    """What to raise for a blob that a log does not hold."""
    return NotFound(f"The log holds no blob {digest}: it was never written here, or it has been erased.")
