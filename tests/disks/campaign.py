"""Trying what a loss of power may leave: at every point of a recording, many states, each found again and judged."""

from __future__ import annotations

import hashlib
import math
import random
import sqlite3
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

from disks.disk import Choice, Disk, Names, Piece, count, draw, every, extremes, share
from disks.judge import Promises, violations
from disks.recovery import clear, find, in_memory, put, use
from disks.trace import Created, Op, Recording, Synced, Told, Truncated, Unlinked, Wrote
from evrt.errors import EvrtError
from evrt.log.contract import Recorded

USED_EVERY = 100
"""Of so many different states one is also opened through the front door, written to and checked."""

NOISE = 0.3
"""Share of the states in which what was never written holds noise, not zeros."""

TRIES_MAX = 3
"""So many draws are made for each state wanted, for two may come to the same."""

EXAMPLES_MAX = 5


@dataclass(slots=True)
class Tally:
    """What has been tried, and what came of it."""

    points: int = 0
    exhausted: int = 0
    """Points at which every state was tried."""
    pieces_max: int = 0
    bits_max: float = 0.0
    """Two to this power is the number of states at the point that has most of them."""
    states: int = 0
    different: int = 0
    """States that differ in a byte, or in what had been promised."""
    used: int = 0
    unmade: int = 0
    """Different states in which a log cannot be used that nobody had been told of, after a sync that failed."""
    bad: Counter[str] = field(default_factory=Counter)
    """Different states with something wrong, by the first word of it."""
    examples: list[str] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        self.points += other.points
        self.exhausted += other.exhausted
        self.pieces_max = max(self.pieces_max, other.pieces_max)
        self.bits_max = max(self.bits_max, other.bits_max)
        self.states += other.states
        self.different += other.different
        self.used += other.used
        self.unmade += other.unmade
        self.bad.update(other.bad)
        self.examples = [*self.examples, *other.examples][:EXAMPLES_MAX]

    def __str__(self) -> str:
        return (
            f"{self.points} points ({self.exhausted} exhausted), at most {self.pieces_max} pieces "
            f"(2^{self.bits_max:.0f} states); {self.states} states tried, {self.different} different, "
            f"{self.used} opened and used; never made: {self.unmade}; bad: {dict(self.bad) or 'none'}"
        )


def replay(disk: Disk, promises: Promises, ops: Sequence[Op], *, folder_syncs: bool = True) -> Iterator[int]:
    """Do to a disk what was recorded. Yields at each point: before every sync, and at the end.

    Between two of them what may be left only becomes more, and what has been promised too. So whatever
    a loss of power may leave at any other moment is among what it may leave at the next point, where
    it is judged by more.
    """
    for number, op in enumerate(ops):
        if isinstance(op, Synced):
            yield number
        match op:
            case Wrote(name, offset, content):
                disk.write(name, offset, content)
            case Truncated(name, size):
                disk.truncate(name, size)
            case Created(name):
                if name not in disk:
                    disk.create(name)
            case Unlinked(name):
                disk.unlink(name)
            case Synced("", ok):
                # Where it fails, names are as uncertain as they were.
                if ok and folder_syncs:
                    disk.sync_folder()
            case Synced(name, True):
                disk.sync(name)
            case Synced(name, False):
                disk.fail_sync(name)
            case Told(text):
                promises.hear(text)
    yield len(ops)


def survey(recording: Recording, names: Names, *, folder_syncs: bool = True) -> dict[int, int]:
    """How many states there are at each point."""
    disk = Disk(names)
    counts: dict[int, int] = {}
    for point in replay(disk, Promises(), recording.ops, folder_syncs=folder_syncs):
        counts[point] = count(disk.pieces())
    assert disk.looks() == recording.looks, "The trace does not come to what is on the disk."
    return counts


@dataclass(slots=True)
class Trial:
    """One recording, tried on one disk. ``lane`` of ``lanes`` takes its part of the points."""

    recording: Recording
    names: Names
    wanted: int
    seed: int
    folder_syncs: bool = True
    lane: int = 0
    lanes: int = 1
    until: float = math.inf
    """By ``time.monotonic``."""
    tally: Tally = field(default_factory=Tally)
    _seen: set[bytes] = field(default_factory=set)

    def run(self) -> Tally:
        counts = survey(self.recording, self.names, folder_syncs=self.folder_syncs)
        # Before a sync fails, everything is as it is where none does.
        begin = 0 if self.first_failure is None else self.first_failure
        shares = share({point: number for point, number in counts.items() if point >= begin}, self.wanted)
        place = Path(tempfile.mkdtemp(prefix="evrt-disk-", dir=in_memory(Path(tempfile.gettempdir()))))
        try:
            history = self._history(place)
            disk, promises = Disk(self.names), Promises()
            for number in replay(disk, promises, self.recording.ops, folder_syncs=self.folder_syncs):
                if number in shares and number % self.lanes == self.lane and time.monotonic() < self.until:
                    self._point(disk, promises, history, shares[number], number, place)
        finally:
            clear(place)
        return self.tally

    @property
    def first_failure(self) -> int | None:
        """The place of the first sync that failed."""
        failed = (n for n, op in enumerate(self.recording.ops) if isinstance(op, Synced) and not op.ok)
        return next(failed, None)

    def _history(self, place: Path) -> Sequence[Recorded] | None:
        """The whole log, if nothing that was written to it has been taken back."""
        if self.first_failure is not None:
            return None
        put(place, self.recording.looks)
        return find(place).events

    def _point(
        self,
        disk: Disk,
        promises: Promises,
        history: Sequence[Recorded] | None,
        wanted: int,
        number: int,
        place: Path,
    ) -> None:
        pieces = disk.pieces()
        chance = random.Random(f"{self.seed} {self.names} {number}")
        tally = self.tally
        tally.points += 1
        tally.exhausted += count(pieces) <= wanted
        tally.pieces_max = max(tally.pieces_max, len(pieces))
        tally.bits_max = max(tally.bits_max, math.log2(count(pieces)))
        enough = tally.different + wanted
        for choice in _choices(pieces, wanted, chance):
            if tally.different == enough:
                break
            noise = random.Random(number) if chance.random() < NOISE else None
            files = disk.state(pieces, choice, noise)
            tally.states += 1
            mark = _mark(files, promises)
            if mark in self._seen:
                continue
            self._seen.add(mark)
            tally.different += 1
            used = tally.different % USED_EVERY == 0
            tally.used += used
            wrong = judge(place, files, promises, history, used=used)
            if wrong and self.first_failure is not None and not promises.count:
                # SQLite does not say when it could not sync the folder while the log was made.
                tally.unmade += 1
            elif wrong:
                tally.bad[wrong[0].partition(":")[0]] += 1
                if len(tally.examples) < EXAMPLES_MAX:
                    tally.examples.append(f"seed {self.seed}, {self.names}, point {number}: {wrong[0]}")


def _choices(pieces: Sequence[Piece], wanted: int, chance: random.Random) -> Iterable[Choice]:
    if count(pieces) <= wanted:
        return every(pieces)
    ends = list(extremes(pieces))
    if len(ends) > wanted // 2:
        ends = [*ends[:2], *chance.sample(ends[2:], max(0, wanted // 2 - 2))]
    return chain(ends, (draw(pieces, chance) for _ in range(TRIES_MAX * wanted)))


def _mark(files: dict[str, bytes], promises: Promises) -> bytes:
    """What tells this state from others: every byte, and how much had been promised."""
    digest = hashlib.sha1(str(promises.count).encode(), usedforsecurity=False)
    for name, content in sorted(files.items()):
        digest.update(f"{name} {len(content)} ".encode())
        digest.update(content)
    return digest.digest()


def judge(
    place: Path,
    files: dict[str, bytes],
    promises: Promises,
    history: Sequence[Recorded] | None,
    *,
    used: bool,
) -> list[str]:
    """What is wrong with a log found in these files."""
    if any(erased in content for erased in promises.gone() for content in files.values()):
        return ["Still there: a payload that had been erased can be read in what is left of the files."]
    put(place, files)
    try:
        found = find(place)
    except (EvrtError, sqlite3.Error, AssertionError) as error:
        return [f"Unreadable: {type(error).__name__}: {error}"]
    wrong = violations(found, promises, history)
    return wrong or (use(place) if used else [])
