"""One claimed run in a worker: read its history, execute it, and give it back in order whatever happens."""

from __future__ import annotations

import asyncio
import enum
import logging
from contextlib import suppress

from evrt.app import App
from evrt.errors import Conflict, EvrtError, Fenced, NotFound, WrongVersion
from evrt.events.run import UNKNOWN_TARGET, ClaimReason, Failure, RunFailed
from evrt.history import LastChapter, executable, load_last_chapter
from evrt.log import Log
from evrt.log.coordination import Claimed, Hold, Remove, Yield
from evrt.orders import end_unclaimed
from evrt.runtime.runner import Runner
from evrt.runtime.stop import Stop
from evrt.worker.queue import ready_since

worker_logger = logging.getLogger("evrt.worker")

TROUBLE_SECONDS = 5.0
"""After so long a run is tried again that could not be executed, for want of the log say."""

UNKNOWN_SECONDS = 600.0
"""A run of a target that no worker knows is failed when it has been ready for longer: until then one may be coming."""


PAUSE_SECONDS = 60.0
"""How long one that has begun is then left alone by those who do not know its target."""


class Outcome(enum.Enum):
    """What became of a claim: the run ended, well or not; it waits, or goes on in another attempt; another took it; it was
    given back."""

    ENDED = "ended"
    FAILED = "failed"
    PARKED = "parked"
    LOST = "lost"
    TROUBLED = "troubled"


class Executing:
    """Begins at once; ``task`` gives the outcome and raises nothing but CancelledError."""

    def __init__(self, app: App, log: Log, worker: str, claimed: Claimed) -> None:
        self.run = claimed.run
        self.target = claimed.target
        self._app = app
        self._log = log
        self._worker = worker
        self._runner: Runner | None = None
        self._stop: Stop | None = None
        self.task = asyncio.get_running_loop().create_task(self._execute(), name=claimed.run)

    def wind_down(self, stop: Stop) -> None:
        """Have it stopped where it can go on later."""
        self._stop = stop
        if self._runner is not None:
            self._runner.wind_down(stop)

    async def look_outside(self) -> None:
        """Have it take in what was written to it from outside."""
        if self._runner is not None:
            await self._runner.look_outside()

    async def _execute(self) -> Outcome:
        try:
            while True:
                with suppress(WrongVersion):  # Something came before it could be claimed: look again.
                    return await self._claimed()
        except Fenced as error:
            worker_logger.info("%s", error)
            return Outcome.LOST
        except Conflict as error:
            worker_logger.info("%s", error)
        except EvrtError as error:
            worker_logger.warning("%s could not be executed: %s", self.run, error)
        except Exception:  # A bug must not hold the run for as long as the worker lives.
            worker_logger.exception("%s could not be executed.", self.run)
        return await self._give_back(TROUBLE_SECONDS)

    async def _claimed(self) -> Outcome:
        history = await load_last_chapter(self._log, self.run)
        if history.state.ended:
            await self._log.coordination.change(Remove(self.run))
            return Outcome.ENDED
        requested = executable(history)
        try:
            target = await self._app.pinned(requested)
        except NotFound as error:
            return await self._unknown(history, error)
        runner = self._runner = Runner(
            self._app.make_world(self._log, worker=self._worker), target, history.journal, requested=requested
        )
        if self._stop is not None:
            return await self._give_back(0.0)
        ending = await runner.run(reason_of(history))
        match ending.status:
            case "waiting":
                return Outcome.PARKED
            case "succeeded" | "cancelled":
                return Outcome.ENDED
            case _:
                return Outcome.FAILED

    async def _unknown(self, history: LastChapter, error: NotFound) -> Outcome:
        """Nobody can execute it: failed, unless it has begun, for then a bad deploy would end it for good.

        That a definition names a tool which the app does not have counts as not knowing the agent.
        """
        asked = history.state.requested_at or 0
        age_seconds = (await self._log.coordination.now() - asked) / 1_000_000
        if history.journal.epoch or age_seconds < UNKNOWN_SECONDS:
            worker_logger.warning(
                "%s asks for %r, which this app cannot execute: %s", self.run, self.target, error
            )
            return await self._give_back(min(UNKNOWN_SECONDS, PAUSE_SECONDS))
        known = ", ".join(sorted(self._app.targets)) or "none"
        message = f"There is no agent or workflow {self.target!r}. The workers have: {known}."
        if (requested := history.journal.requested) is not None and requested.agent is not None:
            message = str(error)
        failure = Failure(error_type=UNKNOWN_TARGET, message=message)
        await end_unclaimed(
            self._log, history, RunFailed(failure=failure), beside=[Hold(self.run, self._worker)]
        )
        return Outcome.FAILED

    async def _give_back(self, seconds: float) -> Outcome:
        """Back into the queue, as long as the claim is still this worker's."""
        while True:
            try:
                queue = self._log.coordination
                due = await queue.now() + round(seconds * 1_000_000) if seconds else None
                await queue.change(Hold(self.run, self._worker), Yield(self.run, self.target, due=due))
                return Outcome.TROUBLED
            except Fenced:
                return Outcome.LOST
            except EvrtError as error:
                worker_logger.warning("%s could not be given back: %s", self.run, error)
                await asyncio.sleep(TROUBLE_SECONDS)


async def is_left(log: Log, target: str) -> bool:
    """Whether the first run of a target has been ready for so long that nobody will take it who knows the target.

    Until then a worker that does not know it leaves it alone: another may have it, or be coming, as while a program is
    replaced.
    """
    ready = await log.coordination.entries(state="ready", target=target, limit=1)
    if not ready:
        return False
    return await log.coordination.now() - await ready_since(log, ready[0]) >= UNKNOWN_SECONDS * 1_000_000


def reason_of(history: LastChapter) -> ClaimReason:
    """Why a run is claimed, by what its history says of the claim before."""
    if history.journal.epoch == 0:
        return "start"
    if history.state.status == "running":
        return "takeover"
    return "retry" if history.journal.waits_for_retry else "resume"
