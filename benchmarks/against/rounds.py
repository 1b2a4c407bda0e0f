"""Runs the workers in turn, round after round, and keeps each sample the moment it is there.

In one round the systems go forward, in the next backward (A B C, C B A …), so that what slows the machine for
a while slows neighbours alike. Samples are lines of a file: a run that was interrupted goes on where it was.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from against import plan
from against.install import HERE, NotInstalled, install, python_of
from against.plan import Measure, System

WORKER_SECONDS_MAX = 90.0
Record = dict[str, Any]
# Nobody phones home from a benchmark.
QUIET = {"LANGSMITH_TRACING": "false", "LANGCHAIN_TRACING_V2": "false", "DO_NOT_TRACK": "1"}


class OutOfTime(Exception):
    """The minutes are over in the middle of a round."""


class WorkerFailed(Exception):
    """A worker gave no sample, or one that its own store does not bear out."""


@dataclass
class Samples:
    """The file of samples: a first line that says what the run is, then a line for each sample or failure."""

    path: Path
    head: Record
    lines: list[Record] = field(default_factory=list)

    @classmethod
    def opened(cls, path: Path, head: Record, *, fresh: bool) -> Samples:
        """Goes on with the file that is there if it is of the same kind and nobody asks for a fresh one."""
        found = [] if fresh else readable_lines(path)
        if found and all(found[0].get(key) == head[key] for key in ("evrt", "quick", "plan", "machine")):
            head, *lines = found
        else:
            lines = []
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(line) + "\n" for line in (head, *lines)), "utf-8")
        return cls(path, head, lines)

    def add(self, line: Record) -> None:
        self.lines.append(line)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def has(self, measure: str, system: str, number: int) -> bool:
        """Whether the sample is there; one that failed is taken again."""
        wanted = (measure, system, number)
        return any(
            (line["measure"], line["system"], line["round"]) == wanted and "failed" not in line
            for line in self.lines
        )


def readable_lines(path: Path) -> list[Record]:
    """The lines of a file of samples, up to one that was being written when its run was killed."""
    lines: list[Record] = []
    for text in path.read_text("utf-8").splitlines() if path.exists() else []:
        try:
            lines.append(json.loads(text))
        except ValueError:
            break
    return lines


@dataclass
class Rounds:
    """Everything that one run needs. ``minutes_max`` bounds it: no round begins that would not fit."""

    samples: Samples
    folder: Path
    systems: Sequence[System]
    measures: Sequence[Measure]
    rounds: int
    minutes_max: float
    seconds: float
    steps: int
    say: Callable[[str], None]
    absent: dict[str, str] = field(default_factory=dict)
    """Systems that could not be set up, and why."""
    complete: bool = True
    """Whether the first round, which every figure needs, came to its end."""
    _begun: float = 0.0

    def run(self) -> None:
        for name in dict.fromkeys(system.worker for system in self.systems):
            try:
                install(name, self.say)
            except NotInstalled as error:
                self.absent[name] = str(error)
                self.say(f"{name} is left out: {error}")
        self._begun = time.monotonic()
        longest = 0.0
        for number in range(self.rounds):
            before = self._spent()
            if number and before + longest > 60 * self.minutes_max:
                self.say(
                    f"no time for round {number + 1}: {before / 60:.1f} of {self.minutes_max:g} minutes are gone"
                )
                break
            try:
                self._round(number)
            except OutOfTime:
                self.say(f"{self.minutes_max:g} minutes are over in round {number + 1}")
                self.complete = number > 0
                break
            took = self._spent() - before
            # The first round prepares stores and counts bytes; half of it says more about the next.
            longest = max(longest, took if number else took / 2)

    def _spent(self) -> float:
        return time.monotonic() - self._begun

    def _round(self, number: int) -> None:
        weighing = [plan.EMPTY] if any(measure.asks == "bytes" for measure in self.measures) else []
        for measure in (*weighing, *self.measures):
            if number >= measure.rounds_most:
                continue
            for system in self.systems if number % 2 == 0 else reversed(self.systems):
                if (system.name, measure.name.replace("@0", "")) in plan.WHY_NOT:
                    continue
                if system.worker in self.absent or self.samples.has(measure.name, system.name, number):
                    continue
                if self._spent() > 60 * self.minutes_max:
                    raise OutOfTime
                self._sample(system, measure, number)
        self.say(f"round {number + 1} of {self.rounds} is done")

    def _sample(self, system: System, measure: Measure, number: int) -> None:
        line: Record = {"measure": measure.name, "system": system.name, "round": number}
        try:
            line |= self._measured(system, measure)
        except WorkerFailed as error:
            line["failed"] = str(error)
        self.samples.add(line)
        outcome = line.get("failed") or f"{line['value']:,.0f} {measure.unit}"
        self.say(f"round {number + 1}: {measure.name}, {system.title}: {outcome}")

    def _measured(self, system: System, measure: Measure) -> Record:
        steps = self.steps if measure.steps is None else measure.steps
        with self._work_folder() as folder:
            if measure.prepared and not system.prepares_itself:
                if measure.name == "kept":
                    self._die(system, "crash", steps, folder)
                else:
                    shutil.copytree(self._prepared(system, steps), folder, dirs_exist_ok=True)
            load = os.getloadavg()[0]
            sample = self._answer(system, measure.asks, steps, folder)
        if measure.name != "kept" and sample["stored"] < sample["done"]:
            raise WorkerFailed(f"says it did {sample['done']} steps, and its store holds {sample['stored']}")
        return sample | {"load": load}

    def _prepared(self, system: System, steps: int) -> Path:
        folder = self.folder / "prepared" / f"{system.name}-{steps}"
        if not (folder / "ready").exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            self._die(system, "prepare", steps, folder)
            (folder / "ready").touch()
        return folder

    def _die(self, system: System, how: str, steps: int, folder: Path) -> None:
        """A worker that makes so many steps and is killed in the next."""
        code, _, errors = self._worker(system, how, steps, folder)
        if code != -signal.SIGKILL:
            raise WorkerFailed(
                f"should have died in the step after {steps}, and ended with {code}: {last_line(errors)}"
            )

    def _answer(self, system: System, asked: str, steps: int, folder: Path) -> Record:
        code, output, errors = self._worker(system, asked, steps, folder)
        if code != 0 or not output.strip():
            raise WorkerFailed(f"ended with {code}: {last_line(errors)}")
        answer: Record = json.loads(output.splitlines()[-1])
        return answer

    def _worker(self, system: System, asked: str, steps: int, folder: Path) -> tuple[int, str, str]:
        command: list[str | Path] = [
            python_of(system.worker),
            "-m",
            f"against.systems.{system.worker}",
            asked,
        ]
        command += ["--variant", system.variant, "--seconds", str(self.seconds)]
        command += ["--steps", str(steps), "--folder", folder]
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=os.environ | QUIET | {"PYTHONPATH": str(HERE.parent)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        try:
            output, errors = process.communicate(timeout=WORKER_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            output, errors = "", f"no answer within {WORKER_SECONDS_MAX:g} s"
        finally:
            # The session is the worker's own: whatever it started and left behind goes with it.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        return process.returncode, output, errors

    @contextmanager
    def _work_folder(self) -> Iterator[Path]:
        """Beside the checkout and not in the folder for temporary files, which may be kept in memory."""
        folder = self.folder / "work"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else "it said nothing"
