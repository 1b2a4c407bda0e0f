"""Bugs to plant into a recorded process, each of which a loss of power has to bring to light.

``normal``, ``off``: commits are not synced, by that setting · ``ack_before_commit``: an append is
answered before it is durable · ``go_on``: after a sync that failed the same connection writes on,
nor is the WAL of a process that died made sure of · ``trusting``: only the latter is left out.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, cast

import evrt.log.sqlite.committing
import evrt.log.sqlite.connect
import evrt.log.sqlite.recovery
from evrt.errors import Unavailable
from evrt.log import Append, Appended, Log
from evrt.log.contract import Landing
from evrt.log.sqlite.committing import Committer
from evrt.log.sqlite.jobs import Job
from evrt.log.sqlite.transaction import Planned


def plant_before(planted: str | None) -> None:
    """Plant what has to be there before a log is opened."""
    if planted in ("normal", "off"):
        _unsync(planted)
    elif planted == "trusting":
        _replace(Committer, "make_sure", lambda committer: None)
    elif planted == "go_on":
        _replace(Committer, "make_sure", lambda committer: None)
        _replace(Committer, "_commit_after", _go_on)


def _go_on(
    committer: Committer, error: BaseException, batch: Sequence[Job], planned: Planned | None, *, again: bool
) -> bool:
    committer._transaction.roll_back()
    for job in batch:
        job.error = Unavailable(str(error))
    return False


def _replace(owner: object, name: str, value: object) -> None:
    setattr(owner, name, value)


def plant(log: Log, planted: str | None) -> Log:
    """The log with the bug, or the log itself."""
    return cast(Log, EarlyAnswers(log)) if planted == "ack_before_commit" else log


def _unsync(setting: str) -> None:
    """Every connection that writes, and has passed its checks, is set to sync less."""
    connect = evrt.log.sqlite.connect.connect_writing

    def connect_carelessly(path: str, busy_timeout_seconds: float) -> sqlite3.Connection:
        connection = connect(path, busy_timeout_seconds)
        connection.execute(f"PRAGMA synchronous = {setting}")
        return connection

    for module in (evrt.log.sqlite.committing, evrt.log.sqlite.recovery):
        _replace(module, "connect_writing", connect_carelessly)


class EarlyAnswers:
    """Answers an append when it is queued. Where it will be is known, as long as nobody else writes."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._position = 0
        self._versions: dict[str, int] = defaultdict(int)
        self._late: list[asyncio.Future[Appended]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    def append(self, request: Append) -> Landing[Appended]:
        self._late.append(self._log.append(request))
        first = self._position + 1
        self._position += len(request.drafts)
        versions = []
        for draft in request.drafts:
            self._versions[draft.stream] += 1
            versions.append(self._versions[draft.stream])
        answer: Landing[Appended] = Landing()
        answer.set_result(Appended(range(first, self._position + 1), tuple(versions)))
        return answer
