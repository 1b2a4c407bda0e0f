"""Freezing a worker where it stands, without letting it take the log along."""

from __future__ import annotations

import fcntl
import os
import signal
import sqlite3
import time
from contextlib import closing
from pathlib import Path

from crash.harness import Death, Trial, was_stopped
from crash.worker import DATABASE

TRIES_MAX = 20


def freeze(trial: Trial, death: Death, *, patient: bool = False) -> int:
    """A worker that stands still at this place, and not a step further; its process id."""
    for _ in range(TRIES_MAX):
        pid = trial.nursery.spawn(trial.job(death, by=signal.SIGSTOP, patient=patient))
        assert was_stopped(trial.nursery.wait(pid)), death
        if _stands_aside(trial):
            return pid
        # It holds the lock. Let go on until it does not, it might get to its end on a busy machine.
        os.kill(pid, signal.SIGKILL)
        trial.nursery.wait(pid)
        trial.start_anew()
    raise AssertionError(f"In {TRIES_MAX} tries the worker never stood at {death} without the lock.")


def freeze_after(trial: Trial, seconds: float) -> int | None:
    """A worker that stands still about this time after its birth; None if it was through by then."""
    pid = trial.nursery.spawn(trial.job())
    time.sleep(seconds)
    os.kill(pid, signal.SIGSTOP)
    return pid if _can_be_overtaken(trial, pid, trial.nursery.wait(pid)) else None


def thaw(trial: Trial, pid: int) -> int:
    """How the frozen worker exits once it may go on."""
    os.kill(pid, signal.SIGCONT)
    return os.waitstatus_to_exitcode(trial.nursery.wait(pid))


def _can_be_overtaken(trial: Trial, pid: int, status: int) -> bool:
    """Let a stopped worker go on a little until another could take over. Whether it is still there."""
    while was_stopped(status) and not _stands_aside(trial):
        os.kill(pid, signal.SIGCONT)
        time.sleep(0.001)
        os.kill(pid, signal.SIGSTOP)
        status = trial.nursery.wait(pid)
    return was_stopped(status)


def _stands_aside(trial: Trial) -> bool:
    """Whether another could take over from the worker that stands still."""
    return _lock_is_free(trial.folder) and _has_run(trial.folder)


def _lock_is_free(folder: Path) -> bool:
    with open(folder / f"{DATABASE}-lock", "ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def _has_run(folder: Path) -> bool:
    """Whether the run is in the log: a worker that finds none starts one."""
    with closing(sqlite3.connect(folder / DATABASE)) as connection:
        return connection.execute("SELECT 1 FROM streams WHERE name LIKE 'run-%'").fetchone() is not None
