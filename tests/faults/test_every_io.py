"""Each I/O of a log's life fails in turn: nothing acknowledged is lost, and the same process goes on or says why not.

The n-th call of a kind returns an error, for n = 1, 2, … until none is left to fail: once, from then
on for good, or for a stretch after which the disk is well again.
"""

from __future__ import annotations

import itertools
import re
import time
from collections import Counter
from pathlib import Path

import pytest

from crash.harness import soak_seconds
from faults.injecting import Fault, Nursery, failed
from faults.trials import Trials, a_sync_of_the_wal_failed, wal_after_a_failed_sync

SOAK_SECONDS = 600.0
soak = pytest.mark.soak


@pytest.fixture
def trials(nursery: Nursery, tmp_path: Path) -> Trials:
    return Trials(nursery, tmp_path)


@pytest.mark.parametrize(
    "call,error",
    [
        ("pwrite64", "EIO"),
        ("fdatasync", "EIO"),
        ("fsync", "EIO"),
        ("ftruncate", "EIO"),
        ("unlink", "EIO"),
        ("pread64", "EIO"),
        ("mmap", "ENOMEM"),
        ("openat", "EIO"),
        pytest.param("openat", "ENOSPC", marks=soak),
        pytest.param("newfstatat", "EIO", marks=soak),
        pytest.param("pwrite64", "ENOSPC", marks=soak),
        pytest.param("ftruncate", "ENOSPC", marks=soak),
        pytest.param("fdatasync", "ENOSPC", marks=soak),
        pytest.param("fsync", "ENOSPC", marks=soak),
    ],
)
def test_one_failure_is_recovered_from_and_nobody_hears_of_it(trials: Trials, call: str, error: str) -> None:
    """What was cut off is found recorded or written once more. Only opening and reading may fail aloud."""
    for trial in trials.each(call, error, "{0}"):
        assert trial.wrong == []
        if trial.story["opened"] and call != "newfstatat":  # By which the writer looks for its lock, too.
            assert (trial.story["recovered"], trial.refusals) == (True, []), trial.fault


def test_a_lock_that_fails_once_refuses_one_append(trials: Trials) -> None:
    for trial in trials.each("flock", "EIO", "{0}"):
        assert trial.wrong == []
        if trial.story["opened"]:
            assert trial.story["recovered"], trial.fault
            for text in trial.refusals:
                assert "The write lock of" in text, trial.fault
                assert "cannot be taken" in text, trial.fault


@pytest.mark.parametrize(
    "call,error,words",
    [
        ("pwrite64", "ENOSPC", r"\(the disk is full\)"),
        ("fdatasync", "EIO", r"disk I/O error \(SQLITE_IOERR_"),
        ("ftruncate", "EIO", r"disk I/O error \(SQLITE_IOERR_"),
        # Some of these writes are SQLite's, some write the WAL anew.
        pytest.param("pwrite64", "EIO", r"disk I/O error \(SQLITE_IOERR_|\(Input/output error\)", marks=soak),
        # What a file system does when it remounts itself for reading only.
        pytest.param(
            "pwrite64", "EROFS", r"disk I/O error \(SQLITE_IOERR_|\(Read-only file system\)", marks=soak
        ),
        pytest.param("fdatasync", "ENOSPC", r"disk I/O error \(SQLITE_IOERR_", marks=soak),
        pytest.param("ftruncate", "ENOSPC", r"disk I/O error \(SQLITE_IOERR_", marks=soak),
    ],
)
def test_a_disk_that_stays_bad_is_reported_at_every_append_and_read_from(
    trials: Trials, call: str, error: str, words: str
) -> None:
    """The process ends without closing the log, so whatever it left unsaid in the WAL comes to light."""
    refused = 0
    for trial in trials.each(call, error, "{0}+", dies="at the end"):
        assert trial.wrong == []
        refused += len(trial.refusals)
        for text in trial.refusals:
            assert re.search(words, text), trial.fault
            assert text.endswith("; every further append tries again, nothing has to be restarted.")
        if trial.story["opened"]:
            assert isinstance(trial.story["read"], list), trial.fault
    assert refused > 0


@pytest.mark.parametrize(
    "call,error",
    [
        ("fdatasync", "EIO"),
        pytest.param("pwrite64", "ENOSPC", marks=soak),
        pytest.param("pwrite64", "EIO", marks=soak),
    ],
)
def test_a_disk_that_becomes_well_again_is_written_by_the_same_process(
    trials: Trials, call: str, error: str
) -> None:
    """Four calls in a row fail: more than what is tried at one append, fewer than a life's appends."""
    refused = 0
    for trial in trials.each(call, error, "{0}..{3}"):
        assert trial.wrong == []
        if trial.story["opened"]:
            refused += len(trial.refusals)
            assert trial.story["recovered"], trial.fault
    assert refused > 0


def test_what_a_failed_sync_left_is_written_anew_before_it_is_believed(trials: Trials) -> None:
    """The kernel holds such pages for clean: read back they look durable, and are not."""
    found: Counter[str] = Counter()
    for trial in trials.each("fdatasync", "EIO", "{0}", watched=["openat", "pwrite64", "fsync"]):
        if trial.story["opened"] and a_sync_of_the_wal_failed(trial.calls):
            found[wal_after_a_failed_sync(trial.calls)] += 1
    assert found["believed"] == 0
    assert found["written anew"] >= 3


def test_nothing_recorded_stays_true_though_a_reader_keeps_the_wal_from_being_emptied(
    trials: Trials,
) -> None:
    """A commit fails at its sync, and so does the one that writes it once more; then the process dies."""
    refused = 0
    for when in ("{0}..{1}", "{0}..{4}+4"):
        for trial in trials.each("fdatasync", "EIO", when, reader=True, dies="when refused"):
            assert trial.wrong == []
            refused += len(trial.refusals)
    assert refused > 0


@soak
@pytest.mark.parametrize("reader", [False, True])
@pytest.mark.parametrize("call,error", [("fdatasync", "EIO"), ("pwrite64", "ENOSPC"), ("pwrite64", "EIO")])
def test_any_two_failures_lose_nothing(trials: Trials, call: str, error: str, reader: bool) -> None:
    until = time.monotonic() + soak_seconds(SOAK_SECONDS)
    for apart in range(1, 400):
        for first in itertools.count(1):
            if time.monotonic() > until:
                return
            fault = Fault(call, error, f"{first}..{first + apart}+{apart}")
            trial = trials.live(fault, reader=reader, dies="at the end" if apart % 2 else "")
            assert trial.wrong == []
            if failed(trial.calls) == 0:
                break
            if trial.story["opened"]:
                assert trial.story["recovered"], fault
