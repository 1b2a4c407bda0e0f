"""A process of the demo that starts or resumes one run, and that may be killed at any moment.

    python -m evrt.demo.worker

A job comes in on stdin as one line of JSON. Out on stdout goes a line of JSON that names the run, and
another when it has ended or an error keeps it from doing so. The process ends when its stdin does:
whoever started it is gone then.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import threading
from dataclasses import replace

from pydantic import BaseModel

from evrt.demo.app import SCRIPTED, app, review_batch
from evrt.demo.claims import Claim
from evrt.demo.scripted import ReviewerModel
from evrt.errors import EvrtError

STDIN = 0
ABANDONED = 1


class Job(BaseModel):
    """Which run on which log: ``resume`` names one that is there, else ``claims`` begin a new one.

    ``latency_seconds`` is what the scripted model takes for a reply, and ledger and tray for a confirmation.
    """

    url: str
    resume: str | None = None
    claims: list[Claim] = []
    model: str = SCRIPTED
    api_base: str | None = None
    latency_seconds: float = 0.0


def main() -> None:
    """Do the job."""
    # Ctrl-C in a terminal reaches this process as well; whoever started it says what is to be said.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    job = Job.model_validate_json(sys.stdin.readline())
    threading.Thread(target=_end_with_stdin, daemon=True).start()
    try:
        asyncio.run(work(job))
    except EvrtError as error:
        _say(error=str(error))
        sys.exit(error.exit_code)


async def work(job: Job) -> None:
    """Execute the run until it ends or waits."""
    app.url = job.url
    app.api_base = job.api_base
    app.models[SCRIPTED] = ReviewerModel(latency_seconds=job.latency_seconds)
    app.deps = replace(app.deps, confirmation_seconds=job.latency_seconds)
    async with app:
        if job.resume is not None:
            _say(run=job.resume)
            result = await app.resume(job.resume)
        else:
            claims = [claim.model_dump(mode="json") for claim in job.claims]
            running = await app.start(review_batch, {"claims": claims, "model": job.model})
            _say(run=running.run_id)
            result = await running
    _say(status=result.status)


def _say(**fields: str) -> None:
    sys.stdout.write(f"{json.dumps(fields)}\n")
    sys.stdout.flush()


def _end_with_stdin() -> None:
    # Not sys.stdin: a thread that waits inside its buffer would upset the interpreter when that ends.
    while os.read(STDIN, 1024):
        pass
    os._exit(ABANDONED)


if __name__ == "__main__":
    main()
