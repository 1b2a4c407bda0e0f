"""A log whose clock a test sets on, so that what is due in two days need not be waited for."""

from __future__ import annotations

from typing import Any

import evrt
from evrt.log.coordination import Change, Park, Wake
from runtime.logs import Watched

HOUR = 3_600
DAY = 24 * HOUR


class Clocked(Watched):
    """A log whose clock is ahead of the machine's by as many seconds as a test says."""

    def __init__(self, log: Any) -> None:
        super().__init__(log)
        self.ahead_seconds = 0.0

    @property
    def coordination(self) -> Any:
        return _Clock(self._log.coordination, self)

    @property
    def beside(self) -> list[Change]:
        """The changes of the queue that were asked for, in order."""
        return [change for request in self.appends for change in request.beside]

    @property
    def parks(self) -> list[Park]:
        return [change for change in self.beside if isinstance(change, Park)]

    @property
    def wakes(self) -> list[str]:
        return [change.run for change in self.beside if isinstance(change, Wake)]


class _Clock:
    def __init__(self, coordination: Any, log: Clocked) -> None:
        self._coordination = coordination
        self._log = log

    def __getattr__(self, name: str) -> Any:
        return getattr(self._coordination, name)

    async def now(self) -> int:
        now: int = await self._coordination.now()
        return now + round(self._log.ahead_seconds * 1_000_000)


async def clocked(app: evrt.App) -> Clocked:
    """Open the app's log, and have its clock set on by the test from now on."""
    log = Clocked(await app.log())
    app._log = log
    return log


WORKER = "worker:1:a"


def as_worker(app: evrt.App) -> None:
    """From now on the app's runs are executed as a worker executes them: none is kept for a timer that is far off."""
    make = app.make_world
    app.make_world = lambda log, *, worker=None: make(log, worker=worker or WORKER)  # type: ignore[method-assign]


async def taken(app: evrt.App, run: str, *, due: bool = True) -> evrt.Result:
    """What comes of a parked run when a worker takes it from the queue: because it is ready, or ``due`` by now."""
    queue = (await app.log()).coordination
    target = (await app.get(run)).state.target
    await queue.renew(WORKER)
    if due:  # The queue goes by the machine's clock, which no test sets on.
        await queue.change(Wake(run))
    assert [claimed.run for claimed in await queue.claim(WORKER, targets={target: None}, limit=1)] == [run]
    return await app.resume(run)
