"""Blobs in a run: a tool returns a reference, the code reads it, a replay writes nothing."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from typing import Any

import evrt
from runtime.logs import Ctx

LARGE = os.urandom(3_000_000)
calls: list[str] = []


@evrt.tool(effect="read")
async def photograph(place: str, context: evrt.ToolContext[Any]) -> evrt.Blob:
    """A picture of a place, too large for an event."""
    calls.append(place)
    return await context.blobs.write(LARGE, media_type="image/png")


async def describe(ctx: Ctx, place: str) -> dict[str, object]:
    picture = await ctx.call(photograph, place)
    assert isinstance(picture, evrt.Blob)
    size = len(await ctx.blobs.read_all(picture))

    async def lines() -> AsyncIterator[bytes]:
        calls.append("lines")
        for number in range(3):
            yield b"line %d\n" % number

    report = await ctx.blobs.write(b"%d bytes" % size)
    stream = await ctx.blobs.write(lines(), media_type="text/plain")
    if await ctx.ask("Keep it?") == "yes":
        return {"picture": picture, "report": report, "stream": stream}
    return {}


async def test_a_reference_goes_through_resume_and_replay_and_leads_to_the_bytes(file_url: str) -> None:
    calls.clear()
    async with evrt.App(file_url) as app:
        app.workflow(describe)
        run = await app.run("describe", "Turin")
        await app.answer(run.run_id, "yes")
        output = (await app.resume(run.run_id)).output
        assert calls == ["Turin", "lines"]
        assert (output["picture"]["length"], output["picture"]["media_type"]) == (len(LARGE), "image/png")
        assert await app.blobs.read_all(evrt.Blob.model_validate(output["picture"])) == LARGE
        assert await app.blobs.read_all(output["report"]["sha256"]) == b"3000000 bytes"
        assert await app.blobs.read_all(output["stream"]["sha256"]) == b"line 0\nline 1\nline 2\n"
        assert (await app.replay(run.run_id)).ok
        assert calls == ["Turin", "lines"]
        log = await app.log()
        assert max(row.payload_length for row in await log.read()) < 1_000


async def test_other_bytes_than_the_history_refers_to_are_a_divergence(url: str) -> None:
    content = b"first"
    async with evrt.App(url) as app:

        @app.workflow
        async def keep(ctx: Ctx) -> str:
            return (await ctx.blobs.write(content)).sha256

        run = await app.run(keep)
        assert (await app.replay(run.run_id)).ok
        content = b"other"
        report = await app.replay(run.run_id)
        assert report.divergence is not None
        assert report.divergence.operation == "blob#1"


async def test_a_source_that_breaks_off_fails_the_step(url: str) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"some"
        raise ConnectionResetError("The other side has gone.")

    async with evrt.App(url) as app:

        @app.workflow
        async def keep(ctx: Ctx) -> str:
            try:
                await ctx.blobs.write(broken())
            except evrt.StepFailed as error:
                return f"{error.error_type}: {error.message}"
            return "kept"

        run = await app.run(keep)
        assert run.output == "ConnectionResetError: The other side has gone."
        assert (await app.replay(run.run_id)).ok
