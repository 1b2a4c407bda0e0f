"""A process that runs out of memory: batches stay whole, what was acknowledged is there, and it goes on with more."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from evrt.errors import Unavailable
from evrt.log import open_log
from evrt.log.check import check
from evrt.log.sqlite.committing import Committer
from evrt.log.sqlite.writer import Writer
from faults.judge import NOTHING, UNKNOWN, rows_of
from log.stores import append, draft, url

TESTS = Path(__file__).parent.parent

ALLOCATIONS = """
import json, os, sys, time
import _testcapi
from evrt.errors import Unavailable
from evrt.log import Append
from evrt.log.plan import check_request
from evrt.log.sqlite import committing
from evrt.log.sqlite.committing import Committer
from evrt.log.sqlite.connect import make
from evrt.log.sqlite.jobs import UNKNOWN, Job
from evrt.log.sqlite.lock import FileLock
from log.stores import draft

path, failing, step = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
committing.RECOVERY_PAUSE_SECONDS = 0.0
make(path, 1.0)

def job_of(stream, events):
    drafts = [draft(stream, payload=b"x" * 100) for _ in range(events)]
    return Job(check_request(Append(drafts, {}), 1_000_000), None, time.monotonic())

def commit_without_memory(n):
    # Whoever is told anything is told it in a process that lives: the lines go out one by one.
    lock = FileLock(path + "-lock")
    lock.try_acquire()
    committer = Committer(path, lock, 1.0)
    for hungry in (True, False):
        jobs = [job_of(f"run-{n % 3}", 2), job_of("memory-1", 1)]
        if hungry:
            _testcapi.set_nomemory(n, n + failing)
        try:
            committer.commit(jobs)
        except MemoryError as error:
            # What the writer does with whatever a commit raises.
            _testcapi.remove_mem_hooks()
            committer.poison(error)
            for job in jobs:
                job.error = job.error or Unavailable(UNKNOWN)
        finally:
            _testcapi.remove_mem_hooks()
        for job in jobs:
            ids = [draft.event_id.replace("-", "") for draft in job.work.drafts]
            told = str(job.error) if job.error is not None else list(job.result.positions)
            os.write(1, json.dumps([n, hungry, ids, told]).encode() + b"\\n")
    os._exit(0)

for n in range(0, 400, step):
    child = os.fork()
    if child == 0:
        commit_without_memory(n)
    _, status = os.waitpid(child, 0)
    print(json.dumps([n, status]), flush=True)
"""


@pytest.mark.parametrize(
    "failing,step",
    [
        (1, 4),
        pytest.param(1, 1, marks=pytest.mark.soak),
        pytest.param(3, 1, marks=pytest.mark.soak),
        pytest.param(1_000_000, 1, marks=pytest.mark.soak),
    ],
)
def test_allocations_of_a_commit_fail_in_turn_and_nothing_is_lost(
    tmp_path: Path, failing: int, step: int
) -> None:
    """From the n-th allocation on as many as ``failing`` fail. A library may crash the process for it; that is a death
    like another, of which nothing acknowledged is lost either.
    """
    path = tmp_path / "evrt.db"
    done = subprocess.run(
        [sys.executable, "-c", ALLOCATIONS, str(path), str(failing), str(step)],
        capture_output=True,
        text=True,
        timeout=600,
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])},
    )
    rows = {event_id: position for position, event_id in rows_of(path).items()}
    ends: list[int] = []
    alive = refusals = 0
    for line in done.stdout.splitlines():
        match json.loads(line):
            case [_, status]:
                ends.append(status)
            case [n, hungry, ids, [*positions]]:
                alive += hungry
                assert [rows.get(event_id) for event_id in ids] == positions, n
            case [n, hungry, ids, text]:
                # With memory again the same process goes on, if it lives.
                assert hungry, (n, text)
                refusals += 1
                there = {event_id in rows for event_id in ids}
                assert len(there) == 1, n
                assert text.startswith(UNKNOWN) or (text.startswith(NOTHING) and there == {False}), (n, text)
    assert len(ends) == len(range(0, 400, step))
    assert ends.count(0) > len(ends) / 2
    assert alive > 0
    assert check(url(path)).findings == ()


HEAP = """
import asyncio, json, sqlite3, sys
from evrt.errors import EvrtError
from evrt.log import open_log
from log.stores import append, draft

async def told(awaitable):
    try:
        return (await awaitable).position
    except EvrtError as error:
        return [type(error).__name__, str(error)]

async def main():
    log = await open_log(sys.argv[1])
    answers = [await told(log.append(append(draft())))]
    # It holds for every connection of the process.
    sqlite3.connect(":memory:").execute("PRAGMA hard_heap_limit = 800000")
    for size in (10, 900_000, 10, 900_000, 10):
        answers.append(await told(log.append(append(draft(payload=b"x" * size)))))
    read = [row.position for row in await log.read()]
    await log.aclose()
    print(json.dumps([answers, read]))

asyncio.run(main())
"""


def test_an_append_for_which_sqlite_has_no_memory_is_refused_and_smaller_ones_go_on(tmp_path: Path) -> None:
    path = tmp_path / "evrt.db"
    done = subprocess.run(
        [sys.executable, "-c", HEAP, url(path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])},
    )
    answers, read = json.loads(done.stdout)
    assert [answers[0], answers[1], answers[3], answers[5]] == read == [1, 2, 3, 4]
    for kind, text in (answers[2], answers[4]):
        assert kind == "Unavailable"
        assert text == (
            f"Nothing was recorded. {path} could not be written: this process has run out of memory. "
            "Give it more memory, then try again; nothing has to be restarted."
        )
    assert check(url(path)).findings == ()


async def test_a_turn_of_the_writer_that_breaks_off_leaves_nobody_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = Committer.commit

    def break_off_once(self: Committer, batch: Any) -> bool:
        monkeypatch.setattr(Committer, "commit", commit)
        raise MemoryError

    async with aclosing(await open_log(url(tmp_path / "evrt.db"))) as log:
        monkeypatch.setattr(Committer, "commit", break_off_once)
        with pytest.raises(Unavailable, match=f"^{UNKNOWN}. Writing to .* was broken off"):
            await asyncio.wait_for(log.append(append(draft())), 20)
        assert (await log.append(append(draft()))).position == 1


async def test_who_was_answered_before_a_turn_broke_off_hears_nothing_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deliver = Writer._deliver

    def break_off_once(self: Writer, batch: Any, wrote: bool) -> None:
        monkeypatch.setattr(Writer, "_deliver", deliver)
        deliver(self, batch, wrote)
        raise MemoryError

    troubles: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, trouble: troubles.append(trouble))
    async with aclosing(await open_log(url(tmp_path / "evrt.db"))) as log:
        monkeypatch.setattr(Writer, "_deliver", break_off_once)
        assert (await log.append(append(draft()))).position == 1
        assert (await log.append(append(draft()))).position == 2
    assert troubles == []
