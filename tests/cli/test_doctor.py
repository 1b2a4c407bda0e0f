"""``evrt doctor`` says what is well, what is not, and what to do about it; and changes nothing."""

from __future__ import annotations

import asyncio
import fcntl
import os
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import aclosing, closing, contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from cli.desk import DESK
from cli.many import make_runs
from cli.shell import Shell
from evrt.log import doctor, open_log
from evrt.projector.doctor import FAR_BEHIND_EVENTS
from evrt.projector.files import open_file
from evrt_projections.runs import PROJECTION

PAST = Path(__file__).parent.parent / "formats" / "v1.db"


def verdicts(shell: Shell, *words: str, expect: int = 0) -> dict[str, dict[str, Any]]:
    found = shell.evrt("doctor", "--json", *words, expect=expect).document
    return {diagnosis["name"]: diagnosis for diagnosis in found}


def test_where_all_is_well_it_says_so_and_changes_nothing(shell: Shell) -> None:
    shell.evrt("runs", "start", "parrot", "hi")
    before = {file.name: sha256(file.read_bytes()).digest() for file in shell.folder.glob("evrt.db")}
    found = verdicts(shell)
    assert {d["verdict"] for name, d in found.items() if name not in ("file system", "syncs", "room")} == {
        "ok"
    }
    assert {"Python", "SQLite", "file system", "room", "locks", "syncs", "settings", "WAL", "app"} <= set(
        found
    )
    assert found["SQLite"]["found"].startswith(sqlite3.sqlite_version)
    assert found["events"]["found"].endswith("checked and sound")
    assert "helper" in found["app"]["found"]
    told = shell.evrt("doctor").out
    assert told.splitlines()[0].startswith("ok    app           support, with these agents and workflows: ")
    assert {file.name: sha256(file.read_bytes()).digest() for file in shell.folder.glob("evrt.db")} == before
    assert not list(shell.folder.glob(".evrt-doctor*"))


def test_before_the_first_run_there_is_no_log_and_that_is_well(shell: Shell) -> None:
    assert "the first run makes it" in verdicts(shell)["log"]["found"]
    assert not list(shell.folder.glob("*.db*"))


def test_a_folder_that_is_not_there_is_bad(shell: Shell) -> None:
    found = verdicts(shell, "--db", "nowhere/evrt.db", expect=1)
    assert (found["folder"]["verdict"], found["folder"]["remedy"]) == ("bad", "Create it first.")


def test_an_app_that_does_not_load_is_bad(shell: Shell) -> None:
    assert verdicts(shell, "--app", "missing:app", expect=1)["app"]["verdict"] == "bad"


def test_a_log_of_an_older_version_is_to_be_migrated(shell: Shell) -> None:
    (shell.folder / "evrt.db").write_bytes(PAST.read_bytes())
    found = verdicts(shell)["log"]
    assert (found["verdict"], found["remedy"]) == ("mind", "Run `evrt db migrate`.")


def test_a_log_that_was_changed_is_bad(shell: Shell) -> None:
    shell.evrt("runs", "start", "parrot", "hi")
    with closing(sqlite3.connect(shell.folder / "evrt.db")) as connection, connection:
        connection.execute("DROP TRIGGER events_update")
        connection.execute("UPDATE events SET payload = x'7b7d' WHERE position = 2")
    assert verdicts(shell, expect=1)["events"]["verdict"] == "bad"


def test_the_file_of_another_program_is_bad_and_left_alone(shell: Shell) -> None:
    shell.write("evrt.db", "hello " * 100)
    found = verdicts(shell, expect=1)
    assert "is not a log of evrt" in found["log"]["found"]
    assert (shell.folder / "evrt.db").read_text() == "hello " * 100


def test_who_holds_the_write_lock_is_named(shell: Shell) -> None:
    shell.evrt("runs", "start", "parrot", "hi")
    with open(shell.folder / "evrt.db-lock", "r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write(b"%-20d" % os.getpid())
        file.flush()
        found = verdicts(shell, expect=1)["write lock"]
    assert found["verdict"] == "bad"
    assert found["found"].startswith(f"process {os.getpid()} has held it")


@contextmanager
def mounted(folder: Path, *options: str) -> Iterator[None]:
    """A small file system in memory on a folder."""
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", *options, "none", str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="Only root may mount a file system.")
def test_a_file_system_without_room_or_that_is_gone_at_power_off_is_told(shell: Shell) -> None:
    with mounted(shell.folder / "small", "-o", "size=1m"):
        found = verdicts(shell, "--db", "small/evrt.db", expect=1)
    assert (found["room"]["verdict"], found["file system"]["verdict"]) == ("bad", "mind")
    assert found["file system"]["found"].startswith("tmpfs: the log is gone when the power is")


@pytest.mark.parametrize(
    "mounts, verdict, words",
    [
        ("server:/x /srv nfs4 rw 0 0", "bad", "nfs4: locks between machines"),
        ("/dev/a /srv ext4 rw,nobarrier 0 0", "bad", "without barriers"),
        ("/dev/a /srv ext4 ro 0 0", "mind", "mounted read-only"),
        ("/dev/a /srv xfs rw 0 0\nnone /srv\\040x tmpfs rw 0 0", "ok", "xfs"),
        ("/dev/a /srv xfs rw 0 0\nnone /srv/log tmpfs rw 0 0", "ok", "xfs"),
        ("/dev/a /srv xfs rw 0 0\nserver:/x /srv nfs4 rw 0 0", "bad", "nfs4: locks between machines"),
    ],
)
def test_what_a_file_system_is_worth_is_told_from_its_mount(
    monkeypatch: pytest.MonkeyPatch, mounts: str, verdict: str, words: str
) -> None:
    monkeypatch.setattr(doctor, "_mounts", f"/dev/r / ext4 rw 0 0\n{mounts}\n".splitlines)
    found = doctor._file_system("/srv/logs")
    assert found.verdict == verdict
    assert words in found.found


def test_what_is_no_log_yet_or_none_at_all_is_said_once(shell: Shell) -> None:
    (shell.folder / "empty.db").touch()
    (shell.folder / "folder").mkdir()
    os.mkfifo(shell.folder / "pipe")
    shell.write("notes.txt", "hello " * 100)
    for name, verdict, words in (
        ("empty.db", "mind", "is empty: no log has been made there yet"),
        ("folder", "bad", "is a folder; a log is a file."),
        ("pipe", "bad", "is not a file, but a pipe, a socket or a device"),
        ("notes.txt", "bad", "it is not a SQLite database."),
    ):
        found = verdicts(shell, "--db", name, expect=verdict == "bad")
        assert found["log"]["verdict"] == verdict
        assert words in found["log"]["found"]
        assert not {"settings", "WAL", "write lock", "events"} & set(found)
        assert ".." not in shell.evrt("doctor", "--db", name, expect=verdict == "bad").out


def test_a_damaged_log_is_told_with_what_to_do(shell: Shell) -> None:
    shell.evrt("runs", "start", "parrot", "hi")
    os.truncate(shell.folder / "evrt.db", 5_000)
    (shell.folder / "evrt.db-wal").unlink(missing_ok=True)
    found = verdicts(shell, expect=1)["log"]
    assert found["found"] == "SQLite reports: database disk image is malformed"
    assert "restore" in found["remedy"]


def test_locks_that_another_process_is_given_too_are_bad(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert doctor._locks(str(tmp_path)).verdict == "ok"
    # As on a file system whose locks mean nothing.
    monkeypatch.setattr(doctor, "_TRY_LOCK", "")
    found = doctor._locks(str(tmp_path))
    assert (found.verdict, "is given to another one too" in found.found) == ("bad", True)


@pytest.mark.parametrize(
    "version, verdict, words",
    [
        ((3, 36, 0), "bad", "evrt needs 3.37"),
        ((3, 51, 2), "ok", "before 3.51.3 writing and checkpointing at the same instant"),
        ((3, 51, 3), "ok", ""),
    ],
)
def test_the_known_bugs_of_a_sqlite_are_told(
    monkeypatch: pytest.MonkeyPatch, version: tuple[int, int, int], verdict: str, words: str
) -> None:
    monkeypatch.setattr(sqlite3, "sqlite_version_info", version)
    monkeypatch.setattr(sqlite3, "sqlite_version", ".".join(map(str, version)))
    found = doctor._sqlite()
    assert found.verdict == verdict
    assert words in found.found
    assert ("3.51.3" in found.found.partition(";")[2]) == (version == (3, 51, 2))


# ---------------------------------------------------------------------------------------- views


def test_a_projection_that_failed_is_told_with_the_event_and_what_to_do(shell: Shell) -> None:
    shell.write("support.py", DESK)
    shell.write("fragile", "")
    shell.evrt("runs", "start", "desk", "overload", expect=1)
    shell.evrt("projections", "rebuild", "endings", expect=6)
    parked = verdicts(shell, expect=1)["view endings"]
    assert parked["verdict"] == "bad"
    assert "parked at position 5, as its projection failed: ValueError: it is fragile" in parked["found"]
    assert "`evrt log --after 5`" in parked["remedy"]
    (shell.folder / "fragile").unlink()
    shell.evrt("projections", "rebuild", "endings")
    assert verdicts(shell)["views"]["found"] == "1, at most 0 events behind"


async def _begin_to_rebuild_and_be_gone(shell: Shell) -> None:
    async with aclosing(await open_log(f"sqlite:///{shell.folder}/evrt.db", read_only=True)) as log:
        store = await open_file(f"{shell.folder}/evrt.db-views", log.id)
        await store.build(PROJECTION)
        await store.aclose()


def test_views_that_nobody_keeps_and_a_rebuild_that_was_left_are_told(shell: Shell) -> None:
    log = shell.folder / "evrt.db"
    make_runs(log, 1)
    for command in ("usage", "questions"):
        shell.evrt(command)
    make_runs(log, FAR_BEHIND_EVENTS // 2)
    shell.evrt("questions")
    asyncio.run(_begin_to_rebuild_and_be_gone(shell))
    found = verdicts(shell)
    assert found["view usage"]["verdict"] == "mind"
    assert found["view usage"]["found"].endswith(" events behind, and nobody keeps it")
    assert "view questions" not in found
    assert found["view runs"]["found"].startswith("building it anew was left at position 0 of ")
    assert found["view runs"]["remedy"] == "Run `evrt projections rebuild runs`, which goes on there."


def test_a_file_that_is_no_file_of_views_and_one_that_is_damaged_are_told(shell: Shell) -> None:
    shell.evrt("runs", "start", "parrot", "hi")
    views = shell.folder / "evrt.db-views"
    for content, words in (
        (b"hello " * 100, "it is no database, or its beginning is damaged"),
        (None, "it is the database of another program"),
    ):
        if content is None:
            with closing(sqlite3.connect(views)) as connection:
                connection.execute("CREATE TABLE mine (x)")
        else:
            views.write_bytes(content)
        found = verdicts(shell, expect=1)["views"]
        assert (found["verdict"], found["remedy"]) == ("bad", "Move it to another name.")
        assert words in found["found"]
        assert words in shell.refused("runs", "list", code=2)
        views.unlink()
    shell.evrt("runs", "list")
    with closing(sqlite3.connect(views)) as connection:  # All of it into the file itself.
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    os.truncate(views, 6_000)
    found = verdicts(shell, expect=1)["views"]
    assert "is damaged" in found["found"]
    assert found["remedy"].startswith("Remove it and its -wal and -shm")
    assert "is damaged" in shell.refused("runs", "list", code=2)
    for file in shell.folder.glob("evrt.db-views*"):
        file.unlink()
    assert shell.evrt("runs", "list").code == 0


def test_views_of_another_log_are_told_and_built_anew(shell: Shell) -> None:
    shell.evrt("runs", "start", "parrot", "hi")
    shell.evrt("runs", "list")
    for name in ("evrt.db", "evrt.db-wal", "evrt.db-shm"):
        (shell.folder / name).unlink(missing_ok=True)
    shell.evrt("runs", "start", "helper", "hi")
    assert verdicts(shell)["views"]["verdict"] == "mind"
    assert [run["target"] for run in shell.evrt("runs", "list", "--json").document] == ["helper"]
    assert verdicts(shell)["views"]["verdict"] == "ok"
