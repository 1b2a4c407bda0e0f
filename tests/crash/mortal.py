"""An app that dies on cue: its log counts appends and lets the process be killed on either side of each.

Nothing in evrt knows of this. The log that ``App`` opens is wrapped, here, in the worker's process.
The wrapper is also the place of the planted bugs (``plants``).
"""

from __future__ import annotations

from asyncio import Future
from collections.abc import Mapping
from typing import Any, cast

from crash.plants import planted
from crash.world import Failpoints, World
from evrt import App
from evrt.effects.contract import Model
from evrt.log import Append, Appended, Log
from evrt.log.contract import Landing


class MortalApp(App):
    """An app over a mortal log, perhaps with a bug planted into it."""

    def __init__(self, url: str, world: World, *, models: Mapping[str, Model], plant: str | None) -> None:
        super().__init__(url, deps=world, models=models)
        self.world = world
        self._plant = plant
        self._mortal: Log | None = None

    async def log(self, *, read_only: bool = False) -> Log:
        log = await super().log(read_only=read_only)
        if self._mortal is None:
            self._mortal = cast(Log, MortalLog(planted(log, self._plant), self.world.failpoints))
        return self._mortal


class MortalLog:
    """A log with a place to die before each append, and one when it is durable but nobody has heard of it."""

    def __init__(self, log: Log, failpoints: Failpoints) -> None:
        self._log = log
        self._failpoints = failpoints

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    def append(self, request: Append) -> Landing[Appended]:
        self._failpoints.reach("append.before")
        durable = self._log.append(request)
        answer: Landing[Appended] = Landing()
        durable.add_done_callback(lambda done: self._deliver(done, answer))
        return answer

    def _deliver(self, done: Future[Appended], answer: Landing[Appended]) -> None:
        self._failpoints.reach("append.after")
        error = done.exception()
        if error is None:
            answer.set_result(done.result())
        else:
            answer.set_exception(error)
