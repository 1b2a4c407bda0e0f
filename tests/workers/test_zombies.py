"""Workers that are frozen at a step, overtaken and thawed: nothing that they write is accepted any more.

Each of them takes one run and stops itself at its place; when all stand still, and their leases have run out, one other
worker takes everything over. Half of them are thawed while it is at that, half when every run has ended.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from crash.harness import soak_seconds
from evrt.log import Log, Recorded
from postgres import fresh_url, shared
from workers.crew import Nursery, Person, Site, site, until_all_ended
from workers.labour import DRAINED, expected
from workers.test_chaos import read_all
from workers.verdict import violations

Place = tuple[str, int]
"""Where a worker stops itself: the n-th time that it passes a site."""

PLACES: Sequence[Place] = (
    ("claim.after", 1),
    ("append.before", 1),
    ("append.after", 1),
    ("append.before", 3),
    ("append.after", 3),
    ("effect.before", 2),
    ("effect.after", 2),
    ("append.before", 6),
    ("effect.before", 8),
    ("effect.after", 8),
)
"""Given and not read · claim handed over · claimed and not heard · intent and outcome of a write, and its effect · later."""

FAST_SECONDS = 0.3
LEASE_SECONDS = 2.5
"""Of those that are to be overtaken: time enough for all of them to come to their places."""


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    one = Nursery()
    yield one
    one.close()


@pytest.fixture(params=["sqlite", "postgres"])
def log_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/log.db" if request.param == "sqlite" else fresh_url(shared().owner)


def freeze_all(one: Site, places: Sequence[Place], plant: str | None) -> list[int]:
    """One worker for each place, standing there."""
    frozen = []
    for number, (where, nth) in enumerate(places):
        pid = one.hire(site=where, nth=nth, plant=plant, concurrency=1, lease_seconds=LEASE_SECONDS)
        assert one.stands(pid, 0.0), f"worker {number}, of {where} {nth}, is gone.\n{one.said()}"
        frozen.append(pid)
    return frozen


async def overtake(
    nursery: Nursery, url: str, folder: Path, places: Sequence[Place], plant: str | None = None
) -> tuple[list[str], list[Recorded], list[Recorded]]:
    """What was wrong in the end; the rows when all had ended, and those that came when the others thawed."""
    with site(url, folder, lease_seconds=FAST_SECONDS, nursery=nursery) as one:
        async with one.app() as app:
            log = await app.log()
            wanted = {}
            for number in range(len(places)):
                queued = await app.enqueue("steady", f"crate {number}")
                wanted[queued.run_id] = expected(f"crate {number}", waits=False)
            frozen = freeze_all(one, places, plant)
            person = Person(app, one.world, random.Random())
            one.hire(concurrency=len(places))
            await until_overtaken(log, len(places), one)
            for pid in frozen[::2]:
                one.thaw(pid)
            await until_all_ended(person, 60.0, one)
            before = await read_all(log)
            codes = [one.dismiss(pid) for pid in list(one.alive)]
            after = await read_all(log)
            assert codes == [DRAINED] * len(codes), one.said()
            found = violations(after, one.world.lines(), wanted)
            if plant is None and refusals(folder) < len(places) // 2:
                found.append("they were not refused, so they have not tried")
            if await log.coordination.entries():
                found.append("something is left in the queue")
            return found, before, after[len(before) :]


def refusals(folder: Path) -> int:
    """How often a worker has said that a run is not its own any more."""
    said = "".join(path.read_text() for path in folder.glob("worker-*.txt"))
    return sum(said.count(words) for words in ("stop working on it here", "leave it alone here", "was first"))


async def until_overtaken(log: Log, runs: int, one: Site) -> None:
    """Until another has claimed each run anew, in the queue, or has ended it."""
    for _ in range(1_800):
        leases = {lease.worker for lease in await log.coordination.leases() if lease.left_seconds > 0}
        entries = await log.coordination.entries(state="claimed")
        if all(entry.worker in leases for entry in entries) and len(leases) == 1:
            return
        await asyncio.sleep(0.05)
    raise AssertionError(f"Not every run was taken over.\n{one.said()}")


async def test_nothing_is_accepted_of_workers_that_were_overtaken_while_frozen(
    nursery: Nursery, log_url: str, tmp_path: Path
) -> None:
    found, _, late = await overtake(nursery, log_url, tmp_path, PLACES)
    assert found == []
    assert {row.type for row in late} <= {"tool_call.reported"}


async def test_without_a_fence_they_write_into_runs_that_are_no_longer_theirs(
    nursery: Nursery, tmp_path: Path
) -> None:
    found, _, _ = await overtake(nursery, f"sqlite:///{tmp_path}/log.db", tmp_path, PLACES[3:7], "no_fence")
    assert any(
        "outcomes" in wrong or "under epoch" in wrong or "after its end" in wrong for wrong in found
    ), found


ZOMBIES_SOAK = 200


@pytest.mark.soak
async def test_two_hundred_zombies_write_nothing(
    nursery: Nursery, log_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chance = random.Random()
    loop = asyncio.get_running_loop()
    until = loop.time() + soak_seconds(3_600.0)
    zombies = 0
    while zombies < ZOMBIES_SOAK and loop.time() < until:
        places = [
            (f"{what}.{side}", chance.randint(1, 8))
            for what in ("append", "effect")
            for side in ("before", "after")
        ] * 2
        folder = tmp_path / str(zombies)
        folder.mkdir()
        url = fresh_url(shared().owner) if log_url.startswith("postgres") else f"sqlite:///{folder}/log.db"
        found, _, late = await overtake(nursery, url, folder, places)
        assert found == [], places
        assert {row.type for row in late} <= {"tool_call.reported"}, places
        zombies += len(places)
    with capsys.disabled():
        print(f"\n{zombies} zombies, nothing accepted of them")
