"""Blobs as a run's code sees them: what was written is remembered as a step, what is read needs no record.

A blob is found by its digest, so reading one gives the same bytes for ever, and a replay may simply read them.
Writing is idempotent: cut off between the blob and the event, it is done again and changes nothing.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from hashlib import sha256

from evrt.errors import StepFailed
from evrt.events import JsonObject
from evrt.events.run import Failure
from evrt.folds.journal import established, operation_of
from evrt.log.blobs import READ_ALL_BYTES_MAX, Blob, Source
from evrt.runtime.execution import Execution
from evrt.runtime.identity import digest_of
from evrt.runtime.steps import remember


@dataclass(frozen=True, slots=True, eq=False)
class RunBlobs:
    """``ctx.blobs``."""

    _execution: Execution

    async def write(self, source: Source, *, media_type: str | None = None) -> Blob:
        """Keep a blob; on resume and replay nothing is written, and a stream is not read.

        Bytes are compared with those that the history refers to; a stream is not. Raises StepFailed.
        """
        known = sha256(source).hexdigest() if isinstance(source, (bytes, bytearray, memoryview)) else None
        blobs = self._execution.world.blobs

        async def keep() -> JsonObject:
            return (await blobs.write(source, media_type=media_type)).model_dump()

        event = await remember(self._execution, "blob", digest_of([known, media_type]), keep)
        succeeded, value = established(event)
        if not succeeded:
            assert isinstance(value, Failure)
            raise StepFailed(operation_of(event), value.error_type, value.message)
        return Blob.model_validate(value)

    def read(self, blob: Blob | str, *, after: int = 0) -> AsyncIterator[bytes]:
        """Its bytes from offset ``after`` on. Raises NotFound, UnusableLog."""
        return self._execution.world.blobs.read(blob, after=after)

    async def read_all(self, blob: Blob | str, *, bytes_max: int = READ_ALL_BYTES_MAX) -> bytes:
        """All of its bytes. Raises NotFound, UnusableLog, and PayloadTooLarge beyond ``bytes_max``."""
        return await self._execution.world.blobs.read_all(blob, bytes_max=bytes_max)
