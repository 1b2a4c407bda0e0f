"""What cannot be done is refused with one paragraph and the right exit code, and leaves everything as it was."""

from __future__ import annotations

import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from cli.shell import NOBODY, Finished, Shell
from evrt.log.sqlite.schema import APPLICATION_ID

History = tuple[Shell, Finished]


def test_names_of_what_does_not_exist_are_refused(history: History) -> None:
    shell, waiting = history
    run = waiting.run
    for command in (
        "runs show nope",
        "runs answer nope yes",
        "runs resume nope",
        "runs settle nope --again",
        "log nope",
        "at nope@3",
        "replay nope",
    ):
        assert "There is no run nope in sqlite:///evrt.db." in shell.refused(*command.split(), code=3)
    assert "has events 1 to" in shell.refused("at", f"{run}@99", code=3)
    assert "has no checkpoint 'x'. Its checkpoints: planned." in shell.refused("at", f"{run}@{{x}}", code=3)
    assert "names no moment" in shell.refused("at", f"{run}@yesterday", code=2)
    assert "has events 1 to" in shell.refused("at", f"{run}@{'9' * 5_000}", code=3)
    assert "has events 1 to" in shell.refused("at", f"{run}@head~{'9' * 5_000}", code=3)
    assert "has no model call" in shell.refused("log", run, "--request", "model#7", code=3)
    assert "could be any of 4 runs" in shell.refused("runs", "show", "run-", code=2)
    assert "is a moment that has passed" in shell.refused("log", "--follow", f"{run}@3", code=2)
    assert "belongs to a run" in shell.refused("log", "--request", "model#1", code=2)


def test_a_run_that_cannot_be_started_leaves_no_log_behind(shell: Shell) -> None:
    start = ("runs", "start")
    assert shell.refused(*start, "nobody", "hi", code=3).startswith(
        "The app has no agent or workflow 'nobody'. It has: "
    )
    assert "does not fit workflow payment" in shell.refused(*start, "payment", "much", code=2)
    assert "takes no input" in shell.refused(*start, "broken", "hi", code=2)
    assert "There is no file x" in shell.refused(*start, "parrot", "--input-file", "x", code=3)
    assert "not both" in shell.refused(*start, "parrot", "hi", "--input-file", "x", code=2)
    assert "not UTF-8" in shell.refused(*start, "parrot", "-", stdin=b"\xff", code=2)
    assert "64-bit" in shell.refused(*start, "parrot", "9" * 30, code=2)
    assert shell.refused(*start, "parrot", "hi", code=2, EVRT_APP="").startswith("Which app?")
    assert sorted(path.name for path in shell.folder.iterdir() if path.name != "__pycache__") == [
        "support.py"
    ]


def test_what_a_run_does_not_wait_for_is_refused(history: History) -> None:
    shell, waiting = history
    ended = shell.evrt("runs", "list", "--agent", "helper", "--json").document[0]["run"]
    before = shell.evrt("log", "--json").out
    assert "Say yes or no." in shell.refused("runs", "answer", waiting.run, "maybe", code=2)
    assert "no operation ask#2" in shell.refused(
        "runs", "answer", waiting.run, "yes", "--operation", "ask#2", code=3
    )
    assert "has no write in doubt" in shell.refused("runs", "settle", waiting.run, "--again", code=4)
    assert "Exactly one of them" in shell.refused("runs", "settle", waiting.run, code=2)
    assert "Exactly one of them" in shell.refused(
        "runs", "settle", waiting.run, "--again", "--error", "x", code=2
    )
    assert "has ended" in shell.refused("runs", "answer", ended, "yes", code=4)
    assert "has ended" in shell.refused("runs", "settle", ended, "--again", code=4)
    assert (
        "has ended (succeeded): there is nothing to resume."
        in shell.evrt("runs", "resume", ended, expect=4).err
    )
    assert shell.evrt("log", "--json").out == before


def test_a_file_that_is_not_a_log_for_this_version_is_left_as_it_is(shell: Shell) -> None:
    shell.write("notes.txt", "Not a database, and dear to somebody.\n" * 10)
    for name, application_id, version in (("photos.db", 77, 3), ("newer.db", APPLICATION_ID, 99)):
        with closing(sqlite3.connect(shell.folder / name)) as connection:
            connection.execute(f"PRAGMA application_id = {application_id}")
            connection.execute(f"PRAGMA user_version = {version}")
            connection.execute("CREATE TABLE albums (name TEXT)")
    before = _contents(shell.folder)
    for name, told in (
        ("notes.txt", "it is not a SQLite database"),
        ("photos.db", "it is the database of another program"),
        ("newer.db", "was written by a newer evrt: its schema has version 99"),
    ):
        for command in ("runs list", "db check", "runs start parrot hi", "runs answer x y"):
            assert told in shell.refused(*command.split(), "--db", name, code=2)
    assert _contents(shell.folder) == before


def test_an_address_that_names_no_log_is_refused(shell: Shell) -> None:
    for address, code, told in (
        ("mysql://localhost/evrt", 2, "is not the URL of a log"),
        ("postgresql://127.0.0.1:1/evrt", 6, "The log cannot be opened"),
        ("sqlite:///", 2, "names no file"),
        (".", 2, "is a folder"),
        ("nowhere/evrt.db", 3, "There is no"),
    ):
        for command in ("runs list", "runs start parrot hi"):
            assert told in shell.refused(*command.split(), "--db", address, code=code)
    assert "cannot be opened read-only" in shell.refused("runs", "list", "--db", "memory://", code=2)


def test_a_log_that_may_not_be_written_can_be_read_and_nothing_else(
    shell: Shell, public_folder: Path
) -> None:
    run = shell.evrt("runs", "start", "two_questions").run
    for path in (shell.folder / "evrt.db", shell.folder / "support.py"):
        shutil.copy(path, public_folder)
        (public_folder / path.name).chmod(0o444)
    public_folder.chmod(0o555)
    before = _contents(public_folder)
    # The superuser may write everything.
    visitor = replace(shell, folder=public_folder, user=NOBODY if os.geteuid() == 0 else None)
    assert visitor.evrt("runs", "show", run).out.startswith(f"{run}  waiting")
    answer = ("runs", "answer", run, "Ann", "--operation", "gather#1:0/ask#1")
    assert "open for reading only" in visitor.refused(*answer, code=5)
    started = visitor.evrt("runs", "start", "parrot", "hi", expect=5)
    assert "open for reading only" in started.err.splitlines()[-1]
    assert started.out == ""
    assert "cannot be created" in visitor.refused("runs", "start", "parrot", "hi", "--db", "new.db", code=5)
    assert _contents(public_folder) == before


def test_an_app_that_cannot_be_loaded_is_explained(shell: Shell) -> None:
    shell.write("raises.py", "import evrt\n\ndef load():\n    return 1 / 0\n\nload()\n")
    shell.write("needs.py", "import evrt\nimport something_not_installed\n")
    shell.write("typo.py", "app = evrt.App(\n")
    shell.write("leaves.py", "raise SystemExit('bye')\n")
    shell.write("other.py", "import evrt\nmine = evrt.App()\nnumber = 3\n")
    shell.write("empty.py", "")
    shell.write("twice.py", "import evrt\napp = evrt.App()\napp.agent('a')\napp.agent('a')\n")
    shell.write(
        "tools.py",
        "import evrt\n\ndef make():\n    @evrt.tool\n    def look(): ...\n    return look\n\n"
        "app = evrt.App()\napp.agent('a', tools=[make()])\napp.agent('b', tools=[make()])\n",
    )
    here = re.escape(str(shell.folder))
    for name, told in (
        ("missing", "There is no module 'missing', neither in "),
        ("support.py", r"'support\.py' does not name an app.* write support:app"),
        ("./support", "'./support' does not name an app"),
        ("raises", rf"raised ZeroDivisionError: division by zero \({here}/raises\.py:4\)"),
        ("needs", rf"raised ModuleNotFoundError: .*'something_not_installed' \({here}/needs\.py:2\)"),
        ("typo", rf"raised SyntaxError: .* \({here}/typo\.py:1\)"),
        ("leaves", rf"raised SystemExit: bye \({here}/leaves\.py:1\)"),
        ("other", r"has no 'app'\. It has other:mine\."),
        ("other:number", r"other:number is not an evrt\.App but an int\. It has other:mine\."),
        ("empty", r"has no 'app'\. It has no evrt\.App at all"),
        ("twice", rf"\({here}/twice\.py:4\): The name 'a' is registered twice\."),
        ("tools", rf"\({here}/tools\.py:10\): Two different tools are named 'look'\."),
    ):
        assert re.search(told, shell.refused("runs", "start", "a", "hi", "--app", name, code=2)), name
    assert shell.evrt("runs", "start", "parrot", "hi", "--app", "support").out == "hi\n"


BUGGY = """
import evrt

def redact(value):
    raise LookupError('of the redaction')

app = evrt.App(redact=redact)
app.agent('a', model='m')
"""


def test_an_error_that_nobody_expected_is_shown_with_its_place_where_it_is_looked_for(shell: Shell) -> None:
    """B28"""
    shell.write("buggy.py", BUGGY)
    shell.environment["EVRT_DEBUG"] = "1"
    with shell.begin("runs", "start", "a", "hi", "--app", "buggy", stderr=subprocess.PIPE) as process:
        out, err = process.communicate()
    assert (process.returncode, out) == (70, "")
    assert "Traceback (most recent call last)" in err
    assert re.search(r'buggy\.py", line 5, in redact', err)
    assert err.endswith("LookupError: of the redaction\n")


def test_an_error_that_nobody_expected_is_kept_for_a_report(shell: Shell) -> None:
    shell.write("buggy.py", BUGGY)
    words = ("runs", "start", "a", "hi", "--app", "buggy")
    told = shell.refused(*words, code=70, TMPDIR=str(shell.streams))
    assert told.startswith("evrt met an error that it did not expect: LookupError: of the redaction.")
    kept = re.search(r"the file (\S+),", told)
    assert kept is not None
    assert "Traceback" in Path(kept[1]).read_text("utf-8")
    assert Path(kept[1]).parent == shell.streams


def _contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_an_input_that_was_read_as_json_says_so(shell: Shell) -> None:
    shell.write(
        "letters.py",
        "import evrt\napp = evrt.App()\n\n@app.workflow\nasync def send(ctx, text: str) -> str:\n    return text\n",
    )
    shell.environment["EVRT_APP"] = "letters"
    start = ("runs", "start", "send")
    assert shell.refused(*start, code=2).endswith(" No input was given.")
    told = shell.refused(*start, "42", code=2)
    assert told.endswith(
        """is JSON, and was read as such; where text is meant, write it in quotes: '"42"'."""
    )
    assert shell.evrt(*start, '"42"').out == "42\n"
    assert shell.refused(*start, json.dumps(["x" * 999]), code=2).endswith("is meant, write it in quotes.")


def test_what_no_log_can_be_or_no_flag_can_mean_is_refused(shell: Shell) -> None:
    run = shell.evrt("runs", "start", "parrot", "hi").run
    os.mkfifo(shell.folder / "pipe")
    for command in ("runs list", "db check", "db backup copy.db", "runs resume x", "runs start parrot hi"):
        told = shell.refused(*command.split(), "--db", "pipe", code=2)
        assert told.endswith("pipe is not a file, but a pipe, a socket or a device. Name another path.")
    for command in ("runs list", "runs start parrot hi", "doctor"):
        assert "what was given is empty" in shell.refused(*command.split(), "--db", "", code=2)
    assert "is not the URL of a log" in shell.refused(
        "runs", "start", "parrot", "hi", "--db", "sqlite:x.db", code=2
    )
    assert "is not the digest of a blob" in shell.refused("blob", "xyz", code=2)
    assert f"{2**63 - 1}" in shell.evrt("log", "--after", "9" * 30, expect=2).err
    assert shell.evrt("log", "--after", str(2**63 - 1)).err == "No event of sqlite:///evrt.db is like that.\n"
    assert shell.refused("at", f"{run}@head~99", code=3).endswith(f"there is no {run}@head~99.")


def test_a_closed_stdin_gives_no_input(shell: Shell) -> None:
    closed = subprocess.run(
        ["sh", "-c", 'exec "$0" -m evrt runs start parrot - <&-', sys.executable],
        cwd=shell.folder,
        env=shell.environment_with(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (closed.returncode, closed.stdout) == (2, "")
    assert closed.stderr == "The input was to be read from stdin, which is closed.\n"


def test_a_folder_that_is_gone_is_told(shell: Shell) -> None:
    gone = subprocess.run(
        ["sh", "-c", 'mkdir gone; cd gone; rmdir ../gone; exec "$0" -m evrt doctor', sys.executable],
        cwd=shell.folder,
        env=shell.environment_with(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (gone.returncode, gone.stdout) == (3, "")
    assert gone.stderr == "The current folder has been removed. Change to one that is there.\n"


def test_what_may_not_be_read_or_written_is_denied_and_named(shell: Shell, public_folder: Path) -> None:
    shell.evrt("runs", "start", "parrot", "hi")
    for name in ("evrt.db", "support.py"):
        shutil.copy(shell.folder / name, public_folder)
        (public_folder / name).chmod(0o444)
    (public_folder / "mine").mkdir()
    shutil.copy(shell.folder / "evrt.db", public_folder / "mine")
    (public_folder / "secret.json").write_text("{}")
    (public_folder / "secret.json").chmod(0)
    (public_folder / "mine").chmod(0)
    public_folder.chmod(0o555)
    visitor = replace(shell, folder=public_folder, user=NOBODY if os.geteuid() == 0 else None)
    try:
        told = visitor.refused("db", "backup", "copy.db", code=5)
        assert (
            told == f"The copy {public_folder}/copy.db could not be written: this user has no permission to."
        )
        for command in ("runs list", "db check", "runs resume x"):
            told = visitor.refused(*command.split(), "--db", "mine/evrt.db", code=5)
            assert told == "The log mine/evrt.db cannot be reached: this user may not look into its folder."
        told = visitor.refused("runs", "start", "parrot", "--input-file", "secret.json", code=5)
        assert told == "The input cannot be read from secret.json: this user has no permission to."
    finally:
        public_folder.chmod(0o755)
        (public_folder / "mine").chmod(0o755)
