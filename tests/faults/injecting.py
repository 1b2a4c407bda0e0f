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
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from faults.life import DATABASE, STORY, Job, Story

TESTS = Path(__file__).parent.parent
SUFFIXES = ("", "-wal", "-shm", "-journal", "-lock")


@dataclass(frozen=True, slots=True)
class Fault:
    """Calls of this name to the log's files fail with this error; ``when`` is ``7``, ``7+``, ``7..9`` or ``7..11+4``."""

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
        self,
        folder: Path,
        fault: Fault,
        *,
        dies: Literal["", "at the end", "when refused"] = "",
        reader: bool = False,
        plant: str | None = None,
        watched: Sequence[str] = (),
    ) -> tuple[Story, list[str]]:
        """The story of a worker, and its calls of the kind that fails and of those ``watched``, as strace tells them."""
        pid = self._ask({"fork": Job(folder=str(folder), dies=dies, reader=reader, plant=plant)})["pid"]
        paths = [str(folder), *(f"{folder}/{DATABASE}{suffix}" for suffix in SUFFIXES)]
        calls = inject(pid, fault, paths, watched)
        status = self._ask({"wait": pid})["status"]
        if status != 0:
            told = "\n".join(calls[-5:])
            raise AssertionError(
                f"A worker ended with status {status:#x} under {fault}; see its stderr. strace said at last:\n{told}"
            )
        return json.loads((folder / STORY).read_text()), calls

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


def inject(pid: int, fault: Fault, paths: Sequence[str], watched: Sequence[str] = ()) -> list[str]:
    """Trace a process to its end, with a fault. Its calls to these paths, as strace tells them."""
    wanted = [word for path in paths for word in ("-P", path)]
    spec = [
        f"trace={','.join([fault.call, *watched])}",
        f"inject={fault.call}:error={fault.error}:when={fault.when}",
    ]
    done = subprocess.run(
        ["strace", "-f", "-qq", "-y", "-p", str(pid), *wanted, "-e", spec[0], "-e", spec[1]],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.stderr.splitlines()


def failed(calls: Sequence[str]) -> int:
    """How many of them failed because they were told to."""
    return sum("(INJECTED)" in call for call in calls)
