"""One worker: claims what is ready, executes it beside others, keeps its lease, and hands over when it ends.

The queue decides only who tries: what a worker may write is decided by the epoch of each run. So a worker that
was frozen, cut off or taken for dead does no harm when it comes back; its appends are refused.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from evrt.app import App
from evrt.errors import Denied, EvrtError, UsageError
from evrt.log import Log
from evrt.log.coordination import LEASE_SECONDS, Claimed
from evrt.runtime.stop import Stop
from evrt.worker.executing import Executing, Outcome, is_left
from evrt.worker.schedules import Ticker

worker_logger = logging.getLogger("evrt.worker")

CONCURRENCY = 20
POLL_SECONDS = 1.0
GRACE_SECONDS = 30.0
"""How long runs may go on when their worker is to end, before they are handed over."""

HANDOVER_SECONDS = 5.0
"""How long handing over may take; what is not handed over by then is taken over by others, as after a crash."""

PAUSE_SECONDS = 0.02
"""At least so long between two looks at the queue that found nothing."""

ENTRIES_MAX = 10_000
"""Claimed entries, of all workers, among which it looks for its own when an answer was lost."""

STRANGERS_SECONDS = 10.0
"""How often it is looked for runs of targets that the app does not have."""

DEFINED_SECONDS = 1.0
"""How often it is looked for agents that have been defined as data meanwhile."""

DEFINED_MAX = 100
"""Of more it is looked first which of them there are runs of."""

SAY_AGAIN_SECONDS = 10.0
"""How often it is said that the queue cannot be looked at, while it is for the same reason."""


@dataclass(slots=True)
class Figures:
    """What a worker has done so far."""

    claimed: int = 0
    ended: int = 0
    failed: int = 0
    """Of those that ended: without success, and not because somebody cancelled them."""
    parked: int = 0
    lost: int = 0
    """Runs that others have taken over."""
    troubled: int = 0


class Worker:
    """Executes queued runs of an app's agents and workflows, in this process. ``run`` it, or use ``working``.

    targets
        names of those it executes; without it all of the app's and all agents that are defined as data, and runs of
        targets unknown to it are failed.
    defined
        those among the targets that are agents defined as data.
    concurrency
        how many runs at once.
    claimed_max
        how many runs may be executed at once by all workers together.

    Raises UsageError for names the app does not have, and for numbers that cannot be.
    """

    def __init__(
        self,
        app: App,
        *,
        targets: Sequence[str] | None = None,
        defined: Collection[str] = (),
        concurrency: int = CONCURRENCY,
        claimed_max: int | None = None,
        poll_seconds: float = POLL_SECONDS,
        lease_seconds: float = LEASE_SECONDS,
        grace_seconds: float = GRACE_SECONDS,
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        if type(concurrency) is not int or concurrency < 1:
            raise UsageError(
                f"The concurrency of a worker is a whole number of at least 1, not {concurrency!r}."
            )
        for name, seconds in (
            ("poll", poll_seconds),
            ("lease", lease_seconds),
        ):
            if not 0 < seconds < float("inf"):
                raise UsageError(
                    f"The {name} time of a worker has to be longer than nothing, not {seconds!r} s."
                )
        unknown = sorted(set(targets or ()) - set(app.targets) - set(defined))
        if unknown:
            known = ", ".join(sorted(app.targets)) or "none"
            raise UsageError(f"The app has no agent or workflow named {', '.join(unknown)}. It has: {known}.")
        self.id = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(3)}"
        self.app = app
        self.figures = Figures()
        self.running: dict[str, Executing] = {}
        self._only = None if targets is None else tuple(dict.fromkeys(targets))
        self._concurrency = concurrency
        self._claimed_max = claimed_max
        self._poll_seconds = poll_seconds
        self._lease_seconds = lease_seconds
        self._grace_seconds = grace_seconds
        self._on_change = on_change
        self._draining = asyncio.Event()
        self._stopping = asyncio.Event()
        self._freed = asyncio.Event()
        self._strangers: set[str] = set()
        self._strangers_next = 0.0
        self._defined: frozenset[str] = frozenset()
        self._defined_next = 0.0
        self._unsure = False
        """Whether the queue may have told it something that it has not heard."""
        self._log: Log

    # ---------------------------------------------------------------------------------- its life

    async def run(self) -> None:
        """Work until ``drain`` or ``stop``. Raises what opening the log raises."""
        self._log = await self.app.log()
        await self._log.coordination.renew(self.id, seconds=self._lease_seconds)
        loop = asyncio.get_running_loop()
        beside = [
            loop.create_task(self._keep_lease(), name=f"lease of {self.id}"),
            loop.create_task(Ticker(self.app, self._log).run(), name=f"schedules of {self.id}"),
            loop.create_task(self._claim_and_start(), name=f"claims of {self.id}"),
        ]
        try:
            await self._until(self._draining, beside)
            beside[-1].cancel()
            await self._wind_up()
        finally:
            for task in beside:
                task.cancel()
            await asyncio.gather(*beside, return_exceptions=True)
            await self._end_all()
            with suppress(EvrtError):
                await self._log.coordination.leave(self.id)

    def drain(self, *, grace_seconds: float | None = None) -> None:
        """Claim nothing more; let runs go on for the grace period, or for so long, hand over the others, and end."""
        if grace_seconds is not None and not self._draining.is_set():
            self._grace_seconds = grace_seconds
        self._draining.set()

    def stop(self) -> None:
        """End at once: what is being executed is taken over by others, as after a crash."""
        self._stopping.set()
        self._draining.set()

    async def _until(self, event: asyncio.Event, beside: Sequence[asyncio.Task[None]]) -> None:
        """Wait for an event; a task beside it that breaks ends the waiting with its error."""
        waiting = asyncio.get_running_loop().create_task(event.wait())
        try:
            done, _ = await asyncio.wait([waiting, *beside], return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()
        for task in done:
            if task is not waiting:
                task.result()

    async def _wind_up(self) -> None:
        await self._until_none_runs(self._grace_seconds)
        for executing in list(self.running.values()):
            executing.wind_down(Stop("handover"))
        await self._until_none_runs(HANDOVER_SECONDS)

    async def _until_none_runs(self, seconds: float) -> None:
        tasks = [executing.task for executing in self.running.values()]
        if not tasks or self._stopping.is_set():
            return
        loop = asyncio.get_running_loop()
        everything = loop.create_task(asyncio.wait(tasks))
        stopping = loop.create_task(self._stopping.wait())
        try:
            await asyncio.wait([everything, stopping], timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            everything.cancel()
            stopping.cancel()

    async def _end_all(self) -> None:
        tasks = [executing.task for executing in self.running.values()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def _keep_lease(self) -> None:
        """Renew well before the lease runs out. What cannot be renewed now is tried again soon."""
        seconds = self._lease_seconds / 3
        while True:
            await asyncio.sleep(seconds)
            try:
                await self._log.coordination.renew(self.id, seconds=self._lease_seconds)
            except Denied:
                raise  # As of a log that has moved: nothing can be done here any more.
            except EvrtError as error:
                worker_logger.warning("The lease of %s could not be renewed: %s", self.id, error)

    # ------------------------------------------------------------------------------------ claims

    async def _claim_and_start(self) -> None:
        watch = self._log.watch()
        loop = asyncio.get_running_loop()
        trouble, say_again = "", 0.0
        while True:
            try:
                seconds = await self._look()
                if trouble:
                    worker_logger.warning("%s can look at the queue again.", self.id)
                trouble = ""
            except EvrtError as error:
                if str(error) != trouble or loop.time() >= say_again:
                    worker_logger.warning("%s cannot look at the queue: %s", self.id, error)
                    trouble, say_again = str(error), loop.time() + SAY_AGAIN_SECONDS
                seconds = self._poll_seconds
            if seconds > 0:
                await self._rest(watch.wait(max(seconds, PAUSE_SECONDS)))

    async def _rest(self, news: Awaitable[bool]) -> None:
        """Until something is committed, or a run has ended here."""
        self._freed.clear()
        loop = asyncio.get_running_loop()
        waits = [asyncio.ensure_future(news), loop.create_task(self._freed.wait())]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        await asyncio.sleep(0)

    async def _look(self) -> float:
        """Take what there is, tell runs their news; the seconds until something may have changed by itself."""
        queue = self._log.coordination
        if self._unsure:
            await self._make_sure()
        self._unsure = True
        if self.running:
            for run in await queue.news(self.id):
                if (executing := self.running.get(run)) is not None:
                    await executing.look_outside()
        self._unsure = False
        free = self._concurrency - len(self.running)
        if free <= 0:
            return self._poll_seconds
        caps = await self._caps()
        outlook = await queue.outlook(list(caps))
        due = outlook.due_in_seconds
        if outlook.ready:
            self._unsure = True
            claimed = await queue.claim(self.id, targets=caps, limit=free, claimed_max=self._claimed_max)
            self._unsure = False
            for entry in claimed:
                self._start(entry)
            if len(claimed) == free:
                return 0.0
            if not claimed and due is not None and due <= 0:
                # There is no room for what is due, and who makes some is heard of.
                due = None
        return self._poll_seconds if due is None else min(self._poll_seconds, max(due, PAUSE_SECONDS))

    async def _make_sure(self) -> None:
        """An answer of the queue was lost: begin what was given without a word, tell every run that there may be news.

        While this worker lives nobody else would be given them.
        """
        queue = self._log.coordination
        # Written first: then what was under way in the database has been or never will be.
        await queue.renew(self.id, seconds=self._lease_seconds)
        for entry in await queue.entries(state="claimed", limit=ENTRIES_MAX):
            if entry.worker == self.id and entry.run not in self.running:
                self._start(Claimed(entry.run, entry.target, None))
        for executing in list(self.running.values()):
            await executing.look_outside()

    async def _caps(self) -> Mapping[str, int | None]:
        """What it executes, each with its cap. Targets the app does not have are claimed so that they can be failed."""
        code: dict[str, int | None] = {name: t.policy.runs_max for name, t in self.app.targets.items()}
        if self._only is not None:
            return {name: code.get(name) for name in self._only}
        now = asyncio.get_running_loop().time()
        if now >= self._defined_next:
            self._defined_next = now + DEFINED_SECONDS
            self._defined = await self._defined_in_queue()
        own = dict.fromkeys(self._defined) | code
        if now >= self._strangers_next:
            self._strangers_next = now + STRANGERS_SECONDS
            unknown = {target for target, _ in await self._log.coordination.counts()} - own.keys()
            self._strangers = {target for target in unknown if await is_left(self._log, target)}
        return own | dict.fromkeys(self._strangers)

    async def _defined_in_queue(self) -> frozenset[str]:
        """Keys of the agents that are defined as data; where there are many, of those that runs stand in the queue for."""
        keys = await self.app.agents.keys()
        if len(keys) <= DEFINED_MAX:
            return keys
        return keys & {target for target, _ in await self._log.coordination.counts()}

    def _start(self, claimed: Claimed) -> None:
        self.figures.claimed += 1
        executing = Executing(self.app, self._log, self.id, claimed)
        self.running[claimed.run] = executing
        executing.task.add_done_callback(lambda task: self._ended(executing))
        self._on_change()

    def _ended(self, executing: Executing) -> None:
        if self.running.get(executing.run) is executing:
            del self.running[executing.run]
        self._freed.set()
        if executing.task.cancelled():
            return
        match executing.task.result():
            case Outcome.ENDED:
                self.figures.ended += 1
            case Outcome.FAILED:
                self.figures.ended += 1
                self.figures.failed += 1
            case Outcome.PARKED:
                self.figures.parked += 1
            case Outcome.LOST:
                self.figures.lost += 1
            case Outcome.TROUBLED:
                self.figures.troubled += 1
        self._on_change()


@asynccontextmanager
async def working(worker: Worker) -> AsyncIterator[Worker]:
    """Have a worker work while the block is executed; then it drains."""
    task = asyncio.get_running_loop().create_task(worker.run())
    try:
        yield worker
    finally:
        worker.drain()
        await task
