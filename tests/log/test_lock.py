"""The lock between writers: one holds it, whoever asks and however it ends."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from evrt.log.sqlite.lock import FileLock


@pytest.fixture
def two(tmp_path: Path) -> Iterator[tuple[FileLock, FileLock]]:
    one, other = FileLock(str(tmp_path / "x-lock")), FileLock(str(tmp_path / "x-lock"))
    yield one, other
    one.close()
    other.close()


def test_only_one_holds_it(two: tuple[FileLock, FileLock]) -> None:
    one, other = two
    assert one.try_acquire()
    assert not other.try_acquire()
    assert not other.acquire_within(0.02)
    one.release()
    assert other.try_acquire()
    assert not one.try_acquire()


def test_who_waits_gets_it_when_it_is_free(two: tuple[FileLock, FileLock]) -> None:
    one, other = two
    assert one.try_acquire()
    got = threading.Event()

    def wait() -> None:
        other.acquire()
        got.set()

    waiting = threading.Thread(target=wait)
    waiting.start()
    assert not got.wait(0.05)
    one.release()
    assert got.wait(30)
    waiting.join()
    assert not one.try_acquire()


def test_who_holds_a_file_that_was_tidied_away_holds_no_lock(
    two: tuple[FileLock, FileLock], tmp_path: Path
) -> None:
    one, other = two
    (tmp_path / "x-lock").unlink()
    late = FileLock(str(tmp_path / "x-lock"))
    assert late.try_acquire()
    assert not one.acquire_within(0.02)
    assert not other.try_acquire()
    late.release()
    assert one.acquire_within(1.0)
    assert not late.try_acquire()
    late.close()


def test_it_goes_with_the_process_that_holds_it(two: tuple[FileLock, FileLock], tmp_path: Path) -> None:
    script = """
import sys
from evrt.log.sqlite.lock import FileLock
lock = FileLock(sys.argv[1])
lock.acquire()
print("held", flush=True)
sys.stdin.read()
"""
    holder = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path / "x-lock")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    one, _ = two
    assert not one.try_acquire()
    assert one.holder() == f"process {holder.pid}"
    holder.send_signal(signal.SIGKILL)
    holder.communicate()
    assert one.try_acquire()
