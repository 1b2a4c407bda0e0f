"""A nursery of processes that keep views, for all tests of a file."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from projector.worker import Nursery


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    nursery = Nursery()
    yield nursery
    nursery.close()
