"""The world that runs act upon, outside of evrt: a ledger of every effect that really happened, and places to die.

The ledger is a file of its own. Every effect leaves one line there, synced, before it returns, so
after any crash it tells how often each effect happened, whatever the log says.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from evrt import ToolContext

LEDGER = "ledger.jsonl"

T = TypeVar("T")

MODEL = "model"
REPLY = "reply"
"""Tools of the ledger that are no tools of the runs: calls of the model, and what the process told the outside."""


class Line(NamedTuple):
    """One effect that happened: of which call, under which idempotency key, and what it came to."""

    tool: str
    run: str
    operation: str
    attempt: int
    key: str | None
    result: Any


@dataclass(slots=True)
class Failpoints:
    """Counts the times that each site is passed, and sends this process a signal at one of them."""

    site: str | None = None
    nth: int = 0
    signal: int = 9
    _passed: dict[str, int] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def reach(self, site: str) -> None:
        with self._lock:
            count = self._passed[site] = self._passed.get(site, 0) + 1
        if site == self.site and count == self.nth:
            os.kill(os.getpid(), self.signal)

    @property
    def passed(self) -> dict[str, int]:
        return dict(self._passed)


class World:
    """What tools get as their dependencies. ``effect`` is the only way in which they do anything."""

    def __init__(self, folder: Path, failpoints: Failpoints | None = None) -> None:
        self.folder = folder
        self.failpoints = failpoints or Failpoints()

    def call(self, context: ToolContext[World], tool: str, result: T) -> T:
        """The effect of a tool call."""
        line = Line(tool, context.run_id, context.operation, context.attempt, context.idempotency_key, result)
        self.effect(line)
        return result

    def effect(self, line: Line) -> None:
        """Let it happen: a line in the ledger, with a place to die on either side."""
        self.failpoints.reach("effect.before")
        append_line(self.folder / LEDGER, line)
        self.failpoints.reach("effect.after")

    def lines(self) -> list[Line]:
        return read_lines(self.folder / LEDGER, lambda fields: Line(*fields))

    def happened(self, run: str, operation: str) -> Line | None:
        """The first effect of a call, if it happened: what somebody who has to settle it looks up."""
        return next((x for x in self.lines() if x.run == run and x.operation == operation), None)


def append_line(path: Path, value: object) -> None:
    """One whole line, durable before this returns. O_APPEND keeps lines of several processes apart."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
    try:
        os.write(file, json.dumps(value).encode() + b"\n")
        os.fdatasync(file)
    finally:
        os.close(file)


def read_lines(path: Path, make: Callable[[Any], T]) -> list[T]:
    if not path.exists():
        return []
    return [make(json.loads(line)) for line in path.read_bytes().splitlines()]
