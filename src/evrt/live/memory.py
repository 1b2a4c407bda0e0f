"""Frames of a log in memory: for the process that has it."""

from __future__ import annotations

import sqlite3
import threading
import weakref
from collections.abc import Sequence
from typing import Any

from evrt.live import store
from evrt.live.store import TABLES, Batch, LiveReader, LiveStore
from evrt.log import Log
from evrt.log.subscribe import Bells, call_in


class Tables:
    """The tables of one log, for all of its writers and readers."""

    def __init__(self) -> None:
        self.bells = Bells()
        self._lock = threading.Lock()
        self._connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        for statement in TABLES:
            self._connection.execute(in_sqlite(statement))

    def execute(self, sql: str, parameters: Sequence[object] = (), /) -> Any:
        return self._connection.execute(in_sqlite(sql), parameters)

    def fetch(self, sql: str, parameters: Sequence[object]) -> list[Any]:
        with self._lock:
            rows: list[Any] = self.execute(sql, parameters).fetchall()
            return rows

    def write(self, batch: Batch) -> None:
        with self._lock:
            store.write_batch(self, batch)
        for loop, bell in self.bells.heard_in():
            call_in(loop, bell.ring)

    def sweep(self, kept_seconds: float, quiet_seconds: float, runs_max: int) -> list[str]:
        with self._lock:
            return store.sweep(self, kept_seconds, quiet_seconds, runs_max)


_tables: weakref.WeakKeyDictionary[Log, Tables] = weakref.WeakKeyDictionary()


def tables_of(log: Log) -> Tables:
    """The tables beside a log in memory."""
    tables = _tables.get(log)
    return _tables.setdefault(log, Tables()) if tables is None else tables


def in_sqlite(sql: str) -> str:
    """A statement as SQLite has it."""
    return sql.replace("@.", "").format(unlogged="", clustered=" WITHOUT ROWID")


class MemoryStore(LiveStore):
    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    def write(self, batch: Batch) -> None:
        self._tables.write(batch)

    def sweep(self, kept_seconds: float, quiet_seconds: float, runs_max: int) -> list[str]:
        return self._tables.sweep(kept_seconds, quiet_seconds, runs_max)

    def close(self) -> None:
        """The tables go with their log."""


class MemoryReader(LiveReader):
    def __init__(self, tables: Tables) -> None:
        super().__init__(tables.bells.here())
        self._tables = tables
        self.bell.listeners += 1

    async def _fetch(self, sql: str, parameters: Sequence[object]) -> list[Any]:
        return self._tables.fetch(sql, parameters)

    async def changed(self, seen: int, timeout_seconds: float) -> None:
        await self.bell.wait(seen, timeout_seconds)

    async def aclose(self) -> None:
        self.bell.listeners -= 1
