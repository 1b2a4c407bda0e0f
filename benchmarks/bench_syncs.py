"""How many syncs of the disk does a durable step cost, one after another?

A run makes K calls of a tool that reads. Its last outcome rides with its end and every intent with the
outcome before it, so there are to be K + 1 appends and as many syncs. Appends are counted at the log, syncs
by strace in a process of its own. What opening and closing a log costs besides is taken off as what a run
without a call costs; copying the WAL into the database, every 250 appends or so, is part of the price.
The baseline is raw sqlite3, WAL and synchronous=FULL, one row in a commit.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import evrt
from evrt.log import Append, Appended, Log
from evrt.log.contract import Landing
from harness import machine, print_table

STEPS = (10, 100, 1_000)
STEPS_QUICK = (10, 50)
SYNC = re.compile(r"^\s*[\d.]+\s+[\d.]+\s+\d+\s+(\d+)\s+(?:\d+\s+)?(?:fsync|fdatasync)$", re.MULTILINE)
"""A line of strace's table: share, seconds, microseconds per call, calls, errors if any, name."""


class Counting:
    """A log that counts its appends."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self.appends = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    def append(self, request: Append) -> Landing[Appended]:
        self.appends += 1
        return self._log.append(request)


class CountingApp(evrt.App):
    counting: Counting | None = None

    async def log(self, *, read_only: bool = False) -> Log:
        log = await super().log(read_only=read_only)
        if self.counting is None:
            self.counting = Counting(log)
        counted: Any = self.counting
        return counted  # type: ignore[no-any-return]


@evrt.tool(effect="read")
async def look(n: int) -> int:
    return n


async def steps(path: Path, count: int) -> int:
    """Make a run of so many calls; how many appends it took."""
    async with CountingApp(f"sqlite:///{path}") as app:

        @app.workflow(timeout=None)
        async def calls(ctx: evrt.Context[None], count: int) -> None:
            for n in range(count):
                await ctx.call(look, n=n)

        (await app.run(calls, count)).unwrap()
        assert app.counting is not None
        return app.counting.appends


def rows(path: Path, count: int) -> int:
    """The same number of raw commits."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("CREATE TABLE rows (id INTEGER PRIMARY KEY, payload BLOB)")
    for _ in range(count):
        connection.execute("INSERT INTO rows (payload) VALUES (?)", (b"x" * 200,))
    connection.close()
    return count


def work(what: str, count: int) -> int:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bench.db"
        return asyncio.run(steps(path, count)) if what == "evrt" else rows(path, count)


def syncs(what: str, count: int) -> int:
    """How often a process that does this work, and no other, syncs."""
    command = [sys.executable, __file__, "--work", what, str(count)]
    found = subprocess.run(
        ["strace", "-f", "-c", "-e", "trace=fsync,fdatasync", *command],
        capture_output=True,
        text=True,
        check=True,
    )
    return sum(map(int, SYNC.findall(found.stderr)))


def measure(what: str, counts: tuple[int, ...]) -> list[dict[str, Any]]:
    traced = shutil.which("strace") is not None
    idle_appends = work(what, 0)
    idle_syncs = syncs(what, 0) if traced else 0
    found: list[dict[str, Any]] = []
    for count in counts:
        row: dict[str, Any] = {"what": what, "steps": count, "appends": work(what, count)}
        row["appends per step"] = (row["appends"] - idle_appends) / count
        if traced:
            row["syncs"] = syncs(what, count)
            row["syncs per step"] = (row["syncs"] - idle_syncs) / count
        found.append(row)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer steps: does it still run?")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.add_argument("--work", nargs=2, metavar=("WHAT", "COUNT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        work(options.work[0], int(options.work[1]))
        return
    counts = STEPS_QUICK if options.quick else STEPS
    found = [row for what in ("raw", "evrt") for row in measure(what, counts)]
    if options.json:
        print(json.dumps({"machine": machine(), "rows": found}, indent=2))
        return
    names = ["steps", "appends", "appends per step", "syncs", "syncs per step"]
    rows_shown = [[row["what"], *(_shown(row.get(name)) for name in names)] for row in found]
    print_table([["", *names], *rows_shown])
    if "syncs" not in found[0]:
        print("strace is not here, so syncs were not counted.")


def _shown(figure: float | None) -> str:
    if figure is None:
        return ""
    return f"{figure:,}" if isinstance(figure, int) else f"{figure:.3f}"


if __name__ == "__main__":
    main()
