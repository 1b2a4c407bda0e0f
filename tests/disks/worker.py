"""The processes that are recorded: writers that append through evrt's own log, and tell what they were told.

``python -m disks.worker STORY FOLDER TOLD SEED [PLANT]``, where a story is

``alone``     one writer: the log is made, written in groups, erased from, closed, opened and written again.
``together``  three writers at once on one file that none of them finds there.
``lives``     three writers one after the other, two of which are killed and leave their WAL to the next.
``shaken``    one writer after another, each until it dies, or is told of an error and dies of that.
``endless``   three writers at once that append until they are killed.

Every event's meta names its request and how many events that has, so that whoever reads the file can
tell whether requests are whole. What is told is one line, written when evrt has answered:

    {"opened": log id} · {"recorded": request, "first": position, "events": n} · {"erased": position} ·
    {"erasing": position, "payload": how it begins}
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import random
import signal
import sys
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass

import evrt.log.sqlite.committing
import evrt.log.sqlite.store  # Opened in every process, so imported before they are forked.
from disks.plants import plant, plant_before
from evrt.errors import EvrtError
from evrt.log import Append, Draft, Log, open_log
from evrt.log.ids import new_event_id

DATABASE = "log.db"

WAL_PAGES_MAX = 24
"""The WAL is copied much sooner here than evrt does it, so that a short recording has several such copies."""

PAYLOAD_BYTES = (20, 200, 1_000, 6_000)
"""The largest goes over several pages."""

BEGINNING_BYTES = 16
"""Enough of a payload to know it again."""

STREAMS = ("run-a", "run-b", "memory-c")


@dataclass(slots=True)
class Writer:
    """Somebody who appends to an open log and tells what came of it."""

    log: Log
    name: str
    chance: random.Random
    told: int
    requests: int = 0

    def tell(self, what: dict[str, object]) -> None:
        os.write(self.told, json.dumps(what).encode() + b"\n")

    async def append(self) -> range:
        """One request of some events; where they are."""
        self.requests += 1
        request, events = f"{self.name}-{self.requests}", self.chance.choice((1, 1, 2, 4))
        stream = self.chance.choice(STREAMS)
        drafts = [self._draft(stream, request, number, events) for number in range(events)]
        appended = await self.log.append(Append(drafts, {}))
        self.tell({"recorded": request, "first": appended.positions.start, "events": events})
        return appended.positions

    def _draft(self, stream: str, request: str, number: int, events: int) -> Draft:
        meta = json.dumps({"request": request, "number": number, "events": events}, separators=(",", ":"))
        size = self.chance.choice(PAYLOAD_BYTES)
        payload = self.chance.randbytes(size)
        return Draft(stream, "note.written", new_event_id(), stream, meta.encode(), payload)

    async def group(self, count: int) -> None:
        """Several requests at once: one transaction, or a few."""
        await asyncio.gather(*(self.append() for _ in range(count)))

    async def erase(self, position: int) -> None:
        [row] = await self.log.read(after=position - 1, upto=position)
        assert row.payload is not None
        self.tell({"erasing": position, "payload": row.payload[:BEGINNING_BYTES].hex()})
        await self.log.erase_payload(position)
        self.tell({"erased": position})


class Stage:
    """A folder and what is needed to work in it."""

    def __init__(self, folder: str, told: str, seed: str, planted: str | None) -> None:
        self.url = f"sqlite:///{folder}/{DATABASE}"
        self.seed = seed
        self._planted = planted
        self._told = os.open(told, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)

    async def open(self, name: str) -> Writer:
        log = plant(await open_log(self.url), self._planted)
        writer = Writer(log, name, random.Random(f"{self.seed} {name}"), self._told)
        writer.tell({"opened": log.id})
        return writer

    async def write(self, name: str, act: Callable[[Writer], Awaitable[None]]) -> None:
        writer = await self.open(name)
        async with aclosing(writer.log):
            await act(writer)

    def fork(self, name: str, act: Callable[[Writer], Awaitable[None]]) -> int:
        """A process that does this; its id."""
        pid = os.fork()
        if pid:
            return pid
        code = 1
        try:
            asyncio.run(self.write(name, act))
            code = 0
        finally:
            os._exit(code)


async def _some(writer: Writer) -> None:
    for _ in range(5):
        await writer.append()


async def _a_life(writer: Writer) -> None:
    for _ in range(4):
        await writer.append()
    await writer.group(3)


async def _a_long_life(writer: Writer) -> None:
    positions = await writer.append()
    for count in (3, 1, 5, 2):
        await writer.group(count)
    await writer.erase(positions.start)
    for count in (1, 4, 1):
        await writer.group(count)


async def _a_life_cut_short(writer: Writer) -> None:
    await _a_life(writer)
    _die(writer)


def _die(writer: Writer) -> None:
    # Who holds the lock knows that nothing is being written: nobody could say from the trace whether it was.
    lock = os.open(f"{writer.log.url.removeprefix('sqlite:///')}-lock", os.O_RDWR | os.O_CLOEXEC)
    fcntl.flock(lock, fcntl.LOCK_EX)
    os.kill(os.getpid(), signal.SIGKILL)


def alone(stage: Stage) -> None:
    asyncio.run(stage.write("a", _a_long_life))
    asyncio.run(stage.write("b", _some))


def together(stage: Stage) -> None:
    for pid in [stage.fork(name, _some) for name in "abc"]:
        os.waitpid(pid, 0)


def lives(stage: Stage) -> None:
    for name, life in {"a": _a_life_cut_short, "b": _a_life_cut_short, "c": _a_life}.items():
        os.waitpid(stage.fork(name, life), 0)


REQUESTS_SHAKEN = 8
LIVES_SHAKEN = 4


def shaken(stage: Stage) -> None:
    """One life after another until one comes to its end. Each makes requests of its own."""
    for life in range(LIVES_SHAKEN):
        if os.waitpid(stage.fork(f"w{life}", _go_on), 0)[1] == 0:
            break


async def _go_on(writer: Writer) -> None:
    """Append; who is told of an error dies of it, as under a supervisor that starts another."""
    for _ in range(REQUESTS_SHAKEN):
        try:
            await writer.append()
        except EvrtError:
            _die(writer)


def endless(stage: Stage) -> None:
    for pid in [stage.fork(name, _for_ever) for name in "abc"]:
        os.waitpid(pid, 0)


async def _for_ever(writer: Writer) -> None:
    while True:
        await writer.append()


STORIES = {story.__name__: story for story in (alone, together, lives, shaken, endless)}


def main(story: str, folder: str, told: str, seed: str, planted: str | None = None) -> None:
    evrt.log.sqlite.committing.WAL_PAGES_MAX = WAL_PAGES_MAX
    plant_before(planted)
    STORIES[story](Stage(folder, told, seed, planted))


if __name__ == "__main__":
    main(*sys.argv[1:])
