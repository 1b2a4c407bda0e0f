"""The tree from the command line: keys, heads, proofs and verdicts, as an operator and an auditor use them."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import sqlite3
import stat
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from cli.forker import Forker
from cli.shell import NOBODY, Shell, new_shell
from postgres import shared
from postgres_server import PASSWORD


@pytest.fixture(scope="session")
def audited_folder(tmp_path_factory: pytest.TempPathFactory, forker: Forker) -> Path:
    """A log with some runs, a key, and a signed tree; vkey and checkpoint are kept in files."""
    shell = new_shell(tmp_path_factory.mktemp("audited"), forker)
    shell.evrt("runs", "start", "helper", "Weather?")
    shell.evrt("runs", "start", "parrot", '"Grüße"')
    shell.evrt("audit", "keygen", "k.key", "--name", "audit.example/log")
    (shell.folder / "k.key.vkey").rename(shell.folder / "vkey")
    shell.write("kept", shell.evrt("audit", "head", "--key", "k.key").out)
    return shell.folder


@pytest.fixture
def audited(shell: Shell, audited_folder: Path) -> Shell:
    """A copy of that log, to do anything with."""
    shutil.copytree(audited_folder, shell.folder, dirs_exist_ok=True)
    return shell


def spoil(shell: Shell, *statements: str) -> None:
    """Change the log behind evrt's back."""
    with closing(sqlite3.connect(shell.folder / "evrt.db", isolation_level=None)) as connection:
        for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'trigger'").fetchall():
            connection.execute(f"DROP TRIGGER {name}")
        for statement in statements:
            connection.execute(statement)


def held(shell: Shell) -> tuple[str, ...]:
    """The flags of an auditor who has kept a checkpoint."""
    return "--checkpoint", "kept", "--vkey", "vkey"


# ---------------------------------------------------------------------------------------------------- keys


def test_a_key_is_for_its_owners_eyes_and_its_vkey_is_printed(shell: Shell) -> None:
    made = shell.evrt("audit", "keygen", "k.key", "--name", "audit.example/log")
    key = shell.folder / "k.key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert key.read_text().startswith("PRIVATE+KEY+audit.example/log+")
    assert made.out.startswith("audit.example/log+")
    assert key.read_text().strip().split("+", 4)[4] not in made.out + made.err
    assert (shell.folder / "k.key.vkey").read_text() == made.out


def test_a_key_is_never_overwritten(shell: Shell) -> None:
    shell.evrt("audit", "keygen", "k.key", "--name", "a")
    before = (shell.folder / "k.key").read_bytes()
    assert "never overwritten" in shell.refused("audit", "keygen", "k.key", "--name", "a", code=4)
    assert (shell.folder / "k.key").read_bytes() == before
    shell.write("l.key.vkey", "somebody else's")
    assert "never overwritten" in shell.refused("audit", "keygen", "l.key", "--name", "a", code=4)
    assert not (shell.folder / "l.key").exists()


def test_a_key_without_a_name_is_called_after_the_log(audited: Shell) -> None:
    log = audited.evrt("db", "check", "--json").document["log"]
    made = audited.evrt("audit", "keygen", "other.key", "--json").document
    assert made["name"] == f"evrt/{log}"
    assert made["vkey"].startswith(f"evrt/{log}+")


def test_keys_that_cannot_be_made_are_refused(shell: Shell) -> None:
    assert "no log at" in shell.refused("audit", "keygen", "k.key", code=3)
    assert "cannot be the name" in shell.refused("audit", "keygen", "k.key", "--name", "a b", code=2)
    assert "no folder" in shell.refused("audit", "keygen", "none/k.key", "--name", "a", code=3)
    assert not (shell.folder / "k.key").exists()


def test_a_key_that_others_can_read_is_pointed_out(audited: Shell) -> None:
    (audited.folder / "k.key").chmod(0o644)
    assert "chmod 600 k.key" in audited.evrt("audit", "head", "--key", "k.key").err


# ---------------------------------------------------------------------------------------------------- head


def test_a_head_without_a_key_is_size_and_root_that_nobody_signed(audited: Shell) -> None:
    result = audited.evrt("audit", "head")
    document = audited.evrt("audit", "head", "--json").document
    assert result.out.splitlines() == [f"{key:<6}{document[key]}" for key in ("log", "size", "root")]
    assert "Nobody has signed it" in result.err
    assert document["checkpoint"] is document["origin"] is document["vkey"] is None
    assert document["tree"] == str(audited.folder / "evrt.db-tree")


def test_a_head_with_a_key_is_a_checkpoint_and_nothing_else(audited: Shell) -> None:
    kept = (audited.folder / "kept").read_text()
    assert kept == (audited.folder / "evrt.db-tree/checkpoint").read_text()
    assert kept.startswith("audit.example/log\n")
    document = audited.evrt("audit", "head", "--key", "k.key", "--json").document
    assert document["checkpoint"] == kept
    assert [document["origin"], str(document["size"]), document["root"]] == kept.split("\n")[:3]
    assert document["vkey"] == (audited.folder / "vkey").read_text().strip()


def test_a_log_that_was_cut_off_gets_no_head(audited: Shell) -> None:
    spoil(audited, "DELETE FROM events WHERE position = (SELECT max(position) FROM events)")
    told = audited.refused("audit", "head", "--key", "k.key", code=1)
    assert "missing from the end of the log" in told


def test_heads_that_cannot_be_given_are_refused(audited: Shell) -> None:
    assert "no log at" in audited.refused("audit", "head", "--db", "none.db", code=3)
    assert "no file none.key" in audited.refused("audit", "head", "--key", "none.key", code=3)
    assert "kept: This is not a private key" in audited.refused("audit", "head", "--key", "kept", code=2)
    assert "in memory" in audited.refused("audit", "head", "--db", "memory://", code=2)


def test_who_may_only_read_the_log_has_a_tree_of_their_own_elsewhere(
    audited: Shell, public_folder: Path
) -> None:
    shutil.copy(audited.folder / "evrt.db", public_folder)
    kept = audited.write("kept.txt", (audited.folder / "kept").read_text())
    shutil.copy(kept, public_folder)
    own = public_folder / "own"
    own.mkdir()
    own.chmod(0o777)
    public_folder.chmod(0o555)
    # The superuser may write everything.
    user = NOBODY if os.geteuid() == 0 else None
    reader = replace(audited, folder=public_folder, user=user, environment={})
    assert "--tree" in reader.refused("audit", "head", code=5)
    size = reader.evrt("audit", "head", "--tree", "own/tree", "--json").document["size"]
    assert size == audited.evrt("audit", "head", "--json").document["size"]
    vkey = (audited.folder / "vkey").read_text().strip()
    flags = ("--checkpoint", "kept.txt", "--vkey", vkey)
    assert reader.evrt("audit", "verify", *flags, "--json").document["anchored"] == size
    proof = reader.evrt("audit", "prove", "2", "--tree", "own/tree", "--checkpoint", "kept.txt").out
    assert proof == audited.evrt("audit", "prove", "2").out


# -------------------------------------------------------------------------------------------------- proofs


def test_an_event_is_proved_by_its_position_or_its_place_in_a_run(audited: Shell) -> None:
    [run, *_] = [row["run"] for row in audited.evrt("runs", "list", "--json").document]
    events = lines(audited.evrt("log", run, "--json").out)
    third = events[2]["position"]
    by_position = audited.evrt("audit", "prove", str(third)).out
    assert by_position.startswith(f"c2sp.org/tlog-proof@v1\nindex {third - 1}\n")
    assert audited.evrt("audit", "prove", f"{run}@3").out == by_position
    assert audited.evrt("audit", "prove", f"{run}@3", "--json").document["inclusion"]["position"] == third


def lines(out: str) -> list[dict[str, int]]:
    return [json.loads(line) for line in out.splitlines()]


def test_proofs_that_are_kept_verify_with_the_log(audited: Shell) -> None:
    audited.evrt("runs", "start", "parrot", '"more"')
    audited.evrt("audit", "head", "--key", "k.key")
    audited.write("both", audited.evrt("audit", "prove", "2", "--old", "kept").out)
    audited.write("growth", audited.evrt("audit", "prove", "--old", "kept").out)
    assert (audited.folder / "growth").read_text().startswith("old ")
    flags = ("--proof", "both", "--proof", "growth", "--vkey", "vkey")
    verdict = audited.evrt("audit", "verify", *held(audited), *flags, "--json").document
    assert verdict["verdict"] == "anchored"
    assert verdict["anchored"] == verdict["events"]
    both = audited.evrt("audit", "prove", "2", "--old", "kept", "--json").document
    assert (
        both["inclusion"]["proof"] + "\n" + both["consistency"]["proof"]
        == (audited.folder / "both").read_text()
    )


def test_proofs_under_an_earlier_checkpoint_are_had_by_naming_it(audited: Shell) -> None:
    before = audited.evrt("audit", "prove", "2").out
    audited.evrt("runs", "start", "parrot", '"more"')
    audited.evrt("audit", "head", "--key", "k.key")
    assert audited.evrt("audit", "prove", "2").out != before
    assert audited.evrt("audit", "prove", "2", "--checkpoint", "kept").out == before


def test_proofs_that_cannot_be_given_are_refused(audited: Shell) -> None:
    assert "What is to be proved?" in audited.refused("audit", "prove", code=2)
    assert "no position 9999" in audited.refused("audit", "prove", "9999", code=3)
    assert "no run" in audited.refused("audit", "prove", "run-nobody@1", code=3)
    assert "no file none" in audited.refused("audit", "prove", "--old", "none", code=3)
    assert "vkey: It is not a signed note" in audited.refused("audit", "prove", "--old", "vkey", code=2)
    assert "has no signed checkpoint" in audited.refused("audit", "prove", "1", "--tree", "none", code=3)
    spoil(audited, "UPDATE events SET type = 'other' WHERE position = 2")
    assert "position 2 " in audited.refused("audit", "prove", "2", code=1)


# ------------------------------------------------------------------------------------------------ verdicts


def test_without_anything_from_outside_a_log_is_unanchored_and_it_says_so(audited: Shell) -> None:
    result = audited.evrt("audit", "verify")
    assert "\nUNANCHORED: " in result.out
    assert "could have written all of it anew" in result.out
    assert audited.evrt("audit", "verify", "--json").document["verdict"] == "unanchored"


def test_a_checkpoint_from_outside_anchors_and_says_what_it_does_not_cover(audited: Shell) -> None:
    assert "ANCHORED: nothing up to position " in audited.evrt("audit", "verify", *held(audited)).out
    vkey = (audited.folder / "vkey").read_text().strip()
    audited.evrt("runs", "start", "parrot", '"more"')
    result = audited.evrt("audit", "verify", "--checkpoint", "kept", "--vkey", vkey)
    assert "events after it are not covered." in result.out


def test_a_log_that_was_edited_is_rejected_and_the_event_is_named(audited: Shell) -> None:
    spoil(audited, "UPDATE events SET type = 'other' WHERE position = 2")
    result = audited.evrt("audit", "verify", *held(audited), expect=1)
    assert "\nREJECTED: " in result.out
    assert "\n  position 2: The tree folder has another leaf for it" in result.out
    document = audited.evrt("audit", "verify", *held(audited), "--json", expect=1).document
    assert document["verdict"] == "rejected"
    assert {"position": 2, "text": "The tree folder has another leaf for it (tile tile/0/000.p/"} in [
        finding | {"text": finding["text"][:59]} for finding in document["findings"]
    ]


def test_a_checkpoint_is_not_believed_without_a_key(audited: Shell) -> None:
    assert "together with --vkey" in audited.refused("audit", "verify", "--checkpoint", "kept", code=2)
    assert "together with --vkey" in audited.refused("audit", "verify", "--vkey", "vkey", code=2)


def test_what_an_auditor_hands_in_is_tried_before_it_is_used(audited: Shell) -> None:
    flags = ("audit", "verify", "--vkey", "vkey")
    assert "no file none" in audited.refused(*flags, "--checkpoint", "none", code=3)
    assert "vkey: It is not a signed note" in audited.refused(*flags, "--checkpoint", "vkey", code=2)
    assert "kept: It is not a proof" in audited.refused(*flags, "--proof", "kept", code=2)
    audited.write("large", "x" * 1_000_001)
    assert "larger than anything" in audited.refused(*flags, "--checkpoint", "large", code=2)
    checkpoint = ("audit", "verify", "--checkpoint", "kept", "--vkey")
    assert "not a verifier key" in audited.refused(*checkpoint, "a+b+c", code=2)
    assert "no file none" in audited.refused(*checkpoint, "none", code=3)
    assert "is a directory" in audited.refused(*checkpoint, ".", code=6).lower()


def test_verifying_writes_nothing(audited: Shell) -> None:
    def state(folder: Path) -> dict[Path, bytes]:
        return {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}

    before = state(audited.folder)
    audited.evrt("audit", "verify", *held(audited))
    audited.evrt("audit", "prove", "1")
    after = state(audited.folder)
    # SQLite makes -wal and -shm for readers; the log and its tree are as they were.
    assert {file for file in after if before.get(file) != after[file]} <= {
        audited.folder / "evrt.db-shm",
        audited.folder / "evrt.db-wal",
    }


def test_a_verdict_on_a_log_on_postgresql_shows_no_password(shell: Shell) -> None:
    shell.environment["EVRT_DB"] = f"{shared().network}?schema=test_{secrets.token_hex(8)}"
    shell.evrt("runs", "start", "helper", "Weather?")
    shell.evrt("audit", "head", "--tree", "tree")
    for words in ((), ("--json",)):
        said = shell.evrt("audit", "verify", "--tree", "tree", *words)
        assert PASSWORD not in said.out + said.err
        assert "postgresql://evrt@127.0.0.1" in said.out
