"""The stores that every behaviour of workers is tested on, and what tests of them wait with."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of an empty log."""
    if request.param == "postgres":
        return str(request.getfixturevalue("empty_postgres"))
    return "memory://" if request.param == "memory" else f"sqlite:///{tmp_path}/evrt.db"


@pytest.fixture(params=["sqlite", "postgres"])
def shared_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of an empty log that several apps can open."""
    if request.param == "postgres":
        return str(request.getfixturevalue("empty_postgres"))
    return f"sqlite:///{tmp_path}/evrt.db"
