"""What the crash tests share: a crew of nurseries, and the stories that nobody interrupts."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from crash.apps import RUNS
from crash.harness import Crew
from crash.judge import Story


@pytest.fixture(scope="session")
def crew(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Crew]:
    crew = Crew(tmp_path_factory.mktemp("crash"))
    yield crew
    crew.close()


@pytest.fixture(scope="session")
def references(crew: Crew) -> dict[str, Story]:
    return {run: crew.reference(run) for run in RUNS}
