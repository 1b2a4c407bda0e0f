"""The stores that the contract is tested on, and short words for what the tests append."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterable, AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

from evrt.errors import EvrtError
from evrt.log import (
    Append,
    Appended,
    BlobKey,
    Claim,
    Draft,
    Expectation,
    Head,
    Log,
    Recorded,
    Subscription,
    open_log,
)
from evrt.log.claiming import Now
from evrt.log.contract import Landing, Watch
from evrt.log.coordinating import Statement
from evrt.log.coordination import Change, Coordination
from evrt.log.entry import build_entry, leaf_hash
from evrt.log.ids import new_event_id
from evrt.log.queueing import Coordinator, QueueWork, local_now
from evrt.log.sqlite.store import SqliteLog

Open = Callable[[], AbstractAsyncContextManager[Log]]

STORES = ("memory", "sqlite", "postgres", "sqlite, reopened for every operation")


def draft(
    stream: str = "run-1",
    payload: bytes = b"hello",
    *,
    type: str = "note.written",
    meta: bytes = b"{}",
    correlation: str = "run-1",
    event_id: str | None = None,
) -> Draft:
    return Draft(stream, type, event_id or new_event_id(), correlation, meta, payload)


def claimed(stream: str, epoch: int) -> Draft:
    """The event that a claim needs beside it."""
    return draft(stream, type="run.claimed", meta=b'{"epoch":%d}' % epoch)


def append(
    *drafts: Draft,
    repeat_after: dict[str, int] | None = None,
    beside: Sequence[Change] = (),
    **expect: Expectation,
) -> Append:
    """An append; expectations by the stream's name with _ for -."""
    expected = {name.replace("_", "-"): value for name, value in expect.items()}
    return Append(drafts, expected, repeat_after=repeat_after, beside=beside)


def as_drafts(rows: Sequence[Recorded]) -> list[Draft]:
    """What was to be recorded, going by what was."""
    return [
        Draft(row.stream, row.type, row.event_id, row.correlation, row.meta, row.payload or b"")
        for row in rows
    ]


def leaf_of(log: str, row: Recorded, prev: bytes | None) -> bytes:
    """The leaf of a row, computed again from the row alone."""
    return leaf_hash(
        build_entry(
            log=log,
            position=row.position,
            time=row.time,
            event_id=row.event_id,
            stream=row.stream,
            version=row.version,
            prev=prev,
            type=row.type,
            correlation=row.correlation,
            meta=row.meta,
            payload_length=row.payload_length,
            payload_digest=row.payload_digest,
        )
    )


def opener(store: str, url: str) -> Open:
    """How to open the store of that name; a log in memory is the same one as long as the opener lives."""
    if store == "sqlite, reopened for every operation":
        return lambda: aclosing(ReopenedLog(url))
    return lambda: _opened("memory://" if store == "memory" else url)


@asynccontextmanager
async def _opened(url: str) -> AsyncIterator[Log]:
    async with aclosing(await open_log(url)) as log:
        yield log


class ReopenedLog:
    """A log of which nothing stays open between two operations, so nothing can be remembered wrongly.

    Appends made in one go come one after the other. Subscriptions keep a log of their own open.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._turn = asyncio.Lock()
        self._id = ""
        self._appending: set[asyncio.Task[None]] = set()

    @property
    def id(self) -> str:
        return self._id

    @property
    def url(self) -> str:
        return self._url

    def append(self, request: Append) -> Landing[Appended]:
        answer: Landing[Appended] = Landing()
        task = asyncio.get_running_loop().create_task(self._append(request, answer))
        self._appending.add(task)
        task.add_done_callback(self._appending.discard)
        return answer

    async def _append(self, request: Append, answer: Landing[Appended]) -> None:
        async with self._turn, _opened(self._url) as log:
            self._id = log.id
            try:
                appended = await log.append(request)
            except EvrtError as error:
                answer.set_exception(error)
            else:
                answer.set_result(appended)

    async def read(
        self,
        *,
        after: int = 0,
        upto: int | None = None,
        limit: int = 1_000,
        correlation: str | None = None,
    ) -> list[Recorded]:
        async with self._turn, _opened(self._url) as log:
            return await log.read(after=after, upto=upto, limit=limit, correlation=correlation)

    async def read_stream(
        self, stream: str, *, after: int = -1, upto: int | None = None, limit: int | None = None
    ) -> list[Recorded]:
        async with self._turn, _opened(self._url) as log:
            return await log.read_stream(stream, after=after, upto=upto, limit=limit)

    async def head(self, stream: str) -> Head:
        async with self._turn, _opened(self._url) as log:
            return await log.head(stream)

    async def position(self) -> int:
        async with self._turn, _opened(self._url) as log:
            return await log.position()

    async def streams(self, prefix: str) -> list[str]:
        async with self._turn, _opened(self._url) as log:
            return await log.streams(prefix)

    def subscribe(self, after: int = 0) -> Subscription:
        raise NotImplementedError("Subscriptions are tested on logs that stay open.")

    def watch(self) -> Watch:
        raise NotImplementedError("Watches are tested on logs that stay open.")

    @property
    def coordination(self) -> Coordination:
        async def do(work: QueueWork) -> Any:
            async with self._turn, _opened(self._url) as log:
                assert isinstance(log, SqliteLog)
                return await log._do(work)

        async def look(statement: Statement) -> list[Any]:
            async with self._turn, _opened(self._url) as log:
                assert isinstance(log, SqliteLog)
                return await log._look(statement)

        async def clock() -> Now:
            return local_now()

        return Coordinator(do, look, clock)

    async def ref(self, kind: str, external: str, *, create: bool = True) -> str | None:
        async with self._turn, _opened(self._url) as log:
            return await log.ref(kind, external, create=create)

    async def external(self, ref: str) -> str | None:
        async with self._turn, _opened(self._url) as log:
            return await log.external(ref)

    async def forget(self, ref: str) -> None:
        async with self._turn, _opened(self._url) as log:
            await log.forget(ref)

    async def erase_payload(self, position: int) -> None:
        async with self._turn, _opened(self._url) as log:
            await log.erase_payload(position)

    async def write_blob(self, pieces: AsyncIterable[bytes]) -> BlobKey:
        async with self._turn, _opened(self._url) as log:
            return await log.write_blob(pieces)

    async def read_blob(self, sha256: str, *, after: int = 0) -> AsyncIterator[bytes]:
        async with self._turn, _opened(self._url) as log:
            async for piece in log.read_blob(sha256, after=after):
                yield piece

    async def blob_length(self, sha256: str) -> int | None:
        async with self._turn, _opened(self._url) as log:
            return await log.blob_length(sha256)

    async def erase_blob(self, sha256: str) -> None:
        async with self._turn, _opened(self._url) as log:
            await log.erase_blob(sha256)

    async def aclose(self) -> None:
        pass


# Of SQLite alone.


def url(path: Path) -> str:
    return f"sqlite:///{path}"


async def fill(path: Path) -> None:
    async with aclosing(await open_log(url(path))) as log:
        await log.append(append(claimed("run-1", 1), draft(payload=b"secret"), run_1=Claim(1)))
        await log.append(append(draft("run-2"), draft("run-1", payload=b"other")))
        await log.ref("user", "ann")


def make_log(path: Path, events: int) -> None:
    """A log of so many events in one stream. Where no event loop runs."""

    async def make() -> None:
        async with aclosing(await open_log(url(path))) as log:
            await log.append(append(*(draft(payload=b"note %d" % number) for number in range(events))))

    asyncio.run(make())


def run_python(script: str, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: PLW1510  # The tests look at the status themselves.
        [sys.executable, *options, "-c", textwrap.dedent(script)], capture_output=True, text=True, timeout=30
    )
