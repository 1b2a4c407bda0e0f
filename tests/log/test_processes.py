"""Several processes on one file: killed, frozen, greedy, or all at the same thing at once."""

from __future__ import annotations

import asyncio
import random
import signal
import threading
import time
from collections import Counter
from contextlib import aclosing
from pathlib import Path

import pytest

from evrt.errors import Unavailable
from evrt.log import NEW, Exact, Log, open_log
from evrt.log.check import check
from evrt.log.sqlite.transaction import Transaction
from log.stores import append, draft
from log.worker import Process

KILLS = 6


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/evrt.db"


# ------------------------------------------------------------------------------------------ killed


def test_a_writer_killed_at_any_moment_loses_no_acknowledged_event(url: str) -> None:
    chance = random.Random()
    acknowledged: dict[str, int] = {}
    for number in range(KILLS):
        with Process() as process:
            process.tell("open", url=url)
            process.start("flood", stream=f"run-{number}", count=100_000, tasks=1 + 7 * (number % 2))
            said = [process.line() for _ in range(chance.randrange(1, 120))]
            time.sleep(chance.random() * 0.003)
            process.signal(signal.SIGKILL)
            while (line := process.line()) is not None:
                said.append(line)
            assert process.end() == -signal.SIGKILL
        acknowledged.update(dict(said))
    report = check(url)
    assert report.findings == ()
    recorded = asyncio.run(positions(url))
    assert {event_id: recorded[event_id] for event_id in acknowledged} == acknowledged
    # Unacknowledged ones may be there or not: at most one batch for each kill.
    assert len(recorded) == report.events <= len(acknowledged) + 8 * KILLS


async def positions(url: str) -> dict[str, int]:
    async with aclosing(await open_log(url)) as log:
        rows = await log.read(limit=1_000_000)
        # And it goes on from there.
        await log.append(append(draft("run-after")))
        await log.append(append(draft("run-after"), run_after=Exact(1)))
    assert Counter(row.event_id for row in rows).most_common(1)[0][1] == 1
    return {row.event_id: row.position for row in rows}


def test_a_process_killed_while_it_makes_a_log_leaves_none_that_cannot_be_opened(tmp_path: Path) -> None:
    chance = random.Random()
    paths: list[str] = []
    for number in range(KILLS):
        folder = tmp_path / str(number)
        folder.mkdir()
        with Process() as process:
            process.start("make", folder=str(folder), count=100_000)
            paths += [process.line() for _ in range(chance.randrange(1, 5))]
            time.sleep(chance.random() * 0.01)
            process.signal(signal.SIGKILL)
            while (line := process.line()) is not None:
                paths.append(line)
            process.end()
    for path in paths:
        asyncio.run(use(f"sqlite:///{path}"))
        assert check(f"sqlite:///{path}").events == 1


async def use(url: str) -> None:
    async with aclosing(await open_log(url)) as log:
        await log.append(append(draft()))


# ------------------------------------------------------------------------------------------ frozen


async def test_a_frozen_process_that_holds_the_lock_is_named_and_nothing_is_written_later(
    tmp_path: Path, url: str
) -> None:
    async with aclosing(await open_log(url, lock_timeout_seconds=0.3)) as log:
        await log.append(append(draft(), run_1=NEW))
        with Process() as frozen:
            frozen.start("hold", path=f"{tmp_path}/evrt.db-lock")
            assert await asyncio.to_thread(frozen.line) == "held"
            answers = await asyncio.gather(
                *(log.append(append(draft())) for _ in range(5)), return_exceptions=True
            )
            for answer in answers:
                assert isinstance(answer, Unavailable)
                assert f"process {frozen.pid} holds its write lock" in str(answer)
                assert "Nothing was recorded" in str(answer)
            # Reading needs no lock.
            assert await log.position() == 1
            later = log.append(append(draft(), run_1=Exact(1)))
            await asyncio.sleep(0.01)
            frozen.signal(signal.SIGCONT)
            assert await asyncio.to_thread(frozen.end) == 0
        # The requests that were given up stay so; the one that was still in time is written.
        assert (await later).position == 2
        assert await log.position() == 2


async def test_a_log_can_be_closed_though_a_frozen_process_holds_the_lock(tmp_path: Path, url: str) -> None:
    log = await open_log(url, lock_timeout_seconds=0.2)
    await log.append(append(draft()))
    with Process() as frozen:
        frozen.start("hold", path=f"{tmp_path}/evrt.db-lock")
        assert await asyncio.to_thread(frozen.line) == "held"
        lost = log.append(append(draft()))
        await log.aclose()
        with pytest.raises(Unavailable):
            await lost
        # A log that is there can be opened and read meanwhile, one that is not cannot be made.
        async with aclosing(await open_log(url, lock_timeout_seconds=0.2)) as reader:
            assert await reader.position() == 1
        Path(f"{tmp_path}/new.db-lock").hardlink_to(f"{tmp_path}/evrt.db-lock")  # noqa: ASYNC240
        with pytest.raises(Unavailable, match="holds its write lock"):
            await open_log(f"sqlite:///{tmp_path}/new.db", lock_timeout_seconds=0.1)
    assert check(url).events == 1


async def test_requests_are_given_up_in_time_though_once_no_thread_could_be_started_to_see_to_it(
    tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with aclosing(await open_log(url, lock_timeout_seconds=0.2)) as log:
        with Process() as frozen:
            frozen.start("hold", path=f"{tmp_path}/evrt.db-lock")
            assert await asyncio.to_thread(frozen.line) == "held"
            with monkeypatch.context() as patch:
                patch.setattr(threading.Thread, "start", refuse_to_start)
                with pytest.raises(Unavailable, match="can't start new thread"):
                    await log.append(append(draft()))
            with pytest.raises(Unavailable, match="holds its write lock"):
                await log.append(append(draft()))


def refuse_to_start(thread: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")


async def test_a_writer_frozen_at_any_moment_blocks_the_others_only_while_it_is_frozen(url: str) -> None:
    with Process() as process:
        await asyncio.to_thread(process.tell, "open", url=url)
        process.start("flood", stream="run-frozen", count=2_000)
        async with aclosing(await open_log(url, lock_timeout_seconds=0.1)) as log:
            written = 0
            for _ in range(8):
                await asyncio.to_thread(process.line)
                process.signal(signal.SIGSTOP)
                answer = (await asyncio.gather(log.append(append(draft())), return_exceptions=True))[0]
                written += not isinstance(answer, Unavailable)
                process.signal(signal.SIGCONT)
            await log.append(append(draft(), run_1=Exact(written)))
    assert check(url).ok


# ------------------------------------------------------------------------------- another that closes


async def open_once_more(url: str, path: Path) -> None:
    async with aclosing(await open_log(url)) as log:
        await log.position()


async def look_only(url: str, path: Path) -> None:
    async with aclosing(await open_log(url, read_only=True)) as log:
        await log.position()


async def check_it(url: str, path: Path) -> None:
    assert check(url).ok


LOOKS = {"opened once more": open_once_more, "read": look_only, "checked": check_it}


@pytest.mark.parametrize("how", [*LOOKS, "recovered"])
async def test_a_log_keeps_its_wal_though_another_process_closes_it_and_this_one_has_looked_at_the_file(
    tmp_path: Path, url: str, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever closes any descriptor of a file lets go of all locks that SQLite has on it in this process."""
    path = tmp_path / "evrt.db"
    async with aclosing(await open_log(url)) as log:
        await log.append(append(draft()))
        await log.position()
        if how == "recovered":
            fail_once(monkeypatch)
        else:
            await LOOKS[how](url, path)
        await log.append(append(draft()))
        with Process() as other:
            other.tell("open", url=url)
            other.append(append(draft("run-other")))
            assert other.end() == 0
        assert Path(f"{path}-wal").exists()  # noqa: ASYNC240
        assert (await log.append(append(draft()))).position == 4
        with Process() as other:
            other.tell("open", url=url)
            appended = other.append(append(draft("run-other")))
            assert not isinstance(appended, str)
            assert appended.position == 5
            assert other.end() == 0
        assert await log.position() == 5
    assert check(url).findings == ()


def fail_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the next commit fail, so that the log is opened anew."""
    commit = Transaction.commit

    def fail(self: Transaction) -> int:
        monkeypatch.setattr(Transaction, "commit", commit)
        raise MemoryError

    monkeypatch.setattr(Transaction, "commit", fail)


# ------------------------------------------------------------------------------------------ greedy


def test_of_three_greedy_processes_none_starves(url: str) -> None:
    count = 300
    greedy = [Process() for _ in range(3)]
    try:
        for process in greedy:
            process.tell("open", url=url)
        for number, process in enumerate(greedy):
            process.start("flood", stream=f"run-{number}", count=count)
        for process in greedy:
            while process.line() != "flooded":
                pass
    finally:
        for process in greedy:
            process.end()
    streams = asyncio.run(streams_in_order(url))
    # When the first had all of its events in, the others had a good part of theirs.
    first_done = min(len(streams) - streams[::-1].index(stream) for stream in set(streams))
    share = Counter(streams[:first_done])
    assert sorted(share) == ["run-0", "run-1", "run-2"]
    assert min(share.values()) > count / 10
    assert check(url).ok


async def streams_in_order(url: str) -> list[str]:
    async with aclosing(await open_log(url)) as log:
        return [row.stream for row in await log.read(limit=1_000_000)]


# ------------------------------------------------------------------------------- all at once at one thing


def test_processes_that_open_a_new_log_at_the_same_time_make_one(url: str) -> None:
    together = [Process() for _ in range(4)]
    try:
        for process in together:
            process.start("open", url=url)
        assert [process.finish() for process in together] == ["opened"] * 4
        for number, process in enumerate(together):
            process.start("flood", stream=f"run-{number}", count=5)
        for process in together:
            while process.line() != "flooded":
                pass
        for process in together:
            process.start("ref", kind="user", external="ann")
        assert len({process.finish() for process in together}) == 1
    finally:
        for process in together:
            process.end()
    assert check(url).findings == ()
    assert check(url).events == 20


def test_of_the_same_append_by_several_processes_one_is_recorded(url: str) -> None:
    with Process() as one, Process() as other:
        for process in (one, other):
            process.tell("open", url=url)
        for number in range(20):
            request = {"drafts": [["run-1", "t", new_id(number), "run-1", "{}", ""]], "repeat_after": None}
            for process in (one, other):
                process.start("append", request={**request, "expect": {"run-1": ["Exact", number]}})
            answers = [process.finish() for process in (one, other)]
            assert sorted(answer.get("error", "") for answer in answers) == ["", "WrongVersion"]
    assert check(url).events == 20


def new_id(number: int) -> str:
    return f"018f0000-0000-7000-8000-{number:012x}"


async def test_the_last_to_leave_copies_the_wal(tmp_path: Path, url: str) -> None:
    log: Log = await open_log(url)
    await log.append(append(draft()))
    with Process() as other:
        await asyncio.to_thread(other.tell, "open", url=url)
        await asyncio.to_thread(other.append, append(draft()))
        await log.aclose()
        assert await asyncio.to_thread(other.end) == 0
    assert sorted(file.name for file in tmp_path.iterdir()) == ["evrt.db", "evrt.db-lock"]  # noqa: ASYNC240
    assert check(url).events == 2
