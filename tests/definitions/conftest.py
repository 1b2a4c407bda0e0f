"""The stores that definitions are tested on."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def file_url(tmp_path: Path) -> str:
    """The address of an empty log in a file, for what several processes or apps share."""
    return f"sqlite:///{tmp_path}/evrt.db"
