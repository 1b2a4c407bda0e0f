"""The stores that every behaviour of the runtime is tested on."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(params=["memory", "sqlite"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of an empty log."""
    return "memory://" if request.param == "memory" else f"sqlite:///{tmp_path}/evrt.db"


@pytest.fixture
def file_url(tmp_path: Path) -> str:
    """The address of an empty log in a file, for what only a file can show."""
    return f"sqlite:///{tmp_path}/evrt.db"
