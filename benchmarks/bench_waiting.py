"""What do waiting runs cost a worker, how soon do they go on, and how soon are those of a dead worker taken over?

Memory: 10,000 runs that ask a question are parked by a worker process; by how much has it grown since it had parked
the first thousand? What grows are caches of the log, which have their limits (the ends of the streams it last wrote,
SQLite's pages): ten thousand more take less, and after that nothing. Beside it stands a process that keeps as many
coroutines waiting. Wake-up: runs wait for a signal,
or for a timer, and it is counted from the signal's record, or the moment the timer is due, to the record of the
worker's claim, both on the log's clock. Take-over: a worker is killed in the middle of a run, and it is counted from
the kill to the claim of the worker beside it; its lease was 3 s.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import signal
import statistics
import sys
import tempfile
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import evrt
from evrt.events.run import RunClaimed, RunSignalled, TimerSet
from evrt.log import Log
from evrt.waiting import wait_for_end
from evrt.worker.worker import Worker, working
from harness import machine, print_table

LEASE_SECONDS = 3.0
AT_ONCE = 200
TIMER_SECONDS = 2.0


@evrt.tool(effect="read")
async def look() -> None:
    """Look for a minute."""
    await asyncio.sleep(60)


def make_app(url: str) -> evrt.App:
    app = evrt.App(url)

    @app.workflow
    async def asking(ctx: evrt.Context[None]) -> str:
        return str(await ctx.ask("Go on?"))

    @app.workflow
    async def signalled(ctx: evrt.Context[None]) -> object:
        return await ctx.wait_for_signal("go")

    @app.workflow
    async def sleeping(ctx: evrt.Context[None], seconds: float) -> None:
        await ctx.sleep(seconds)

    @app.workflow
    async def busy(ctx: evrt.Context[None]) -> None:
        await ctx.call(look)

    return app


# ------------------------------------------------------------------------------ processes of their own


def rss_bytes() -> int:
    gc.collect()
    pages = Path("/proc/self/statm").read_text("ascii").split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


async def work(url: str) -> None:
    """A worker that says how large it is when it is asked."""
    loop = asyncio.get_running_loop()
    async with make_app(url) as app, working(Worker(app, lease_seconds=LEASE_SECONDS)) as worker:
        print(worker.id, flush=True)
        while await loop.run_in_executor(None, sys.stdin.readline):
            print(rss_bytes(), flush=True)


async def keep(count: int) -> None:
    """As many coroutines as there are runs, each waiting for its own answer, and how much they take."""
    answers: list[asyncio.Event] = []

    async def asking(answer: asyncio.Event) -> None:
        await answer.wait()

    async def more(count: int) -> list[asyncio.Task[None]]:
        begun = [asyncio.Event() for _ in range(count)]
        answers.extend(begun)
        tasks = [asyncio.create_task(asking(answer)) for answer in begun]
        await asyncio.sleep(0)
        return tasks

    tasks = await more(1_000)
    before = rss_bytes()
    tasks += await more(count)
    print((rss_bytes() - before) / count)
    for answer in answers:
        answer.set()
    await asyncio.gather(*tasks)


@asynccontextmanager
async def worker_process(url: str) -> AsyncIterator[Process]:
    child = await asyncio.create_subprocess_exec(
        sys.executable, __file__, "--worker", url, stdin=PIPE, stdout=PIPE
    )
    try:
        await told(child)
        yield child
    finally:
        if child.returncode is None:
            assert child.stdin is not None
            child.stdin.close()
            await child.wait()


async def told(child: Process) -> str:
    assert child.stdout is not None
    return (await child.stdout.readline()).decode().strip()


async def size_of(child: Process) -> int:
    assert child.stdin is not None
    child.stdin.write(b"size\n")
    return int(await told(child))


# ---------------------------------------------------------------------------------------- figures


async def enqueue_all(app: evrt.App, target: str, count: int, input: object = None) -> list[str]:
    runs: list[str] = []
    for begin in range(0, count, AT_ONCE):
        batch = range(begin, min(begin + AT_ONCE, count))
        runs += [
            queued.run_id for queued in await asyncio.gather(*(app.enqueue(target, input) for _ in batch))
        ]
    return runs


async def until_waiting(log: Log, target: str, count: int) -> None:
    watch = log.watch()
    while (await log.coordination.counts()).get((target, "waiting"), 0) < count:
        await watch.wait(0.1)


async def memory(url: str, count: int, first: int) -> float:
    """Bytes that a worker has grown by for each run it has parked."""
    async with make_app(url) as app, worker_process(url) as child:
        log = await app.log()
        await enqueue_all(app, "asking", first)
        await until_waiting(log, "asking", first)
        before = await size_of(child)
        await enqueue_all(app, "asking", count)
        await until_waiting(log, "asking", first + count)
        return (await size_of(child) - before) / count


async def kept(count: int) -> float:
    child = await asyncio.create_subprocess_exec(sys.executable, __file__, "--keep", str(count), stdout=PIPE)
    said = float(await told(child))
    await child.wait()
    return said


async def signals(url: str, count: int) -> list[float]:
    """Milliseconds from the record of a signal to the claim of its run, for signals that come one by one."""
    async with make_app(url) as app, worker_process(url):
        log = await app.log()
        runs = await enqueue_all(app, "signalled", count)
        await until_waiting(log, "signalled", count)
        for run in runs:
            await app.signal(run, "go")
            await asyncio.sleep(0.02)
        found = []
        for run in runs:
            await wait_for_end(log, run)
            history = await app.get(run)
            [cause] = [e.time for e in history.events if isinstance(e.event, RunSignalled)]
            claim = [e.time for e in history.events if isinstance(e.event, RunClaimed)][-1]
            found.append((claim - cause) / 1_000)
        return found


async def timers(url: str, count: int) -> list[float]:
    """Milliseconds from when a timer is due to the claim of its run, for timers that lie some 20 ms apart."""
    async with make_app(url) as app, worker_process(url):
        log = await app.log()
        runs = []
        for _ in range(count):
            runs.append((await app.enqueue("sleeping", TIMER_SECONDS)).run_id)
            await asyncio.sleep(0.02)
        found = []
        for run in runs:
            await wait_for_end(log, run)
            history = await app.get(run)
            [due] = [e.event.due for e in history.events if isinstance(e.event, TimerSet)]
            claim = [e.time for e in history.events if isinstance(e.event, RunClaimed)][-1]
            found.append((claim - due) / 1_000)
        return found


async def take_over(url: str) -> float:
    """Seconds from the kill of a worker to the claim of its run by the other."""
    async with make_app(url) as app, worker_process(url) as doomed:
        log = await app.log()
        run = (await app.enqueue("busy")).run_id
        watch = log.watch()
        while not any(row.type == "tool_call.requested" for row in await log.read_stream(run)):
            await watch.wait(0.1)
        async with worker_process(url):
            await asyncio.sleep(0.5)
            killed_at = time.time_ns() // 1_000
            doomed.send_signal(signal.SIGKILL)
            await doomed.wait()
            while True:
                claims = [e.time for e in (await app.get(run)).events if isinstance(e.event, RunClaimed)]
                if len(claims) == 2:
                    await app.cancel(run)
                    return (claims[1] - killed_at) / 1_000_000
                await watch.wait(0.1)


def percentile(figures: Sequence[float], share: float) -> float:
    return sorted(figures)[min(len(figures) - 1, int(share * len(figures)))]


async def measure(url: str | None, *, quick: bool) -> dict[str, object]:
    count, first, woken, rounds = (500, 100, 20, 1) if quick else (10_000, 1_000, 300, 5)
    with tempfile.TemporaryDirectory() as folder:

        def log_url(name: str) -> str:
            return url or f"sqlite:///{folder}/{name}.db"

        grown = await memory(log_url("memory"), count, first)
        print("memory measured", file=sys.stderr)
        baseline = await kept(count)
        by_signal = await signals(log_url("signals"), woken)
        by_timer = await timers(log_url("timers"), woken)
        print("wake-ups measured", file=sys.stderr)
        taken = [await take_over(log_url(f"taken-{number}")) for number in range(rounds)]
    return {
        "machine": machine(),
        "runs parked": count,
        "bytes per waiting run": grown,
        "bytes per waiting coroutine": baseline,
        "wake-up by signal, ms": {"p50": percentile(by_signal, 0.5), "p99": percentile(by_signal, 0.99)},
        "wake-up by timer, ms": {"p50": percentile(by_timer, 0.5), "p99": percentile(by_timer, 0.99)},
        "take-over, s": {"median": statistics.median(taken), "most": max(taken), "goal": LEASE_SECONDS + 2},
    }


def show(report: dict[str, object]) -> None:
    rows = [["", "figure"]]
    for name, figure in report.items():
        match figure:
            case dict() if name != "machine":
                rows += [[f"{name} {part}", f"{value:.2f}"] for part, value in figure.items()]
            case float() | int():
                rows.append([name, f"{figure:,.0f}"])
    print_table(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="few runs, one round")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.add_argument("--out", metavar="FILE", help="also write the figures as JSON to a file")
    parser.add_argument("--url", help="an empty log to work on (default: SQLite files in a temporary folder)")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--keep", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        asyncio.run(work(options.worker))
        return
    if options.keep:
        asyncio.run(keep(options.keep))
        return
    report = asyncio.run(measure(options.url, quick=options.quick))
    if options.out:
        Path(options.out).write_text(json.dumps(report, indent=2), "utf-8")
    if options.json:
        print(json.dumps(report, indent=2))
    else:
        show(report)


if __name__ == "__main__":
    main()
