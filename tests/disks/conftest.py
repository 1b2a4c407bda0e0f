"""What the tests of disks share: recording a story."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from disks.trace import Recording, record

TESTS = Path(__file__).parent.parent

Record = Callable[..., Recording]


@pytest.fixture(autouse=True)
def _tests_can_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the processes that are started too."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")]))


@pytest.fixture
def record_story(tmp_path: Path) -> Record:
    """Recordings of stories (see ``disks.worker``), each in a folder of its own."""
    count = 0

    def record_one(
        story: str, seed: int, *, plant: str | None = None, inject: tuple[str, ...] = ()
    ) -> Recording:
        nonlocal count
        count += 1
        folder, told = tmp_path / f"{count}", tmp_path / f"{count}.told"
        command = [sys.executable, "-m", "disks.worker", story, str(folder), str(told), str(seed)]
        return record([*command, *([plant] if plant else [])], folder, told, inject=inject)

    return record_one
