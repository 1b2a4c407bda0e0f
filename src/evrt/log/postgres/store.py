"""The log in a PostgreSQL schema, as the contract has it: appends go to the writer, reads to the readers."""

from __future__ import annotations

import asyncio
import os
import warnings
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Mapping, Sequence
from typing import Any

import psycopg
from psycopg.types.numeric import Int8

from evrt.errors import Denied, EvrtError, NotFound, UnusableLog
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
from evrt.log.postgres.address import Address
from evrt.log.postgres.blobs import (
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
from evrt.log.postgres.connect import connect_reading, translate
from evrt.log.postgres.jobs import Erasure, Forgetting, WantedRef
from evrt.log.postgres.listening import Listener
from evrt.log.postgres.making import HEAD, LOOK, check_version, judge
from evrt.log.postgres.queueing import CLOCK, to_postgres
from evrt.log.postgres.reader import Readers
from evrt.log.postgres.schema import RECORDED, SELECT_RECORDED, named
from evrt.log.postgres.transaction import recorded
from evrt.log.postgres.writer import Writer
from evrt.log.queueing import Coordinator, QueueWork
from evrt.log.subscribe import PAGE_EVENTS, Bells, Following, Watching
from evrt.log.writing import Stop, closed_error, forked_error

STREAM_PAGE_EVENTS = 1_000
"""Long streams are read in pages, so that other reads come in between."""

PIECES_UNDER_WAY_MAX = 4
"""Pieces of one blob that wait for the disk at a time."""

NUMBER_MAX = 2**63 - 1

BEYOND_EVERY_NAME = "\U0010ffff" * (NAME_BYTES_MAX // 4 + 1)
"""Sorts after whatever a name may go on with: longer than a name can be, of the last character there is."""

READ = f"""
{SELECT_RECORDED} WHERE e.position > %(after)s AND e.position <= %(upto)s ORDER BY e.position LIMIT %(limit)s
"""

READ_STREAM = f"""
{SELECT_RECORDED} WHERE e.stream = (SELECT id FROM @.streams WHERE name = %(stream)s)
AND e.version > %(after)s AND e.version <= %(upto)s ORDER BY e.version LIMIT %(limit)s
"""

# As in SQLite: where a range of positions begins and ends in a stream is found by halving, for versions rise with
# positions. A stream that begins at 1 has no version 0; the missing row counts as before everything.
READ_CORRELATION = f"""
WITH RECURSIVE
named (id, last) AS (SELECT id, version FROM @.streams WHERE name = %(correlation)s),
halved (beyond, low, high) AS (
    SELECT b.beyond, 0::bigint, n.last + 1
    FROM named AS n CROSS JOIN (VALUES (%(after)s::bigint), (%(upto)s::bigint)) AS b (beyond)
    UNION ALL
    SELECT
        h.beyond,
        CASE WHEN e.position > h.beyond THEN h.low ELSE (h.low + h.high) / 2 + 1 END,
        CASE WHEN e.position > h.beyond THEN (h.low + h.high) / 2 ELSE h.high END
    FROM halved AS h
    LEFT JOIN @.events AS e ON e.stream = (SELECT id FROM named) AND e.version = (h.low + h.high) / 2
    WHERE h.low < h.high
),
own AS (
    SELECT e.position FROM @.events AS e
    WHERE e.stream = (SELECT id FROM named) AND e.correlation = e.stream
    AND e.version >= (SELECT low FROM halved WHERE low = high AND beyond = %(after)s LIMIT 1)
    AND e.version < (SELECT low FROM halved WHERE low = high AND beyond = %(upto)s LIMIT 1)
    ORDER BY e.version LIMIT %(limit)s
),
others AS (
    SELECT e.position FROM @.events AS e
    WHERE e.correlation = (SELECT id FROM named) AND e.correlation <> e.stream
    AND e.position > %(after)s AND e.position <= %(upto)s
    ORDER BY e.position LIMIT %(limit)s
)
SELECT {RECORDED}
FROM (
    SELECT position FROM own UNION ALL SELECT position FROM others ORDER BY position LIMIT %(limit)s
) AS found
JOIN @.events AS e ON e.position = found.position
JOIN @.streams AS s ON s.id = e.stream
JOIN @.streams AS c ON c.id = e.correlation
ORDER BY found.position
"""

STREAMS = """
SELECT s.name FROM @.streams AS s
CROSS JOIN LATERAL (SELECT e.position FROM @.events AS e WHERE e.stream = s.id ORDER BY e.version LIMIT 1) AS first
WHERE s.name >= %s AND s.name < %s ORDER BY first.position
"""


async def open_postgres(
    address: Address, *, payload_bytes_max: int, read_only: bool, lock_timeout_seconds: float
) -> PostgresLog:
    """Open the log in a schema, make it where there is none. See ``evrt.log.open_log``."""
    bells = Bells()
    if read_only:
        log_id = await _read_id(address)
        return PostgresLog(address, log_id, bells, None, payload_bytes_max=payload_bytes_max)
    opened: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    writer = Writer(address, bells, opened, lock_timeout_seconds=lock_timeout_seconds)
    try:
        log_id = await opened
    except BaseException:
        writer.abandon()
        raise
    return PostgresLog(address, log_id, bells, writer, payload_bytes_max=payload_bytes_max)


async def _read_id(address: Address) -> str:
    """The id of a log that is there. Raises NotFound, UnusableLog, and what reaching the server raises."""
    try:
        connection = await connect_reading(address)
        try:
            look: Any = LOOK
            found = await (await connection.execute(look, {"schema": address.schema})).fetchone()
            assert found is not None
            if judge(found, address) == "new":
                raise NotFound(
                    f"There is no log in the schema {address.schema} of {address.shown}. Open it for writing to make one."
                )
            head: Any = named(HEAD, address.quoted_schema)
            row = await (await connection.execute(head)).fetchone()
        finally:
            await connection.close()
    except psycopg.Error as error:
        raise translate(error, address, "The log cannot be opened") from error
    if row is None:
        raise UnusableLog(f"The log {address.shown} has no head: its row has been removed.")
    check_version(row[0], address)
    return str(row[1])


class PostgresLog:
    """See ``evrt.log.contract.Log``. May be used from several event loops, each with readers of its own.

    Behind a pooler that gives each transaction another session (PgBouncer in transaction mode), say
    ``?prepare_threshold=none``: then no statement is prepared and no session is set up or listened on; what other
    processes commit is seen within a second instead of at once.
    """

    def __init__(
        self, address: Address, log_id: str, bells: Bells, writer: Writer | None, *, payload_bytes_max: int
    ) -> None:
        self._address = address
        self._id = log_id
        self._bells = bells
        self._writer = writer
        self._payload_bytes_max = payload_bytes_max
        self._readers: dict[asyncio.AbstractEventLoop, tuple[Readers, Listener]] = {}
        self._process = os.getpid()
        self._closed = False
        self._closing: asyncio.Task[None] | None = None
        self._coordination = Coordinator(self._do, self._look, self._clock)

    @property
    def id(self) -> str:
        return self._id

    @property
    def url(self) -> str:
        """Without the password."""
        return self._address.shown

    @property
    def address(self) -> Address:
        """Where it is: for what stands beside the log in the same database."""
        return self._address

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
            raise Denied(f"The log {self._address.shown} is open for reading only: it was opened so.")
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
        parameters: dict[str, object] = {
            "after": _number(after),
            "upto": _number(NUMBER_MAX if upto is None else upto),
            "limit": _number(max(limit, 0)),
        }
        if correlation is None:
            rows = await self._fetch(READ, parameters)
        elif "\x00" in correlation:
            return []
        else:
            rows = await self._fetch(READ_CORRELATION, {**parameters, "correlation": correlation})
        return [recorded(row) for row in rows]

    async def read_stream(
        self, stream: str, *, after: int = -1, upto: int | None = None, limit: int | None = None
    ) -> list[Recorded]:
        rows: list[Recorded] = []
        left = NUMBER_MAX if limit is None else max(limit, 0)
        while True:
            page_events = min(left, STREAM_PAGE_EVENTS)
            page = await self._fetch(
                READ_STREAM,
                {
                    "stream": stream,
                    "after": _number(after),
                    "upto": _number(NUMBER_MAX if upto is None else upto),
                    "limit": Int8(page_events),
                },
            )
            rows.extend(map(recorded, page))
            left -= page_events
            if len(page) < page_events or left == 0:
                return rows
            after = rows[-1].version

    async def head(self, stream: str) -> Head:
        rows = await self._fetch("SELECT version, leaf, epoch FROM @.streams WHERE name = %s", (stream,))
        return Head(*rows[0]) if rows else EMPTY_HEAD

    async def position(self) -> int:
        [(position,)] = await self._fetch("SELECT position FROM @.head")
        return int(position)

    async def streams(self, prefix: str) -> list[str]:
        rows = await self._fetch(STREAMS, (prefix, prefix + BEYOND_EVERY_NAME))
        return [name for (name,) in rows]

    def subscribe(self, after: int = 0) -> Following:
        self._check_usable()
        return Following(self._page, self._bells, after=after, before_waiting=self._listen)

    async def _page(self, after: int) -> list[Recorded]:
        return await self.read(after=after, limit=PAGE_EVENTS)

    def watch(self) -> Watching:
        self._check_usable()
        return Watching(self._bells, self._listen)

    def _listen(self) -> None:
        if not self._closed:
            self._here()[1].watch()

    async def _fetch(
        self, sql: str, parameters: Sequence[object] | Mapping[str, object] = ()
    ) -> list[tuple[Any, ...]]:
        self._check_usable()
        readers, _ = self._here()
        for gone in [other for other in self._readers if other.is_closed()]:
            await self._readers.pop(gone)[0].close()
        return await readers.fetch(sql, parameters)

    def _here(self) -> tuple[Readers, Listener]:
        """What the running loop reads and listens with."""
        loop = asyncio.get_running_loop()
        here = self._readers.get(loop)
        if here is None:
            own = None if self._writer is None else self._writer.name
            here = Readers(self._address), Listener(self._address, self._bells.here(), own)
            self._readers[loop] = here
        return here

    def _check_usable(self) -> None:
        if self._closed:
            raise closed_error()
        if self._process != os.getpid():
            raise forked_error(self._address.shown)

    # ------------------------------------------------------------------------------------ queue

    @property
    def coordination(self) -> Coordination:
        return self._coordination

    async def _do(self, work: QueueWork) -> Any:
        return await self._open_writer().submit(work)

    async def _look(self, statement: Statement) -> list[Any]:
        return await self._fetch(*to_postgres(statement))

    async def _clock(self) -> Now:
        [(now,)] = await self._fetch(CLOCK)
        return Now(now, now, restarts=False)

    # ------------------------------------------------------------------------------------- refs

    async def ref(self, kind: str, external: str, *, create: bool = True) -> str | None:
        check_external(kind, external)
        rows = await self._fetch(
            "SELECT ref FROM @.refs WHERE kind = %s AND external = %s", (kind, external.encode())
        )
        if rows:
            return str(rows[0][0])
        if not create:
            return None
        return str(await self._open_writer().submit(WantedRef(kind, external)))

    async def external(self, ref: str) -> str | None:
        rows = await self._fetch("SELECT external FROM @.refs WHERE ref = %s", (ref,))
        return bytes(rows[0][0]).decode() if rows else None

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
        rows = await self._fetch(FIND, (digest_of(sha256),))
        if not rows:
            raise unknown_blob(sha256)
        [(blob, length)] = rows
        pieces = self._pieces(sha256, blob, after // BLOB_PIECE_BYTES, length)
        async for piece in checked(BlobKey(sha256, length), pieces, after=after):
            yield piece

    async def _pieces(self, sha256: str, blob: int, first: int, length: int) -> AsyncIterator[bytes]:
        for number in range(first, -(-length // BLOB_PIECE_BYTES)):
            rows = await self._fetch(READ_PIECE, (place_of(blob, number), blob, digest_of(sha256)))
            if not rows:
                raise unknown_blob(sha256)
            yield rows[0][0]

    async def blob_length(self, sha256: str) -> int | None:
        rows = await self._fetch(FIND, (digest_of(sha256),))
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
        for readers, listener in list(self._readers.values()):
            await listener.close()
            await readers.close()
        if self._writer is not None:
            await self._writer.submit(Stop())

    def __del__(self) -> None:
        if not self._closed and self._process == os.getpid():
            warnings.warn(
                f"The log {self._address.shown} was not closed.", ResourceWarning, stacklevel=2, source=self
            )
            if self._writer is not None:
                self._writer.abandon()


def _number(value: int) -> Int8:
    """A number that the database can compare with, the nearest one where it is beyond all that there are."""
    return Int8(min(max(value, -1), NUMBER_MAX))
