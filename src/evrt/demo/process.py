"""The worker process as the demo sees it: started, listened to, killed, and its wait status read."""

from __future__ import annotations

import asyncio
import json
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from evrt.demo.worker import Job
from evrt.errors import EvrtError, Unavailable

LAST_WORDS_CHARACTERS_MAX = 300


class Worker:
    """A worker process. Made by ``started``, which sees to it that it does not outlive its block."""

    def __init__(self, process: Process, complaints: Path) -> None:
        self._process = process
        self._complaints = complaints

    @property
    def pid(self) -> int:
        return self._process.pid

    async def run(self) -> str:
        """The id of the run that it works on. Raises EvrtError where it could not begin."""
        said = await self._said()
        if "run" not in said:
            raise await self._failure(said)
        return said["run"]

    def kill(self) -> None:
        """Send SIGKILL: no handler, no ``finally``, no goodbye."""
        with suppress(ProcessLookupError):
            self._process.kill()

    async def ended(self) -> int:
        """The wait status: an exit code, or minus the number of the signal that ended the process.

        Raises EvrtError where it ended of an error rather than with its run.
        """
        status = await self._process.wait()
        if status > 0:
            raise await self._failure(await self._said())
        return status

    async def _said(self) -> dict[str, str]:
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        said: dict[str, str] = json.loads(line) if line.endswith(b"\n") else {}
        return said

    async def _failure(self, said: dict[str, str]) -> EvrtError:
        if "error" in said:
            return Unavailable(said["error"])
        status = await self._process.wait()
        words = self._complaints.read_text("utf-8", "replace").split("\n")
        last = next((line for line in reversed(words) if line.strip()), "it left no word")
        return Unavailable(
            f"The worker process {self.pid} ended with status {status} and without a result: "
            f"{last.strip()[:LAST_WORDS_CHARACTERS_MAX]}. What it printed is in {self._complaints}."
        )


@asynccontextmanager
async def started(job: Job, complaints: Path) -> AsyncIterator[Worker]:
    """A new process that does the job; what it prints on stderr is added to the file ``complaints``."""
    with complaints.open("ab") as stderr:
        # -P: a file of the user's that happens to be named like a module of ours must not be imported.
        command = (sys.executable, "-P", "-m", "evrt.demo.worker")
        process = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE, stderr=stderr)
    assert process.stdin is not None
    try:
        with suppress(
            ConnectionError
        ):  # A process that ends before it has read is asked for its reasons later.
            process.stdin.write(job.model_dump_json().encode() + b"\n")
            await process.stdin.drain()
        yield Worker(process, complaints)
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
        process.stdin.close()
