"""Driving workers: let one die, let others finish, and hand what came of it to the judge."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any, TypeVar

from crash.apps import INPUT
from crash.judge import Story, violations
from crash.tracing import most_calls, traced
from crash.worker import CUTS, DATABASE, ENDED, ERROR, FACTS, Job
from crash.world import World, read_lines

TESTS = Path(__file__).parent.parent
SITES = ("append.before", "append.after", "effect.before", "effect.after")
"""Where a worker can be told to die: see ``Failpoints``, ``MortalLog`` and ``World.effect``."""

LANES = 2
"""Workers at once: what a small machine has cores for."""

T = TypeVar("T")
R = TypeVar("R")


class Nursery:
    """A process that forks workers (``crash.worker``). For one thread at a time."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-W", "error", "-m", "crash.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])},
        )

    def spawn(self, job: Job) -> int:
        pid: int = self._ask({"spawn": job})["pid"]
        return pid

    def wait(self, pid: int) -> int:
        """The status of a worker that has ended, or was stopped."""
        status: int = self._ask({"wait": pid})["status"]
        return status

    def run(self, job: Job) -> int:
        return self.wait(self.spawn(job))

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def _ask(self, command: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(command).encode() + b"\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer


def was_killed(status: int) -> bool:
    return os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL


def was_stopped(status: int) -> bool:
    return os.WIFSTOPPED(status)


def ended(status: int) -> bool:
    return os.WIFEXITED(status) and os.WEXITSTATUS(status) == ENDED


@dataclass(frozen=True, slots=True)
class Death:
    """Where a worker dies: the n-th time that it passes a site (see ``Failpoints``)."""

    site: str
    nth: int

    def __str__(self) -> str:
        return f"{self.site} {self.nth}"


class Trial:
    """One run in a world of its own, from its start to its end, whatever happens to its workers.

    A ``plant`` is given to the workers that are to die or to be frozen, not to those that clear up.
    """

    def __init__(
        self, nursery: Nursery, folder: Path, log: Path, target: str, input: Any, plant: str | None
    ) -> None:
        self.nursery = nursery
        self.folder = folder
        self.target = target
        self._log = log
        self._input = input
        self._plant = plant
        self._begin()

    def _begin(self) -> None:
        self.folder.mkdir()
        shutil.copy(self._log, self.folder / DATABASE)

    def job(
        self,
        death: Death | None = None,
        *,
        by: signal.Signals = signal.SIGKILL,
        patient: bool = False,
        facts: bool = False,
    ) -> Job:
        job = Job(
            folder=str(self.folder), target=self.target, input=self._input, patient=patient, facts=facts
        )
        if death is not None:
            job["site"], job["nth"], job["signal"], job["plant"] = death.site, death.nth, by, self._plant
        return job

    def die_at(self, death: Death) -> bool:
        """Whether the worker came that far; otherwise the run has ended."""
        status = self.nursery.run(self.job(death))
        if not was_killed(status):
            self.expect_end(status)
        return was_killed(status)

    def die_within(self, seconds: float) -> bool:
        """Whether a worker was killed, from outside, after this time; otherwise the run has ended."""
        pid = self.nursery.spawn(self.job())
        time.sleep(seconds)
        os.kill(pid, signal.SIGKILL)
        status = self.nursery.wait(pid)
        if not was_killed(status):
            self.expect_end(status)
        return was_killed(status)

    def die_in(self, call: str, nth: int) -> bool:
        """Whether a worker was killed as one of its threads made this system call for the n-th time."""
        pid = self.nursery.spawn(self.job() | Job(traced=True, plant=self._plant))
        self.nursery.wait(pid)
        with traced(pid, f"trace={call}", f"inject={call}:signal=SIGKILL:when={nth}"):
            os.kill(pid, signal.SIGCONT)
            status = self.nursery.wait(pid)
        if not was_killed(status):
            self.expect_end(status)
        return was_killed(status)

    def calls(self, names: Sequence[str]) -> dict[str, int]:
        """How often a worker that nobody kills makes these system calls, each by the thread that makes it most."""
        pid = self.nursery.spawn(self.job() | Job(traced=True))
        self.nursery.wait(pid)
        trace = self.folder / "trace"
        with traced(pid, f"trace={','.join(names)}", output=trace):
            os.kill(pid, signal.SIGCONT)
            self.expect_end(self.nursery.wait(pid))
        return most_calls(trace.read_text().splitlines())

    def finish(self, *, overlapped: bool = False, patient: bool = False, free: bool = False) -> Story:
        """Let a worker bring the run to its end, and tell."""
        self.expect_end(self.nursery.run(self.job(patient=patient, facts=True)))
        facts = json.loads((self.folder / FACTS).read_text())
        cuts = read_lines(self.folder / CUTS, lambda cut: (int(cut[0]), int(cut[1])))
        return Story(facts, World(self.folder).lines(), cuts, overlapped, free)

    def expect_end(self, status: int) -> None:
        if not ended(status):
            error = self.folder / ERROR
            text = error.read_text() if error.exists() else ""
            raise WorkerFailed(
                f"A worker of {self.target} ended with status {status:#x} in {self.folder}.\n{text}"
            )

    def start_anew(self) -> None:
        self.forget()
        self._begin()

    def forget(self) -> None:
        shutil.rmtree(self.folder)


class WorkerFailed(Exception):
    """A worker neither died where it was told to nor came to the end of its run."""


class Crew:
    """Nurseries side by side, each with a thread that feeds it, and a folder for their trials.

    Every trial gets a copy of the same empty log: making one is not what is tried here.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._log = folder / DATABASE
        self._free: SimpleQueue[Nursery] = SimpleQueue()
        self._count = 0
        self._lock = threading.Lock()
        self._nurseries = [Nursery() for _ in range(LANES)]
        for nursery in self._nurseries:
            self._free.put(nursery)
        self._nurseries[0].run(Job(folder=str(folder)))

    @contextmanager
    def trial(self, target: str, *, input: Any = INPUT, plant: str | None = None) -> Iterator[Trial]:
        """A trial in a nursery that is free; its folder is kept if it fails."""
        with self._lock:
            self._count += 1
            number = self._count
        nursery = self._free.get()
        try:
            trial = Trial(nursery, self._folder / f"{number}-{target}", self._log, target, input, plant)
            yield trial
            trial.forget()
        finally:
            self._free.put(nursery)

    def each(self, work: Callable[[T], R], items: Sequence[T]) -> list[R]:
        """The results of working on each, in order, as many at once as there are lanes."""
        with ThreadPoolExecutor(LANES) as pool:
            return list(pool.map(work, items))

    def reference(self, target: str) -> Story:
        """The story that nobody interrupts."""
        with self.trial(target) as trial:
            story = trial.finish()
        if found := violations(story, story):
            raise WorkerFailed(f"{target} is not right even when nobody interrupts it: {found}")
        return story

    def close(self) -> None:
        for nursery in self._nurseries:
            nursery.close()


def life_seconds(crew: Crew, target: str) -> float:
    """How long a worker lives that nobody interrupts, now, on this machine."""
    with crew.trial(target) as trial:
        begun = time.monotonic()
        trial.expect_end(trial.nursery.run(trial.job()))
        return time.monotonic() - begun


def soak_seconds(default: float) -> float:
    """How long one soak lasts: EVRT_SOAK_SECONDS where it is set."""
    return float(os.environ.get("EVRT_SOAK_SECONDS", default))
