"""Logs for tests: one that counts, one that refuses, one cut off where a process was killed."""

from __future__ import annotations

from typing import Any, TypeAlias

import orjson

import evrt
from evrt.log import Append, Appended, Claim, Draft, Log, open_log
from evrt.log.contract import Landing

Ctx: TypeAlias = evrt.Context[Any]


class Watched:
    """Passes everything on to another log and keeps what was appended. Refuses appends once it is sealed."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self.appends: list[Append] = []
        self.landed: list[Landing[Appended]] = []
        self.sealed = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    def append(self, request: Append) -> Landing[Appended]:
        if self.sealed:
            raise AssertionError(f"Nothing may be written, and this was: {self.types_of(request)}.")
        self.appends.append(request)
        self.landed.append(self._log.append(request))
        return self.landed[-1]

    @staticmethod
    def types_of(request: Append) -> list[str]:
        return [draft.type for draft in request.drafts]

    @property
    def boundaries(self) -> list[int]:
        """Positions at which a killed process can have left the log: the last of each append."""
        return [landed.result().position for landed in self.landed if landed.exception() is None]

    @property
    def types(self) -> list[list[str]]:
        """The types of the events of each append."""
        return [self.types_of(request) for request in self.appends]


async def watch(app: evrt.App) -> Watched:
    """Open the app's log, and watch what it is asked to write from now on."""
    watched = Watched(await app.log())
    app._log = watched
    return watched


async def cut_off(log: Log, position: int) -> Log:
    """A new log that ends where the given one had its event number ``position``: a process was killed there."""
    fresh = await open_log("memory://")
    epochs: dict[str, int] = {}
    for row in await log.read(upto=position, limit=position):
        assert row.payload is not None
        draft = Draft(row.stream, row.type, row.event_id, row.correlation, row.meta, row.payload)
        epoch = orjson.loads(row.meta).get("epoch", 0)
        claims = epoch > epochs.get(row.stream, 0)
        epochs[row.stream] = max(epoch, epochs.get(row.stream, 0))
        await fresh.append(Append([draft], {row.stream: Claim(epoch)} if claims else {}))
    return fresh


def put(app: evrt.App, log: Log) -> evrt.App:
    """Have an app work on this log."""
    app._log = log
    return app


async def until(app: evrt.App, type_: str, count: int = 1) -> None:
    """Return when the app's log holds so many events of a type."""
    subscription = (await app.log()).subscribe()
    try:
        async for row in subscription:
            count -= row.type == type_
            if count == 0:
                return
    finally:
        await subscription.aclose()


async def work_off(app: evrt.App) -> None:
    """Execute what is queued, what was cut off and what can go on, until nothing is left to do: as workers would."""
    log = await app.log()
    while True:
        idle = True
        for run in await log.streams("run-"):
            history = await app.get(run)
            news = any(known.open and known.outside for known in history.journal.operations.values())
            if not history.state.ended and (history.status != "waiting" or news):
                await app.resume(run)
                idle = False
        if idle:
            return


async def run_off(app: evrt.App, target: str, input: object = None, **more: Any) -> evrt.Result:
    """Run something with all that it starts."""
    run = await app.run(target, input, **more)
    await work_off(app)
    return await ended(app, run.run_id)


async def ended(app: evrt.App, run: str) -> evrt.Result:
    """How a run ended, by its history."""
    state = (await app.get(run)).state
    assert state.ended, f"{run} is {state.status}: {state.reason}"
    return evrt.Result(run, state.status, state.output, state.failure)


async def same_after_every_crash(app: evrt.App, watched: Watched, run: str) -> None:
    """Cut off after any append, and worked off then, everything comes to what it came to."""
    whole = await app.get(run)
    log = watched._log
    for position in watched.boundaries[:-1]:
        put(app, await cut_off(log, position))
        if not await (await app.log()).streams(run):
            continue
        await work_off(app)
        again = await app.get(run)
        assert (again.status, again.state.output) == (whole.status, whole.state.output)
        assert again.digest == whole.digest
        report = await app.replay(run)
        assert report.complete, report.divergence
    put(app, log)


def place_in(app: evrt.App, name: str, system: str | None) -> None:
    """Have runs of a workflow work in a system, as those of an agent that has one do."""
    object.__setattr__(app.target(name), "system", system)
