"""Workers in processes of their own, which are killed, frozen and thawed; and the person outside who settles and signals."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg
from psycopg.errors import LockNotAvailable

from crash.world import World
from evrt.errors import Conflict, EvrtError
from evrt.log.coordination import Entry, State
from workers.labour import Job, LabourApp, make_app

LOOKED_AT: tuple[State, ...] = ("waiting", "claimed")
"""What somebody may settle, or signal; a signal may also come before it is waited for."""

TESTS = Path(__file__).parent.parent


class Nursery:
    """A process that forks workers (``workers.labour``)."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-W", "error", "-m", "workers.labour"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])},
        )

    def spawn(self, job: Job) -> int:
        pid: int = self._ask({"spawn": job})["pid"]
        return pid

    def wait(self, pid: int) -> int:
        """The status of a worker that has ended, or was stopped."""
        status: int = self._ask({"wait": pid})["status"]
        return status

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def _ask(self, command: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(command).encode() + b"\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer


class Site:
    """One log, its ledger, and the workers that are at work there."""

    def __init__(self, nursery: Nursery, url: str, folder: Path, *, lease_seconds: float) -> None:
        self.nursery = nursery
        self.url = url
        self.folder = folder
        self.world = World(folder)
        self.lease_seconds = lease_seconds
        self.alive: list[int] = []
        self.frozen: dict[int, float] = {}
        """When each of those that stand still is to go on."""

    def app(self) -> LabourApp:
        return make_app(self.url, self.world)

    def hire(self, **job: Any) -> int:
        whole = Job(url=self.url, folder=str(self.folder), lease_seconds=self.lease_seconds)
        whole.update(job)  # type: ignore[typeddict-item]
        pid = self.nursery.spawn(whole)
        self.alive.append(pid)
        return pid

    def kill(self, pid: int) -> None:
        os.kill(pid, signal.SIGKILL)
        self.nursery.wait(pid)
        self._gone(pid)

    def freeze(self, pid: int, seconds: float) -> bool:
        """Have a worker stand still, without the log's lock. Whether it does."""
        os.kill(pid, signal.SIGSTOP)
        return self.stands(pid, seconds)

    def stands(self, pid: int, seconds: float) -> bool:
        """Whether a worker that was told to stop, or stops itself, stands still; it is let on until it has no lock."""
        while os.WIFSTOPPED(self.nursery.wait(pid)):
            if self.lock_is_free():
                self.frozen[pid] = time.monotonic() + seconds
                return True
            os.kill(pid, signal.SIGCONT)
            time.sleep(0.002)
            os.kill(pid, signal.SIGSTOP)
        self._gone(pid)
        return False

    def thaw(self, pid: int) -> None:
        self.frozen.pop(pid, None)
        os.kill(pid, signal.SIGCONT)

    def dismiss(self, pid: int) -> int:
        """Have it drain; how it exits."""
        self.thaw(pid)
        os.kill(pid, signal.SIGTERM)
        code = os.waitstatus_to_exitcode(self.nursery.wait(pid))
        self._gone(pid)
        return code

    def end(self) -> None:
        """Whatever is still there goes."""
        for pid in list(self.alive):
            with suppress(ProcessLookupError):
                self.kill(pid)

    def lock_is_free(self) -> bool:
        """Whether nobody is writing: who stands still with the lock stops everybody, as is known."""
        if not self.url.startswith("sqlite"):
            address, schema = self.url.split("schema=")
            with psycopg.connect(address.rstrip("?&")) as connection, suppress(LockNotAvailable):
                connection.execute(f'SELECT 1 FROM "{schema}".head FOR UPDATE NOWAIT')
                return True
            return False
        with open(f"{self.folder}/log.db-lock", "ab") as file, suppress(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        return False

    def said(self) -> str:
        """What those workers said that broke."""
        texts = [path.read_text() for path in self.folder.glob("worker-*.txt")]
        return "\n".join(text for text in texts if "Traceback" in text)

    def _gone(self, pid: int) -> None:
        self.alive.remove(pid)
        self.frozen.pop(pid, None)


@contextmanager
def site(url: str, folder: Path, *, lease_seconds: float, nursery: Nursery | None = None) -> Iterator[Site]:
    """A site, from which everybody goes home."""
    own = nursery or Nursery()
    one = Site(own, url, folder, lease_seconds=lease_seconds)
    try:
        yield one
    finally:
        one.end()
        if nursery is None:
            own.close()


class Person:
    """Settles what is in doubt by what the ledger says, and sends each run that waits for it its signal."""

    def __init__(self, app: LabourApp, world: World, chance: random.Random) -> None:
        self._app = app
        self._world = world
        self._chance = chance
        self.settled = 0
        self.signalled: set[str] = set()

    async def look(self, *, eager: bool = False) -> bool:
        """See to every run that waits. Whether there is none in the queue any more."""
        queue = (await self._app.log()).coordination
        for state in LOOKED_AT:
            for entry in await queue.entries(state=state):
                with suppress(Conflict):  # It was taken meanwhile.
                    await self._see_to(entry, eager)
        return not await queue.counts()

    async def left(self) -> str:
        """What is left in the queue, and who has it."""
        queue = (await self._app.log()).coordination
        lines = [*map(str, await queue.entries()), *map(str, await queue.leases())]
        return "\n".join(lines)

    async def _see_to(self, entry: Entry, eager: bool) -> None:
        waits = entry.target == "patient" and entry.run not in self.signalled
        if waits and (eager or self._chance.random() < 0.3):
            await self._app.signal(entry.run, "go", "gone")
            self.signalled.add(entry.run)
        if entry.state != "waiting":
            return
        for operation in (await self._app.get(entry.run)).journal.waiting_for_settlement():
            line = self._world.happened(entry.run, operation.identity)
            if line is None:
                await self._app.settle(entry.run, operation.identity, again=True)
            else:
                await self._app.settle(entry.run, operation.identity, result=line.result)
            self.settled += 1


async def until_all_ended(person: Person, seconds: float, one: Site) -> None:
    """See to everything until the queue is empty. Fails when it is not after so long."""
    until = time.monotonic() + seconds
    while True:
        with suppress(EvrtError):
            if await person.look(eager=True):
                return
        assert time.monotonic() < until, f"Not every run ended.\n{await person.left()}\n{one.said()}"
        await asyncio.sleep(0.05)
