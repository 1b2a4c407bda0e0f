"""Real power cuts of a real ext4: the device is copied while processes append, and the copy holds a whole log."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from crash.harness import soak_seconds
from disks.images import CannotMount, cut, make, mounted
from disks.judge import Promises, violations
from disks.recovery import find, use
from disks.worker import DATABASE

CUTS = 20
CUTS_SOAK = 500
SOAK_SECONDS = soak_seconds(1_800.0)

PAUSE_SECONDS = 0.05
"""Between two cuts the writers get on for up to this time, by lot."""

START_SECONDS_MAX = 60.0

EVENTS_MAX = 1_500
"""A log that is longer is left behind for a new one, so that judging it does not take longer and longer."""


@dataclass(slots=True)
class Cuts:
    """What has been tried, and what was wrong."""

    cuts: int = 0
    logs: int = 0
    events: int = 0
    answered: int = 0
    bad: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return (
            f"{self.cuts} power cuts of {self.logs} logs, {self.answered} answered requests and {self.events} "
            f"events looked at; bad: {len(self.bad)} {self.bad[:3]}"
        )


@dataclass(slots=True)
class Writers:
    """Three processes that append for as long as they live."""

    process: subprocess.Popen[bytes]
    told: Path

    def pause(self) -> None:
        os.killpg(self.process.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        os.killpg(self.process.pid, signal.SIGCONT)

    def promises(self) -> Promises:
        promises = Promises()
        for line in self.told.read_bytes().splitlines(keepends=True) if self.told.exists() else []:
            if line.endswith(b"\n"):
                promises.hear(line.decode())
        return promises


@contextmanager
def writing(folder: Path, told: Path, plant: str | None) -> Iterator[Writers]:
    command = [sys.executable, "-m", "disks.worker", "endless", str(folder), str(told), "1"]
    process = subprocess.Popen([*command, *([plant] if plant else [])], start_new_session=True)
    try:
        yield Writers(process, told)
        assert process.poll() is None, "The writers have ended by themselves."
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def cut_often(folder: Path, wanted: int, *, plant: str | None = None, until: float = float("inf")) -> Cuts:
    """Cut the power so often, of one log after another."""
    made = Cuts()
    while made.cuts < wanted and time.monotonic() < until:
        made.logs += 1
        place = folder / f"{made.logs}"
        place.mkdir()
        _cut_one_log(place, made, wanted, plant, until)
    return made


def _cut_one_log(folder: Path, made: Cuts, wanted: int, plant: str | None, until: float) -> None:
    image, copy = folder / "image", folder / "copy"
    make(image)
    settled: list[bytes] = []
    with mounted(image, folder / "disk") as disk:
        log = disk / "log"
        log.mkdir()
        os.sync()
        with writing(log, folder / "told", plant) as writers:
            _await_a_beginning(writers)
            events = 0
            while made.cuts < wanted and time.monotonic() < until and events < EVENTS_MAX:
                time.sleep(random.uniform(0, PAUSE_SECONDS))
                writers.pause()
                try:
                    promises = writers.promises()
                    cut(image, copy)
                finally:
                    writers.go_on()
                with mounted(copy, folder / "found") as found:
                    events = _judge(found / "log", promises, settled, made)


def _await_a_beginning(writers: Writers) -> None:
    until = time.monotonic() + START_SECONDS_MAX
    while not writers.promises().answered and time.monotonic() < until:
        time.sleep(0.001)
    assert writers.promises().answered, "The writers do not come to write."


def _judge(folder: Path, promises: Promises, settled: list[bytes], made: Cuts) -> int:
    """How many events were found. ``settled`` are the leaves of what had been answered before the last cut."""
    assert (folder / DATABASE).exists(), "There is no log in what was left."
    found = find(folder)
    wrong = violations(found, promises, None)
    leaves = [event.leaf for event in found.events]
    if leaves[: len(settled)] != settled:
        wrong.append("Changed: what had been answered before the last cut is not what it was.")
    settled[:] = leaves[: max((first + events - 1 for _, first, events in promises.answered), default=0)]
    made.cuts += 1
    made.events += len(leaves)
    made.answered += len(promises.answered)
    made.bad += wrong[:1] or use(folder)
    return len(leaves)


@pytest.fixture
def can_mount(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Says so, and leaves the test out, where images cannot be mounted: nothing has been tried there then."""
    try:
        make(tmp_path / "try")
        with mounted(tmp_path / "try", tmp_path / "tried"):
            pass
    except CannotMount as error:
        text = f"NOT TRIED: power cuts of a real ext4 need root, loop devices and mkfs.ext4. {error}"
        with capsys.disabled():
            print(f"\n{text}")
        pytest.skip(text)


@pytest.mark.usefixtures("can_mount")
def test_a_power_cut_of_a_real_file_system_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    made = cut_often(tmp_path, CUTS)
    print(made)
    assert made.bad == []
    assert made.cuts == CUTS
    assert made.answered > CUTS


@pytest.mark.usefixtures("can_mount")
def test_a_log_that_is_not_synced_loses_events_with_the_power(tmp_path: Path) -> None:
    made = cut_often(tmp_path, CUTS, plant="normal")
    print(made)
    assert any(text.startswith("Lost") for text in made.bad)


@pytest.mark.soak
@pytest.mark.usefixtures("can_mount")
def test_five_hundred_power_cuts_of_a_real_file_system(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = cut_often(tmp_path, CUTS_SOAK, until=time.monotonic() + SOAK_SECONDS)
    with capsys.disabled():
        print(f"\n{made}")
    assert made.bad == []
