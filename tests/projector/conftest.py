"""A nursery of processes that keep views, for all tests of a file; and generations that are numbered from 1 on."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from evrt.projector import opening
from projector.worker import Nursery


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    nursery = Nursery()
    yield nursery
    nursery.close()


@pytest.fixture(autouse=True)
def _from_one_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests name tables. Those of files that take each other's place set it back."""
    monkeypatch.setattr(opening, "FIRST_ID_BITS", 0)
