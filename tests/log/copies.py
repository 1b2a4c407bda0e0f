"""Logs to copy, with a little of everything in them; and all that a log holds, to be compared."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing, closing
from typing import Any, NamedTuple

from hypothesis import strategies as st

from evrt.log import Append, Claim, Next, open_log
from evrt.log.beside import BLOBS, QUEUE, TABLES
from evrt.log.contract import BLOB_PIECE_BYTES, Log
from evrt.log.coordination import Enqueue, Key, Park, Rate, Tick
from evrt.log.walk import open_rows
from evrt.moving import Copied, copy
from log.stores import append, claimed, draft

CORRELATIONS = ("conversation-1", "run-0", "run-9")
FOREIGN = "3f2b6a1e-0000-4000-8000-000000000001"


class Quiet:
    """Listens to a copy, remembers what matters, and has one that follows end at once."""

    def __init__(self) -> None:
        self.level_at: int | None = None
        self.sealed_at: int | None = None
        self.copied: list[tuple[int, int]] = []

    def copying(self, done: int, total: int) -> None:
        self.copied.append((done, total))

    def reading_back(self, done: int, total: int) -> None:
        pass

    def level(self, position: int) -> None:
        self.level_at = position

    def sealed(self, position: int) -> None:
        self.sealed_at = position

    def waits(self) -> bool:
        return False


def copied(source: str, target: str, *, switch: bool = False) -> Copied:
    """A copy that nobody watches."""
    return copy(source, target, teller=Quiet(), switch=switch)


def contents(url: str) -> dict[str, Any]:
    """All that a log holds but its leases: every row as its database has it, the queue as a copy carries it on."""
    with open_rows(url, "Test") as rows:
        found: dict[str, Any] = {table.name: list(rows.table(table)) for table in (*TABLES, BLOBS)}
        found["log"] = (rows.id, rows.created)
        found["events"] = [step for page in rows.steps() for step in page]
        found["heads"] = [head for page in rows.heads() for head in page]
        found["pieces"] = {blob.id: list(rows.blob_pieces(blob.id)) for blob in rows.blobs()}
    return found


def released(found: dict[str, Any]) -> dict[str, Any]:
    """The same, nobody having claimed anything."""
    state, worker, news = (QUEUE.columns.index(name) for name in ("state", "worker", "news"))
    queue = [list(row) for row in found["queue"]]
    for row in queue:
        if row[state] == "claimed":
            row[state], row[worker], row[news] = "ready", None, 0
    return found | {"queue": [tuple(row) for row in queue]}


# ------------------------------------------------------------------------------------------- making


class Step(NamedTuple):
    """One thing done to a log, with a number to vary it."""

    name: str
    number: int


STEPS = (
    *("append", "foreign", "claim", "erase", "ref", "blob", "erase blob", "enqueue", "give", "park", "tick"),
    *("track", "snapshot"),
)


def histories(*, most: int = 25) -> st.SearchStrategy[list[Step]]:
    """What may have been done to a log."""
    return st.lists(st.builds(Step, st.sampled_from(STEPS), st.integers(0, 11)), max_size=most)


EVERYTHING = [
    *(Step(name, number) for number in range(3) for name in STEPS),
    Step("blob", 1),
    Step("enqueue", 1),
    Step("give", 0),
]
"""Each, and more than once. Somebody works on something in the end."""


def make(url: str, steps: Sequence[Step]) -> None:
    """A log to which this has been done. Where no event loop runs."""
    asyncio.run(_make(url, steps))


async def _make(url: str, steps: Sequence[Step]) -> None:
    async with aclosing(await open_log(url)) as log:
        maker = _Maker(log)
        for step in steps:
            await maker.do(step)


class _Maker:
    def __init__(self, log: Log) -> None:
        self.log = log
        self.epochs: dict[str, int] = {}
        self.blobs: list[str] = []
        self.entries: list[str] = []

    async def do(self, step: Step) -> None:
        number = step.number
        stream = f"run-{number % 4}"
        correlation = CORRELATIONS[number % len(CORRELATIONS)]
        match step.name:
            case "append":
                payloads = [b"%d" % each * (number + 1) for each in range(number % 3 + 1)]
                await self.log.append(
                    append(*(draft(stream, each, correlation=correlation) for each in payloads))
                )
            case "foreign":
                head = await self.log.head(FOREIGN)
                version = 0 if head.leaf is None else head.version + 1
                event = draft(FOREIGN, bytes(range(number)), type="a.b:C", correlation=FOREIGN)
                await self.log.append(Append([event], {FOREIGN: Next(version)}))
            case "claim":
                epoch = self.epochs[stream] = self.epochs.get(stream, 0) + 1
                await self.log.append(Append([claimed(stream, epoch)], {stream: Claim(epoch)}))
            case "erase":
                if end := await self.log.position():
                    await self.log.erase_payload(number % end + 1)
            case "ref":
                await self.log.ref("user", f"Zoë {number}\N{BAT}")
            case "blob":
                size = (0, 10, BLOB_PIECE_BYTES, BLOB_PIECE_BYTES + 7)[number % 4]
                self.blobs.append((await self.log.write_blob(_pieces(bytes([number]) * size))).sha256)
            case "erase blob":
                if self.blobs:
                    await self.log.erase_blob(self.blobs[0])
                    gone = self.blobs[0]
                    self.blobs = [blob for blob in self.blobs if blob != gone]
            case "track":
                self.sql("INSERT OR REPLACE INTO tracking VALUES (?, ?)", f"application {number % 3}", number)
            case "snapshot":
                row = ("states", FOREIGN, number, "a.b:C", bytes(range(number)))
                self.sql("INSERT OR REPLACE INTO snapshots VALUES (?, ?, ?, ?, ?)", *row)
            case _:
                await self.queue(step)

    def sql(self, statement: str, *values: object) -> None:
        """What other libraries' recorders write to a SQLite log."""
        with closing(sqlite3.connect(self.log.url.removeprefix("sqlite:///"))) as connection, connection:
            connection.execute(statement, values)

    async def queue(self, step: Step) -> None:
        queue, number = self.log.coordination, step.number
        match step.name:
            case "enqueue":
                run = f"run-{100 + len(self.entries)}"
                self.entries.append(run)
                rate = Rate("r", 1, 60.0) if number % 3 == 0 else None
                lane = f"lane-{number % 2}" if number % 2 else None
                key = Key("", f"key {len(self.entries)}") if number % 2 else None
                await self.log.append(
                    append(draft(run), beside=[Enqueue(run, "t", number - 5, lane, None, rate, key)])
                )
            case "give":
                await queue.renew("w")
                await queue.claim("w", targets={"t": None}, limit=1)
            case "park" if self.entries:
                await queue.change(Park(self.entries[0], "t", due=number * 1_000_000_000))
            case "tick":
                now = (await queue.ticks()).get("daily", 0)
                await queue.change(Tick("daily", now + number + 1))


async def _pieces(content: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(content), BLOB_PIECE_BYTES):
        yield content[start : start + BLOB_PIECE_BYTES]


# ------------------------------------------------------------------------------------------- dying


def dies(work: Callable[[], object]) -> bool:
    """Do work in a forked process. Whether it was killed by SIGKILL; any other end but a good one is an error."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return True
    assert os.waitstatus_to_exitcode(status) == 0
    return False


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
