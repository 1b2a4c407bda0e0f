"""Several processes of a worker, or one that begins anew when its code changes: started, watched, told to end.

Each is a fresh interpreter, ``evrt worker --supervised``: nothing is inherited that a fork would tear apart. It
reads orders from its stdin and reports on its stdout.
"""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import PIPE, Process
from contextlib import suppress

import orjson

from evrt.app import App
from evrt.cli.boundary import INTERRUPTED
from evrt.cli.output import on_terminal
from evrt.cli.place import Place
from evrt.cli.reloading import Watched, code_folders, shortened
from evrt.cli.settings import Settings
from evrt.cli.text import listed
from evrt.cli.worker_lines import Done, Voice, done_of, figures_document, plain_line
from evrt.cli.working import (
    DRAINED,
    EXIT_SECONDS,
    FAILED,
    REFRESH_SECONDS,
    QueueLook,
    Signals,
    served,
    work_alone,
)
from evrt.errors import EvrtError, UsageError
from evrt.log import Log, open_log
from evrt.log.address import MEMORY_URL
from evrt.log.postgres.address import shown_url
from evrt.worker.worker import HANDOVER_SECONDS

QUICK_SECONDS = 10.0
"""A process that ends sooner than this after its start, without being told to, has died at once."""

QUICK_DEATHS_MAX = 3
"""So many in a row, and it is no accident."""

BACK_OFF_SECONDS = 0.25
BACK_OFF_FACTOR = 2

RELOAD_GRACE_SECONDS = 1.0
"""Whoever has just changed the code wants to see it run."""

REPORT_BYTES_MAX = 1024 * 1024


def start(place: Place, settings: Settings, *, processes: int, reload: bool | None, as_json: bool) -> int:
    """Work until told to end, in as many processes; returns the exit code.

    Raises UsageError, what loading the app raises, and what opening the log does.
    """
    if reload and processes > 1:
        raise UsageError("--reload is for one process: leave it out, or --processes.")
    app = place.load_app()
    if app.url == MEMORY_URL:
        raise UsageError(
            "A log in memory has a queue that nobody else can put anything into. Name a log that is kept with --db."
        )
    settings.make_worker(app)  # What is wrong with the options is to be said once, and here.
    if reload is None:
        reload = processes == 1 and not as_json and on_terminal(sys.stderr)
    if processes == 1 and not reload:
        return work_alone(app, settings, as_json=as_json)
    asyncio.run(_open_once(app.url))
    return asyncio.run(Supervisor(place, app, settings, processes, reload, as_json=as_json).run())


async def _open_once(url: str) -> None:
    """What is wrong with the log is to be said once as well, before any process meets it. Raises that."""
    await (await open_log(url)).aclose()


class Child:
    """One process, and what it has said last."""

    def __init__(self, process: Process, number: int) -> None:
        self.process = process
        self.number = number
        self.started_at = asyncio.get_running_loop().time()
        self.working = False
        self.done = Done()

    def tell(self, order: str) -> None:
        assert self.process.stdin is not None
        with suppress(OSError):  # It has just ended.
            self.process.stdin.write(f"{order}\n".encode())

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            self.process.kill()


class Supervisor:
    """Keeps so many processes going. Executes nothing itself."""

    def __init__(
        self, place: Place, app: App, settings: Settings, processes: int, reload: bool, *, as_json: bool
    ) -> None:
        self._place = place
        self._app = app
        self._settings = settings
        self._processes = processes
        self._voice = Voice(as_json=as_json)
        self._signals = Signals(self._drain, self._stop, self._voice, settings.grace_seconds)
        self._watched = Watched(code_folders()) if reload else None
        self._children: dict[int, Child] = {}
        self._before = Done()
        """What processes have done that are gone."""
        self._ending = asyncio.Event()
        self._given_up = False
        self._changed = asyncio.Event()

    async def run(self) -> int:
        """Until all have ended; the exit code."""
        self._signals.listen()
        said = served(self._app, self._settings)
        url = shown_url(self._app.url)
        each = "one process" if self._processes == 1 else f"{self._processes} processes"
        reloads = ", and begins anew when code changes" if self._watched is not None else ""
        self._voice.say(
            "started",
            f"A worker of {each} serves {listed(said)} on {url}, {self._settings.concurrency} runs at once{reloads}.",
            processes=self._processes,
            targets=said,
            log=url,
            concurrency=self._settings.concurrency,
        )
        beside = [asyncio.create_task(self._tell())]
        if self._watched is not None:
            beside.append(asyncio.create_task(self._watch(self._watched)))
        try:
            async with asyncio.TaskGroup() as group:
                for number in range(1, self._processes + 1):
                    group.create_task(self._keep(number))
        finally:
            for child in self._children.values():
                child.kill()
            for task in beside:
                task.cancel()
            await asyncio.gather(*beside, return_exceptions=True)
            code = self._code()
            figures = figures_document(self._done, None, 0)
            self._voice.say(
                "ended", f"The worker has ended: {plain_line(self._done, None)}", code=code, **figures
            )
            self._voice.close()
        return code

    def _code(self) -> int:
        if self._given_up:
            return FAILED
        return INTERRUPTED if self._signals.stopped else DRAINED

    @property
    def _done(self) -> Done:
        return sum((child.done for child in self._children.values()), self._before)

    # -------------------------------------------------------------------------------- one process

    async def _keep(self, number: int) -> None:
        """Have one process go on, whatever becomes of it, until all are to end."""
        deaths = 0
        while not self._ending.is_set():
            child = await self._start(number)
            await self._hear(child)
            code = await child.process.wait()
            del self._children[number]
            self._before += child.done.at_rest()
            if self._ending.is_set() or await self._is_to_reload(child, code):
                continue
            lasted = asyncio.get_running_loop().time() - child.started_at
            deaths = deaths + 1 if lasted < QUICK_SECONDS else 1
            self._say_died(child, code, deaths)
            if deaths >= QUICK_DEATHS_MAX:
                self._given_up = True
                self._drain()
            await self._rest(BACK_OFF_SECONDS * BACK_OFF_FACTOR ** (deaths - 1))

    async def _start(self, number: int) -> Child:
        place = self._place
        flags = {"--app": place.app_flag, "--db": place.db_flag}
        words = [f"{flag}={value}" for flag, value in flags.items() if value is not None]
        if self._watched is not None:
            words.append("--reload")
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "evrt", "worker", "--supervised", *words, *self._settings.words),
            stdin=PIPE,
            stdout=PIPE,
            limit=REPORT_BYTES_MAX,
            # Ctrl-C reaches the supervisor alone, and so no program that a tool has started.
            process_group=0,
        )
        child = self._children[number] = Child(process, number)
        if self._ending.is_set():  # It was told while this one was being started.
            child.tell("drain")
        return child

    async def _hear(self, child: Child) -> None:
        """Take in what it reports until it ends."""
        assert child.process.stdout is not None
        async for line in child.process.stdout:
            report = orjson.loads(line)
            child.done = done_of(report)
            if report["event"] == "started":
                child.working = True
                self._voice.say(
                    "process_started",
                    f"Process {child.number} has begun: {report['worker']}.",
                    "dim",
                    process=child.number,
                    pid=child.process.pid,
                    worker=report["worker"],
                )
            if self._watched is not None:
                self._watched.add(report.get("folders", ()))

    def _say_died(self, child: Child, code: int, deaths: int) -> None:
        how = f"by signal {-code}" if code < 0 else f"with exit code {code}"
        what = f"Process {child.number} (pid {child.process.pid}) has ended {how}, {_when(child)}"
        again = "It is started again."
        if deaths >= QUICK_DEATHS_MAX:
            again = f"That makes {deaths} in a row that ended at once: the worker gives up."
        self._voice.say(
            "process_ended",
            f"{what}. {again}",
            "red",
            process=child.number,
            pid=child.process.pid,
            code=code,
            gives_up=self._given_up or deaths >= QUICK_DEATHS_MAX,
        )

    async def _rest(self, seconds: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._ending.wait(), seconds)

    # ------------------------------------------------------------------------------------ all of them

    def _drain(self) -> None:
        self._ending.set()
        self._changed.set()
        for child in self._children.values():
            child.tell("drain")
        self._kill_after(self._settings.grace_seconds + HANDOVER_SECONDS + 4 * EXIT_SECONDS)

    def _stop(self) -> None:
        for child in self._children.values():
            child.tell("stop")
        self._kill_after(4 * EXIT_SECONDS)

    def _kill_after(self, seconds: float) -> None:
        """Whoever has not ended by then hears nothing: its event loop is blocked."""

        def kill() -> None:
            for child in self._children.values():
                child.kill()

        asyncio.get_running_loop().call_later(seconds, kill)

    async def _tell(self) -> None:
        loop = asyncio.get_running_loop()
        log: Log | None = None
        look = QueueLook(live=self._voice.live)
        try:
            while True:
                if log is None:
                    with suppress(EvrtError):
                        log = await open_log(self._app.url, read_only=True)
                figures = None if log is None else await look.figures(log)
                self._voice.tell(loop.time(), self._done, figures, len(self._children), self._signals.doing)
                await asyncio.sleep(REFRESH_SECONDS)
        finally:
            if log is not None:
                await log.aclose()

    # ---------------------------------------------------------------------------------------- reloading

    async def _watch(self, watched: Watched) -> None:
        while True:
            path = await watched.changed()
            path = shortened(path)
            self._voice.say("reloading", f"{path} has changed: beginning anew.", "cyan", path=path)
            self._changed.set()
            for child in self._children.values():
                child.tell(f"drain {RELOAD_GRACE_SECONDS}")

    async def _is_to_reload(self, child: Child, code: int) -> bool:
        """Whether it has ended because code has changed, or is not worth starting before code has changed."""
        if self._watched is None:
            return False
        if not child.working and not self._changed.is_set():
            self._voice.say(
                "process_ended",
                "It is started again when a file has changed.",
                "yellow",
                process=child.number,
                pid=child.process.pid,
                code=code,
                gives_up=False,
            )
            await self._changed.wait()
        changed = self._changed.is_set()
        self._changed.clear()
        return changed


def _when(child: Child) -> str:
    return "before it had begun to work" if not child.working else "without being told to"
