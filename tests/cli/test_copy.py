"""``evrt db copy`` and what it makes possible, from the command line: moved, followed, broken off, refused."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from cli.shell import NOBODY, Shell, on_terminal, plain
from faults.mounts import run_on_small_disk


@pytest.fixture
def log(shell: Shell) -> str:
    """A run in a log at evrt.db; its id."""
    return shell.evrt("runs", "start", "helper", "Weather?", "--user", "ann").run


def test_a_log_moves_to_postgresql_and_the_work_goes_on_there(shell: Shell, log: str, postgres: str) -> None:
    told = shell.evrt("db", "copy", "evrt.db", postgres, "--switch")
    assert told.out.startswith(f"{shell.folder}/evrt.db has moved to postgresql://")
    assert "The log is sealed at position" in told.err
    assert "Views are built anew" in told.err
    assert shell.evrt("runs", "show", log, "--db", postgres, "--json").document["status"] == "succeeded"
    assert "has moved to postgresql://" in shell.evrt("runs", "start", "parrot", "hi", expect=5).err
    assert shell.evrt("runs", "show", log, "--json").document["status"] == "succeeded"
    assert shell.evrt("runs", "start", "parrot", "hi", "--db", postgres).out == "hi\n"
    assert "is sound" in shell.evrt("db", "check", "--db", postgres).out


def test_the_tree_that_was_signed_before_vouches_for_the_log_where_it_is_now(
    shell: Shell, log: str, postgres: str
) -> None:
    vkey = shell.evrt("audit", "keygen", "key").out.strip()
    shell.evrt("audit", "head", "--key", "key")
    shutil.copy(shell.folder / "evrt.db-tree" / "checkpoint", shell.folder / "kept")
    root = shell.evrt("db", "copy", "evrt.db", postgres, "--json").document["root"]
    assert len(root) == 64
    verify = ("audit", "verify", "--db", postgres, "--tree", "evrt.db-tree")
    told = shell.evrt(*verify, "--checkpoint", "kept", "--vkey", vkey).out
    assert "ANCHORED" in told
    shell.evrt("runs", "start", "parrot", "hi", "--db", postgres)
    shell.evrt("audit", "head", "--key", "key", "--db", postgres, "--tree", "evrt.db-tree")
    assert "ANCHORED" in shell.evrt(*verify, "--checkpoint", "kept", "--vkey", vkey).out
    assert "name the folder of its tree with --tree" in shell.refused(
        "audit", "verify", "--db", postgres, code=2
    )


def test_a_copy_is_told_of_in_json_and_goes_on_where_it_ended(shell: Shell, log: str) -> None:
    first = shell.evrt("db", "copy", "evrt.db", "copy.db", "--json").document
    assert (first["source"], first["target"]) == (f"{shell.folder}/evrt.db", f"{shell.folder}/copy.db")
    assert (first["copied"], first["moved"]) == (first["events"], False)
    shell.evrt("runs", "start", "parrot", "hi")
    second = shell.evrt("db", "copy", "evrt.db", "sqlite:///copy.db", "--json").document
    assert second["copied"] == second["events"] - first["events"] > 0
    assert shell.evrt("runs", "list", "--db", "copy.db", "--json").document


def test_a_copy_that_follows_says_when_it_is_level_and_ends_whole_at_ctrl_c(shell: Shell, log: str) -> None:
    news = shell.folder / "news"
    with news.open("wb") as stderr:
        process = shell.begin(
            "db", "copy", "evrt.db", "copy.db", "--follow", "--json", stderr=stderr.fileno()
        )
    try:
        while "Level with the log" not in news.read_text():
            assert process.poll() is None, news.read_text()
            time.sleep(0.05)
        told = shell.evrt("runs", "start", "parrot", "hi", "--db", "copy.db", expect=5).err
        assert "that is not finished" in told
        shell.evrt("runs", "start", "parrot", "hi")
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate()
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0
    assert json.loads(out)["events"] == shell.evrt("db", "check", "--json").document["events"]
    assert shell.evrt("runs", "start", "parrot", "hi", "--db", "copy.db").out == "hi\n"


def test_what_cannot_be_copied_is_refused_in_a_paragraph(shell: Shell, log: str) -> None:
    told = shell.refused("db", "copy", "missing.db", "copy.db", code=3)
    assert told.startswith(f"There is no log at {shell.folder}/missing.db.")
    assert "is the log that is to be copied" in shell.refused("db", "copy", "evrt.db", "./evrt.db", code=2)
    assert "what was given is empty" in shell.refused("db", "copy", "evrt.db", "", code=2)
    assert "There is no folder" in shell.refused("db", "copy", "evrt.db", "none/copy.db", code=3)
    shell.write("notes.db", "mine")
    assert "not a SQLite database" in shell.refused("db", "copy", "evrt.db", "notes.db", code=2)
    assert (shell.folder / "notes.db").read_text() == "mine"
    shell.evrt("runs", "start", "parrot", "hi", "--db", "other.db")
    assert "There is another log at" in shell.refused("db", "copy", "evrt.db", "other.db", code=4)
    address = "postgresql://nobody:secret@127.0.0.1:1/none"
    told = shell.refused("db", "copy", "evrt.db", address, code=6)
    assert "secret" not in told
    assert not (shell.folder / "copy.db").exists()


def test_who_may_not_write_is_told_so(shell: Shell, log: str, public_folder: Path) -> None:
    shutil.copy(shell.folder / "evrt.db", public_folder)
    locked = public_folder / "locked"
    locked.mkdir()
    locked.chmod(0o555)
    public_folder.chmod(0o555)
    shell.streams.chmod(0o777)
    public = Shell(public_folder, shell.streams, shell.forker, user=NOBODY if os.geteuid() == 0 else None)
    told = public.refused("db", "copy", "evrt.db", "locked/copy.db", code=5)
    assert "may not write to the folder" in told
    told = public.refused("db", "copy", "evrt.db", "other/copy.db", "--switch", code=3)
    assert "There is no folder" in told
    with tempfile.TemporaryDirectory() as elsewhere:
        Path(elsewhere).chmod(0o777)
        told = public.refused("db", "copy", "evrt.db", f"{elsewhere}/copy.db", "--switch", code=5)
        assert "cannot be marked as moved" in told
        # To copy it takes no more than to read it.
        assert "is copied to" in public.evrt("db", "copy", "evrt.db", f"{elsewhere}/copy.db").out


def test_a_backup_of_a_log_on_postgresql_is_a_file(shell: Shell, postgres: str) -> None:
    shell.evrt("runs", "start", "parrot", "hi", "--db", postgres)
    told = shell.evrt("db", "backup", "copy.db", "--db", postgres).out
    assert told.startswith("copy.db is a sound copy of postgresql://")
    assert shell.evrt("runs", "list", "--db", "copy.db", "--json").document
    assert "name another file" in shell.refused("db", "backup", "copy.db", "--db", postgres, code=4)
    assert "has today's schema already" in shell.evrt("db", "migrate", "--db", postgres).out


def test_the_doctor_looks_at_a_server_and_the_log_in_it(shell: Shell, postgres: str) -> None:
    names = [one["name"] for one in shell.evrt("doctor", "--db", postgres, "--json").document]
    assert {"psycopg", "server", "settings", "sessions", "round trips", "log"} <= set(names)
    shell.evrt("runs", "start", "parrot", "hi", "--db", postgres)
    told = shell.evrt("doctor", "--db", postgres).out
    assert "checked and sound" in told
    shell.evrt("db", "copy", postgres, "copy.db", "--switch")
    assert "which has moved to" in shell.evrt("doctor", "--db", postgres).out
    address = "postgresql://nobody:secret@127.0.0.1:1/none"
    told = shell.evrt("doctor", "--db", address, expect=1).out
    assert "bad   server" in told
    assert "secret" not in told


def test_a_long_copy_shows_how_far_it_is_on_a_terminal(shell: Shell, log: str) -> None:
    shell.write(
        "fill.py",
        "import asyncio\nfrom contextlib import aclosing\nfrom evrt.log import Append, Draft, open_log\n"
        "from evrt.log.ids import new_event_id\n"
        "async def main():\n"
        "    async with aclosing(await open_log('sqlite:///evrt.db')) as log:\n"
        "        await log.append(Append([Draft('run-x', 'a.b', new_event_id(), 'run-x', b'{}', b'') for _ in range(6000)], {}))\n"
        "asyncio.run(main())\n",
    )
    subprocess.run([sys.executable, "fill.py"], cwd=shell.folder, check=True)
    shown = plain(on_terminal(shell, "db", "copy", "evrt.db", "copy.db"))
    assert "Copying" in shown
    assert "is copied to" in shown


FULL = """
import json, subprocess, sys
from pathlib import Path
from evrt.log.check import check
from faults.mounts import fill, make_room
import shutil

folder = sys.argv[1]
source = sys.argv[2]

def copy():
    done = subprocess.run(
        [sys.executable, "-m", "evrt", "db", "copy", source, f"{folder}/copy.db"], capture_output=True, text=True
    )
    return [done.returncode, done.stderr]

small = copy()
there = Path(f"{folder}/copy.db").exists()
subprocess.run(["mount", "-o", "remount,size=64m", folder], check=True)
large = copy()
found = check(f"sqlite:///{folder}/copy.db")
print(json.dumps([small, there, large, found.events, len(found.findings)]))
"""


def test_a_copy_that_found_no_room_goes_on_when_there_is_some(shell: Shell, tmp_path: Path) -> None:
    shell.write(
        "big.py",
        "import evrt\napp = evrt.App()\n\n@app.workflow\nasync def keep(ctx) -> str:\n"
        "    for number in range(6):\n        await ctx.blobs.write(bytes([number]) * 1_000_000)\n    return 'kept'\n",
    )
    shell.evrt("runs", "start", "keep", "--app", "big")
    small = tmp_path / "small"
    small.mkdir()
    refused, there, done, events, findings = run_on_small_disk(
        small, FULL, f"{shell.folder}/evrt.db", size="4m"
    )
    assert refused[0] == 6
    assert "is full. Make room, then try again." in refused[1]
    assert there
    assert done[0] == 0
    assert (events > 0, findings) == (True, 0)
