"""A queue full of runs, and workers that are killed and frozen all the time: every run ends once, as if nothing had been."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from crash.harness import soak_seconds
from evrt.errors import Unavailable
from evrt.log import Log, Recorded
from postgres import Server
from postgres_server import SUPERUSER
from workers.crew import Person, Site, site, until_all_ended
from workers.labour import DRAINED, LabourApp, expected
from workers.verdict import violations

WORKERS = 4
LEASE_SECONDS = 1.0
PATIENT_EVERY = 5
"""One run in so many waits for a signal."""

RUNS_MIN = 40
WORKER_FAULTS_MIN = 6
"""So much has to have been done to workers for a verdict to mean something, and to their server once, if it is ours."""

ENDING_SECONDS = 60.0
"""How long after the last fault everything has to have ended at the latest. It takes a few seconds."""


@dataclass(slots=True)
class Figures:
    kills: int = 0
    freezes: int = 0
    servers: int = 0

    def suffice(self, *, servers: bool) -> bool:
        return self.kills + self.freezes >= WORKER_FAULTS_MIN and (self.servers > 0 or not servers)


@dataclass(frozen=True, slots=True)
class Told:
    """What there was to be judged: runs, their events, how often somebody settled, and what was done to workers."""

    runs: int
    events: int
    settled: int
    faults: Figures


async def fill(app: LabourApp, runs: int, until: float = float("inf")) -> dict[str, list[str]]:
    """Ask for so many runs, or as many as there is time for, but not for too few; what each has to come to."""
    wanted: dict[str, list[str]] = {}
    for number in range(runs):
        item, waits = f"crate {number}", number % PATIENT_EVERY == 0
        while number < RUNS_MIN or time.monotonic() < until:
            with suppress(Unavailable):  # Asked again with its key, it is the same run.
                queued = await app.enqueue("patient" if waits else "steady", item, idempotency_key=item)
                wanted[queued.run_id] = expected(item, waits=waits)
                break
    return wanted


async def rage(
    one: Site, chance: random.Random, done: asyncio.Event, until: float, kick: Callable[[], None] | None
) -> Figures:
    """Kill and freeze workers at random until every run has ended, or the time is over.

    On a machine that has no time for the tests it may be over before anything was done: then it goes on.
    """
    figures = Figures()
    while not done.is_set() and (time.monotonic() < until or not figures.suffice(servers=kick is not None)):
        await asyncio.sleep(chance.uniform(0.01, 0.12))
        awake = [pid for pid in one.alive if pid not in one.frozen]
        roll = chance.random()
        if roll < 0.5 and awake:
            one.kill(chance.choice(awake))
            figures.kills += 1
        elif roll < 0.7 and awake:
            figures.freezes += one.freeze(chance.choice(awake), chance.uniform(0.5, 3.0) * one.lease_seconds)
        elif kick is not None and (roll < 0.8 or not figures.servers):
            kick()
            figures.servers += 1
        while len(one.alive) < WORKERS:
            one.hire()
    return figures


async def see_to_everything(
    person: Person, filling: asyncio.Task[dict[str, list[str]]], done: asyncio.Event
) -> None:
    """Beside the faults: settle and signal until everything was asked for and nothing is left in the queue."""
    while not done.is_set():
        with suppress(Unavailable):  # The server is just being killed.
            if await person.look() and filling.done():
                done.set()
        await asyncio.sleep(0.1)


async def thaw_in_time(one: Site) -> None:
    """Beside everything else: whoever is frozen may hold what everybody waits for."""
    while True:
        for pid, thaws_at in list(one.frozen.items()):
            if time.monotonic() > thaws_at:
                one.thaw(pid)
        await asyncio.sleep(0.05)


async def read_all(log: Log) -> list[Recorded]:
    rows: list[Recorded] = []
    while page := await log.read(after=len(rows), limit=5_000):
        rows += page
    return rows


async def endure(
    url: str, folder: Path, runs: int, seconds: float, kick: Callable[[], None] | None = None
) -> Told:
    """So many runs, or as many as can be asked for in such a time; what came of them."""
    seed = random.randrange(2**32)
    chance = random.Random(seed)
    with site(url, folder, lease_seconds=LEASE_SECONDS) as one:
        async with one.app() as app:
            log = await app.log()
            until = time.monotonic() + seconds
            filling = asyncio.create_task(fill(app, runs, until))
            person = Person(app, one.world, chance)
            for _ in range(WORKERS):
                one.hire()
            done = asyncio.Event()
            beside = [
                asyncio.create_task(work)
                for work in (thaw_in_time(one), see_to_everything(person, filling, done))
            ]
            figures = await rage(one, chance, done, until, kick)
            wanted = await filling
            await until_all_ended(person, ENDING_SECONDS + len(wanted) / 10, one)
            for task in beside:
                task.cancel()
            codes = [one.dismiss(pid) for pid in list(one.alive)]
            rows = await read_all(log)
            assert violations(rows, one.world.lines(), wanted) == [], f"seed {seed}\n{one.said()}"
            assert codes == [DRAINED] * WORKERS, f"seed {seed}\n{one.said()}"
            assert await log.coordination.entries() == []
            assert [lease for lease in await log.coordination.leases() if lease.claimed] == []
            return Told(len(wanted), len(rows), person.settled, figures)


def unkind(server: Server, chance: random.Random) -> Callable[[], None]:
    """Ends the sessions of every worker, or kills the server and starts it again."""

    def kick() -> None:
        if chance.random() < 0.7:
            with psycopg.connect(server.url(user=SUPERUSER), autocommit=True) as connection:
                connection.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'evrt %'"
                )
        else:
            server.kill()
            server.start()

    return kick


@pytest.mark.parametrize(
    "runs,seconds", [(80, 4.0), pytest.param(10_000, soak_seconds(3_600.0), marks=pytest.mark.soak)]
)
async def test_every_queued_run_ends_once_however_its_workers_and_their_database_die(
    own_server: Server, tmp_path: Path, runs: int, seconds: float, capsys: pytest.CaptureFixture[str]
) -> None:
    kick = unkind(own_server, random.Random())
    told = await endure(own_server.url(schema="chaos"), tmp_path, runs, seconds, kick)
    with capsys.disabled():
        print(f"\n{told}")
    assert told.faults.suffice(servers=True)


@pytest.mark.parametrize(
    "runs,seconds", [(300, 6.0), pytest.param(10_000, soak_seconds(3_600.0), marks=pytest.mark.soak)]
)
async def test_every_queued_run_ends_once_however_its_workers_die(
    tmp_path: Path, runs: int, seconds: float, capsys: pytest.CaptureFixture[str]
) -> None:
    told = await endure(f"sqlite:///{tmp_path}/log.db", tmp_path, runs, seconds)
    with capsys.disabled():
        print(f"\n{told}")
    assert told.faults.suffice(servers=False)
