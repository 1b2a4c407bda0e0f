"""Files that a log meets: another program's, a newer version's, half made, misplaced, not to be written."""

# ruff: noqa: ASYNC240  # Looking at a file blocks nobody in a test.

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Callable, Iterator
from contextlib import aclosing, closing
from hashlib import sha256
from pathlib import Path

import pytest

from evrt.errors import Denied, NotFound, UnusableLog, UsageError
from evrt.log import open_log
from evrt.log.check import check
from evrt.log.sqlite.schema import SCHEMA_VERSION
from log.stores import append, draft, fill, url


def digests(folder: Path) -> dict[str, str]:
    """Every file of a folder, byte for byte."""
    return {file.name: sha256(file.read_bytes()).hexdigest() for file in sorted(folder.iterdir())}


# ------------------------------------------------------------------------- files that are not ours


def other_program(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE customers (id INTEGER)")
        connection.commit()


def other_program_in_wal_mode(path: Path) -> None:
    """Left by a process that was killed: all of its tables are still in the WAL."""
    script = f"""
        import os, sqlite3
        connection = sqlite3.connect({str(path)!r}, isolation_level=None)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE customers (id INTEGER)")
        os._exit(0)
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=True)


def other_application(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA application_id = 252006673")


def text(path: Path) -> None:
    path.write_text("claim,amount\n1,20.00\n" * 10)


def short_text(path: Path) -> None:
    path.write_text("hello")


@pytest.mark.parametrize(
    "make", [other_program, other_program_in_wal_mode, other_application, text, short_text]
)
@pytest.mark.parametrize("read_only", [False, True])
async def test_the_file_of_another_program_is_refused_and_left_as_it_is(
    path: Path, make: Callable[[Path], None], read_only: bool
) -> None:
    make(path)
    before = digests(path.parent)
    with pytest.raises(UnusableLog, match=r"is not a log of evrt: .* It has been left as it is"):
        await open_log(url(path), read_only=read_only)
    assert digests(path.parent) == before


async def test_a_log_of_a_newer_version_is_refused_and_left_as_it_is(path: Path) -> None:
    await fill(path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 7")
        connection.commit()
    before = digests(path.parent)
    with pytest.raises(UnusableLog, match=f"version 7, this program knows version {SCHEMA_VERSION}. Upgrade"):
        await open_log(url(path))
    assert digests(path.parent) == before


async def test_a_damaged_log_is_refused(path: Path) -> None:
    await fill(path)
    content = path.read_bytes()
    path.write_bytes(content[:4096] + b"\xff" * (len(content) - 4096))
    with pytest.raises(UnusableLog, match="is damaged"):
        await open_log(url(path))


def empty_file(path: Path) -> None:
    path.touch()


def empty_database(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 0")
        connection.execute("VACUUM")


@pytest.mark.parametrize("make", [empty_file, empty_database])
async def test_a_log_can_be_made_in_a_file_that_holds_nothing(
    path: Path, make: Callable[[Path], None]
) -> None:
    make(path)
    await fill(path)
    assert check(url(path)).events == 4


async def test_a_log_that_was_half_made_is_finished(path: Path) -> None:
    await fill(path)
    with closing(sqlite3.connect(path)) as connection:
        # What a kill leaves between the two steps of making a log.
        connection.execute("PRAGMA journal_mode = DELETE")
    async with aclosing(await open_log(url(path))) as log:
        await log.append(append(draft()))
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


async def test_a_log_cut_off_while_it_was_switched_to_wal_is_finished(path: Path) -> None:
    """The header says WAL already, but the journal that takes it back is still there."""
    await fill(path)
    cut_off = path.with_name("cut-off.db")
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("BEGIN IMMEDIATE")
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        header = bytearray(path.read_bytes())
        header[18:20] = b"\x02\x02"
        cut_off.write_bytes(header)
        shutil.copy(f"{path}-journal", f"{cut_off}-journal")
        connection.execute("ROLLBACK")
    async with aclosing(await open_log(url(cut_off))) as log:
        await log.append(append(draft()))
    assert check(url(cut_off)).events == 5


def begin_a_database(path: Path, left: Path) -> None:
    """What is on the disk while a database is made, with the journal that takes it back."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA cache_size = 1")
        connection.execute("BEGIN")
        connection.execute("CREATE TABLE things (name)")
        # More than the cache holds, so that some of it goes to the file before its commit.
        for _ in range(30):
            connection.execute("INSERT INTO things VALUES (randomblob(3000))")
        shutil.copy(path, left)
        shutil.copy(f"{path}-journal", f"{left}-journal")
        connection.execute("ROLLBACK")


NOISE = bytearray(512)
"""What lay there before may look like settings: the size of a page, and a way to vacuum."""
NOISE[16:18], NOISE[64:68] = b"\x10\x00", b"\x00\x00\x00\x01"


@pytest.mark.parametrize(
    "first_bytes",
    [None, bytes(512), b"SQLite format 3\x00".ljust(512, b"\x00"), bytes(NOISE)],
    ids=["written", "zeros", "torn", "noise"],
)
async def test_a_log_cut_off_by_a_loss_of_power_while_it_was_made_is_made(
    path: Path, first_bytes: bytes | None
) -> None:
    """Some sectors of the file have reached the disk, others have not."""
    cut_off = path.with_name("cut-off.db")
    begin_a_database(path, cut_off)
    assert cut_off.stat().st_size > 4096
    if first_bytes is not None:
        content = cut_off.read_bytes()
        cut_off.write_bytes(first_bytes + content[len(first_bytes) :])
    with pytest.raises(NotFound):
        await open_log(url(cut_off), read_only=True)
    await fill(cut_off)
    assert check(url(cut_off)).ok


async def test_a_database_that_another_program_is_making_is_left_to_it(path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN")
        other.execute("CREATE TABLE things (name)")
        opening = asyncio.ensure_future(open_log(url(path)))
        await asyncio.sleep(0.05)
        other.execute("COMMIT")
        with pytest.raises(UnusableLog, match="another program"):
            await opening
        assert other.execute("SELECT name FROM sqlite_schema").fetchall() == [("things",)]


# ----------------------------------------------------------------------------------------- places


@pytest.mark.parametrize(
    "wrong",
    ["evrt.db", "sqlite://evrt.db", "sqlite:///", "sqlite:///:memory:", "mysql://x", "", "memory:///x"],
)
async def test_a_url_that_is_none_is_refused(wrong: str) -> None:
    with pytest.raises(UsageError):
        await open_log(wrong)


async def test_a_log_in_memory_is_never_read_only() -> None:
    with pytest.raises(UsageError):
        await open_log("memory://", read_only=True)


async def test_a_log_needs_a_folder_and_a_file_name(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no folder"):
        await open_log(f"sqlite:///{tmp_path}/nowhere/evrt.db")
    with pytest.raises(UsageError, match="is a folder"):
        await open_log(f"sqlite:///{tmp_path}")
    assert list(tmp_path.iterdir()) == []


async def test_a_relative_path_is_relative_to_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    async with aclosing(await open_log("sqlite:///a ?%#.db".replace("?", ""))) as log:
        await log.append(append(draft()))
        monkeypatch.chdir("/")
        await log.append(append(draft()))
        assert await log.position() == 2
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a %#.db", "a %#.db-lock"]


# ------------------------------------------------------------------------------- reading without writing


async def test_a_log_opened_for_reading_reads_and_refuses_to_append(path: Path) -> None:
    await fill(path)
    async with aclosing(await open_log(url(path), read_only=True)) as log:
        assert [row.stream for row in await log.read()] == ["run-1", "run-1", "run-2", "run-1"]
        assert (await log.head("run-1")).epoch == 1
        assert await log.ref("user", "ann", create=False)
        assert (await anext(log.subscribe(3))).position == 4
        with pytest.raises(Denied, match="for reading only"):
            await log.append(append(draft()))
        with pytest.raises(Denied):
            await log.erase_payload(1)
        with pytest.raises(Denied):
            await log.ref("user", "bob")


async def test_a_log_opened_for_reading_follows_its_writer(path: Path) -> None:
    await fill(path)
    async with (
        aclosing(await open_log(url(path))) as log,
        aclosing(await open_log(url(path), read_only=True)) as reader,
    ):
        assert reader.id == log.id
        following = reader.subscribe(4)
        waiting = asyncio.ensure_future(anext(following))
        await asyncio.sleep(0.01)
        await log.append(append(draft()))
        assert (await waiting).position == 5


async def test_there_must_be_a_log_to_read(path: Path) -> None:
    with pytest.raises(NotFound, match="no log at"):
        await open_log(url(path), read_only=True)
    path.touch()
    with pytest.raises(NotFound, match="is empty"):
        await open_log(url(path), read_only=True)
    assert path.stat().st_size == 0


READ_WITHOUT_PERMISSION = """
    import asyncio, os, sys, warnings
    import aiosqlite, evrt.log.check, evrt.log.sqlite.store
    from evrt.errors import Denied
    from evrt.log import Append, Draft, open_log

    async def main(folder, file):
        log = await open_log(f"sqlite:///{folder}/{file}")
        print(len(await log.read()), (await anext(log.subscribe(3))).position)
        try:
            await log.append(Append([Draft("a", "b", "018f0000-0000-7000-8000-000000000000", "a", b"{}", b"")], {}))
        except Denied as error:
            print(error)
        await log.aclose()
        print(evrt.log.check.check(f"sqlite:///{folder}/{file}").findings)
        try:
            await open_log(f"sqlite:///{folder}/new.db")
        except Denied as error:
            print(error)

    if os.geteuid() == 0:
        # The superuser may write everything; nobody may not. All is imported by now.
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
    asyncio.run(main(*sys.argv[1:]))
"""


@pytest.mark.parametrize("writable", ["folder", "nothing"])
@pytest.mark.parametrize("writer", ["has ended", "is there"])
async def test_a_file_that_may_not_be_written_is_read(
    shared_folder: Path, writable: str, writer: str
) -> None:
    path = shared_folder / "evrt.db"
    await fill(path)
    async with aclosing(await open_log(url(path))) as log:
        if writer == "has ended":
            await log.aclose()
        else:
            await log.position()
        for file in shared_folder.iterdir():
            file.chmod(0o444)
        shared_folder.chmod(0o777 if writable == "folder" else 0o555)
        done = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-c", textwrap.dedent(READ_WITHOUT_PERMISSION), str(shared_folder), "evrt.db"],
            capture_output=True,
            text=True,
            timeout=30,
        )
    assert done.stderr == ""
    counted, denied, findings, *new = done.stdout.splitlines()
    assert counted == "4 4"
    assert "for reading only" in denied
    assert findings == "()"
    if writable == "nothing":
        assert "may not write to the folder" in new[0]


@pytest.fixture
def shared_folder() -> Iterator[Path]:
    """A folder that another user can reach, which those of pytest are not."""
    folder = Path(tempfile.mkdtemp(prefix="evrt-test-"))
    yield folder
    folder.chmod(0o700)
    shutil.rmtree(folder)
