"""What a recovery looks at, and what it does when something is missing."""

# ruff: noqa: ASYNC240  # Looking at a file blocks nobody in a test.

from __future__ import annotations

# ruff: noqa: ASYNC240  # Looking at a file blocks nobody in a test.
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, closing
from pathlib import Path
from typing import Any, TypeVar

import pytest

from evrt.errors import NotFound
from evrt.log import open_log
from evrt.log.check import check
from evrt.log.sqlite.connect import LYING_STILL, connect_reading, reading_uris
from evrt.log.sqlite.recovery import Acknowledged, LostEvents, verify_tail
from evrt.log.sqlite.transaction import Planned, Transaction
from log.stores import append, draft, fill, url

T = TypeVar("T")

TESTS = Path(__file__).parent.parent

POISONED = """
import asyncio, json, os, resource, signal, sqlite3, sys
from evrt.errors import EvrtError
from evrt.log import open_log
from evrt.log.sqlite import committing
from evrt.log.sqlite.schema import SCHEMA
from log.stores import append, draft

path, statement = sys.argv[1:]
committing.RECOVERY_PAUSE_SECONDS = 0.0
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
_, most = resource.getrlimit(resource.RLIMIT_FSIZE)

async def told(awaitable):
    try:
        return (await awaitable).position
    except EvrtError as error:
        return [type(error).__name__, str(error)]

def no_more_writing(wanted):
    resource.setrlimit(resource.RLIMIT_FSIZE, (100 if wanted else most, most))

def tamper():
    connection = sqlite3.connect(path, isolation_level=None)
    for name, in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'trigger'").fetchall():
        connection.execute(f"DROP TRIGGER {name}")
    connection.executescript(statement)
    for trigger in SCHEMA:
        if trigger.startswith("CREATE TRIGGER"):
            connection.execute(trigger)
    connection.close()

async def main():
    log = await open_log("sqlite:///" + path)
    answers = [await told(log.append(append(draft(stream)))) for stream in ("run-1", "run-2", "run-1")]
    no_more_writing(True)
    answers.append(await told(log.append(append(draft()))))
    if statement == "die":
        os.write(1, json.dumps(answers).encode())
        os._exit(0)
    no_more_writing(False)
    tamper()
    answers += [await told(log.append(append(draft()))) for _ in range(2)]
    answers.append(len(await log.read()))
    await log.aclose()
    print(json.dumps(answers))

asyncio.run(main())
"""


def poisoned(path: Path, statement: str) -> list[Any]:
    """What a process was told whose fourth append found no way to write; then the file was changed behind its back."""
    done = subprocess.run(
        [sys.executable, "-c", POISONED, str(path), statement],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])},
    )
    assert (done.returncode, done.stderr) == (0, "")
    answers: list[Any] = json.loads(done.stdout)
    assert answers[:3] == [1, 2, 3]
    kind, text = answers[3]
    assert kind == "Unavailable"
    assert "could not be reopened and verified since: " in text
    return answers[4:]


HEAD_OF_RUN_1 = "version = 1, leaf = (SELECT leaf FROM events WHERE position = 1) WHERE name = 'run-1'"


@pytest.mark.parametrize(
    "statement,found",
    [
        (
            f"DELETE FROM events WHERE position = 3; UPDATE streams SET {HEAD_OF_RUN_1}",
            "the event at position 3 is not there",
        ),
        (
            "UPDATE events SET meta = x'7b2261223a317d' WHERE position = 1",
            "the event at position 1 is not what was recorded",
        ),
        (
            "UPDATE events SET payload = x'00' WHERE position = 2",
            "the event at position 2 is not what was recorded",
        ),
        (f"UPDATE streams SET {HEAD_OF_RUN_1}", "the head of run-1 is not that of its last event"),
    ],
)
def test_what_was_acknowledged_and_is_not_there_stops_the_log_for_good_and_loudly(
    tmp_path: Path, statement: str, found: str
) -> None:
    path = tmp_path / "evrt.db"
    first, second, read = poisoned(path, statement)
    kind, text = first
    assert kind == "UnusableLog"
    assert text == (
        f"Nothing was recorded. {path} HAS LOST EVENTS that were acknowledged: after a failed write it was reopened, "
        f"and {found}. The disk or its file system did not keep what it had confirmed. This log takes no more events. "
        f"Keep all files that begin with {path} as they are, look at them with `evrt db check`, and restore the log "
        "from a copy."
    )
    assert second == first
    assert read == (2 if statement.startswith("DELETE") else 3)


def test_a_log_that_has_lost_nothing_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "evrt.db"
    assert poisoned(path, "") == [4, 5, 5]
    assert check(url(path)).findings == ()


async def test_a_whole_event_in_the_place_of_the_one_acknowledged_is_a_loss(tmp_path: Path) -> None:
    """As where a copy of the file was put back on which somebody had gone on: all of it is sound, and it is another log."""
    path = tmp_path / "evrt.db"
    await fill(path)
    async with aclosing(await open_log(url(path))) as log:
        leaves = {row.position: row.leaf for row in await log.read()}
    with closing(connect_reading(str(path))) as connection:
        verify_tail(connection, log.id, leaves)
        with pytest.raises(LostEvents, match="the event at position 3 is not what was recorded"):
            verify_tail(connection, log.id, leaves | {3: bytes(32)})


async def test_a_process_that_dies_poisoned_leaves_a_mark_for_the_next(tmp_path: Path) -> None:
    path = tmp_path / "evrt.db"
    lock = Path(f"{path}-lock")
    assert poisoned(path, "die") == []
    assert lock.read_text().endswith("!")
    async with aclosing(await open_log(url(path))) as log:
        # Others look at the log without minding.
        assert len(await log.read()) == 3
        assert lock.read_text().endswith("!")
        assert (await log.append(append(draft()))).position == 4
    assert not lock.read_text().endswith("!")


def test_what_is_kept_to_be_verified_is_bounded() -> None:
    acknowledged = Acknowledged()
    for batch in range(300):
        acknowledged.add(
            Planned(batch * 100 + 1, [b"%d" % (batch * 100 + 1 + n) for n in range(100)], 100_000)
        )
    leaves = acknowledged.leaves()
    assert list(leaves) == list(range(30_000 - 10_000 + 1, 30_001))
    assert all(leaf == b"%d" % position for position, leaf in leaves.items())
    acknowledged.add(Planned(30_001, [b"x"], 1_000_000_000))
    assert list(acknowledged.leaves()) == [30_001]


async def test_a_file_held_for_still_is_looked_at_again_when_somebody_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where a reader came upon a log whose index nobody could make, and then the disk had room again."""
    path = tmp_path / "evrt.db"
    await fill(path)
    monkeypatch.setattr(
        "evrt.log.sqlite.reader.reading_uris",
        lambda path: [uri for uri in reading_uris(path) if uri.endswith(LYING_STILL)] or reading_uris(path),
    )
    async with aclosing(await open_log(url(path), read_only=True)) as reader:
        assert await reader.position() == 4
        async with aclosing(await open_log(url(path))) as log:
            await log.append(append(draft()))
            assert await reader.position() == 5
            await log.append(append(draft()))
            assert await reader.position() == 6
        assert await reader.position() == 6


async def photograph() -> AsyncIterator[bytes]:
    yield b"a photograph"


@pytest.mark.parametrize("committed", [True, False])
async def test_a_commit_that_failed_is_settled_by_what_the_log_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, committed: bool
) -> None:
    """Whether it was recorded or not: it is answered as if nothing had failed, and it is there once."""

    def fail_once(self: Transaction) -> int:
        monkeypatch.setattr(Transaction, "commit", commit)
        if committed:
            commit(self)
        raise MemoryError

    commit = Transaction.commit
    path = tmp_path / "evrt.db"
    async with aclosing(await open_log(url(path))) as log:
        blob = await log.write_blob(photograph())

        async def failing(work: Callable[[], Awaitable[T]]) -> T:
            monkeypatch.setattr(Transaction, "commit", fail_once)
            return await work()

        assert (await failing(lambda: log.append(append(draft(), draft("run-2"))))).positions == range(1, 3)
        assert await failing(lambda: log.ref("user", "ann")) == await log.ref("user", "ann")
        await failing(lambda: log.erase_payload(1))
        # Nothing with a leaf tells about this one, and it cannot be done twice.
        await failing(lambda: log.erase_blob(blob.sha256))
        with pytest.raises(NotFound):
            await log.erase_blob(blob.sha256)
        rows = await log.read()
        assert [row.payload is None for row in rows] == [True, False]
    assert check(url(path)).findings == ()
