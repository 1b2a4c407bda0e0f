"""A process that uses a log while its disk fails, and tells what it was told; and the nursery that forks such.

Starting Python takes half a second, a fork takes milliseconds. So one process imports everything and
forks a worker for every job that it reads from its standard input: ``python -m faults.life``. One JSON
object a line, one a line back:

    {"fork": {job}}  →  {"pid": 123}
    {"wait": 123}    →  {"status": status of waitpid}
"""

from __future__ import annotations

import asyncio
import ctypes
import faulthandler
import gc
import json
import os
import sqlite3
import sys
import time
import traceback
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, TypedDict

import evrt.log.sqlite.store  # noqa: F401  # Opened in every worker, so imported before they are forked.
from evrt.errors import EvrtError
from evrt.log import NEW, Append, Appended, Claim, Draft, Expectation, Fence, Log, open_log
from evrt.log.ids import new_event_id
from evrt.log.sqlite import committing, recovery
from faults.plants import plant

DATABASE = "log.db"
STORY = "story.json"

HANGING_SECONDS = 20
"""After this time a worker tells where it is, and gives up: it should have taken a fraction of a second."""

TRIES_MAX = 4
"""Of whatever has to work in the end, where the disk recovers."""

PR_SET_PTRACER, PR_SET_PTRACER_ANY = 0x59616D61, ctypes.c_ulong(-1)
"""Where only parents may trace (Yama), a process can allow others to. Elsewhere the call does nothing."""

WAL_PAGES = 10
"""So that a short life sees checkpoints between its appends."""


class Job(TypedDict):
    """``dies``: end without closing the log, "at the end" or "when refused" for the first time · ``reader``: a
    transaction that reads is open all the while, so the WAL cannot be emptied · ``plant``: a bug to live with."""

    folder: str
    dies: Literal["", "at the end", "when refused"]
    reader: bool
    plant: str | None


class Told(TypedDict):
    """One request and what its caller was told: positions, or the class and text of an error."""

    ids: list[str]
    positions: list[int] | None
    error: str | None
    text: str


class Story(TypedDict):
    """``opened``: whether the log could be opened · ``failures``: what was said of anything but appends · ``recovered``: whether the last append was
    recorded in the end · ``read``: ids that the same process read at the end, or why it could not."""

    opened: bool
    told: list[Told]
    failures: list[str]
    recovered: bool
    read: list[str] | str


class Refused(Exception):
    """The worker ends where it is."""


class Life:
    """What every worker does: open, append in several ways, erase, read, close."""

    def __init__(self, path: Path, job: Job) -> None:
        self.path = path
        self.job = job
        self.story = Story(opened=False, told=[], failures=[], recovered=False, read="nothing was read")
        self.log: Log
        self.reader: sqlite3.Connection
        self.drafts: dict[str, Sequence[Draft]] = {}
        """Of every request, by the id of its first event."""

    async def live(self) -> None:
        if not await self.opens():
            return
        await self.append(draft("run-1", "run.claimed", meta=b'{"epoch":1}'), draft("run-1"), run_1=Claim(1))
        if self.job["reader"]:
            self.reader = sqlite3.connect(self.path, isolation_level=None)
            self.reader.execute("BEGIN")
            self.reader.execute("SELECT count(*) FROM events").fetchall()
        # A group: one of many pages, one that is refused, one that nobody minds.
        await asyncio.gather(
            self.append(draft("run-1", payload=b"x" * 9_000), draft("memory-1"), run_1=Fence(1)),
            self.append(draft("run-2"), run_2=NEW),
            self.append(draft("run-2"), run_2=NEW),
        )
        await self.attempt(self.log.ref("user", "ann"))
        await self.append(draft("run-2", payload=b"secret"), draft("run-2"))
        await self.attempt(self.log.erase_payload(1))
        await self.attempt(self.log.read())
        for _ in range(TRIES_MAX):
            if await self.append(draft("run-3")):
                self.story["recovered"] = True
                break
        await self.settle()
        try:
            self.story["read"] = [row.event_id for row in await self.log.read()]
        except EvrtError as error:
            self.story["read"] = str(error)
        if not self.job["dies"]:
            await self.attempt(self.log.aclose())

    async def opens(self) -> bool:
        try:
            self.log = await open_log(f"sqlite:///{self.path}")
        except EvrtError as error:
            self.story["failures"].append(str(error))
        else:
            self.story["opened"] = True
        return self.story["opened"]

    async def append(self, *drafts: Draft, **expect: Expectation) -> bool:
        request = Append(drafts, {stream.replace("_", "-"): value for stream, value in expect.items()})
        return await self.tell(request)

    async def settle(self) -> None:
        """Repeat what nobody knows the outcome of, until the log tells."""
        for told in [told for told in self.story["told"] if "is not known" in told["text"]]:
            drafts = self.drafts[told["ids"][0]]
            repeat_after = dict.fromkeys((draft.stream for draft in drafts), 0)
            for _ in range(TRIES_MAX):
                if await self.tell(Append(drafts, {}, repeat_after=repeat_after)):
                    break

    async def tell(self, request: Append) -> bool:
        ids = [draft.event_id for draft in request.drafts]
        self.drafts[ids[0]] = request.drafts
        told = Told(ids=ids, positions=None, error=None, text="")
        try:
            appended: Appended = await self.log.append(request)
        except EvrtError as error:
            told["error"], told["text"] = type(error).__name__, str(error)
        else:
            told["positions"] = list(appended.positions)
        self.story["told"].append(told)
        if told["error"] == "Unavailable" and self.job["dies"] == "when refused":
            raise Refused
        return told["error"] is None

    async def attempt(self, awaitable: Any) -> None:
        try:
            await awaitable
        except EvrtError as error:
            self.story["failures"].append(str(error))


def draft(
    stream: str, type: str = "note.written", *, payload: bytes = b"hello", meta: bytes = b"{}"
) -> Draft:
    return Draft(stream, type, new_event_id(), "run-1", meta, payload)


def work(job: Job) -> None:
    """Live, and leave the story in the folder. Never returns."""
    faulthandler.dump_traceback_later(HANGING_SECONDS, exit=True)
    folder = Path(job["folder"])
    status = 1
    try:
        committing.WAL_PAGES_MAX = WAL_PAGES
        committing.RECOVERY_PAUSE_SECONDS = 0.0
        plant(job["plant"])
        ctypes.CDLL(None).prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY, 0, 0, 0)
        while not is_traced():
            time.sleep(0.001)
        recovery.WAIT_SECONDS = 0.02
        life = Life(folder / DATABASE, job)
        with suppress(Refused):
            asyncio.run(life.live())
        (folder / STORY).write_text(json.dumps(life.story))
        status = 0
    except BaseException:  # noqa: BLE001  # Whatever it is, it is told to who reads the test's output.
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def is_traced() -> bool:
    return "TracerPid:\t0\n" not in Path("/proc/self/status").read_text()


def main() -> None:
    gc.freeze()
    for line in sys.stdin:
        command = json.loads(line)
        if "fork" in command:
            pid = os.fork()
            if pid == 0:
                work(command["fork"])
            answer = {"pid": pid}
        else:
            _, status = os.waitpid(command["wait"], 0)
            answer = {"status": status}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
