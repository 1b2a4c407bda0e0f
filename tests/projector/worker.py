"""A process that keeps views as it is told, and the nursery that forks such processes: ``python -m projector.worker``.

As in ``crash.worker``, one process imports everything, starts no thread and no loop, and forks a worker for each job.
"""

from __future__ import annotations

import asyncio
import faulthandler
import gc
import json
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypedDict

import evrt.log.sqlite.store  # noqa: F401  # Opened in every worker, so imported before they are forked.
from crash.tracing import allow_tracing
from evrt.events import Envelope
from evrt.projection import AnyProjection
from evrt.projector import projector
from projector.tallies import PROJECTIONS, Item, Tally, by_name, opened, put, tally, url_in

TESTS = Path(__file__).parent.parent
HANGING_SECONDS = 40
ERROR = "error.txt"
DONE, BROKEN = 0, 13


class Job(TypedDict, total=False):
    """What a worker is to do in its folder.

    ``names``: the views it keeps · ``version``: of its projections · ``batch``: events of a batch · ``stalled_seconds``
    · ``upto``: it ends when its views are there, otherwise it never does · ``rebuild``: the view to build anew, then it
    ends · ``stop_at``: it stops itself before it folds one of these positions into ``boxes`` · ``traced``: stop
    before anything, until a tracer has come · ``puts``: it records so many items, and reads each back, and ends
    """

    folder: str
    names: Sequence[str]
    version: int
    batch: int
    stalled_seconds: float
    upto: int
    rebuild: str
    stop_at: Sequence[int]
    traced: bool
    puts: int


def projections_of(job: Job) -> list[AnyProjection]:
    known = by_name(PROJECTIONS)
    version = job.get("version", 1)
    chosen = [known[name] for name in job.get("names", list(known))]
    if version != 1:
        chosen = [tally(p.name, p.key, version, source=p.source, part=p.part) for p in chosen]
    return [stopping(p, job) for p in chosen]


def stopping(projection: AnyProjection, job: Job) -> AnyProjection:
    """The same, but the process stops in the middle of a fold, when nothing of it has been written."""
    stop_at, evolve = job.get("stop_at", ()), projection.evolve
    if not stop_at or projection.name != "boxes":
        return projection

    def stop(before: Tally, envelope: Envelope) -> Any:
        if envelope.position in stop_at:
            os.kill(os.getpid(), signal.SIGSTOP)
        return evolve(before, envelope)

    return tally(projection.name, projection.key, projection.version, source=projection.source, evolve=stop)


async def work(job: Job) -> None:
    projector.BATCH_EVENTS = job.get("batch", projector.BATCH_EVENTS)
    projector.STALLED_SECONDS = job.get("stalled_seconds", projector.STALLED_SECONDS)
    own = projections_of(job)
    async with opened(url_in(Path(job["folder"])), *own) as (log, views):
        if "rebuild" in job:
            await views.rebuild(job["rebuild"])
        for number in range(job.get("puts", 0)):
            box = f"box-of-{os.getpid()}"
            position = await put(log, Item(box))
            found = await views.view("boxes", box, min_position=position, timeout_seconds=30)
            assert found.position == position, (found, position)
            assert found.value.count == number + 1, found
        if "upto" in job:
            views.project()
            while await log.position() < job["upto"]:  # noqa: ASYNC110  # Another process appends.
                await asyncio.sleep(0.01)
            await views.wait_for(job["upto"], timeout_seconds=None)
        elif not {"rebuild", "puts"} & job.keys():
            views.project()
            await asyncio.Event().wait()


# ------------------------------------------------------------------------------------- the nursery


class Nursery:
    """The other end, for the tests."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-W", "error", "-m", "projector.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])},
        )
        self._running: dict[int, Job] = {}

    def spawn(self, job: Job) -> int:
        pid: int = self._ask({"spawn": job})["pid"]
        self._running[pid] = job
        return pid

    def wait(self, pid: int) -> int:
        """The status of a worker that has ended, or was stopped. Raises AssertionError where it broke."""
        status: int = self._ask({"wait": pid})["status"]
        if not os.WIFSTOPPED(status):
            job = self._running.pop(pid)
            if os.WIFEXITED(status) and os.WEXITSTATUS(status) != DONE:
                raise AssertionError(f"{job}: {Path(job['folder'], f'{pid}-{ERROR}').read_text()}")
        return status

    def kill(self, pid: int) -> None:
        os.kill(pid, signal.SIGKILL)
        self.wait(pid)

    def close(self) -> None:
        for pid in list(self._running):
            self.kill(pid)
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


def main() -> None:
    gc.freeze()
    for line in sys.stdin:
        command = json.loads(line)
        if "spawn" in command:
            answer = {"pid": _spawn(command["spawn"])}
        else:
            _, status = os.waitpid(command["wait"], os.WUNTRACED)
            answer = {"status": status}
        os.write(1, json.dumps(answer).encode() + b"\n")


def _spawn(job: Job) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = BROKEN
    told = Path(job["folder"], f"{os.getpid()}-{ERROR}")
    try:
        error = open(told, "w")  # noqa: SIM115  # For as long as this process lives.
        faulthandler.dump_traceback_later(HANGING_SECONDS, exit=True, file=error)
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, 0)
        os.dup2(null, 1)
        if job.get("traced"):
            allow_tracing()
            os.kill(os.getpid(), signal.SIGSTOP)
        asyncio.run(work(job))
        code = DONE
    except BaseException:  # noqa: BLE001  # Whatever it was is to be read in the file.
        with suppress(OSError):
            told.write_text(traceback.format_exc())
    finally:
        os._exit(code)


if __name__ == "__main__":
    main()
