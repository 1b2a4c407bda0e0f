"""Watching the system calls of a worker, and having one of them be its last: strace, attached before it begins."""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

STRACE_TEXT = (
    "strace is not on the PATH, and without it these tests cannot see what a process asks of the system. "
    "Install it (apt-get install strace) and run them again."
)

PR_SET_PTRACER = 0x59616D61
ANYBODY = ctypes.c_ulong(-1)

_CALL = re.compile(r"(\d+) +(\w+)\(")


def strace() -> str:
    found = shutil.which("strace")
    assert found, STRACE_TEXT
    return found


def allow_tracing() -> None:
    """Let this process be traced by one that is not its parent, where that has to be said."""
    with suppress(OSError):
        ctypes.CDLL(None).prctl(PR_SET_PTRACER, ANYBODY, 0, 0, 0)


@contextmanager
def traced(pid: int, *expressions: str, output: Path = Path(os.devnull)) -> Iterator[None]:
    """Strace at a process that stands still, in strace's words, until the process has ended."""
    options = [option for expression in expressions for option in ("-e", expression)]
    command = [strace(), "-f", "-o", str(output), "-e", "signal=none", *options, "-p", str(pid)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as tracer:
        assert tracer.stderr is not None
        attached = tracer.stderr.readline()
        assert "attached" in attached, attached
        yield
        tracer.stderr.read()


def most_calls(trace: Sequence[str]) -> dict[str, int]:
    """By call, how often the thread made it that made it most."""
    made = Counter((found[1], found[2]) for line in trace if (found := _CALL.match(line)))
    most: dict[str, int] = {}
    for (_, call), count in made.items():
        most[call] = max(count, most.get(call, 0))
    return most
