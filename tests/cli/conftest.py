"""A shell for each test; one whose log is made once for all tests that only read."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.forker import Forker, forking
from cli.shell import Finished, Shell, new_shell


@pytest.fixture(scope="session")
def forker() -> Iterator[Forker]:
    """The process that every command is forked from."""
    with forking() as forker:
        yield forker


@pytest.fixture
def shell(tmp_path: Path, forker: Forker) -> Shell:
    """A folder with nothing but the app in it."""
    return new_shell(tmp_path, forker)


@pytest.fixture(scope="session")
def history(tmp_path_factory: pytest.TempPathFactory, forker: Forker) -> tuple[Shell, Finished]:
    """A log to read: a run that waits, with what starting it printed, and three that ended before."""
    shell = new_shell(tmp_path_factory.mktemp("history"), forker)
    shell.evrt("runs", "start", "helper", "Weather?")
    shell.evrt("runs", "start", "broken", expect=1)
    shell.evrt("runs", "start", "parrot", '["Grüße", {"to": "日本"}]')
    return shell, shell.evrt("runs", "start", "report", "rain", "--user", "ann", "--conversation", "c1")


@pytest.fixture
def public_folder() -> Iterator[Path]:
    """A folder that every user can get into, unlike pytest's own."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)
        Path(folder).chmod(0o755)
