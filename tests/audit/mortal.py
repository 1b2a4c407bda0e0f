"""Grows a tree in processes that die on cue: at the n-th thing they do to the file system.

    python mortal.py URL FOLDER

For each line ``n when`` on standard input a child is forked that grows the tree and is killed there; the
answer is ``killed``, or ``grown`` if it came to its end first. ``when`` is ``before`` the n-th of all
calls, or ``torn``: in the n-th write, with half of its bytes written.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from evrt.audit.folder import TreeFolder
from evrt.audit.growth import grow

CALLS = ("mkdir", "open", "write", "fsync", "replace", "unlink", "rmdir")
COMMIT_EVENTS = 256


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def mortal(call: Callable[..., Any], count: Callable[[], bool], when: str) -> Callable[..., Any]:
    """The call, which kills its process if it is its turn."""

    def calling(*arguments: Any, **options: Any) -> Any:
        if count():
            if when == "torn":
                descriptor, content = arguments
                call(descriptor, content[: len(content) // 2])
            die()
        return call(*arguments, **options)

    return calling


def grow_and_die(url: str, folder: Path, turn: int, when: str) -> None:
    left = turn

    def count() -> bool:
        nonlocal left
        left -= 1
        return left == 0

    for name in CALLS if when == "before" else ("write",):
        setattr(os, name, mortal(getattr(os, name), count, when))
    grow(url, TreeFolder(folder), commit_events=COMMIT_EVENTS)


def main() -> None:
    url, folder = sys.argv[1], Path(sys.argv[2])
    for line in sys.stdin:
        turn, when = line.split()
        child = os.fork()
        if child == 0:
            grow_and_die(url, folder, int(turn), when)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        died = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        print("killed" if died else "grown" if status == 0 else f"failed: {status}", flush=True)


if __name__ == "__main__":
    main()
