"""How long does it take to read a document as it was, of a key with 100,000 events, at a random position?

One key's events are in a stream, the other's in many streams of one correlation; each has two documents' worth of
company in the log. A view knows both keys. The baseline folds the same events without it, from the key's first one.
3,000 a minute are 20 ms each.

The last cases are all states of a run of 1,000 steps: the document `runs` as of each of its steps, and in LangGraph
every state that it keeps. `make against` measures the same among other things, and sets LangGraph up; without it
that case is left out. 400 a minute are 0.15 s each.
"""

from __future__ import annotations

import asyncio
import random
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, aclosing
from pathlib import Path
from typing import Any

from pydantic import BaseModel

import evrt
from against import plan
from against.install import HERE, python_of
from against.rounds import Rounds, Samples
from evrt.codec import encode
from evrt.events import Envelope
from evrt.events.calls import ToolCallCompleted, ToolCallRequested
from evrt.history import load_run
from evrt.log import Append, Draft, Log, open_log
from evrt.log.ids import new_event_id
from evrt.projection import AnyProjection, Columns, Correlation, Projection
from evrt.projector.asof import document_as_of, documents_as_of
from evrt.projector.files import FileReader, open_file
from evrt.projector.projector import Projector
from evrt.projector.registry import named, projections
from harness import Bench, Case, Ratio

EVENTS = 100_000
RUNS = 50
"""Of the conversation, its events among them."""

STEPS = 1_000
APPEND_EVENTS = 5_000
RUN, CONVERSATION = "run-long", "conversation-long"


class Work(BaseModel):
    """What the runs of a conversation have done."""

    events: int = 0
    completed: int = 0
    last: str = ""


def evolve(before: Work, envelope: Envelope) -> Work:
    done = envelope.type == "tool_call.completed"
    return Work(events=before.events + 1, completed=before.completed + done, last=envelope.stream)


def conversation_of(columns: Columns) -> str | None:
    return columns.correlation if columns.correlation.startswith("conversation-") else None


RUNS_VIEW = named(projections(), "runs")
WORK_VIEW = Projection[Work](
    name="work",
    version=1,
    document=Work,
    handles=frozenset({"*"}),
    key=conversation_of,
    source=Correlation,
    initial=lambda key, part: Work(),
    evolve=evolve,
)


def draft(stream: str, correlation: str, number: int) -> Draft:
    event: Any = (
        ToolCallRequested(
            operation=f"look#{number}", digest="0" * 64, tool="look", effect="read", arguments=[number]
        )
        if number % 2
        else ToolCallCompleted(operation=f"look#{number - 1}", result="x" * 200, attempt=1)
    )
    return Draft(stream, event.type, new_event_id(), correlation, b"{}", encode(event))


class Prepared:
    """A log with the long keys, and the views of them."""

    def __init__(self, folder: str, events: int) -> None:
        self.events = events
        self._url = f"sqlite:///{Path(folder) / 'long.db'}"
        self._views = str(Path(folder) / "views")
        asyncio.run(self._prepare())

    async def _prepare(self) -> None:
        async with aclosing(await open_log(self._url)) as log:
            for start in range(0, self.events, APPEND_EVENTS):
                drafts = []
                for number in range(start, min(start + APPEND_EVENTS, self.events)):
                    drafts.append(draft(RUN, RUN, number))
                    drafts.append(draft(f"run-{number % RUNS}", CONVERSATION, number // RUNS))
                    drafts.append(draft("run-other", "run-other", number))
                await log.append(Append(drafts[: len(drafts) // 2], {}))
                await log.append(Append(drafts[len(drafts) // 2 :], {}))
            async with aclosing(await open_file(self._views, log.id)) as store:
                own = {projection.name: projection for projection in (RUNS_VIEW, WORK_VIEW)}
                committed = asyncio.Event()
                projecting = asyncio.ensure_future(Projector(log, store, own, on_commit=committed.set).run())
                head = await log.position()
                while {generation.cursor for generation in await store.generations()} != {head}:
                    await committed.wait()
                    committed.clear()
                projecting.cancel()
                await asyncio.wait([projecting])

    async def read(self, projection: AnyProjection, key: str, *, view: bool, seconds: float) -> float:
        """Documents as of random positions read per minute, after one for warming up."""
        async with AsyncExitStack() as opened:
            log = await opened.enter_async_context(aclosing(await open_log(self._url, read_only=True)))
            views = await opened.enter_async_context(aclosing(FileReader(self._views))) if view else None
            chance = random.Random(self.events)
            head = await log.position()
            if view:
                await document_as_of(log, views, projection, key, "", head // 2)
            start, done = time.perf_counter(), 0
            while (spent := time.perf_counter() - start) < seconds:
                found = await document_as_of(
                    log, views, projection, key, "", chance.randint(head // 100, head)
                )
                assert found is not None
                done += 1
            return 60 * done / spent


class Stepped:
    """A run of so many steps, each state of it to be read."""

    def __init__(self, folder: str, steps: int) -> None:
        self._url = f"sqlite:///{Path(folder) / 'steps.db'}"
        self._folder = folder
        self._steps = steps
        self.run = asyncio.run(self._prepare())

    async def _prepare(self) -> str:
        app = evrt.App(self._url)

        @evrt.tool(effect="read")
        async def look(n: int) -> str:
            """Give back a text."""
            return "x" * 200

        @app.workflow(timeout=None)
        async def steps(ctx: evrt.Context[None], count: int) -> None:
            for n in range(count):
                await ctx.call(look, n=n)

        async with app:
            return str((await app.run("steps", self._steps)).run_id)

    def minutely(self, read: Callable[[Log, Sequence[int]], Awaitable[int]]) -> float:
        """How often all states are read per minute, from an open log."""

        async def once() -> float:
            async with aclosing(await open_log(self._url, read_only=True)) as log:
                history = await load_run(log, self.run)
                ends = [e.position for e in history.events if isinstance(e.event, ToolCallCompleted)]
                start = time.perf_counter()
                assert await read(log, ends) == self._steps
                return 60 / (time.perf_counter() - start)

        return asyncio.run(once())

    async def walk(self, log: Log, ends: Sequence[int]) -> int:
        """As of every step, in one walk."""
        found = await documents_as_of(log, None, RUNS_VIEW, self.run, "", ends)
        return len({document.value.position for document in found if document is not None})

    async def every_at(self, log: Log, ends: Sequence[int]) -> int:
        """Run.at of every step, from a history that is read once."""
        history = await load_run(log, self.run)
        first = history.events[0].position
        return len({history.at(end - first + 1).state.position for end in ends})

    def langgraph(self) -> float:
        """Histories of states that LangGraph reads per minute, by the worker of `make against`."""
        folder = HERE / ".runs" / "as-of"
        [system] = [system for system in plan.SYSTEMS if system.name == "langgraph"]
        [measure] = [measure for measure in plan.MEASURES if measure.name == "states"]
        samples = Samples.opened(folder / "samples.jsonl", {}, fresh=True)
        Rounds(
            samples=samples,
            folder=folder,
            systems=[system],
            measures=[measure],
            rounds=1,
            minutes_max=5,
            seconds=1.0,
            steps=self._steps,
            say=lambda text: None,
        ).run()
        [line] = samples.lines
        if "failed" in line:
            raise SystemExit(f"LangGraph's worker gave no sample: it {line['failed']}")
        return 60 / float(line["value"])


def main() -> None:
    bench = Bench(__doc__, "per minute")
    with tempfile.TemporaryDirectory() as folder:
        long = Prepared(folder, 5_000 if bench.quick else EVENTS)
        stepped = Stepped(folder, plan.STEPS_QUICK if bench.quick else STEPS)

        def case(name: str, projection: AnyProjection, key: str, *, view: bool) -> Case:
            return Case(
                name, lambda seconds: asyncio.run(long.read(projection, key, view=view, seconds=seconds))
            )

        cases = [
            case("a key in a stream", RUNS_VIEW, RUN, view=True),
            case("the same, from its first event", RUNS_VIEW, RUN, view=False),
            case("a key of a correlation", WORK_VIEW, CONVERSATION, view=True),
            case("this one, from its first event", WORK_VIEW, CONVERSATION, view=False),
            Case("all states of a run, in one walk", lambda _: stepped.minutely(stepped.walk)),
            Case("all states of a run, by Run.at", lambda _: stepped.minutely(stepped.every_at)),
        ]
        ratios = [
            Ratio("a key in a stream", "the same, from its first event"),
            Ratio("a key of a correlation", "this one, from its first event"),
            Ratio("all states of a run, in one walk", "all states of a run, by Run.at"),
        ]
        if python_of("langgraph").exists():
            cases.append(Case("all states, LangGraph", lambda _: stepped.langgraph()))
            ratios.append(Ratio("all states of a run, in one walk", "all states, LangGraph"))
        bench.run(cases, ratios)


if __name__ == "__main__":
    main()
