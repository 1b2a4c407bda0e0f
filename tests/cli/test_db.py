"""Copies of a log and logs of older versions, from the command line."""

from __future__ import annotations

import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

from cli.shell import Shell
from evrt.log.sqlite.schema import SCHEMA_VERSION

PAST = Path(__file__).parent.parent / "formats" / "v1.db"


def test_a_log_is_copied_and_the_copy_can_be_looked_into(shell: Shell) -> None:
    run = shell.evrt("runs", "start", "helper", "Weather?").run
    told = shell.evrt("db", "backup", "copy.db").out
    assert told.startswith("copy.db is a sound copy of sqlite:///evrt.db: ")
    assert shell.evrt("runs", "show", run, "--db", "copy.db", "--json").document["status"] == "succeeded"
    document = shell.evrt("db", "backup", "second.db", "--json").document
    assert (document["copy"], document["events"] > 0) == (str(shell.folder / "second.db"), True)


def test_a_copy_never_replaces_anything(shell: Shell) -> None:
    shell.evrt("runs", "start", "parrot", "hi")
    shell.write("copy.db", "mine")
    told = shell.refused("db", "backup", "copy.db", code=4)
    assert told.endswith("copy.db already. It has been left as it is; name another file.")
    assert (shell.folder / "copy.db").read_text() == "mine"


def test_a_log_of_an_older_version_is_read_and_written_after_a_migration(shell: Shell) -> None:
    shutil.copy(PAST, shell.folder / "evrt.db")
    assert len(shell.evrt("runs", "list", "--json").document) == 4
    told = shell.refused("runs", "start", "parrot", "hi", code=2)
    assert "to write to it, run `evrt db migrate`" in told
    for command in ("queue", "queue workers"):
        assert "which kept no queue" in shell.refused(*command.split(), code=2)
    migrated = shell.evrt("db", "migrate").out
    assert f"went from version 1 of the schema to version {SCHEMA_VERSION}." in migrated
    assert "evrt.db-v1 is the log as it was" in migrated
    assert shell.evrt("runs", "start", "parrot", "hi").out == "hi\n"
    shell.evrt("queue")
    again = shell.evrt("db", "migrate", "--json").document
    assert (again["from"], again["to"], again["copy"]) == (SCHEMA_VERSION, SCHEMA_VERSION, None)
    assert "is sound" in shell.evrt("db", "check").out


def test_what_a_newer_evrt_wrote_is_not_migrated(shell: Shell) -> None:
    header = bytearray(PAST.read_bytes())
    header[63] = 99
    (shell.folder / "evrt.db").write_bytes(header)
    assert "Upgrade evrt to open it; nothing has been changed." in shell.refused("db", "migrate", code=2)


def test_neither_copies_nor_migrates_what_is_not_there(shell: Shell) -> None:
    for words in (("backup", "copy.db"), ("migrate",)):
        told = shell.refused("db", *words, "--db", "missing.db", code=3)
        assert told.startswith("There is no log at missing.db.")
    assert not list(shell.folder.glob("missing*"))


def test_a_blob_comes_out_as_it_went_in(shell: Shell) -> None:
    shell.write(
        "keeper.py",
        "import evrt\napp = evrt.App()\n\n@app.workflow\nasync def keep(ctx) -> str:\n"
        "    return (await ctx.blobs.write('Grüße\\n'.encode() * 3)).sha256\n",
    )
    digest = shell.evrt("runs", "start", "keep", "--app", "keeper").out.strip()
    assert shell.evrt("blob", digest).out == "Grüße\n" * 3
    told = shell.refused("blob", "0" * 64, code=3)
    assert told.startswith(f"The log holds no blob {'0' * 64}")


def test_a_damaged_log_is_found_not_sound_by_the_check(shell: Shell) -> None:
    shell.evrt("runs", "start", "parrot", "hi")
    os.truncate(shell.folder / "evrt.db", 5_000)
    told = shell.evrt("db", "check", expect=1).out
    assert told.startswith("sqlite:///evrt.db is not sound: 0 events in 0 streams, ")
    assert "the file is damaged: database disk image is malformed. Restore it from a copy." in told
    document = shell.evrt("db", "check", "--json", expect=1).document
    assert (document["ok"], len(document["findings"])) == (False, 1)


def test_a_copy_that_cannot_be_made_is_not_blamed_on_the_log(shell: Shell) -> None:
    shell.evrt("runs", "start", "parrot", "hi")
    (shell.folder / "copies").mkdir()
    told = shell.refused("db", "backup", "copies", code=2)
    assert told.endswith(
        f"copies is a folder; a copy is a file. Give it a name, such as {shell.folder}/copies/evrt.db."
    )
    assert "is a folder" in shell.refused("db", "backup", "", code=2)
    told = shell.refused("db", "backup", "x" * 300, code=6)
    assert told.startswith(f"The copy {shell.folder}/xxx")
    assert told.endswith("could not be written: File name too long.")


def test_runs_of_a_log_that_had_no_queue_are_put_into_one(shell: Shell) -> None:
    shutil.copy(PAST, shell.folder / "evrt.db")
    shell.evrt("db", "migrate")
    document = shell.evrt("db", "requeue", "--json").document
    assert (document["runs"], document["states"]) == (1, {"waiting": 1})
    told = shell.evrt("db", "requeue").out
    assert told == "The queue of sqlite:///evrt.db is as its events say: 1 waiting.\n"
    assert "There is no log at" in shell.refused("db", "requeue", "--db", "no.db", code=3)


def test_a_queue_that_has_lost_a_run_is_a_finding_of_the_check(shell: Shell) -> None:
    shutil.copy(PAST, shell.folder / "evrt.db")
    assert "is sound" in shell.evrt("db", "check").out
    told = shell.evrt("db", "migrate").out
    assert "Its queue was made from its events: 1 run in it, for workers to go on with." in told
    with closing(sqlite3.connect(shell.folder / "evrt.db")) as connection, connection:
        connection.execute("DELETE FROM queue")
    told = shell.evrt("db", "check", expect=1).out
    assert "is to be executed and has no entry in the queue: `evrt db requeue` makes it." in told
    shell.evrt("db", "requeue")
    assert "is sound" in shell.evrt("db", "check").out
