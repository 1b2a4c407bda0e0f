"""Every store, as a fixture; and whatever a test has done to a SQLite log, the check must accept it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from evrt.log.check import check
from log.stores import STORES, Open, opener


def url_for(request: pytest.FixtureRequest, path: Path) -> str:
    """Where the log of a store is to be that is no other test's."""
    if request.param == "postgres":
        return str(request.getfixturevalue("empty_postgres"))
    return f"sqlite:///{path}"


@pytest.fixture(params=STORES)
def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Open]:
    """Opens an empty log of each kind."""
    path = tmp_path / "evrt.db"
    yield opener(request.param, url_for(request, path))
    if path.exists():
        assert check(f"sqlite:///{path}").findings == ()


@pytest.fixture(params=STORES[:3])
def open_lasting(request: pytest.FixtureRequest, tmp_path: Path) -> Open:
    """Opens an empty log of each kind that stays open."""
    return opener(request.param, url_for(request, tmp_path / "evrt.db"))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a SQLite log may be."""
    return tmp_path / "evrt.db"
