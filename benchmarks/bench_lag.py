"""How far behind the log are views, while another process appends 2,000 events in a second?

The other process copies a log of agents at work, ten events in an append every five milliseconds, and notes when each
append was acknowledged. All installed views are kept by one projector here, which notes when each transaction of the
views was committed. The lag of an event is the time between the two; both are on the machine's monotonic clock. The
baseline is a subscription to the same log without any view: when the event was delivered.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from bisect import bisect_left
from contextlib import aclosing, suppress
from pathlib import Path

import orjson

from evrt.log import Append, Draft, Log, open_log
from evrt.log.ids import new_event_id
from evrt.projector.views import open_views
from harness import machine, print_table
from projecting import fill

RATE = 2_000
EVENTS_OF_APPEND = 10

Moments = list[tuple[int, float]]
"""Positions, and when they were reached."""


async def append_paced(source: str, target: str, seconds: float) -> Moments:
    """Copy events at the rate; returns each append's last position and the time of its acknowledgement."""
    acknowledged: Moments = []
    async with aclosing(await open_log(source)) as old, aclosing(await open_log(target)) as new:
        after, due = 0, time.monotonic()
        end = due + seconds
        while due < end:
            rows = await old.read(after=after, limit=EVENTS_OF_APPEND)
            if not rows:
                break
            after = rows[-1].position
            drafts = [
                Draft(
                    row.stream,
                    row.type,
                    new_event_id(),
                    row.correlation,
                    unclaimed(row.meta),
                    row.payload or b"{}",
                )
                for row in rows
            ]
            due += len(rows) / RATE
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            appended = await new.append(Append(drafts, {}))
            acknowledged.append((appended.position, time.monotonic()))
    return acknowledged


def unclaimed(meta: bytes) -> bytes:
    """Meta that does not say under which claim it was written, for here there are none."""
    fields = orjson.loads(meta)
    fields.pop("epoch", None)
    return orjson.dumps(fields)


async def follow_views(target: str, writer: subprocess.Popen[bytes]) -> Moments:
    """When the slowest of the views came to which position."""
    reached: Moments = []
    async with aclosing(await open_log(target)) as log, aclosing(await open_views(log)) as views:
        views.project()
        while writer.poll() is None:
            rung = views.reader.bell.rung
            live = [generation.cursor for generation in await views.reader.generations()]
            if live and (not reached or min(live) > reached[-1][0]):
                reached.append((min(live), time.monotonic()))
            await views.reader.bell.wait(rung, 0.1)
        await views.wait_for(await log.position())
        reached.append((await log.position(), time.monotonic()))
    return reached


async def follow_log(target: str, writer: subprocess.Popen[bytes]) -> Moments:
    """When which position was delivered to a subscription."""
    reached: Moments = []

    async def deliver(log: Log) -> None:
        async for row in log.subscribe():
            reached.append((row.position, time.monotonic()))

    async with aclosing(await open_log(target)) as log:
        delivering = asyncio.create_task(deliver(log))
        await asyncio.to_thread(writer.wait)
        await asyncio.sleep(0.2)
        delivering.cancel()
        with suppress(asyncio.CancelledError):
            await delivering
    return reached


def lags(acknowledged: Moments, reached: Moments) -> list[float]:
    """Milliseconds between acknowledgement and arrival, of every append after the first second."""
    positions = [position for position, _ in reached]
    begun = acknowledged[0][1]
    return [
        max(0.0, reached[bisect_left(positions, position)][1] - moment) * 1_000
        for position, moment in acknowledged
        if moment - begun > 1.0 and position <= positions[-1]
    ]


def sample(folder: Path, source: str, seconds: float, what: str, number: int) -> list[float]:
    target = f"sqlite:///{folder}/{what}-{number}.db"
    told = folder / f"{what}-{number}.json"
    asyncio.run(_make(target))
    command = [sys.executable, __file__, "--writer", source, target, str(told), "--seconds", str(seconds)]
    with subprocess.Popen(command) as writer:
        reached = asyncio.run((follow_views if what == "views" else follow_log)(target, writer))
    acknowledged = [(position, moment) for position, moment in json.loads(told.read_text())]
    return lags(acknowledged, reached)


async def _make(url: str) -> None:
    await (await open_log(url)).aclose()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="one round of two seconds")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--writer", nargs=3, metavar=("SOURCE", "TARGET", "FILE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.writer:
        source, target, told = options.writer
        Path(told).write_text(json.dumps(asyncio.run(append_paced(source, target, options.seconds))))
        return
    rounds, seconds = (1, 2.0) if options.quick else (options.rounds, options.seconds)
    found: dict[str, list[list[float]]] = {"subscription": [], "views": []}
    with tempfile.TemporaryDirectory() as name:
        source = f"sqlite:///{name}/source.db"
        asyncio.run(fill(source, int(RATE * seconds)))
        for number in range(rounds):
            for what, samples in found.items():
                samples.append(sample(Path(name), source, seconds, what, number))
            print(f"round {number + 1} of {rounds}", file=sys.stderr)
    report = {
        what: {f"p{p}": [statistics.quantiles(one, n=100)[p - 1] for one in samples] for p in (50, 99)}
        for what, samples in found.items()
    }
    if options.json:
        print(json.dumps({"unit": "ms", "machine": machine(), "lags": report}, indent=2))
        return
    table = [["lag, ms, each round", "p50", "p99"]]
    for what, quantiles in report.items():
        table.append([what, *(" ".join(f"{ms:.1f}" for ms in figures) for figures in quantiles.values())])
    print_table(table)


if __name__ == "__main__":
    main()
