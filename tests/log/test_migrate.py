"""From an older schema to today's: forward only, all or nothing, with a copy kept."""

from __future__ import annotations

import shutil
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
from contextlib import aclosing, closing
from pathlib import Path

import pytest

from evrt.errors import Unavailable, UnusableLog
from evrt.log import open_log
from evrt.log.check import check
from evrt.log.migrate import Migrated, migrate
from evrt.log.sqlite.lock import FileLock
from evrt.log.sqlite.schema import SCHEMA, SCHEMA_VERSION, schema_of, steps_from
from log.stores import append, draft, fill, url

PAST = Path(__file__).parent.parent / "formats" / "v1.db"


@pytest.fixture
def old(path: Path) -> Path:
    """A log of version 1."""
    return Path(shutil.copy(PAST, path))


def version_of(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
    return int(version)


def contents_of(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as connection:
        return list(connection.iterdump())


def events_in(contents: list[str]) -> list[str]:
    return [line for line in contents if line.startswith('INSERT INTO "events"')]


def statements_of(path: Path) -> set[str]:
    with closing(sqlite3.connect(path)) as connection:
        return {sql for (sql,) in connection.execute("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL")}


def test_it_gets_todays_schema_and_a_copy_of_it_as_it_was_stays(old: Path) -> None:
    before = contents_of(old)
    copy = f"{old}-v1"
    assert migrate(url(old)) == Migrated(1, SCHEMA_VERSION, copy)
    assert (version_of(old), statements_of(old)) == (SCHEMA_VERSION, set(SCHEMA))
    assert (version_of(Path(copy)), statements_of(Path(copy))) == (1, set(schema_of(1)))
    assert check(url(old)).findings == ()
    assert contents_of(Path(copy)) == before
    assert events_in(contents_of(old)) == events_in(before) != []


def test_what_is_up_to_date_is_left_as_it_is(old: Path) -> None:
    migrate(url(old))
    before = old.read_bytes()
    assert migrate(url(old)) == Migrated(SCHEMA_VERSION, SCHEMA_VERSION, None)
    assert old.read_bytes() == before


def test_an_earlier_copy_is_never_replaced(old: Path) -> None:
    Path(f"{old}-v1").write_text("mine")
    assert migrate(url(old)).copy == f"{old}-v1.2"
    assert Path(f"{old}-v1").read_text() == "mine"


def test_what_belonged_to_an_earlier_copy_is_not_taken_for_the_new_ones(old: Path) -> None:
    Path(f"{old}-v1-wal").write_text("of another")
    assert migrate(url(old)).copy == f"{old}-v1.2"


def test_what_a_newer_evrt_wrote_is_refused(old: Path) -> None:
    with closing(sqlite3.connect(old)) as connection:
        connection.execute("PRAGMA user_version = 99")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with pytest.raises(
        UnusableLog, match=f"version 99, this program knows version {SCHEMA_VERSION}. Upgrade"
    ):
        migrate(url(old))
    assert not Path(f"{old}-v1").exists()


def test_a_log_that_is_not_sound_is_not_migrated(old: Path) -> None:
    with closing(sqlite3.connect(old)) as connection:
        connection.execute("DROP TRIGGER events_delete")
        connection.execute("DELETE FROM events WHERE position = 3")
        connection.commit()
    with pytest.raises(UnusableLog, match="not sound, so the copy of it is not kept"):
        migrate(url(old))
    assert version_of(old) == 1


def test_it_waits_for_who_writes_and_gives_up_in_the_end(old: Path) -> None:
    lock = FileLock(f"{old}-lock")
    lock.acquire()
    try:
        with pytest.raises(
            Unavailable, match=r"could not be locked within 0.1 seconds: process \d+ is writing"
        ):
            migrate(url(old), lock_timeout_seconds=0.1)
        waiting = threading.Timer(0.1, lock.release)
        waiting.start()
        assert migrate(url(old)).before == 1
        waiting.join()
    finally:
        lock.close()


@pytest.mark.parametrize("nth", range(1, len(steps_from(1)) + 4))
def test_a_process_that_dies_meanwhile_leaves_the_log_as_it_was_or_as_it_is_to_be(
    old: Path, nth: int
) -> None:
    """Killed before its nth statement that writes: BEGIN, each step, the version, COMMIT."""
    script = f"""
        import os, signal
        from evrt.log import migrate
        from evrt.log.sqlite import connect

        class Mortal:
            def __init__(self, connection):
                self.connection, self.left = connection, {nth}
            def __getattr__(self, name):
                return getattr(self.connection, name)
            def execute(self, sql):
                if sql != "PRAGMA user_version":
                    self.left -= 1
                    if not self.left:
                        os.kill(os.getpid(), signal.SIGKILL)
                return self.connection.execute(sql)

        migrate.connect_to_migrate = lambda path: Mortal(connect.connect_to_migrate(path))
        migrate.migrate({url(old)!r})
    """
    died = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=False)
    assert died.returncode == -signal.SIGKILL
    assert version_of(old) == 1
    assert check(url(old)).findings == ()
    assert migrate(url(old)).copy == f"{old}-v1.2"
    assert check(url(old)).findings == ()


async def test_who_has_the_log_open_with_an_older_schema_writes_no_more(path: Path) -> None:
    await fill(path)
    async with aclosing(await open_log(url(path))) as log:
        before = await log.position()
        await log.append(append(draft()))
        with closing(sqlite3.connect(path)) as connection:
            connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
        with pytest.raises(UnusableLog, match="was written by a newer evrt"):
            await log.append(append(draft()))
        assert await log.position() == before + 1
    # Nor does anybody open it, though the header in the file itself does not say so yet.
    with pytest.raises(UnusableLog, match="was written by a newer evrt"):
        await open_log(url(path))
    with pytest.raises(UnusableLog, match="was written by a newer evrt"):
        await open_log(url(path), read_only=True)
