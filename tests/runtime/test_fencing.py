"""Two workers on one run: the second claim wins, and the first can change nothing any more."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

import evrt
from evrt.errors import Conflict, Fenced
from evrt.events.calls import ToolCallReported
from evrt.log import Append
from runtime.logs import Ctx, Watched, put, until


@evrt.tool(effect="read")
async def look(number: int) -> int:
    return number


class Gate:
    """A write that stands still until it is let through, and counts."""

    def __init__(self) -> None:
        self.opened = asyncio.Event()
        self.made: list[str] = []

    async def pay(self) -> str:
        await self.opened.wait()
        self.made.append("paid")
        return f"paid {len(self.made)}"


def application(url: str, gate: Gate) -> evrt.App:
    app = evrt.App(url)
    pay = evrt.tool(name="pay")(gate.pay)

    @app.workflow
    async def buys(ctx: Ctx) -> list[Any]:
        return [await ctx.call(look, 1), await ctx.call(pay), await ctx.call(look, 2)]

    return app


async def beside(app: evrt.App, gate: Gate) -> evrt.App:
    """Another worker's app: another connection where there is a file, the same log in memory."""
    other = application(app.url, gate)
    if app.url == "memory://":
        put(other, await app.log())
    return other


async def test_the_first_worker_is_fenced_and_tells_what_its_write_came_to(url: str) -> None:
    mine, theirs = Gate(), Gate()
    app = application(url, mine)
    running = await app.start("buys")
    await until(app, "tool_call.requested", 2)
    other = await beside(app, theirs)
    parked = await other.resume(running.run_id)
    assert (parked.reason, parked.waiting_for) == ("in_doubt", ("pay#1",))

    mine.opened.set()
    with pytest.raises(Fenced):
        await running
    history = await app.get(running.run_id)
    reported = history.events[-1]
    assert isinstance(reported.event, ToolCallReported)
    assert reported.event.model_dump(exclude={"attempt"}) == {
        "operation": "pay#1",
        "epoch": 1,
        "result": "paid 1",
        "failure": None,
    }
    assert [e.type for e in history.events if e.meta.get("epoch") == 1][-1] == "tool_call.requested"

    done = await other.resume(running.run_id)
    assert done.output == [1, "paid 1", 2]
    assert theirs.made == []
    assert (await other.replay(running.run_id)).complete
    for one in (other, app):
        await one.aclose()


async def test_a_report_that_comes_while_the_second_worker_waits_is_taken_in(url: str) -> None:
    """The second worker has other work, so it is still running when the first tells."""
    mine, theirs = Gate(), Gate()
    go_on = asyncio.Event()

    @evrt.tool(effect="read")
    async def hold() -> None:
        await go_on.wait()

    def both(gate: Gate) -> evrt.App:
        app = evrt.App(url)
        pay = evrt.tool(name="pay")(gate.pay)

        @app.workflow
        async def buys(ctx: Ctx) -> list[Any]:
            return await ctx.gather(ctx.call(pay), ctx.call(hold))

        return app

    app, other = both(mine), both(theirs)
    running = await app.start("buys")
    await until(app, "tool_call.requested", 2)
    if url == "memory://":
        put(other, await app.log())
    second = asyncio.ensure_future(other.resume(running.run_id))
    await until(app, "tool_call.in_doubt")
    mine.opened.set()
    with pytest.raises(Fenced):
        await running
    await until(app, "tool_call.reported")
    go_on.set()
    assert (await second).output == ["paid 1", None]
    assert theirs.made == []
    for one in (other, app):
        await one.aclose()


async def test_what_the_first_worker_wrote_before_it_lost_its_claim_is_known_to_the_second(url: str) -> None:
    """It reads the run, then claims it; what is written in between must not happen twice."""
    mine, theirs = Gate(), Gate()
    app = application(url, mine)
    running = await app.start("buys")
    await until(app, "tool_call.requested", 2)
    other = await beside(app, theirs)
    overtaking = Overtaking(await other.log())
    put(other, overtaking)

    async def first_goes_on() -> None:
        mine.opened.set()
        await until(app, "tool_call.completed", 2)

    overtaking.before_claim = first_goes_on
    came_to = await asyncio.gather(other.resume(running.run_id), return_exceptions=True)
    if isinstance(came_to[0], evrt.Result):
        assert came_to[0].output == [1, "paid 1", 2]
    else:  # The first worker has even come to the end.
        assert isinstance(came_to[0], Conflict)
    await asyncio.wait([running._task])
    assert theirs.made == []
    assert mine.made == ["paid"]
    history = await app.get(running.run_id)
    assert history.status == "succeeded"
    assert [e.type for e in history.events].count("run.succeeded") == 1
    for one in (other, app):
        await one.aclose()


class Overtaking(Watched):
    """A log on which something happens between reading a run and claiming it."""

    before_claim: Any = None

    async def read_stream(self, stream: str, **options: Any) -> Any:
        rows = await self._log.read_stream(stream, **options)
        before, self.before_claim = self.before_claim, None
        if before is not None:
            await before()
        return rows

    def append(self, request: Append) -> Any:
        return self._log.append(request)


async def test_of_two_that_resume_at_once_one_goes_on_and_one_is_refused(url: str) -> None:
    async with evrt.App(url) as app:
        ran: list[int] = []

        @app.workflow
        async def asks(ctx: Ctx) -> Any:
            answer = await ctx.ask("Well?")
            await ctx.step("count", lambda: ran.append(1))
            return answer

        run = await app.run(asks)
        await app.answer(run.run_id, "yes")
        results = await asyncio.gather(*(app.resume(run.run_id) for _ in range(2)), return_exceptions=True)
        succeeded = [result for result in results if isinstance(result, evrt.Result)]
        refused = [result for result in results if isinstance(result, Conflict)]
        assert [result.output for result in succeeded] == ["yes"]
        assert len(refused) == 1
        assert len(ran) == 1
        history = await app.get(run.run_id)
        assert [e.type for e in history.events].count("run.succeeded") == 1


async def test_a_worker_that_loses_its_claim_with_its_last_append_is_told_so(tmp_path: Path) -> None:
    """Nothing of the run is under way any more then, so nothing but the append can tell."""
    url = f"sqlite:///{tmp_path}/evrt.db"
    gate = asyncio.Event()

    @evrt.tool(effect="read")
    async def hold() -> str:
        await gate.wait()
        return "held"

    def application() -> evrt.App:
        app = evrt.App(url)

        @app.workflow
        async def holds(ctx: Ctx) -> Any:
            return await ctx.call(hold)

        return app

    async with application() as app, application() as other:
        running = await app.start("holds")
        await until(app, "tool_call.requested")
        second = asyncio.ensure_future(other.resume(running.run_id))
        await until(app, "run.claimed", 2)
        gate.set()
        with pytest.raises(Fenced):
            await running
        assert (await second).output == "held"


async def test_a_run_that_has_ended_cannot_be_resumed(url: str) -> None:
    async with evrt.App(url) as app:

        @app.workflow
        async def quick(ctx: Ctx) -> None: ...

        run = await app.run(quick)
        with pytest.raises(Conflict, match=r"has ended \(succeeded\): there is nothing to resume"):
            await app.resume(run.run_id)
