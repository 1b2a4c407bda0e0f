"""Several processes at one queue: each entry is given once, and again only when whoever had it is gone."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
from collections import Counter
from contextlib import aclosing
from pathlib import Path

import pytest

from evrt.errors import Fenced
from evrt.log import NEW, Append, Log, open_log, queueing
from evrt.log.check import check
from evrt.log.claiming import Now
from evrt.log.coordination import Enqueue, Hold
from evrt.log.sqlite.transaction import Transaction
from log.stores import append, draft
from log.worker import Process

ENTRIES = 90
PROCESSES = 3

WRITERS = ("sqlite", "postgres")


@pytest.fixture(params=WRITERS)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A log that several processes can use."""
    if request.param == "postgres":
        return str(request.getfixturevalue("postgres"))
    return f"sqlite:///{tmp_path}/evrt.db"


async def enqueue(log: Log, count: int) -> list[str]:
    runs = [f"run-{number}" for number in range(count)]
    requests = [
        Append([draft(run)], {run: NEW}, beside=[Enqueue(run, "tu"[number % 2], number % 3)])
        for number, run in enumerate(runs)
    ]
    await asyncio.gather(*map(log.append, requests))
    return runs


async def fill(url: str, count: int) -> list[str]:
    async with aclosing(await open_log(url)) as log:
        return await enqueue(log, count)


def test_each_entry_is_given_to_one_of_many_processes(url: str) -> None:
    runs = asyncio.run(fill(url, ENTRIES))
    ended: list[str] = []
    processes = [Process() for _ in range(PROCESSES)]
    try:
        for process in processes:
            process.tell("open", url=url)
        for number, process in enumerate(processes):
            process.start("work", name=f"w{number}", seconds=1_000.0, limit=1 + number)
        shares = []
        for process in processes:
            before = len(ended)
            while (said := process.finish()) != "nothing left":
                # An error would be said as well, and is no run.
                assert isinstance(said, str), said
                ended.append(said)
            shares.append(len(ended) - before)
    finally:
        for process in processes:
            process.kill()
    assert Counter(ended) == Counter(runs)
    assert len([share for share in shares if share]) > 1, shares
    events = asyncio.run(types(url))
    assert events == {"note.written": ENTRIES, "run.claimed": ENTRIES, "run.succeeded": ENTRIES}
    if url.startswith("sqlite"):
        assert check(url).findings == ()


async def types(url: str) -> Counter[str]:
    async with aclosing(await open_log(url)) as log:
        assert await log.coordination.entries() == []
        return Counter(row.type for row in await log.read())


async def test_what_a_killed_process_had_is_given_to_another_when_its_lease_is_over(url: str) -> None:
    async with aclosing(await open_log(url)) as log:
        queue = log.coordination
        runs = await enqueue(log, 6)
        await queue.renew("here", seconds=1_000)
        with Process() as process:
            process.tell("open", url=url)
            taken = process.tell("claim", name="there", seconds=1_000.0, limit=9)
            process.kill()
        assert sorted(taken) == sorted(run for number, run in enumerate(runs) if number % 2 == 0)
        # As far as anybody knows it is alive.
        assert await queue.claim("here", targets={"t": None}, limit=9) == []
        await queue.renew("there", seconds=0.05)
        given: list[tuple[str, str | None]] = []
        while len(given) < len(taken):
            _, wait = await queue.outlook(["t"])
            await asyncio.sleep(wait or 0)
            claimed = await queue.claim("here", targets={"t": None}, limit=9)
            given += [(one.run, one.taken_from) for one in claimed]
        assert sorted(given) == sorted((run, "there") for run in taken)


async def test_a_process_that_was_stopped_for_long_begins_nothing_that_was_given_to_another(url: str) -> None:
    async with aclosing(await open_log(url)) as log:
        queue = log.coordination
        await enqueue(log, 1)
        with Process() as process:
            process.tell("open", url=url)
            assert process.tell("claim", name="there", seconds=1_000.0, limit=1) == ["run-0"]
            process.signal(signal.SIGSTOP)
            await queue.renew("there", seconds=0.000_001)
            await queue.renew("here", seconds=1_000)
            await asyncio.sleep(0.01)
            assert len(await queue.claim("here", targets={"t": None}, limit=1)) == 1
            process.signal(signal.SIGCONT)
            assert process.tell("hold entry", run="run-0", name="there")["error"] == "Fenced"
        await log.append(append(draft("run-0"), beside=[Hold("run-0", "here")]))
        with pytest.raises(Fenced):
            await log.append(append(draft("run-0"), beside=[Hold("run-0", "there")]))


# ------------------------------------------------------------------------------------ of a file alone


@pytest.mark.parametrize("written", [True, False])
async def test_a_claim_whose_commit_failed_gives_what_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: bool
) -> None:
    """No event tells whether it was recorded; else what was given would be given to nobody."""
    async with aclosing(await open_log(f"sqlite:///{tmp_path}/evrt.db")) as log:
        queue = log.coordination
        await enqueue(log, 8)
        await queue.renew("w")
        commit = Transaction.commit
        failures = iter([sqlite3.OperationalError("disk I/O error")])

        def fail(transaction: Transaction) -> int:
            failure = next(failures, None)
            pages = commit(transaction) if failure is None or written else 0
            if failure is not None:
                raise failure
            return pages

        monkeypatch.setattr(Transaction, "commit", fail)
        given = [one.run for one in await queue.claim("w", targets={"t": None}, limit=2)]
        assert len(given) == 2
        assert {entry.run for entry in await queue.entries(state="claimed")} == set(given)


async def test_a_lease_of_before_the_machine_was_started_has_run_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with aclosing(await open_log(f"sqlite:///{tmp_path}/evrt.db")) as log:
        queue = log.coordination
        await enqueue(log, 1)
        await queue.renew("w", seconds=10)
        assert len(await queue.claim("w", targets={"t": None}, limit=1)) == 1
    # The steady clock begins anew with the machine.
    begun = queueing.local_now().wall
    for module in ("evrt.log.queueing", "evrt.log.sqlite.transaction", "evrt.log.sqlite.store"):
        monkeypatch.setattr(f"{module}.local_now", lambda: Now(begun, 1_000_000, restarts=True))
    async with aclosing(await open_log(f"sqlite:///{tmp_path}/evrt.db")) as log:
        queue = log.coordination
        [lease] = await queue.leases()
        assert lease.left_seconds < 0
        assert (await queue.outlook(["t"])).ready
        assert await queue.claim("w", targets={"t": None}, limit=1) == []
        await queue.renew("v")
        [given] = await queue.claim("v", targets={"t": None}, limit=1)
        assert given.taken_from == "w"
