"""A process that takes a run from wherever it is to its end, if it is let live; and the nursery that makes such.

Starting Python takes half a second, a fork takes milliseconds. So one process imports everything,
starts no thread, no loop and no log, and forks a worker for every job that it reads from its
standard input: ``python -m crash.worker``. One JSON object a line, one a line back:

    {"spawn": {job}}  →  {"pid": 123}
    {"wait": 123}     →  {"status": status of waitpid}, also when it was stopped
"""

from __future__ import annotations

import asyncio
import faulthandler
import gc
import json
import os
import signal
import sys
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Any, TypedDict

import evrt.log.sqlite.store  # noqa: F401  # Opened in every worker, so imported before they are forked.
from crash.apps import ANSWERS, make_app
from crash.mortal import MortalApp
from crash.tracing import allow_tracing
from crash.world import REPLY, Failpoints, Line, World, append_line
from evrt import Result
from evrt.errors import Conflict, Fenced
from evrt.events.calls import QuestionAsked
from evrt.folds.journal import Journal

DATABASE = "log.db"
CUTS = "cuts.jsonl"
FACTS = "facts.json"
ERROR = "error.txt"

HANGING_SECONDS = 20
"""After this time a worker tells where it is, and gives up: it should have taken a fraction of a second."""

ENDED, FENCED, OVERTAKEN, PARKED, BROKEN = 0, 10, 11, 12, 13
"""How a worker exits: its run has ended · its claim was lost · somebody else ended the run or answered in
its place · the run waits for what nobody here can give · this should never happen (see error.txt)."""


class Job(TypedDict, total=False):
    """What a worker is to do. Without a ``target`` it makes the log, and that is all.

    ``site``, ``nth``, ``signal``: see ``Failpoints`` · ``plant``: a bug to work with · ``patient``: leave
    doubts to others · ``facts``: tell in the end how everything turned out · ``traced``: stop before doing
    anything, until a tracer has come.
    """

    folder: str
    target: str
    input: Any
    site: str | None
    nth: int
    signal: int
    plant: str | None
    patient: bool
    facts: bool
    traced: bool


def url_of(folder: Path) -> str:
    return f"sqlite:///{folder / DATABASE}"


async def live(app: MortalApp, job: Job) -> Result:
    """Start the run, or go on with it; answer its questions and settle its doubts until it ends."""
    log = await app.log()
    runs = await log.streams("run-")
    world = app.world
    note_cut(world, (await log.head(runs[0])).version if runs else 0)
    if runs:
        state = (await app.get(runs[0])).state
        if state.ended:
            return Result(runs[0], state.status, state.output, state.failure)
        result = await app.resume(runs[0])
    else:
        result = await app.run(job["target"], job["input"], conversation="c1", user="u1")
    while True:
        world.effect(Line(REPLY, result.run_id, result.status, 1, None, list(result.waiting_for)))
        if result.status != "waiting" or not await give(app, result.run_id, job):
            return result
        result = await app.resume(result.run_id)


async def give(app: MortalApp, run: str, job: Job) -> bool:
    """Give a run everything that it waits for. Whether there was anything."""
    journal = (await app.get(run)).journal
    given = 0
    for operation in [] if job.get("patient") else journal.waiting_for_settlement():
        line = app.world.happened(run, operation.identity)
        if line is None:
            await app.settle(run, operation.identity, again=True)
        else:
            await app.settle(run, operation.identity, result=line.result)
        given += 1
    for operation in journal.waiting_for_answer():
        assert operation.intent is not None
        asked = operation.intent.event
        assert isinstance(asked, QuestionAsked)
        await app.answer(run, ANSWERS[asked.question], operation=operation.identity)
        given += 1
    return given > 0 or _has_unread(journal)


def _has_unread(journal: Journal) -> bool:
    return any(operation.open and operation.outside for operation in journal.operations.values())


def note_cut(world: World, version: int) -> None:
    """Note how far log and ledger were when this process came: where the one before it was cut off."""
    append_line(world.folder / CUTS, [version, len(world.lines())])


async def tell_facts(app: MortalApp, result: Result) -> dict[str, Any]:
    """Everything there is to judge by, read from the log again."""
    log = await app.log()
    history = await app.get(result.run_id)
    replay = await app.replay(result.run_id)
    rows = await log.read()
    others = [row for row in rows if row.stream != result.run_id]
    return {
        "run": result.run_id,
        "runs": await log.streams("run-"),
        "status": result.status,
        "digest": history.digest,
        "replay": None if replay.ok and replay.complete else str(replay.divergence or replay),
        "positions": [row.position for row in rows],
        "events": [
            {**e.event.model_dump(mode="json"), "version": e.version, "type": e.type, "meta": e.meta}
            for e in history.events
        ],
        "others": [[row.stream.partition("-")[0], row.type, _content(row.payload)] for row in others],
        "memory": [row.event_id for row in others if row.type.startswith("memory.")],
    }


def _content(payload: bytes | None) -> Any:
    """A memory's event without what differs from run to run."""
    state = json.loads(payload or b"{}")
    return {name: state[name] for name in ("key", "value", "target") if name in state}


async def work(job: Job) -> int:
    world = World(Path(job["folder"]), Failpoints(job.get("site"), job.get("nth", 0), job.get("signal", 9)))
    app = make_app(url_of(world.folder), world, plant=job.get("plant"))
    async with app:
        if "target" not in job:
            return ENDED
        try:
            result = await live(app, job)
        except Fenced:
            return FENCED
        except Conflict:
            return OVERTAKEN
        if job.get("facts"):
            facts = await tell_facts(app, result) | {"passed": world.failpoints.passed}
            (world.folder / FACTS).write_text(json.dumps(facts))
        return PARKED if result.status == "waiting" else ENDED


# ------------------------------------------------------------------------------------- the nursery


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
    try:
        error = open(Path(job["folder"], ERROR), "w")  # noqa: SIM115  # For as long as this process lives.
        faulthandler.dump_traceback_later(HANGING_SECONDS, exit=True, file=error)
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, 0)
        os.dup2(null, 1)
        if job.get("traced"):
            allow_tracing()
            os.kill(os.getpid(), signal.SIGSTOP)
        code = asyncio.run(work(job))
    except BaseException:  # noqa: BLE001  # Whatever it was is to be read in the file.
        with suppress(OSError):
            Path(job["folder"], ERROR).write_text(traceback.format_exc())
    finally:
        os._exit(code)


if __name__ == "__main__":
    main()
