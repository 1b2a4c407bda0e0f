"""A process that executes a run whose model says what it reads from stdin: ``python -m live.speaker URL [RUN]``.

Each line is a JSON text that streams in at once; an empty line ends the message. The run's id goes to stdout first.
``EVRT_TEST_FILE_BYTES`` limits how large a file this process may make.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import sys
from contextlib import suppress

import evrt
from evrt.effects.contract import ModelReply, ModelRequest, OnDelta
from evrt.errors import NotFound


class Dictated:
    """A model that says what is dictated; its message is ``said``, whatever streamed before."""

    async def complete(self, request: ModelRequest, on_delta: OnDelta | None = None) -> ModelReply:
        while (line := (await asyncio.to_thread(sys.stdin.readline)).strip()) != "":
            assert on_delta is not None
            on_delta(json.loads(line))
        return ModelReply(message={"role": "assistant", "content": "said"})


def speaking(url: str, *, live: bool | None = True) -> evrt.App:
    """An app with a workflow ``speak``, of one model call."""
    app = evrt.App(url, models={"dictated": Dictated()}, live=live)

    @app.workflow
    async def speak(ctx: evrt.Context[None], wish: str) -> str:
        return (await ctx.model(wish, model="dictated")).text

    return app


async def recorded(app: evrt.App, run: str) -> None:
    """Wait until others can find a run."""
    while True:
        with suppress(NotFound):
            await app.get(run)
            return
        await asyncio.sleep(0.01)


async def main(url: str, run: str | None) -> None:
    async with speaking(url) as app:
        if run is None:
            running = await app.start("speak", "say something")
            await recorded(app, running.run_id)
            print(running.run_id, flush=True)
            result = await running
        else:
            print(run, flush=True)
            result = await app.resume(run)
        print(json.dumps(result.output), flush=True)


if __name__ == "__main__":
    if size := os.environ.get("EVRT_TEST_FILE_BYTES"):
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(size), int(size)))
    asyncio.run(main(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else None))
