"""A process with all of evrt imported, which forks for every command: real processes, without a second of imports each.

``python -m evrt`` itself is tried too, where starting is what matters (test_start_up, test_terminal).
"""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import typer.main

from evrt.cli import cli, main

IMPORTED = (
    "evrt.app",
    "evrt.testing",
    "evrt.cli.asking",
    "evrt.cli.assembling",
    "evrt.cli.auditing",
    "evrt.cli.checking",
    "evrt.cli.conversing",
    "evrt.cli.examining",
    "evrt.cli.executing",
    "evrt.cli.keeping",
    "evrt.cli.leaving",
    "evrt.cli.lines",
    "evrt.cli.listing",
    "evrt.cli.loading",
    "evrt.cli.ordering",
    "evrt.cli.queueing",
    "evrt.cli.rebuilding",
    "evrt.cli.remembering",
    "evrt.cli.replaying",
    "evrt.cli.showing",
    "evrt.cli.summing",
    "evrt.cli.supervising",
    "evrt.cli.trail",
    "evrt.cli.verifying",
    "evrt.log.memory",
    "evrt.log.sqlite.rows",
    "evrt.log.sqlite.store",
    "evrt_projections.audit",
    "evrt_projections.conversations",
    "evrt_projections.memory",
    "evrt_projections.messages",
    "evrt_projections.questions",
    "evrt_projections.runs",
    "evrt_projections.steps",
    "evrt_projections.usage",
)


class Forker:
    """The process, seen from the tests."""

    def __init__(self, requests: int, answers: int) -> None:
        self._requests = os.fdopen(requests, "w", encoding="utf-8")
        self._answers = os.fdopen(answers, encoding="utf-8")

    def run(
        self,
        words: list[str],
        folder: Path,
        environment: dict[str, str],
        streams: list[Path],
        user: int | None = None,
    ) -> int:
        """Run ``evrt`` with stdin, stdout and stderr from and to these files; returns the exit code.

        ``user``: whom to run it as, where the tests' own may do anything.
        """
        request = {
            "words": words,
            "user": user,
            "folder": str(folder),
            "environment": environment,
            "streams": [str(path) for path in streams],
        }
        self._requests.write(json.dumps(request) + "\n")
        self._requests.flush()
        return int(self._answers.readline())

    def close(self) -> None:
        self._requests.close()
        self._answers.close()


@contextmanager
def forking() -> Iterator[Forker]:
    """The process, until the block ends."""
    request_reader, request_writer = os.pipe()
    answer_reader, answer_writer = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-W", "default", __file__, str(request_reader), str(answer_writer)],
        env=os.environ | {"TZ": "UTC"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        pass_fds=(request_reader, answer_writer),
    )
    os.close(request_reader)
    os.close(answer_writer)
    forker = Forker(request_writer, answer_reader)
    try:
        yield forker
    finally:
        forker.close()
        process.wait()


# ------------------------------------------------------------------------------------- in the process


def serve(requests: int, answers: int) -> dict[str, Any] | None:
    """Fork for each request; returns it in the child, and None in the parent when there are no more."""
    for name in IMPORTED:
        import_module(name)
    # A description of all commands is made by every process anew, which takes longer than most commands do.
    typer.main.get_command = cache(typer.main.get_command)
    typer.main.get_command(cli)
    gc.freeze()  # What is there now is left alone in the children, whose memory it shares.
    lines = os.fdopen(requests, encoding="utf-8")
    for line in lines:
        child = os.fork()
        if child == 0:
            lines.close()
            os.close(answers)
            request: dict[str, Any] = json.loads(line)
            return request
        _, status = os.waitpid(child, 0)
        os.write(answers, f"{os.waitstatus_to_exitcode(status)}\n".encode())
    return None


def become(request: dict[str, Any]) -> None:
    """Turn into the command that was asked for; never returns."""
    for target, path in enumerate(request["streams"]):
        flags = os.O_RDONLY if target == 0 else os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        opened = os.open(path, flags)
        os.dup2(opened, target)
        os.close(opened)
    # What they are, a file or a terminal, is looked at when they are opened.
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace", buffering=1, closefd=False)  # noqa: SIM115
    os.chdir(request["folder"])
    if request["user"] is not None:
        os.setgroups([])
        os.setuid(request["user"])
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.path[0] = ""
    sys.argv = ["evrt", *request["words"]]
    code: object = 0
    try:
        main()
    except SystemExit as done:
        code = done.code
    # Taking the interpreter down costs as much as the command. Objects that warn when they go do so here.
    gc.collect()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else 1)


if __name__ == "__main__":
    wanted = serve(int(sys.argv[1]), int(sys.argv[2]))
    if wanted is not None:
        become(wanted)
