"""Processes that hold a journey's conversation and are killed in it: ``python -m journeys.mortal``.

One process imports everything and forks a worker for each line that it reads, which goes on with the conversation in
that folder and dies where it is told to. It answers with the worker's status.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import subprocess
import sys
import traceback
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast

import evrt.log.sqlite.store  # noqa: F401  # Opened in every worker, so imported before they are forked.
from crash.mortal import MortalLog
from crash.world import Failpoints
from evrt.log import Log
from journeys.trip import go_on, make_app, no_model, story

TESTS = Path(__file__).parent.parent
STORY = "story.json"
ERROR = "error.txt"


class Mortals:
    """A process that forks workers, as a context manager."""

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-W", "error", "-m", "journeys.mortal"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])},
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.communicate()

    def live(self, folder: Path, site: str | None = None, nth: int = 0) -> int:
        """Go on with the conversation in a folder until its end, or until death at a site. The status of ``waitpid``."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        job = {"folder": str(folder), "site": site, "nth": nth}
        self._process.stdin.write(json.dumps(job).encode() + b"\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())


async def live(folder: Path, failpoints: Failpoints) -> None:
    async with make_app(f"sqlite:///{folder / 'log.db'}") as app:
        app._log = cast(Log, MortalLog(await app.log(), failpoints))
        runs = await go_on(app)
        told = {**await story(app), "passed": failpoints.passed}
        no_model(app)
        told["replayed"] = [(await app.replay(run)).complete for run in runs]
        (folder / STORY).write_text(json.dumps(told))


def told(folder: Path) -> dict[str, Any]:
    """What the last worker of a folder came to."""
    found: dict[str, Any] = json.loads((folder / STORY).read_text())
    return found


def main() -> None:
    gc.freeze()
    for line in sys.stdin:
        job = json.loads(line)
        pid = os.fork()
        if not pid:
            _work(Path(job["folder"]), Failpoints(job["site"], job["nth"]))
        os.write(1, b"%d\n" % os.waitpid(pid, 0)[1])


def _work(folder: Path, failpoints: Failpoints) -> None:
    code = 1
    try:
        asyncio.run(live(folder, failpoints))
        code = 0
    except BaseException:  # noqa: BLE001  # Whatever it was is to be read in the file.
        (folder / ERROR).write_text(traceback.format_exc())
    finally:
        os._exit(code)


if __name__ == "__main__":
    main()
