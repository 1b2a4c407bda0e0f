"""A view for the tests of watching, and processes of their own that write to its log or keep it.

python -m projector.things write sqlite:///a.db SEED STREAMS
python -m projector.things keep sqlite:///a.db
"""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import orjson
from pydantic import BaseModel, ConfigDict

from evrt.events import Envelope, JsonValue, Unknown
from evrt.log import Append, Draft, Log, open_log
from evrt.log.ids import new_event_id
from evrt.projection import WHOLE, Columns, Projection, Stream
from evrt.projector.files import FileReader, open_file
from evrt.projector.places import views_path
from evrt.projector.views import Views

TESTS = Path(__file__).parent.parent

WINDOW = 8


class Thing(BaseModel):
    """What is known of a thing: how often it changed, its colour, its last values."""

    model_config = ConfigDict(frozen=True)

    name: str
    part: str = WHOLE
    changes: int = 0
    colour: str | None = None
    notes: dict[str, JsonValue] = {}
    window: tuple[JsonValue, ...] = ()
    revised: bool = False


def _key(columns: Columns) -> str | None:
    return columns.stream if columns.stream.startswith("thing-") else None


def _said(envelope: Envelope) -> dict[str, Any]:
    event = envelope.event
    said = event.state if isinstance(event, Unknown) else None
    return said if isinstance(said, dict) else {}


def _part(envelope: Envelope) -> str:
    return str(_said(envelope).get("part", WHOLE))


def _evolve(thing: Thing, envelope: Envelope) -> Thing | None:
    said = _said(envelope)
    if envelope.type == "thing.lost":
        return None
    if envelope.type == "thing.broken":
        raise ValueError("a thing broke")
    notes = {**thing.notes, **said.get("notes", {})}
    return thing.model_copy(
        update={
            "changes": thing.changes + 1,
            "colour": said.get("colour", thing.colour),
            "notes": {name: note for name, note in notes.items() if note is not None},
            "window": (*thing.window, *said.get("window", ()))[-WINDOW:],
        }
    )


def things(version: int = 1) -> Projection[Thing]:
    """The projection. From its second version on documents say that they are revised."""
    return Projection[Thing](
        name="things",
        version=version,
        document=Thing,
        handles=frozenset({"thing.*"}),
        key=_key,
        source=Stream,
        initial=lambda key, part: Thing(name=key, part=part, revised=version > 1),
        evolve=_evolve,
        part=_part,
        indexes=("colour",),
    )


THINGS = things()


def draft(stream: str, kind: str = "changed", **said: Any) -> Draft:
    """An event of a thing."""
    return Draft(stream, f"thing.{kind}", new_event_id(), stream, b"{}", orjson.dumps(said))


def at_random(chance: random.Random, streams: int, *, lost: float = 0.03) -> Draft:
    """Some event of one of so many things."""
    stream = f"thing-{chance.randrange(streams)}"
    part = chance.choice(["", "", "lid"])
    if chance.random() < lost:
        return draft(stream, "lost", part=part)
    said: dict[str, Any] = {"part": part}
    if chance.random() < 0.4:
        said["colour"] = chance.choice(["red", "green", "blue"])
    if chance.random() < 0.5:
        said["notes"] = {
            chance.choice("ab/~"): chance.choice([None, True, 1, 1.0, "text", [1, {"deep": []}]])
        }
    if chance.random() < 0.5:
        said["window"] = [chance.randrange(100) for _ in range(chance.randrange(4))]
    return draft(stream, **said)


async def say(log: Log, *drafts: Draft) -> int:
    """Append, and the position of the last."""
    return (await log.append(Append(drafts, {}))).position


@asynccontextmanager
async def views_of(log: Log, *projections: Projection[Any]) -> AsyncIterator[Views]:
    """Views of a log, of these projections and none besides."""
    path = views_path(log.url)
    assert path is not None
    views = Views(
        log,
        await open_file(path, log.id),
        FileReader(path),
        {one.name: one for one in projections or (THINGS,)},
        None,
    )
    async with aclosing(views):
        yield views


@asynccontextmanager
async def opened(url: str, *projections: Projection[Any]) -> AsyncIterator[tuple[Log, Views]]:
    """A log and its views."""
    async with aclosing(await open_log(url)) as log, views_of(log, *projections) as views:
        yield log, views


@contextmanager
def process(*arguments: object) -> Iterator[subprocess.Popen[str]]:
    """A process of its own that does what the arguments say, from now to the end of the block."""
    started = subprocess.Popen(
        [sys.executable, "-m", "projector.things", *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert started.stdout is not None
        assert started.stdout.readline() in ("writing\n", "keeping\n")
        yield started
        started.communicate()
        assert started.returncode == 0
    finally:
        if started.poll() is None:
            started.kill()
        started.communicate()


async def _write(url: str, seed: str, streams: str) -> None:
    """Write at random until stdin is closed."""
    chance = random.Random(int(seed))
    loop = asyncio.get_running_loop()
    ended = loop.run_in_executor(None, sys.stdin.read)
    async with aclosing(await open_log(url)) as log:
        print("writing", flush=True)
        while not ended.done():
            some = chance.choice([1, 1, 2, 5, 20])
            await say(log, *(at_random(chance, int(streams)) for _ in range(some)))
            await asyncio.sleep(chance.choice([0, 0.001, 0.004, 0.01]))


async def _keep(url: str) -> None:
    """Keep the view until stdin is closed."""
    async with opened(url) as (_, views):
        views.project()
        print("keeping", flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    what, *rest = sys.argv[1:]
    asyncio.run(_write(*rest) if what == "write" else _keep(*rest))
