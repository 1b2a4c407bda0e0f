"""Finding a log again after a loss of power: with the real SQLite, opened as evrt's writer opens it."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Mapping
from contextlib import aclosing, closing
from pathlib import Path

from disks.judge import Found
from disks.worker import DATABASE
from evrt.log import Append, Draft, Head, open_log
from evrt.log.check import check
from evrt.log.contract import Recorded
from evrt.log.ids import new_event_id
from evrt.log.sqlite.connect import connect_writing, inspect, make, read_log_id
from evrt.log.sqlite.schema import SELECT_RECORDED
from evrt.log.sqlite.transaction import recorded

BUSY_SECONDS = 1.0


def put(folder: Path, files: Mapping[str, bytes]) -> None:
    """Have a folder hold these files and no others."""
    for name in os.listdir(folder):
        if name not in files:
            os.unlink(folder / name)
    for name, content in files.items():
        (folder / name).write_bytes(content)


def find(folder: Path) -> Found:
    """The log in a folder, opened step by step as ``evrt.log.sqlite.writer`` does it."""
    path = str(folder / DATABASE)
    if inspect(path) != "ready":
        make(path, BUSY_SECONDS)
    with closing(connect_writing(path, BUSY_SECONDS)) as connection:
        (sound,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        assert sound == "ok", sound
        log = read_log_id(connection)
        rows = connection.execute(f"{SELECT_RECORDED} ORDER BY e.position").fetchall()
        heads = connection.execute("SELECT name, version, leaf, epoch FROM streams WHERE version > 0")
        return Found(log, [recorded(row) for row in rows], {row[0]: Head(*row[1:]) for row in heads})


def use(folder: Path) -> list[str]:
    """Open the log through the front door, append, read and close, and have evrt check it. What is wrong."""
    url = f"sqlite:///{folder / DATABASE}"

    async def append() -> tuple[int, list[Recorded]]:
        async with aclosing(await open_log(url)) as log:
            draft = Draft("run-z", "note.written", new_event_id(), "run-z", b"{}", b"afterwards")
            appended = await log.append(Append([draft], {}))
            return appended.position, await log.read(limit=1_000_000)

    position, rows = asyncio.run(append())
    found = [finding.text for finding in check(url).findings]
    if position != len(rows):
        found.append(f"The next event got position {position}, and there are {len(rows)} events.")
    return [f"Not usable: {text}" for text in found]


def in_memory(folder: Path) -> Path:
    """A place for states of disks: where there is a file system in memory, there."""
    shared = Path("/dev/shm")
    return shared if shared.is_dir() and os.access(shared, os.W_OK) else folder


def clear(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
