"""What the fault tests share: the process that forks workers, without starting Python for each."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from faults.injecting import Nursery


@pytest.fixture(scope="session")
def nursery() -> Iterator[Nursery]:
    nursery = Nursery()
    yield nursery
    nursery.close()
