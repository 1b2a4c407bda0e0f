"""A copy of a log that is in use: whole, as of one moment, and checked before it bears its name."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import aclosing, closing, contextmanager
from pathlib import Path

import pytest

from evrt.errors import Conflict, NotFound, Unavailable, UnusableLog, UsageError
from evrt.log import open_log
from evrt.log.backup import backup
from evrt.log.check import check
from log.stores import append, draft, make_log, url

WRITER = """
import asyncio, sys
from contextlib import aclosing
from evrt.log import Append, Draft, open_log
from evrt.log.ids import new_event_id

async def write():
    async with aclosing(await open_log(sys.argv[1])) as log:
        print("open", flush=True)
        while True:
            drafts = [Draft("run-1", "note.written", new_event_id(), "run-1", b"{}", b"x" * 2_000) for _ in range(3)]
            await log.append(Append(drafts, {}))

asyncio.run(write())
"""


@contextmanager
def somebody_writing(path: Path) -> Iterator[None]:
    """Another process that appends three events at a time, as fast as it can."""
    process = subprocess.Popen([sys.executable, "-c", WRITER, url(path)], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"open\n"
        yield
        assert process.poll() is None
    finally:
        process.kill()
        process.communicate()


def beside(path: Path) -> list[str]:
    """What begins with the name of a file and is not that file."""
    return [file.name for file in path.parent.iterdir() if file.name.startswith(path.name) and file != path]


def test_the_copy_of_a_log_that_is_being_written_is_the_log_as_of_one_moment(path: Path) -> None:
    make_log(path, 3_000)
    copy = path.with_name("copy.db")
    with somebody_writing(path):
        report = backup(url(path), str(copy))
    assert report.ok
    assert report.events % 3 == 0
    assert beside(copy) == []
    asyncio.run(compare(path, copy, report.events))


def test_what_is_written_between_two_steps_is_not_in_the_copy(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("evrt.log.backup.STEP_PAGES", 4)
    make_log(path, 300)
    steps: list[int] = []

    def write_beside(done: int, total: int) -> None:
        steps.append(done)
        if len(steps) <= 3:
            make_log(path, 3)

    assert backup(url(path), str(path.with_name("copy.db")), copying=write_beside).events == 300
    assert len(steps) > 3
    assert check(url(path)).events == 309


async def compare(path: Path, copy: Path, events: int) -> None:
    async with aclosing(await open_log(url(copy))) as log, aclosing(await open_log(url(path))) as source:
        assert log.id == source.id
        assert await log.read(limit=events + 1) == await source.read(limit=events)
        # It is a log: it can be written on.
        assert (await log.append(append(draft("run-2")))).position == events + 1


def test_progress_is_told_of_pages_and_then_of_events(path: Path) -> None:
    make_log(path, 2_000)
    pages: list[tuple[int, int]] = []
    events: list[tuple[int, int]] = []
    backup(
        url(path),
        str(path.with_name("copy.db")),
        copying=lambda done, total: pages.append((done, total)),
        checking=lambda done, total: events.append((done, total)),
    )
    assert pages[-1][0] == pages[-1][1] > 0
    assert events[-1] == (2_000, 2_000)


def test_what_is_there_already_is_left_as_it_is(path: Path) -> None:
    make_log(path, 3)
    copy = path.with_name("copy.db")
    copy.write_text("mine")
    with pytest.raises(Conflict, match=r"something at .* already. It has been left as it is; name another"):
        backup(url(path), str(copy))
    assert copy.read_text() == "mine"


@pytest.mark.parametrize("left", ["-wal", "-journal", "-shm"])
def test_what_an_earlier_file_of_that_name_left_beside_it_is_not_taken_for_the_copys(
    path: Path, left: str
) -> None:
    """SQLite would write the WAL of another database into the copy as soon as somebody opens it."""
    make_log(path, 3)
    copy = path.with_name("copy.db")
    beside = copy.with_name(f"copy.db{left}")
    beside.write_text("of another")
    with pytest.raises(Conflict, match=f"something at .*copy.db{left} .* name another file"):
        backup(url(path), str(copy))
    assert beside.read_text() == "of another"
    assert not copy.exists()


def test_what_came_meanwhile_is_left_as_it_is_too(path: Path) -> None:
    make_log(path, 3)
    copy = path.with_name("copy.db")

    def somebody_comes(done: int, total: int) -> None:
        copy.write_text("mine")

    with pytest.raises(Conflict, match=r"something at .* now. It has been left as it is"):
        backup(url(path), str(copy), copying=somebody_comes)
    assert copy.read_text() == "mine"
    assert beside(copy) == []


@pytest.mark.parametrize(
    "source, error, words",
    [
        ("sqlite:///{}/none.db", NotFound, "There is no log at"),
        ("sqlite:///{}/empty.db", NotFound, "is empty: no log has been made"),
        ("memory://", UsageError, "A log in memory has no file"),
        ("sqlite:///{}/text.db", UnusableLog, "is not a log of evrt"),
    ],
)
def test_what_is_no_log_cannot_be_copied(
    tmp_path: Path, source: str, error: type[Exception], words: str
) -> None:
    (tmp_path / "empty.db").touch()
    (tmp_path / "text.db").write_text("hello")
    with pytest.raises(error, match=words):
        backup(source.format(tmp_path), str(tmp_path / "copy.db"))
    assert not (tmp_path / "copy.db").exists()


def test_a_folder_that_is_not_there_is_named(path: Path) -> None:
    make_log(path, 3)
    with pytest.raises(NotFound, match=r"There is no folder .*nowhere for the copy. Create it first"):
        backup(url(path), str(path.with_name("nowhere") / "copy.db"))


def test_a_log_that_is_not_sound_is_not_passed_on_as_a_copy(path: Path) -> None:
    make_log(path, 30)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DROP TRIGGER events_update")
        connection.execute("UPDATE events SET payload = x'00' WHERE position = 7")
        connection.commit()
    copy = path.with_name("copy.db")
    with pytest.raises(
        UnusableLog, match=r"not sound, so the copy of it is not kept. .*`evrt db check` tells"
    ):
        backup(url(path), str(copy))
    assert sorted(file.name for file in path.parent.iterdir() if "copy" in file.name) == []


def test_where_a_file_may_not_become_so_large_the_copy_is_given_up_and_nothing_stays(
    path: Path,
) -> None:
    make_log(path, 2_000)
    script = f"""
        import resource, signal
        from evrt.errors import Unavailable
        from evrt.log.backup import backup
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        try:
            backup({url(path)!r}, {str(path.with_name("copy.db"))!r})
        except Unavailable as error:
            print(error)
    """
    told = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], check=True, capture_output=True, text=True
    )
    assert told.stdout.startswith("The log could not be copied: ")
    assert [file.name for file in path.parent.iterdir() if "copy" in file.name] == []


def test_a_process_killed_while_it_copies_leaves_nothing_under_the_name(path: Path) -> None:
    make_log(path, 5_000)
    copy = path.with_name("copy.db")
    script = f"from evrt.log.backup import backup; backup({url(path)!r}, {str(copy)!r})"
    process = subprocess.Popen([sys.executable, "-c", script])
    while not [file for file in path.parent.iterdir() if ".part-" in file.name] and process.poll() is None:
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.wait()
    # It may have been through by then; then it is whole.
    if copy.exists():
        assert check(url(copy)).events == 5_000
    else:
        backup(url(path), str(copy))
    assert check(url(path)).ok


def test_a_log_that_may_only_be_read_can_be_copied(path: Path) -> None:
    make_log(path, 10)
    os.chmod(path, 0o444)
    assert backup(url(path), str(path.with_name("copy.db"))).events == 10


def test_a_copy_that_cannot_be_named_is_said_to_be_unavailable(tmp_path: Path) -> None:
    path = tmp_path / "evrt.db"
    make_log(path, 10)
    with pytest.raises(Unavailable, match="could not be written"):
        backup(url(path), str(tmp_path / ("x" * 254)))
