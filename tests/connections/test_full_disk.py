"""The disk of a PostgreSQL server is full: nothing is half written, it is said, and goes on when there is room."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Any

import pytest

from evrt.errors import Unavailable
from evrt.log import Append, Draft, open_log
from evrt.log.ids import new_event_id
from faults.mounts import run_on_small_disk
from postgres_server import Server

SERVER_MEGABYTES = 200
"""What an empty server needs, with its WAL, and room to be filled up."""

APPENDS_MAX = 400


@pytest.fixture
def folder() -> Iterator[Path]:
    """One that the server's user may enter, which pytest's own are not."""
    with tempfile.TemporaryDirectory(prefix="evrt-small-disk-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


def test_a_server_whose_disk_is_full_loses_nothing_and_goes_on_when_there_is_room(folder: Path) -> None:
    script = """
        import asyncio, json, sys
        from connections.test_full_disk import fill_up

        print(json.dumps(asyncio.run(fill_up(sys.argv[1]))))
    """
    told = run_on_small_disk(folder, script, size=f"{SERVER_MEGABYTES}m")
    assert "Nothing was recorded" in told["refused"]
    assert "Make room on the server" in told["refused"]
    assert told["there"] == told["acknowledged"]


async def fill_up(folder: str) -> dict[str, Any]:
    """Append until the disk is full, make room, append again: what was said, acknowledged, and is there."""
    os.chmod(folder, 0o755)
    server = Server(Path(folder, "server"), settings={"min_wal_size": "32MB", "max_wal_size": "48MB"})
    server.start()
    refused = ""
    try:
        async with aclosing(await open_log(server.url(schema="full"), lock_timeout_seconds=5.0)) as log:
            acknowledged = list((await log.append(appended(10))).positions)
            leave_no_room(f"{folder}/filler")
            for _ in range(APPENDS_MAX):
                try:
                    acknowledged += (await log.append(appended(100_000))).positions
                except Unavailable as error:
                    refused = str(error)
                    break
            os.unlink(f"{folder}/filler")
            acknowledged += (await log.append(appended(10))).positions
            there = [row.position for row in await log.read(limit=10_000)]
    finally:
        server.remove()
    return {"refused": refused, "acknowledged": acknowledged, "there": there}


def leave_no_room(path: str) -> None:
    with open(path, "wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(65_536))


def appended(size: int) -> Append:
    drafts = [
        Draft("run-1", "tests.happened", new_event_id(), "run-1", b"{}", os.urandom(size)) for _ in range(8)
    ]
    return Append(drafts, {})
