"""The Go programs, built once for the session, and a log with a signed tree."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from audit.logs import Place, sign_head
from audit.outsiders import Go, build_go


@pytest.fixture(scope="session")
def go(tmp_path_factory: pytest.TempPathFactory) -> Go:
    """Go's verifiers. Processes that share the tests share the build."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    return build_go(folder / "go")


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """Where a log and its tree may be; nothing is there yet."""
    return Place(tmp_path / "evrt.db")


@pytest.fixture(scope="session")
def signed_once(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A log of 300 events with a signed tree: a full tile and a part of the next. Not to be changed."""
    place = Place(tmp_path_factory.mktemp("signed") / "evrt.db")
    place.fill(300)
    sign_head(place)
    return place


@pytest.fixture
def signed(signed_once: Place, tmp_path: Path) -> Place:
    """A copy of that log with its tree, to do anything with."""
    return signed_once.copy(tmp_path / "signed")
