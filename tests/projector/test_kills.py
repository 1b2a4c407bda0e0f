"""SIGKILL in the middle of a batch, of a rebuild, of a system call: what is left is a fold, and the next one goes on."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import signal
import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import aclosing, closing
from pathlib import Path
from typing import Any, cast

import pytest

from crash.harness import soak_seconds, was_killed
from crash.tracing import most_calls, traced
from evrt.events import Envelope
from evrt.log import open_log
from evrt.projection import AnyProjection, Documents, digest, digest_encoded, evolved, place_of
from projector.tallies import PROJECTIONS, Item, by_name, put, rows_of, url_in
from projector.worker import Job, Nursery

EVENTS = 1_200
BATCH = 25
KILLS = 50
KILLS_SYSCALLS = 8
LIFE_SECONDS_MAX = 1.0
"""On a machine that is busy for a moment, not every kill is to wait for long."""
KILLS_SOAK = 5_000
SOAK_SECONDS = soak_seconds(1_800.0)

CALLS = ("pwrite64", "fdatasync", "ftruncate", "unlink")
"""What the file of the views and its WAL see."""


class Histories:
    """A log, and the digest of every view as of any position."""

    def __init__(self, envelopes: Sequence[Envelope]) -> None:
        self._envelopes = envelopes
        self._known: dict[tuple[str, int], str] = {}
        self._states: dict[str, tuple[int, Documents[Any]]] = {}

    def digest(self, projection: AnyProjection, position: int) -> str:
        at = (projection.name, position)
        if at not in self._known:
            self._known[at] = digest(projection, self._folded(projection, position))
        return self._known[at]

    def _folded(self, projection: AnyProjection, position: int) -> Documents[Any]:
        begin, documents = self._states.get(projection.name, (0, {}))
        if begin > position:
            begin, documents = 0, {}
        documents = dict(documents)
        for envelope in self._envelopes[begin:position]:
            place = place_of(projection, envelope)
            if place is not None:
                after = evolved(projection, documents.pop(place, None), place, envelope)
                if after is not None:
                    documents[place] = after
        self._states[projection.name] = (position, documents)
        return documents


@pytest.fixture(scope="module")
def log_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("log")


@pytest.fixture(scope="module")
def histories(log_folder: Path) -> Histories:
    async def make() -> list[Envelope]:
        chance = random.Random(7)
        async with aclosing(await open_log(url_in(log_folder))) as log:
            await put(
                log,
                *(
                    Item(f"box-{chance.randrange(30)}", chance.choice("abc"), chance.random() < 0.2)
                    for _ in range(EVENTS)
                ),
            )
            return [row.envelope for row in await rows_of(log)]

    return Histories(asyncio.run(make()))


class Place:
    """A folder with a copy of the log, whose views are kept by workers that die."""

    def __init__(self, log_folder: Path, folder: Path, histories: Histories) -> None:
        shutil.copytree(log_folder, folder)
        self.folder = folder
        self._histories = histories
        self._before: dict[int, int] = {}

    def check(self) -> dict[str, int]:
        """Every generation is the fold of the log up to its cursor, and none has gone back. The cursors."""
        cursors: dict[str, int] = {}
        known = by_name(PROJECTIONS)
        path = self.folder / "log.db-views"
        if not path.exists():
            return cursors
        with closing(sqlite3.connect(path)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            if not connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'views'").fetchone():
                return cursors
            for view, name, stage, cursor in connection.execute(
                "SELECT id, name, stage, cursor FROM views"
            ).fetchall():
                rows = connection.execute(
                    f"SELECT key, part, first, position, document FROM view_{view} ORDER BY key, part"
                )
                found = digest_encoded((*row, document.encode()) for *row, document in rows)
                assert found == self._histories.digest(known[name], cursor), (name, stage, cursor)
                assert cursor >= self._before.get(view, 0), "It began again."
                self._before[view] = cursor
                cursors[f"{name} {stage}"] = cursor
        return cursors

    def done(self, cursors: dict[str, int]) -> bool:
        return len(cursors) == len(PROJECTIONS) and set(cursors.values()) == {EVENTS}

    def begin_anew(self) -> None:
        for suffix in ("", "-wal", "-shm"):
            Path(f"{self.folder}/log.db-views{suffix}").unlink(missing_ok=True)
        self._before.clear()


@pytest.fixture
def place(log_folder: Path, tmp_path: Path, histories: Histories) -> Place:
    return Place(log_folder, tmp_path / "place", histories)


def keeping(place: Place, **more: Any) -> Job:
    job = Job(folder=str(place.folder), batch=BATCH, stalled_seconds=0.1, upto=EVENTS)
    return cast("Job", job | more)


def life_seconds(nursery: Nursery, place: Place) -> float:
    """How long it takes to build the views when nobody interrupts, now, on this machine."""
    begun = time.monotonic()
    assert nursery.wait(nursery.spawn(keeping(place))) == 0
    life = min(time.monotonic() - begun, LIFE_SECONDS_MAX)
    assert place.done(place.check())
    place.begin_anew()
    return life


def kill_at_random(nursery: Nursery, place: Place, kills: int, until: float) -> tuple[int, int]:
    """Kill so many workers, each some time after its birth; how many were killed, and how often all was built."""
    chance = random.Random()
    life = life_seconds(nursery, place)
    killed = built = 0
    while killed < kills and time.monotonic() < until:
        # Now and then two at once, so that one takes over from the other while it lives or when it is dead.
        workers = [nursery.spawn(keeping(place)) for _ in range(1 + (chance.random() < 0.3))]
        for pid in workers:
            time.sleep(chance.random() * life * 0.7)
            os.kill(pid, signal.SIGKILL)
            killed += was_killed(nursery.wait(pid))
        if place.done(place.check()):
            built += 1
            place.begin_anew()
    assert nursery.wait(nursery.spawn(keeping(place))) == 0
    assert place.done(place.check())
    return killed, built


def kill_rebuilds(nursery: Nursery, place: Place, kills: int, until: float) -> tuple[int, int]:
    """The same while a live view is built anew; how many were killed, and how many rebuilds came to their end."""
    chance = random.Random()
    life = life_seconds(nursery, place)
    assert nursery.wait(nursery.spawn(keeping(place))) == 0
    killed = switched = 0
    while killed < kills and time.monotonic() < until:
        pid = nursery.spawn(keeping(place, rebuild=chance.choice(PROJECTIONS).name))
        time.sleep(chance.random() * life * 0.5)
        os.kill(pid, signal.SIGKILL)
        died = was_killed(nursery.wait(pid))
        killed += died
        switched += not died
        cursors = place.check()
        assert place.done({name: cursor for name, cursor in cursors.items() if name.endswith(" live")})
    for projection in PROJECTIONS:
        assert nursery.wait(nursery.spawn(keeping(place, rebuild=projection.name))) == 0
    assert place.done(place.check())
    return killed, switched


def test_views_of_killed_workers_are_folds_and_the_next_goes_on_from_there(
    nursery: Nursery, place: Place
) -> None:
    killed, _ = kill_at_random(nursery, place, KILLS // 2, time.monotonic() + 3_600)
    assert killed >= KILLS // 2


def test_a_rebuild_that_is_killed_goes_on_and_readers_have_the_old_view_meanwhile(
    nursery: Nursery, place: Place
) -> None:
    killed, _ = kill_rebuilds(nursery, place, KILLS // 2, time.monotonic() + 3_600)
    assert killed >= KILLS // 2


def test_killed_in_any_system_call_it_leaves_a_fold(nursery: Nursery, place: Place) -> None:
    killed, _ = kill_in_calls(nursery, place, KILLS_SYSCALLS, time.monotonic() + 3_600)
    assert killed >= KILLS_SYSCALLS


def kill_in_calls(nursery: Nursery, place: Place, kills: int, until: float) -> tuple[int, int]:
    """Kill workers as one of their threads makes some system call for the n-th time; as ``kill_at_random``."""
    chance = random.Random()
    made = _calls(nursery, place)
    killed = built = 0
    while killed < kills and time.monotonic() < until:
        call = chance.choice([name for name in CALLS if name in made])
        pid = nursery.spawn(keeping(place, traced=True))
        nursery.wait(pid)
        nth = chance.randint(1, made[call])
        with traced(pid, f"trace={call}", f"inject={call}:signal=SIGKILL:when={nth}"):
            os.kill(pid, signal.SIGCONT)
            killed += was_killed(nursery.wait(pid))
        if place.done(place.check()):
            built += 1
            place.begin_anew()
    assert nursery.wait(nursery.spawn(keeping(place))) == 0
    assert place.done(place.check())
    return killed, built


def _calls(nursery: Nursery, place: Place) -> dict[str, int]:
    pid = nursery.spawn(keeping(place, traced=True))
    nursery.wait(pid)
    trace = place.folder / "trace"
    with traced(pid, f"trace={','.join(CALLS)}", output=trace):
        os.kill(pid, signal.SIGCONT)
        assert nursery.wait(pid) == 0
    place.begin_anew()
    return most_calls(trace.read_text().splitlines())


@pytest.mark.soak
def test_thousands_of_kills_leave_folds(
    nursery: Nursery, place: Place, log_folder: Path, tmp_path: Path, histories: Histories, capsys: Any
) -> None:
    until = time.monotonic() + SOAK_SECONDS
    places = [Place(log_folder, tmp_path / f"place-{n}", histories) for n in range(3)]
    totals = [0, 0, 0]
    ways: tuple[Callable[[Nursery, Place, int, float], tuple[int, int]], ...] = (
        kill_at_random,
        kill_rebuilds,
        kill_in_calls,
    )
    while sum(totals) < KILLS_SOAK and time.monotonic() < until:
        for number, kill in enumerate(ways):
            places[number].begin_anew()
            totals[number] += kill(nursery, places[number], 60 if number < 2 else 20, until)[0]
    with capsys.disabled():
        print(
            f"\n{totals[0]} kills while building, {totals[1]} in rebuilds, {totals[2]} in system calls: all folds"
        )
