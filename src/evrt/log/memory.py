"""The log in memory: the reference that every other store is compared with.

It lives as long as the process, holds everything in lists, and answers on the loop that asked.
Appends may come from any thread that runs an event loop.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
import weakref
from collections.abc import AsyncIterable, AsyncIterator, Sequence
from typing import Any, TypeVar

from evrt.errors import EvrtError, NotFound, UsageError
from evrt.log.address import MEMORY_URL
from evrt.log.blobs import Counted, unknown_blob
from evrt.log.claiming import Now
from evrt.log.contract import (
    BLOB_PIECE_BYTES,
    EMPTY_HEAD,
    PAYLOAD_BYTES_MAX,
    Append,
    Appended,
    BlobKey,
    Head,
    Landing,
    Recorded,
)
from evrt.log.coordinating import Rows, Statement
from evrt.log.coordination import Coordination
from evrt.log.ids import new_event_id, new_ref
from evrt.log.plan import SALT_BYTES, End, check_external, check_request, places_of, plan, settle_repeat
from evrt.log.queue_tables import for_sqlite
from evrt.log.queueing import Coordinator, Queue, QueueWork, gave_nothing, local_now
from evrt.log.subscribe import PAGE_EVENTS, Bells, Following, Watching, call_in

T = TypeVar("T")


class MemoryLog:
    """See ``evrt.log.contract.Log``."""

    def __init__(self, *, payload_bytes_max: int = PAYLOAD_BYTES_MAX) -> None:
        self._payload_bytes_max = payload_bytes_max
        self._end = End(log=new_event_id(), position=0, time=0, heads={})
        self._rows: list[Recorded] = []
        self._by_stream: dict[str, list[int]] = {}
        self._refs: dict[tuple[str, str], str] = {}
        self._externals: dict[str, str] = {}
        self._blobs: dict[str, bytes] = {}
        self._lock = threading.Lock()
        self._bells = Bells()
        self._closed = False
        # Used from any thread, under the lock.
        self._tables = sqlite3.connect(":memory:", check_same_thread=False, isolation_level=None)
        weakref.finalize(self, self._tables.close)
        for statement in for_sqlite():
            self._tables.execute(statement)
        self._queue = Queue(self._ask, self._send)
        self._coordination = Coordinator(self._do, self._look, self._clock)

    @property
    def id(self) -> str:
        return self._end.log

    @property
    def url(self) -> str:
        return MEMORY_URL

    # ---------------------------------------------------------------------------------- writing

    def append(self, request: Append) -> Landing[Appended]:
        loop = asyncio.get_running_loop()
        answer: Landing[Appended] = Landing(loop=loop)
        try:
            self._check_open()
            appended = self._record(request)
        except EvrtError as error:
            answer.set_exception(error)
            return answer
        # Answered in a later turn of the loop, as a store with a disk would.
        loop.call_soon(_settle, answer, appended)
        self._ring()
        return answer

    def _ring(self) -> None:
        for loop, bell in self._bells.heard_in():
            call_in(loop, bell.ring)

    def _record(self, request: Append) -> Appended:
        checked = check_request(request, self._payload_bytes_max)
        with self._lock:
            if checked.repeat_after is not None:
                ids = {draft.event_id for draft in checked.drafts}
                found = [
                    row
                    for stream, version in checked.repeat_after.items()
                    for row in self._stream(stream, version, None)
                    if row.event_id in ids
                ]
                before = settle_repeat(checked, found)
                if before is not None:
                    return before
            salts = os.urandom(SALT_BYTES * len(checked.drafts))
            now = local_now()
            self._queue.begin()
            decided = self._queue.decide(checked.beside, now)
            rows = plan(checked, self._end, now.wall, salts)
            self._rows.extend(rows)
            for row in rows:
                self._by_stream.setdefault(row.stream, []).append(row.position)
            self._queue.make(decided, places_of(rows), now)
        return Appended(range(rows[0].position, rows[-1].position + 1), tuple([row.version for row in rows]))

    async def erase_payload(self, position: int) -> None:
        self._check_open()
        with self._lock:
            if not 1 <= position <= len(self._rows):
                raise NotFound(f"There is no event at position {position}.")
            self._rows[position - 1] = self._rows[position - 1]._replace(salt=None, payload=None)

    # ---------------------------------------------------------------------------------- reading

    async def read(
        self,
        *,
        after: int = 0,
        upto: int | None = None,
        limit: int = 1_000,
        correlation: str | None = None,
    ) -> list[Recorded]:
        self._check_open()
        with self._lock:
            rows = self._rows[max(after, 0) : None if upto is None else max(upto, 0)]
        if correlation is not None:
            rows = [row for row in rows if row.correlation == correlation]
        return rows[: max(limit, 0)]

    async def read_stream(
        self, stream: str, *, after: int = -1, upto: int | None = None, limit: int | None = None
    ) -> list[Recorded]:
        self._check_open()
        with self._lock:
            rows = self._stream(stream, after, upto)
        return rows if limit is None else rows[: max(limit, 0)]

    def _stream(self, stream: str, after: int, upto: int | None) -> list[Recorded]:
        positions = self._by_stream.get(stream)
        if positions is None:
            return []
        first = self._rows[positions[0] - 1].version
        chosen = positions[max(after + 1 - first, 0) : None if upto is None else max(upto + 1 - first, 0)]
        return [self._rows[position - 1] for position in chosen]

    async def head(self, stream: str) -> Head:
        self._check_open()
        return self._end.heads.get(stream, EMPTY_HEAD)

    async def position(self) -> int:
        self._check_open()
        return self._end.position

    async def streams(self, prefix: str) -> list[str]:
        self._check_open()
        with self._lock:
            return [stream for stream in self._by_stream if stream.startswith(prefix)]

    def subscribe(self, after: int = 0) -> Following:
        async def page(position: int) -> list[Recorded]:
            return await self.read(after=position, limit=PAGE_EVENTS)

        self._check_open()
        return Following(page, self._bells, after=after)

    def watch(self) -> Watching:
        self._check_open()
        return Watching(self._bells)

    # ------------------------------------------------------------------------------------ queue

    @property
    def coordination(self) -> Coordination:
        return self._coordination

    async def _do(self, work: QueueWork) -> Any:
        self._check_open()
        with self._lock:
            self._queue.begin()
            done = work.do(self._queue, local_now(), self._end.position)
        if not gave_nothing(work, done):
            self._ring()
        return done

    async def _look(self, statement: Statement) -> list[Any]:
        self._check_open()
        with self._lock:
            [rows] = self._ask([statement])
        return list(rows)

    async def _clock(self) -> Now:
        self._check_open()
        return local_now()

    def _ask(self, statements: Sequence[Statement]) -> list[Rows]:
        return [self._tables.execute(sql, dict(named)).fetchall() for sql, named in statements]

    def _send(self, statement: Statement) -> None:
        self._tables.execute(statement.sql, dict(statement.parameters))

    # ------------------------------------------------------------------------------------- refs

    async def ref(self, kind: str, external: str, *, create: bool = True) -> str | None:
        self._check_open()
        check_external(kind, external)
        with self._lock:
            ref = self._refs.get((kind, external))
            if ref is None and create:
                ref = self._refs[kind, external] = new_ref(kind)
                self._externals[ref] = external
            return ref

    async def external(self, ref: str) -> str | None:
        self._check_open()
        return self._externals.get(ref)

    async def forget(self, ref: str) -> None:
        self._check_open()
        with self._lock:
            external = self._externals.pop(ref, None)
            self._refs = {key: known for key, known in self._refs.items() if known != ref or external is None}

    # ------------------------------------------------------------------------------------ blobs

    async def write_blob(self, pieces: AsyncIterable[bytes]) -> BlobKey:
        self._check_open()
        counted = Counted(pieces)
        content = b"".join([piece async for piece in counted])
        self._blobs[counted.key.sha256] = content
        return counted.key

    async def read_blob(self, sha256: str, *, after: int = 0) -> AsyncIterator[bytes]:
        self._check_open()
        content = self._blobs.get(sha256)
        if content is None:
            raise unknown_blob(sha256)
        for start in range(after, len(content), BLOB_PIECE_BYTES):
            yield content[start : start + BLOB_PIECE_BYTES]

    async def blob_length(self, sha256: str) -> int | None:
        self._check_open()
        content = self._blobs.get(sha256)
        return None if content is None else len(content)

    async def erase_blob(self, sha256: str) -> None:
        self._check_open()
        if self._blobs.pop(sha256, None) is None:
            raise unknown_blob(sha256)

    # ---------------------------------------------------------------------------------- closing

    async def aclose(self) -> None:
        self._closed = True
        with self._lock:
            self._tables.close()
        self._bells.close()

    def _check_open(self) -> None:
        if self._closed:
            raise UsageError("This log has been closed; open it again.")


def _settle(answer: asyncio.Future[T], value: T) -> None:
    if not answer.done():
        answer.set_result(value)
