"""How long does resuming a run of 1,000 steps take, from reading its history to the first live step?

The run has made 1,000 calls and then asked a question; the answer is there. Resuming executes the code
against the journal up to the answer. The baseline is reading and decoding the same rows, without
executing anything. Also: the state of the run at every one of its events, folded once.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from pathlib import Path

import evrt
from evrt.folds.run import RunState, evolve_run
from evrt.history import load_run
from harness import Bench, Case, Ratio

STEPS = 1_000


@evrt.tool(effect="read")
async def look(n: int) -> int:
    """Give back what was given."""
    return n


class Prepared:
    """A log with a run that waits after its steps; copied for every sample, as resuming ends the wait."""

    def __init__(self, folder: str, steps: int) -> None:
        self._folder = Path(folder)
        self._steps = steps
        self.run = asyncio.run(self._prepare())

    def app(self, name: str = "bench.db") -> evrt.App:
        app = evrt.App(f"sqlite:///{self._folder / name}")

        @app.workflow
        async def steps(ctx: evrt.Context[None], count: int) -> None:
            for n in range(count):
                await ctx.call(look, n=n)
            await ctx.ask("Go on?")
            self.live_at = time.perf_counter()

        return app

    async def _prepare(self) -> str:
        async with self.app() as app:
            run = (await app.run("steps", self._steps)).run_id
            await app.answer(run, "yes")
            return run

    async def resume(self) -> float:
        """Runs resumed per second, each from an open log to the code going on."""
        copy = f"copy-{time.monotonic_ns()}.db"
        (self._folder / copy).write_bytes((self._folder / "bench.db").read_bytes())
        async with self.app(copy) as app:
            start = time.perf_counter()
            await app.resume(self.run)
            return 1 / (self.live_at - start)

    async def read(self) -> float:
        """Histories read and decoded per second."""
        async with self.app() as app:
            log = await app.log()
            start = time.perf_counter()
            await load_run(log, self.run)
            return 1 / (time.perf_counter() - start)

    async def every_state(self) -> float:
        """All states of the run, one per event, computed per second."""
        async with self.app() as app:
            history = await app.get(self.run)
            start = time.perf_counter()
            state = RunState(run=self.run)
            states = [state := evolve_run(state, event) for event in history.events]
            assert len(states) == len(history.events)
            return 1 / (time.perf_counter() - start)


def main() -> None:
    bench = Bench(__doc__, "per second")
    with tempfile.TemporaryDirectory() as folder:
        prepared = Prepared(folder, 50 if bench.quick else STEPS)
        bench.run(
            cases=[
                Case("resume to the first live step", lambda _: asyncio.run(prepared.resume())),
                Case("read and decode only", lambda _: asyncio.run(prepared.read())),
                Case("state at every event", lambda _: asyncio.run(prepared.every_state())),
            ],
            ratios=[Ratio("resume to the first live step", "read and decode only")],
        )


if __name__ == "__main__":
    main()
