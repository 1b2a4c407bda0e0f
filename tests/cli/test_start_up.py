"""Starting: `evrt --help` is there at once because it imports next to nothing; and what the shell gets of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import IO

from cli.shell import Finished, Shell

HEAVY = (
    "aiosqlite",
    "asyncio",
    "eventsourcing",
    "evrt.app",
    "evrt.events",
    "evrt.log",
    "litellm",
    "pydantic",
    "rich",
    "sqlite3",
    "starlette",
)

IMPORTED_BY_HELP = """
import json, runpy, sys
sys.argv = ["evrt", *sys.argv[1:]]
try:
    runpy.run_module("evrt", run_name="__main__")
except SystemExit as done:
    print(json.dumps([done.code, sorted(sys.modules)]))
"""


def python(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False)


def test_help_imports_nothing_heavy() -> None:
    helped = python("-c", IMPORTED_BY_HELP, "--help")
    assert helped.stderr == ""
    code, modules = json.loads(helped.stdout.splitlines()[-1])
    assert code == 0
    assert [name for name in HEAVY if name in modules] == []
    for command in (
        "demo",
        "runs",
        "conversations",
        "memory",
        "questions",
        "usage",
        "projections",
        "log",
        "db",
    ):
        assert f"\n  {command} " in helped.stdout
    assert "Exit codes: 0 ok, 1 negative result" in helped.stdout


def test_the_version_is_that_of_the_package() -> None:
    from evrt import __version__

    assert python("-m", "evrt", "--version").stdout == f"evrt {__version__}\n"


def test_wrong_usage_exits_with_two_and_says_what_is_wrong(shell: Shell) -> None:
    for words, told in (
        (("dance",), "No such command 'dance'"),
        (("runs", "start"), "Missing argument 'NAME'"),
        (("runs", "list", "--status", "happy"), "'happy' is not one of 'queued'"),
        (("runs", "list", "--limit", "0"), "greater than or equal to 1"),
        (("log", "--colour"), "No such option: --colour"),
    ):
        result = shell.evrt(*words, expect=2)
        assert told in result.err
        assert result.out == ""


def test_an_argument_that_is_not_utf_8_is_refused(shell: Shell) -> None:
    finished = subprocess.run(
        [sys.executable, "-m", "evrt", "runs", "start", "parrot", b"\xff"],
        cwd=shell.folder,
        env=shell.environment_with(),
        capture_output=True,
        check=False,
    )
    assert finished.returncode == 2
    assert finished.stderr == b"An argument is not text in UTF-8: '\\udcff'.\n"


def test_a_reader_that_goes_away_or_a_full_disk_ends_it_quietly(history: tuple[Shell, Finished]) -> None:
    shell, _ = history
    with shell.begin("log", "--follow") as follower:
        assert follower.stdout is not None
        assert follower.stdout.readline() != ""
        follower.stdout.close()
        shell.evrt("runs", "start", "parrot", "hi", "--conversation", "c2")
        assert follower.wait() == 141
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "wb") as nobody:
        assert _listing(shell, nobody) == (141, b"")
    full = "/dev/full"
    if os.path.exists(full):  # Linux and the BSDs have it.
        with open(full, "wb") as disk:
            assert _listing(shell, disk) == (
                6,
                b"The output could not be written: No space left on device.\n",
            )


def _listing(shell: Shell, stdout: IO[bytes]) -> tuple[int, bytes]:
    """What listing runs into this comes to: exit code and stderr."""
    finished = subprocess.run(
        [sys.executable, "-m", "evrt", "runs", "list"],
        cwd=shell.folder,
        env=shell.environment_with(),
        stdout=stdout,
        stderr=subprocess.PIPE,
        check=False,
    )
    return finished.returncode, finished.stderr
