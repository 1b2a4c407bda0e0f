"""Making the system calls of a real process fail: strace lets the n-th call return an error, the kernel does nothing.

strace counts for each thread by itself. All that writes a log happens in one thread, so the n-th
write of a worker is always the same one.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from faults.life import DATABASE, STORY, Job, Story

TESTS = Path(__file__).parent.parent
SUFFIXES = ("", "-wal", "-shm", "-journal", "-lock")


@dataclass(frozen=True, slots=True)
class Fault:
    """The calls of this name to the log's files fail with this error: ``when`` is ``7``, ``7+`` or ``7..9``."""

    call: str
    error: str
    when: str

    def __str__(self) -> str:
        return f"{self.call} {self.error} {self.when}"


class Nursery:
    """A process that forks workers (``faults.life``)."""

    def __init__(self) -> None:
        if shutil.which("strace") is None:
            raise RuntimeError(
                "These tests let system calls fail by means of strace, and it is not installed: apt-get install strace."
            )
        self._process = subprocess.Popen(
            [sys.executable, "-W", "error", "-m", "faults.life"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])},
        )

    def live(
        self, folder: Path, fault: Fault | None = None, *, plant: str | None = None
    ) -> tuple[Story, int]:
        """The story of a worker, and how many of its calls have failed."""
        pid = self._ask({"fork": Job(folder=str(folder), traced=fault is not None, plant=plant)})["pid"]
        injected = 0
        if fault is not None:
            injected = inject(
                pid, fault, [f"{folder}/{DATABASE}{suffix}" for suffix in SUFFIXES] + [str(folder)]
            )
        status = self._ask({"wait": pid})["status"]
        if status != 0:
            raise AssertionError(f"A worker ended with status {status:#x} under {fault}; see its stderr.")
        return json.loads((folder / STORY).read_text()), injected

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


def inject(pid: int, fault: Fault, paths: list[str]) -> int:
    """Trace a process to its end, with a fault. How many calls failed."""
    wanted = [word for path in paths for word in ("-P", path)]
    done = subprocess.run(
        ["strace", "-f", "-qq", "-p", str(pid), *wanted, "-e", f"trace={fault.call}"]
        + ["-e", f"inject={fault.call}:error={fault.error}:when={fault.when}"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.stderr.count("(INJECTED)")


@contextmanager
def nursery() -> Iterator[Nursery]:
    nursery = Nursery()
    try:
        yield nursery
    finally:
        nursery.close()
