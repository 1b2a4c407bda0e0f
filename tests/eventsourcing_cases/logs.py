"""Logs for the cases: an empty one for each test, and what is closed when the test is over."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

from eventsourcing.utils import Environment

from evrt.log.check import check
from evrt.log.sqlite.factory import Factory

MODULE = "evrt.log.sqlite"


class Case(Protocol):
    """What a test case lets one do before it ends."""

    def enterContext(self, manager: AbstractContextManager[Any]) -> Any: ...  # noqa: N802
    def addCleanup(self, function: Callable[..., Any], /, *arguments: Any) -> None: ...  # noqa: N802


def new_path(case: Case) -> str:
    """Where a log may be made; whatever the test has put there, the check must accept it."""
    folder = case.enterContext(tempfile.TemporaryDirectory(prefix="evrt-"))
    path = f"{folder}/evrt.db"
    case.addCleanup(_check, path)
    return path


def new_factory(case: Case, **settings: str) -> Factory:
    """A factory over an empty log."""
    factory = Factory(Environment(env={"SQLITE_DBNAME": new_path(case), **settings}))
    case.addCleanup(factory.close)
    return factory


def _check(path: str) -> None:
    if Path(path).exists():
        assert check(f"sqlite:///{path}").findings == ()
