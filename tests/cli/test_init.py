"""``evrt init``: files that run at once, pass their own tests, and replace nothing."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from cli.shell import Shell
from cli.test_doctor import mounted
from evrt.cli import starting

STARTER = Path(starting.__file__).parent / "starter"


@pytest.fixture
def empty(shell: Shell) -> Shell:
    """A folder with nothing in it, and nothing in the environment that names an app."""
    (shell.folder / "support.py").unlink()
    shell.environment.pop("EVRT_APP")
    return shell


def test_the_app_runs_at_once_and_waits_for_a_person_where_it_is_dear(empty: Shell) -> None:
    told = empty.evrt("init")
    assert [line.split()[0] for line in told.out.splitlines()] == list(starting.FILES)
    assert empty.evrt("runs", "start", "handle", "Order 8 arrived broken.").out == "3.00 EUR for order 8\n"
    waiting = empty.evrt("runs", "start", "handle", "Order 7 arrived broken.")
    empty.evrt("runs", "answer", waiting.run, "yes")
    assert empty.evrt("runs", "resume", waiting.run).out == "42.00 EUR for order 7\n"


def test_its_tests_pass(empty: Shell) -> None:
    empty.evrt("init", "desk")
    tried = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "."],
        cwd=empty.folder / "desk",
        capture_output=True,
        text=True,
        check=False,
    )
    assert "4 passed" in tried.stdout, tried.stdout
    assert sorted(path.name for path in (empty.folder / "desk").glob("*.*")) == sorted(starting.FILES)


def test_its_files_are_as_well_kept_as_our_own() -> None:
    for source in STARTER.glob("*.py.txt"):
        for words in (
            ("format", "--check"),
            (
                "check",
                "--isolated",
                "--config",
                "lint.isort.known-first-party=['desk', 'evrt']",
                "--select",
                "E,F,I,B,UP,RUF,SIM",
            ),
        ):
            ruff = [
                sys.executable,
                "-m",
                "ruff",
                *words,
                "--line-length",
                "110",
                "--stdin-filename",
                "desk.py",
                "-",
            ]
            looked = subprocess.run(
                ruff, input=source.read_text("utf-8"), capture_output=True, text=True, check=False
            )
            assert looked.returncode == 0, looked.stdout


@pytest.mark.parametrize("name", starting.FILES)
def test_what_is_there_already_is_left_and_nothing_is_written(empty: Shell, name: str) -> None:
    empty.write(name, "mine")
    told = empty.refused("init", code=4)
    assert told.startswith(f"There is {name} in {empty.folder} already. Nothing has been written")
    assert [path.name for path in empty.folder.iterdir()] == [name]
    assert (empty.folder / name).read_text() == "mine"


def test_a_link_that_leads_nowhere_is_something_that_is_there(empty: Shell) -> None:
    (empty.folder / "evrt.toml").symlink_to(empty.folder / "nowhere")
    assert empty.refused("init", code=4).startswith("There is evrt.toml in ")
    assert not (empty.folder / "nowhere").exists()


def test_a_file_is_no_folder(empty: Shell) -> None:
    empty.write("desk", "mine")
    assert empty.refused("init", "desk", code=2) == "desk is a file. Name a folder."


@pytest.mark.skipif(os.geteuid() == 0, reason="Root may write everywhere.")
def test_a_folder_that_may_not_be_written_is_denied(empty: Shell) -> None:
    empty.folder.chmod(stat.S_IRUSR | stat.S_IXUSR)
    assert "no permission" in empty.refused("init", "desk", code=5)


def test_for_programs_it_is_one_json_object(empty: Shell) -> None:
    document = empty.evrt("init", "desk", "--json").document
    assert document == {"folder": str(empty.folder / "desk"), "files": list(starting.FILES)}


def test_a_folder_that_cannot_be_is_wrong_usage(empty: Shell) -> None:
    empty.write("notes.txt", "mine")
    assert "is empty" in empty.refused("init", "", code=2)
    assert "lies below a file" in empty.refused("init", "notes.txt/desk", code=2)
    assert "too long" in empty.refused("init", "x" * 300, code=2)


@pytest.mark.skipif(os.geteuid() != 0, reason="Only root may mount a file system.")
def test_where_there_is_no_room_no_half_of_the_files_stays(empty: Shell) -> None:
    with mounted(empty.folder / "small", "-o", "size=8k"):
        assert "No space left on device" in empty.refused("init", "small/desk", code=6)
        assert list((empty.folder / "small" / "desk").iterdir()) == []
