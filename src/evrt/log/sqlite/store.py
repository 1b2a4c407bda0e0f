"""The log in a SQLite file, as the contract has it: appends go to the writer, reads to the readers."""

from __future__ import annotations

import asyncio
import os
import warnings
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator
from typing import Any

from evrt.errors import Denied, EvrtError, NotFound, Unavailable, UnusableLog
from evrt.log.blobs import Counted, checked, unknown_blob
from evrt.log.claiming import Now
from evrt.log.contract import (
    BLOB_PIECE_BYTES,
    EMPTY_HEAD,
    NAME_BYTES_MAX,
    Append,
    Appended,
    BlobKey,
    Head,
    Landing,
    Recorded,
)
from evrt.log.coordinating import Statement
from evrt.log.coordination import Coordination
from evrt.log.plan import check_external, check_request
from evrt.log.queueing import Coordinator, QueueWork, local_now
from evrt.log.sqlite.blobs import (
    FIND,
    READ_PIECE,
    BlobBegun,
    BlobErased,
    BlobFinished,
    BlobGone,
    BlobPiece,
    digest_of,
    place_of,
)
from evrt.log.sqlite.connect import check_place, inspect, may_write, refuse_newer
from evrt.log.sqlite.jobs import Erasure, Forgetting, Stop, WantedRef
from evrt.log.sqlite.reader import LoopReaders, Reader
from evrt.log.sqlite.schema import SELECT_RECORDED
from evrt.log.sqlite.transaction import recorded
from evrt.log.sqlite.writer import Writer
from evrt.log.subscribe import PAGE_EVENTS, Bells, Following, Watching
from evrt.log.writing import closed_error, forked_error

STREAM_PAGE_EVENTS = 1_000
"""Long streams are read in pages, so that other reads come in between."""

READ = f"{SELECT_RECORDED} WHERE e.position > :after AND e.position <= :upto ORDER BY e.position LIMIT :limit"

# Versions rise with positions, so that where a range of positions begins and ends in a stream is found by
# halving: (low, high) closes in on the first version whose position is beyond. A stream that begins at 1 has no
# version 0; the missing row counts as before everything. Either part may fill the limit, and none reads on.
READ_CORRELATION = f"""
WITH RECURSIVE
named (id, last) AS (SELECT id, version FROM streams WHERE name = :correlation),
halved (beyond, low, high) AS (
    SELECT beyond, 0, last + 1 FROM named CROSS JOIN (SELECT :after AS beyond UNION SELECT :upto)
    UNION ALL
    SELECT
        beyond,
        iif(position > beyond, low, (low + high) / 2 + 1),
        iif(position > beyond, (low + high) / 2, high)
    FROM halved
    LEFT JOIN events ON stream = (SELECT id FROM named) AND version = (low + high) / 2
    WHERE low < high
),
own AS (
    SELECT position FROM events INDEXED BY events_by_stream
    WHERE stream = (SELECT id FROM named) AND correlation = stream
    AND version >= (SELECT low FROM halved WHERE low = high AND beyond = :after)
    AND version < (SELECT low FROM halved WHERE low = high AND beyond = :upto)
    ORDER BY version LIMIT :limit
),
others AS (
    SELECT position FROM events
    WHERE correlation = (SELECT id FROM named) AND correlation <> stream
    AND position > :after AND position <= :upto
    ORDER BY position LIMIT :limit
)
{SELECT_RECORDED} WHERE e.position IN (SELECT position FROM own UNION ALL SELECT position FROM others)
ORDER BY e.position LIMIT :limit
"""
"""A correlation's events: those in the stream that bears its name, and those in others."""

PIECES_UNDER_WAY_MAX = 4
"""Pieces of one blob that wait for the disk at a time."""

POSITION_MAX = 2**63 - 1

BEYOND_EVERY_NAME = "\U0010ffff" * (NAME_BYTES_MAX // 4 + 1)
"""Sorts after whatever a name may go on with: longer than a name can be, of the last character there is."""


async def open_sqlite(
    url: str, path: str, *, payload_bytes_max: int, read_only: bool, lock_timeout_seconds: float
) -> SqliteLog:
    """Open the file, make it where there is none. See ``evrt.log.open_log``."""
    path = check_place(path, read_only=read_only)
    bells = Bells()
    if not read_only and may_write(path):
        opened: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        writer = Writer(path, bells, opened, lock_timeout_seconds=lock_timeout_seconds)
        try:
            log_id = await opened
        except BaseException:
            writer.abandon()
            raise
        return SqliteLog(url, path, log_id, bells, writer, payload_bytes_max=payload_bytes_max)
    if inspect(path) == "new":
        raise NotFound(f"{path} is empty: no log has been made there yet. Open it for writing to make one.")
    reader = Reader(path)
    try:
        [(version,)] = await reader.fetch("PRAGMA user_version")
        refuse_newer(path, version)
        [(log_id,)] = await reader.fetch("SELECT id FROM log")
    finally:
        await reader.close()
    return SqliteLog(url, path, log_id, bells, None, payload_bytes_max=payload_bytes_max)


class SqliteLog:
    """See ``evrt.log.contract.Log``. May be used from several event loops, each with readers of its own."""

    def __init__(
        self,
        url: str,
        path: str,
        log_id: str,
        bells: Bells,
        writer: Writer | None,
        *,
        payload_bytes_max: int,
    ) -> None:
        self._url = url
        self._path = path
        self._id = log_id
        self._bells = bells
        self._writer = writer
        self._payload_bytes_max = payload_bytes_max
        self._readers: dict[asyncio.AbstractEventLoop, LoopReaders] = {}
        self._process = os.getpid()
        self._closed = False
        self._closing: asyncio.Task[None] | None = None
        self._coordination = Coordinator(self._do, self._look, self._clock)

    @property
    def id(self) -> str:
        return self._id

    @property
    def url(self) -> str:
        return self._url

    # ---------------------------------------------------------------------------------- writing

    def append(self, request: Append) -> Landing[Appended]:
        try:
            writer = self._open_writer()
            checked = check_request(request, self._payload_bytes_max)
        except EvrtError as error:
            answer: Landing[Appended] = Landing(loop=asyncio.get_running_loop())
            answer.set_exception(error)
            return answer
        return writer.submit(checked)

    async def forget(self, ref: str) -> None:
        await self._open_writer().submit(Forgetting(ref))

    async def erase_payload(self, position: int) -> None:
        await self._open_writer().submit(Erasure(position))

    def _open_writer(self) -> Writer:
        self._check_usable()
        if self._writer is None:
            raise Denied(
                f"The log {self._path} is open for reading only: it was opened so, or this user may not "
                "write the file and its folder."
            )
        return self._writer

    # ---------------------------------------------------------------------------------- reading

    async def read(
        self,
        *,
        after: int = 0,
        upto: int | None = None,
        limit: int = 1_000,
        correlation: str | None = None,
    ) -> list[Recorded]:
        upto = POSITION_MAX if upto is None else upto
        limit = max(limit, 0)
        if correlation is None:
            rows = await self._fetch(READ, after=after, upto=upto, limit=limit)
        else:
            rows = await self._fetch(
                READ_CORRELATION, correlation=correlation, after=after, upto=upto, limit=limit
            )
        return [recorded(row) for row in rows]

    async def read_stream(
        self, stream: str, *, after: int = -1, upto: int | None = None, limit: int | None = None
    ) -> list[Recorded]:
        rows: list[Recorded] = []
        left = POSITION_MAX if limit is None else max(limit, 0)
        while True:
            page_events = min(left, STREAM_PAGE_EVENTS)
            page = await self._fetch(
                f"{SELECT_RECORDED} WHERE e.stream = (SELECT id FROM streams WHERE name = ?) "
                "AND e.version > ? AND e.version <= ? ORDER BY e.version LIMIT ?",
                stream,
                after,
                POSITION_MAX if upto is None else upto,
                page_events,
            )
            rows.extend(map(recorded, page))
            left -= page_events
            if len(page) < page_events or left == 0:
                return rows
            after = rows[-1].version

    async def head(self, stream: str) -> Head:
        rows = await self._fetch("SELECT version, leaf, epoch FROM streams WHERE name = ?", stream)
        return Head(*rows[0]) if rows else EMPTY_HEAD

    async def position(self) -> int:
        [(position,)] = await self._fetch("SELECT coalesce(max(position), 0) FROM events")
        return int(position)

    async def streams(self, prefix: str) -> list[str]:
        # CROSS JOIN: from the few names to their events, not the other way round.
        rows = await self._fetch(
            "SELECT s.name FROM streams AS s CROSS JOIN events AS e ON e.stream = s.id "
            "AND e.version = (SELECT min(version) FROM events WHERE stream = s.id) "
            "WHERE s.name >= ? AND s.name < ? ORDER BY e.position",
            prefix,
            prefix + BEYOND_EVERY_NAME,
        )
        return [name for (name,) in rows]

    def subscribe(self, after: int = 0) -> Following:
        self._check_usable()
        return Following(self._page, self._bells, after=after, before_waiting=self._watch)

    async def _page(self, after: int) -> list[Recorded]:
        return await self.read(after=after, limit=PAGE_EVENTS)

    def watch(self) -> Watching:
        self._check_usable()
        return Watching(self._bells, self._watch)

    def _watch(self) -> None:
        if not self._closed:
            self._readers_here().watch()

    async def _fetch(self, sql: str, *parameters: object, **named: object) -> list[Any]:
        self._check_usable()
        readers = self._readers_here()
        for gone in [other for other in self._readers if other.is_closed()]:
            await self._readers.pop(gone).close()
        return await readers.rows.fetch(sql, named or parameters)

    def _readers_here(self) -> LoopReaders:
        loop = asyncio.get_running_loop()
        readers = self._readers.get(loop)
        if readers is None:
            readers = self._readers[loop] = LoopReaders(self._path, self._bells.here())
        return readers

    def _check_usable(self) -> None:
        if self._closed:
            raise closed_error()
        if self._process != os.getpid():
            raise forked_error(self._path)

    # ------------------------------------------------------------------------------------ queue

    @property
    def coordination(self) -> Coordination:
        return self._coordination

    async def _do(self, work: QueueWork) -> Any:
        return await self._open_writer().submit(work)

    async def _look(self, statement: Statement) -> list[Any]:
        try:
            return await self._fetch(statement.sql, **statement.parameters)
        except Unavailable as error:
            if "no such table" not in str(error.__cause__):
                raise
            raise UnusableLog(
                f"{self._path} was written by an older evrt, which kept no queue. It can be read as it is; `evrt db migrate` "
                "gives it one (it keeps a copy)."
            ) from error

    async def _clock(self) -> Now:
        return local_now()

    # ------------------------------------------------------------------------------------- refs

    async def ref(self, kind: str, external: str, *, create: bool = True) -> str | None:
        check_external(kind, external)
        rows = await self._fetch("SELECT ref FROM refs WHERE kind = ? AND external = ?", kind, external)
        if rows:
            return str(rows[0][0])
        if not create:
            return None
        return str(await self._open_writer().submit(WantedRef(kind, external)))

    async def external(self, ref: str) -> str | None:
        rows = await self._fetch("SELECT external FROM refs WHERE ref = ?", ref)
        return str(rows[0][0]) if rows else None

    # ------------------------------------------------------------------------------------ blobs

    async def write_blob(self, pieces: AsyncIterable[bytes]) -> BlobKey:
        writer = self._open_writer()
        blob = int(await writer.submit(BlobBegun()))
        counted = Counted(pieces)
        under_way: deque[Landing[None]] = deque()
        number = 0
        try:
            async for piece in counted:
                under_way.append(writer.submit(BlobPiece(blob, number, piece)))
                number += 1
                # Some at a time, so that a piece gathers while another syncs, and memory has an end.
                while len(under_way) >= PIECES_UNDER_WAY_MAX:
                    await under_way.popleft()
            while under_way:
                await under_way.popleft()
            await writer.submit(BlobFinished(blob, counted.key))
        except BaseException:
            for landing in under_way:
                # Each is looked at, so that none is reported as never retrieved.
                landing.add_done_callback(lambda done: done.exception())
            writer.submit(BlobGone(blob)).add_done_callback(lambda done: done.exception())
            raise
        return counted.key

    async def read_blob(self, sha256: str, *, after: int = 0) -> AsyncIterator[bytes]:
        rows = await self._fetch(FIND, digest_of(sha256))
        if not rows:
            raise unknown_blob(sha256)
        [(blob, length)] = rows
        pieces = self._pieces(sha256, blob, after // BLOB_PIECE_BYTES, length)
        async for piece in checked(BlobKey(sha256, length), pieces, after=after):
            yield piece

    async def _pieces(self, sha256: str, blob: int, first: int, length: int) -> AsyncIterator[bytes]:
        for number in range(first, -(-length // BLOB_PIECE_BYTES)):
            rows = await self._fetch(READ_PIECE, place_of(blob, number), blob, digest_of(sha256))
            if not rows:
                raise unknown_blob(sha256)
            yield rows[0][0]

    async def blob_length(self, sha256: str) -> int | None:
        rows = await self._fetch(FIND, digest_of(sha256))
        return int(rows[0][1]) if rows else None

    async def erase_blob(self, sha256: str) -> None:
        await self._open_writer().submit(BlobErased(sha256))

    # ---------------------------------------------------------------------------------- closing

    async def aclose(self) -> None:
        if not self._closed:
            self._closed = True
            self._bells.close()
            self._closing = asyncio.get_running_loop().create_task(self._close())
        # Shielded: whoever is cancelled here must not leave the log half closed.
        if self._closing is not None and self._closing.get_loop() is asyncio.get_running_loop():
            await asyncio.shield(self._closing)

    async def _close(self) -> None:
        for readers in list(self._readers.values()):
            await readers.close()
        if self._writer is not None:
            await self._writer.submit(Stop())

    def __del__(self) -> None:
        if not self._closed and self._process == os.getpid():
            warnings.warn(f"The log {self._path} was not closed.", ResourceWarning, stacklevel=2, source=self)
            if self._writer is not None:
                self._writer.abandon()
