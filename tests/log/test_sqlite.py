"""What is SQLite's alone: settings, triggers, and a disk that fails."""

# ruff: noqa: ASYNC240  # Looking at a file blocks nobody in a test.

from __future__ import annotations

import asyncio
import os
import sqlite3
from contextlib import aclosing, closing
from pathlib import Path

import pytest

from evrt.errors import Unavailable, UnusableLog
from evrt.log import NEW, Append, Exact, open_log
from evrt.log.check import check
from evrt.log.sqlite.connect import check_pragmas, connect_writing
from log.stores import append, draft, fill, run_python, url

# --------------------------------------------------------------------------------------- settings


async def test_the_writer_syncs_every_commit_and_never_copies_the_wal_by_itself(path: Path) -> None:
    await fill(path)
    with closing(connect_writing(str(path), 1)) as connection:
        found = {
            pragma: connection.execute(f"PRAGMA {pragma}").fetchone()[0]
            for pragma in ("journal_mode", "synchronous", "wal_autocheckpoint", "secure_delete")
        }
    assert found == {"journal_mode": "wal", "synchronous": 2, "wal_autocheckpoint": 0, "secure_delete": 1}


@pytest.mark.parametrize(
    "setting", ["synchronous = NORMAL", "wal_autocheckpoint = 1000", "journal_mode = DELETE"]
)
async def test_a_setting_that_was_not_taken_is_noticed(path: Path, setting: str) -> None:
    await fill(path)
    with closing(connect_writing(str(path), 1)) as connection:
        check_pragmas(connection, "evrt.db")
        connection.execute(f"PRAGMA {setting}").fetchall()
        with pytest.raises(UnusableLog, match=setting.split(maxsplit=1)[0]):
            check_pragmas(connection, "evrt.db")


async def test_the_wal_is_copied_into_the_database_before_it_grows_large(path: Path) -> None:
    async with aclosing(await open_log(url(path))) as log:
        for _ in range(6):
            await asyncio.gather(*(log.append(append(draft(payload=b"x" * 10_000))) for _ in range(300)))
        assert path.stat().st_size > 12_000_000
        assert Path(f"{path}-wal").stat().st_size < 16_000_000
    assert not Path(f"{path}-wal").exists()
    assert check(url(path)).ok


async def test_erased_bytes_are_in_no_file(path: Path) -> None:
    secret = b"Sesame-7f3a-" * 40
    async with aclosing(await open_log(url(path))) as log:
        await log.append(append(draft(payload=secret), draft(payload=b"large" + secret * 100)))
        files = [file for file in path.parent.iterdir() if b"Sesame-7f3a" in file.read_bytes()]
        assert files
        await log.erase_payload(1)
        await log.erase_payload(2)
        assert [file for file in path.parent.iterdir() if b"Sesame-7f3a" in file.read_bytes()] == []


# --------------------------------------------------------------------------------------- triggers

BODY = (
    "event_id, time, stream, {}, type, correlation, meta, payload_length, payload_digest, leaf, salt, payload"
)

ATTACKS = [
    "DELETE FROM events",
    "DELETE FROM events WHERE position = 4",
    "UPDATE events SET payload = x'00'",
    "UPDATE events SET payload = x'00', salt = NULL",
    "UPDATE events SET payload = NULL",
    "UPDATE events SET salt = NULL",
    "UPDATE events SET payload = NULL, salt = NULL, meta = x'7b7d20'",
    "UPDATE events SET payload = NULL, salt = NULL, payload_length = 0",
    "UPDATE events SET payload = NULL, salt = NULL, payload_digest = x'00'",
    "UPDATE events SET payload = NULL, salt = NULL, leaf = x'00'",
    "UPDATE events SET payload = NULL, salt = NULL, event_id = x'00'",
    "UPDATE events SET payload = NULL, salt = NULL, position = 9 WHERE position = 4",
    "UPDATE events SET payload = NULL, salt = NULL, time = time + 1",
    "UPDATE events SET payload = NULL, salt = NULL, stream = 9 WHERE position = 4",
    "UPDATE events SET payload = NULL, salt = NULL, version = 9 WHERE position = 4",
    "UPDATE events SET payload = NULL, salt = NULL, type = 'other'",
    "UPDATE events SET payload = NULL, salt = NULL, correlation = 9",
    "UPDATE events SET time = time + 1",
    "UPDATE events SET type = 'other'",
    "UPDATE events SET correlation = stream + 1",
    "UPDATE events SET stream = 2 WHERE position = 4",
    "UPDATE events SET version = 9 WHERE position = 4",
    "UPDATE events SET position = 9 WHERE position = 4",
    "UPDATE events SET rowid = 9 WHERE position = 4",
    "UPDATE OR REPLACE events SET position = 1 WHERE position = 4",
    "UPDATE OR REPLACE events SET version = 1 WHERE position = 2",
    "UPDATE OR IGNORE events SET type = 'other'",
    "REPLACE INTO events SELECT * FROM events WHERE position = 1",
    "INSERT OR REPLACE INTO events SELECT * FROM events",
    f"INSERT OR REPLACE INTO events SELECT 5, {BODY.format('version')} FROM events WHERE position = 1",
    f"INSERT INTO events SELECT 1, {BODY.format('4')} FROM events WHERE true ON CONFLICT DO UPDATE SET type = 'x'",
    f"INSERT INTO events SELECT NULL, {BODY.format('4')} FROM events WHERE position = 4",
    f"INSERT INTO events SELECT 6, {BODY.format('4')} FROM events WHERE position = 4",
    f"INSERT INTO events SELECT 5, {BODY.format('5')} FROM events WHERE position = 4",
    "DELETE FROM streams",
    "UPDATE streams SET name = 'other' WHERE id = 1",
    "UPDATE streams SET id = 9 WHERE id = 1",
    "UPDATE streams SET rowid = 9 WHERE id = 1",
    "UPDATE OR REPLACE streams SET _rowid_ = 1 WHERE id = 2",
    "UPDATE streams SET epoch = -1",
    "UPDATE streams SET version = 0, leaf = NULL",
    "UPDATE OR REPLACE streams SET name = 'run-2' WHERE name = 'run-1'",
    "REPLACE INTO streams VALUES (1, 'other', 1, NULL, 0)",
    "REPLACE INTO streams VALUES (9, 'run-1', 1, NULL, 0)",
    "REPLACE INTO streams (name, version, epoch) VALUES ('run-1', 1, 0)",
    "INSERT INTO streams VALUES (1, 'run-1', 1, NULL, 0) ON CONFLICT DO UPDATE SET name = 'other'",
    "DELETE FROM log",
    "UPDATE log SET id = 'other'",
    "REPLACE INTO log VALUES (1, 'other', 0)",
    "INSERT OR REPLACE INTO log SELECT 1, 'other', 0",
]


def dump(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as connection:
        return list(connection.iterdump())


@pytest.mark.parametrize("recursive_triggers", ["OFF", "ON"])
async def test_the_database_refuses_whatever_would_change_history(
    path: Path, recursive_triggers: str
) -> None:
    await fill(path)
    before = dump(path)
    for attack in ATTACKS:
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute(f"PRAGMA recursive_triggers = {recursive_triggers}")
            with pytest.raises(sqlite3.IntegrityError, match="evrt: the log is append-only"):
                connection.execute(attack)
    assert dump(path) == before
    assert check(url(path)).ok


async def test_the_database_permits_payload_and_salt_to_go_together(path: Path) -> None:
    await fill(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("UPDATE events SET payload = NULL, salt = NULL WHERE position = 2")
        # Once more changes nothing, and is no error.
        connection.execute("UPDATE events SET payload = NULL, salt = NULL WHERE position = 2")
        with pytest.raises(sqlite3.IntegrityError):
            connection.execute("UPDATE events SET payload = x'00', salt = x'00' WHERE position = 2")
    report = check(url(path))
    assert report.ok
    assert report.erased == 1


async def test_refs_can_be_changed_and_erased(path: Path) -> None:
    await fill(path)
    async with aclosing(await open_log(url(path))) as log:
        ref = await log.ref("user", "ann")
        assert ref is not None
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute("DELETE FROM refs WHERE ref = ?", (ref,))
        assert await log.external(ref) is None
        assert await log.ref("user", "ann", create=False) is None


async def test_heads_that_do_not_fit_the_events_stop_the_writer_not_the_log(path: Path) -> None:
    await fill(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("UPDATE streams SET version = 9 WHERE name = 'run-1'")
    async with aclosing(await open_log(url(path))) as log:
        with pytest.raises(UnusableLog, match="does not agree with itself"):
            await log.append(append(draft("run-1")))
        assert await log.position() == 4
        await log.append(append(draft("run-2")))


# -------------------------------------------------------------------------------------- disk trouble

FULL_DISK = """
    import asyncio, resource, signal
    from pathlib import Path
    from evrt.errors import Unavailable
    from evrt.log import Append, Draft, Exact, open_log
    from evrt.log.ids import new_event_id

    def a(size, version):
        return Append([Draft("a", "b", new_event_id(), "a", b"{{}}", b"x" * size)], {{"a": Exact(version)}})

    async def main():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        log = await open_log({url!r})
        await log.append(a(10, 0))
        size = Path({path!r} + "-wal").stat().st_size
        _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 100_000, most))
        answers = await asyncio.gather(*(log.append(a(60_000, 1 + n)) for n in range(4)), return_exceptions=True)
        print([type(answer).__name__ for answer in answers])
        version = (await log.head("a")).version
        try:
            await log.append(a(500_000, version))
        except Unavailable as error:
            print(error)
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
        await log.append(a(500_000, version))
        print(version, await log.position())
        await log.aclose()

    asyncio.run(main())
"""


async def test_a_disk_without_room_loses_nothing_and_may_be_mended(path: Path) -> None:
    done = await asyncio.to_thread(run_python, FULL_DISK.format(url=url(path), path=str(path)))
    assert done.stderr == ""
    kinds, text, counts = done.stdout.splitlines()
    assert "Unavailable" in kinds
    assert str(path) in text
    version, position = map(int, counts.split())
    assert position == version + 1
    report = check(url(path))
    assert report.ok
    assert report.events == position


async def test_a_file_that_is_replaced_while_open_takes_no_more_events(path: Path) -> None:
    async with aclosing(await open_log(url(path), lock_timeout_seconds=2)) as log:
        await log.append(append(draft()))
        path.rename(path.with_suffix(".old"))
        with pytest.raises(Unavailable, match="moved or deleted"):
            await log.append(append(draft()))
        path.touch()
        with pytest.raises(Unavailable, match="replaced"):
            await log.append(append(draft()))
        path.with_suffix(".old").rename(path)
        await log.append(append(draft(), run_1=Exact(1)))


async def test_a_lock_file_that_is_tidied_away_locks_no_less(path: Path) -> None:
    async with aclosing(await open_log(url(path))) as one:
        await one.append(append(draft()))
        Path(f"{path}-lock").unlink()
        async with aclosing(await open_log(url(path))) as other:
            await asyncio.gather(*(log.append(append(draft())) for log in (one, other) * 20))
            await other.append(append(draft(), run_1=Exact(41)))


async def test_a_program_that_locks_the_database_is_named_as_the_trouble(path: Path) -> None:
    async with aclosing(await open_log(url(path), lock_timeout_seconds=0.1)) as log:
        await log.append(append(draft()))
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            with pytest.raises(Unavailable, match="another program has locked"):
                await log.append(append(draft()))
            connection.execute("ROLLBACK")
        await log.append(append(draft(), run_1=Exact(1)))


async def test_logs_opened_twice_in_a_process_take_turns(path: Path) -> None:
    async with aclosing(await open_log(url(path))) as one, aclosing(await open_log(url(path))) as other:
        answers = await asyncio.gather(
            *(
                log.append(Append([draft(f"run-{number}")], {f"run-{number}": NEW}))
                for number in range(20)
                for log in (one, other)
            ),
            return_exceptions=True,
        )
        assert (
            sorted(type(answer).__name__ for answer in answers) == ["Appended"] * 20 + ["WrongVersion"] * 20
        )
        assert await one.read() == await other.read()
    assert check(url(path)).events == 20


def test_opening_needs_no_more_than_the_log_asks_for() -> None:
    """Importing the package is cheap: the stores come with the first log."""
    done = run_python(
        "import sys, evrt.log; print([m for m in ('sqlite3', 'aiosqlite') if m in sys.modules])"
    )
    assert done.stdout == "[]\n"


def test_the_process_id_is_the_only_thing_in_the_lock_file(path: Path) -> None:
    asyncio.run(fill(path))
    assert Path(f"{path}-lock").read_text().strip() == str(os.getpid())


async def test_a_reader_that_is_cancelled_takes_the_connection_from_nobody(path: Path) -> None:
    await fill(path)
    async with aclosing(await open_log(url(path))) as log:
        first, second = (asyncio.create_task(log.read()) for _ in range(2))
        # Both wait for the connection to be opened, which the first of them has begun.
        await asyncio.sleep(0)
        first.cancel()
        assert len(await second) == 4
        with pytest.raises(asyncio.CancelledError):
            await first
