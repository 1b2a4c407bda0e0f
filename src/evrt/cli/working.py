"""One process of a worker: it executes runs, listens to whoever started it or to signals, and says how it stands.

On its own it is told by signals. Under a supervisor it reads words from stdin, and drains when that ends: so it
outlives a supervisor that was killed by its grace period at most.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import BinaryIO, TextIO

from evrt.app import App
from evrt.cli.boundary import INTERRUPTED
from evrt.cli.output import prints_aside
from evrt.cli.place import Place
from evrt.cli.reloading import code_folders
from evrt.cli.settings import Settings
from evrt.cli.telling import Teller, tell_warnings
from evrt.cli.text import listed
from evrt.cli.worker_lines import LINE_SECONDS, Voice, done_by, json_line, plain_line
from evrt.errors import EvrtError
from evrt.log import Log
from evrt.log.postgres.address import shown_url
from evrt.worker.queue import QueueFigures, queue_figures
from evrt.worker.worker import Worker

DRAINED = 0
FAILED = 1

REFRESH_SECONDS = 0.5
"""How often a live line is written anew, and a supervisor is told."""

LOOK_SECONDS = 1.0
LOOK_SHARE = 0.05

EXIT_SECONDS = 4.0
"""A tool in a thread, or code that cannot be cancelled, holds the process up for no longer than this when it ends."""


def work_alone(app: App, settings: Settings, *, as_json: bool) -> int:
    """Work in this process until signals end it; returns the exit code."""
    worker = settings.make_worker(app)
    voice = Voice(as_json=as_json)
    signals = Signals(worker.drain, worker.stop, voice, settings.grace_seconds)

    async def reporting() -> None:
        signals.listen()
        loop = asyncio.get_running_loop()
        log = await app.log()
        look = QueueLook(live=voice.live)
        said = served(app, settings)
        voice.say(
            "started",
            f"Worker {worker.id} serves {listed(said) or 'the agents defined in its log'} on {shown_url(app.url)}, {settings.concurrency} at once.",
            worker=worker.id,
            targets=said,
            log=shown_url(app.url),
            concurrency=settings.concurrency,
        )
        while True:
            voice.tell(loop.time(), done_by(worker), await look.figures(log), 1, signals.doing)
            await asyncio.sleep(REFRESH_SECONDS)

    def conclude(code: int) -> None:
        done = done_by(worker)
        voice.say(
            "ended", f"Worker {worker.id} has ended: {plain_line(done, None)}", **asdict(done), code=code
        )
        voice.close()

    return _work(app, worker, reporting, lambda: signals.stopped, conclude)


def work_supervised(place: Place, settings: Settings, *, reports_folders: bool) -> int:
    """Work as the words on stdin say, and report on stdout in JSON lines; returns the exit code."""
    orders_pipe, reports_pipe = _keep_to_ourselves()
    reports = Teller(reports_pipe)
    tell_warnings(Teller(sys.stderr))
    app = place.load_app()
    worker = settings.make_worker(app)
    orders = Orders(worker)

    async def reporting() -> None:
        transport = await orders.listen(orders_pipe)
        try:
            await report()
        finally:
            transport.close()

    async def report() -> None:
        folders: list[str] = []
        event = "started"
        await app.log()
        while True:
            if reports_folders:
                folders = await asyncio.to_thread(code_folders)
            report = {"event": event, "worker": worker.id, "folders": folders, **asdict(done_by(worker))}
            reports.line(json_line(report))
            event = "figures"
            await asyncio.sleep(REFRESH_SECONDS)

    def conclude(code: int) -> None:
        reports.line(json_line({"event": "ended", **asdict(done_by(worker))}))
        reports.close()
        reports_pipe.close()

    return _work(app, worker, reporting, lambda: orders.stopped, conclude)


def _keep_to_ourselves() -> tuple[BinaryIO, TextIO]:
    """The pipes that orders come from and reports go to, where no program that a tool starts reads or writes them."""
    orders, reports = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return os.fdopen(orders, "rb", buffering=0), os.fdopen(reports, "w", encoding="utf-8")


def _work(
    app: App,
    worker: Worker,
    reporting: Callable[[], Awaitable[None]],
    stopped: Callable[[], bool],
    conclude: Callable[[int], None],
) -> int:
    code = FAILED

    async def work() -> None:
        nonlocal code
        report = asyncio.ensure_future(reporting())
        try:
            await _both(asyncio.ensure_future(worker.run()), report)
            code = INTERRUPTED if stopped() else DRAINED
        finally:
            report.cancel()
            await asyncio.gather(report, return_exceptions=True)
            leave_within(EXIT_SECONDS, code)
            await app.aclose()
        conclude(code)

    with prints_aside():
        asyncio.run(work())
    return code


async def _both(working: asyncio.Task[None], reporting: asyncio.Future[None]) -> None:
    """Until the work has ended; reporting that breaks ends the work in order, with its error."""
    await asyncio.wait([working, reporting], return_when=asyncio.FIRST_COMPLETED)
    if not working.done():
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)
        reporting.result()
    working.result()


def served(app: App, settings: Settings) -> list[str]:
    """Names of what a worker executes."""
    return settings.targets or sorted(app.targets)


class QueueLook:
    """How the queue stands, as of a moment ago: counting a long one takes time, of which no more than a share is taken."""

    def __init__(self, *, live: bool) -> None:
        self._seconds = LOOK_SECONDS if live else LINE_SECONDS / 2
        self._next = 0.0
        self._figures: QueueFigures | None = None

    async def figures(self, log: Log) -> QueueFigures | None:
        """None where it cannot be read."""
        clock = asyncio.get_running_loop().time
        began = clock()
        if began >= self._next:
            try:
                self._figures = await queue_figures(log)
            except EvrtError:
                self._figures = None
            self._next = began + max(self._seconds, (clock() - began) / LOOK_SHARE)
        return self._figures


def leave_within(seconds: float, code: int) -> None:
    """End this process after so long even if threads of tools go on, which Python would wait for."""
    timer = threading.Timer(seconds, os._exit, (code,))
    timer.daemon = True
    timer.start()


# ------------------------------------------------------------------------------------- being told to end


class Signals:
    """SIGTERM, Ctrl-C and the loss of the terminal: the first time a drain, then the end at once."""

    def __init__(
        self, drain: Callable[[], None], stop: Callable[[], None], voice: Voice, grace_seconds: float
    ) -> None:
        self._drain = drain
        self._stop = stop
        self._voice = voice
        self._grace_seconds = grace_seconds
        self.doing = ""
        self.stopped = False

    def listen(self) -> None:
        """From now on, in the main thread; other threads may not ask for signals."""
        if threading.current_thread() is not threading.main_thread():
            return
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._told, number)
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # As nohup has it.
            loop.add_signal_handler(signal.SIGHUP, self._told, signal.SIGHUP)

    def _told(self, number: signal.Signals) -> None:
        if not self.doing:
            self.doing = "draining"
            self._voice.say(
                "draining",
                f"{number.name}: no more runs are taken, and those under way have {self._grace_seconds:g} s to end. "
                "Once more ends it at once.",
                "yellow",
                signal=number.name,
                grace_seconds=self._grace_seconds,
            )
            self._drain()
        elif not self.stopped:
            self.doing, self.stopped = "stopping", True
            self._voice.say("stopping", f"{number.name}: ending at once.", "yellow", signal=number.name)
            leave_within(EXIT_SECONDS, INTERRUPTED)
            self._stop()


class Orders(asyncio.Protocol):
    """A supervisor's words on stdin: ``drain SECONDS``, ``stop``; its end is an order to drain."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._read = b""
        self.stopped = False

    async def listen(self, pipe: BinaryIO) -> asyncio.BaseTransport:
        loop = asyncio.get_running_loop()
        transport, _ = await loop.connect_read_pipe(lambda: self, pipe)
        loop.add_signal_handler(signal.SIGTERM, self._worker.drain)
        # Ctrl-C is meant for the supervisor.
        loop.add_signal_handler(signal.SIGINT, lambda: None)
        return transport

    def data_received(self, data: bytes) -> None:
        *lines, self._read = (self._read + data).split(b"\n")
        for line in lines:
            match line.split():
                case [b"drain"]:
                    self._worker.drain()
                case [b"drain", seconds]:
                    self._worker.drain(grace_seconds=float(seconds))
                case [b"stop"]:
                    self.stopped = True
                    leave_within(EXIT_SECONDS, INTERRUPTED)
                    self._worker.stop()

    def eof_received(self) -> None:
        self._worker.drain()

    def connection_lost(self, error: Exception | None) -> None:
        self._worker.drain()
