"""Runs whose log cannot be written any more: they stop in order, say so, and go on in the same process once it can."""

from __future__ import annotations

from pathlib import Path

from faults.mounts import run_on_small_disk

SCRIPT = """
import asyncio, json, os, sys, time
import evrt
from evrt.log.check import check
from evrt.log.sqlite import committing
from faults.mounts import fill, make_room

folder = sys.argv[1]
url = f"sqlite:///{folder}/evrt.db"
committing.RECOVERY_PAUSE_SECONDS = 0.0
calls, stopped = [], []

@evrt.tool
async def charge(idempotency_key: str) -> str:
    calls.append(idempotency_key)
    if len(calls) == 1:
        fill(folder)
    return "receipt" * 100_000

@evrt.tool
async def post() -> str:
    calls.append("posted")
    fill(folder)
    return "receipt" * 100_000

@evrt.tool(effect="read")
async def watch() -> str:
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        stopped.append("watch")
        raise

async def main():
    async with evrt.App(url) as app:

        @app.workflow
        async def keyed(ctx):
            await ctx.step("begin", lambda: "begun")
            return len(await ctx.call(charge))

        @app.workflow
        async def unkeyed(ctx):
            return len(await ctx.call(post))

        @app.workflow
        async def busy(ctx):
            await ctx.gather(ctx.call(watch), ctx.call(post))

        outcomes = {}
        for name in ("keyed", "unkeyed", "busy"):
            calls.clear()
            running = await app.start(name)
            try:
                said = (await running).status
            except evrt.Unavailable as error:
                said = str(error)
            status = (await app.get(running.run_id)).status
            make_room(folder)
            if name == "busy":
                outcomes[name] = [said, status, stopped]
            else:
                result = await app.resume(running.run_id)
                outcomes[name] = [said, status, list(calls), result.status, result.output, result.reason]
        left = len(asyncio.all_tasks()) - 1
    print(json.dumps([outcomes, left, list(check(url).findings)]))

asyncio.run(main())
"""


def test_a_run_whose_outcome_has_no_room_stops_and_is_resumed_in_the_same_process(tmp_path: Path) -> None:
    outcomes, left, findings = run_on_small_disk(tmp_path, SCRIPT)
    for said, status, *_ in outcomes.values():
        assert said.startswith("Nothing was recorded. ")
        assert "the disk is full" in said
        assert status == "running"
    _, _, calls, *end = outcomes["keyed"]
    assert len(calls) == 2
    assert calls[0] == calls[1]
    assert end == ["succeeded", 700_000, None]
    # Nobody can tell whether the world took it, so it is not repeated.
    assert outcomes["unkeyed"][2:] == [["posted"], "waiting", None, "in_doubt"]
    assert outcomes["busy"][2] == ["watch"]
    assert left == 0
    assert findings == []
