"""Answers to COMMIT are kept back and connections dropped all the time: nothing is lost, nothing is there twice.

Judged by a record outside of the log, of what was asked for and what was acknowledged, and by computing every leaf again.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, field

import pytest

from connections.proxy import Proxy
from evrt.errors import Unavailable
from evrt.log import Append, Appended, Draft, Log, Recorded, open_log
from evrt.log.ids import new_event_id
from evrt.log.postgres.transaction import Transaction
from log.stores import leaf_of
from postgres import fresh_url, shared

WRITERS = 4
STREAMS = 3
CUT = 0.2
LOSE = 0.1
DROP = 0.1
"""Shares of the commits whose answers are kept back, of those lost on their way, and of the moments for a drop."""


@dataclass(slots=True)
class Told:
    """What was asked for, and where it was said to be."""

    asked: set[str] = field(default_factory=set)
    acknowledged: dict[str, int] = field(default_factory=dict)

    def judge(self, rows: list[Recorded]) -> list[str]:
        """What is wrong with the log."""
        times = Counter(row.event_id for row in rows)
        places = {row.event_id: row.position for row in rows}
        found = [f"{one} is there {count} times" for one, count in times.items() if count > 1]
        found += [f"{one} was acknowledged and is lost" for one in self.acknowledged if one not in times]
        found += [f"{one} was never asked for" for one in times if one not in self.asked]
        found += [
            f"{one} was said to be at {position}, and is at {places[one]}"
            for one, position in self.acknowledged.items()
            if places.get(one, position) != position
        ]
        return found


async def write(log: Log, writer: int, told: Told, enough: Callable[[], bool]) -> None:
    """Append until it is enough; an append whose outcome is not known is repeated until it is."""
    number = 0
    while not enough():
        number += 1
        stream = f"run-{writer}-{number % STREAMS}"
        drafts = [
            Draft(stream, "tests.happened", new_event_id(), stream, b"{}", b"%d" % number)
            for _ in range(1 + number % 3)
        ]
        told.asked |= {draft.event_id for draft in drafts}
        before = await _version(log, stream)
        appended = await _until_known(log, Append(drafts, {}), {stream: before})
        for draft, position in zip(drafts, appended.positions, strict=True):
            told.acknowledged[draft.event_id] = position


async def _version(log: Log, stream: str) -> int:
    while True:
        with suppress(Unavailable):
            return (await log.head(stream)).version


async def _until_known(log: Log, request: Append, before: dict[str, int]) -> Appended:
    while True:
        try:
            return await log.append(request)
        except Unavailable:
            request = request._replace(repeat_after=before)


async def drop_some(proxy: Proxy, chance: random.Random) -> None:
    while True:
        await asyncio.sleep(0.01)
        if chance.random() < DROP:
            proxy.drop_one(chance.randrange)


async def endure(proxy: Proxy, address: str, cuts: int) -> tuple[list[str], int]:
    """Write until so many answers were kept back; what is wrong then, and how many events there are."""
    chance = random.Random()
    told = Told()
    url = fresh_url(address)
    # Before the cuts, which are to be of appends and not of the making of tables.
    logs = [await open_log(url) for _ in range(2)]
    proxy.cut_commit = lambda: chance.random() < CUT
    proxy.lose_commit = lambda: chance.random() < LOSE
    dropping = asyncio.create_task(drop_some(proxy, chance))
    try:
        async with asyncio.TaskGroup() as writers:
            for writer in range(WRITERS):
                writers.create_task(
                    write(logs[writer % 2], writer, told, lambda: min(proxy.cuts, 3 * proxy.lost) >= cuts)
                )
    finally:
        dropping.cancel()
        proxy.cut_commit = proxy.lose_commit = lambda: False
    for log in logs:
        await log.aclose()
    rows: list[Recorded] = []
    proxy.drop_all()
    async with aclosing(await open_log(url)) as log:
        while page := await log.read(after=len(rows), limit=5_000):
            rows += page
        return told.judge(rows) + wrong_leaves(log.id, rows), len(rows)


def wrong_leaves(log: str, rows: Sequence[Recorded]) -> list[str]:
    """Every leaf, chained to the one before it in its stream, computed again; and every position."""
    last: dict[str, bytes] = {}
    found = []
    for number, row in enumerate(rows, start=1):
        if row.position != number or row.leaf != leaf_of(log, row, last.get(row.stream)):
            found.append(f"position {row.position} is not what it should be")
        last[row.stream] = row.leaf
    return found


@pytest.mark.parametrize("cuts", [30, pytest.param(200, marks=pytest.mark.soak)])
async def test_nothing_is_lost_or_doubled_however_often_answers_to_commit_are_cut(
    proxy: Proxy, through: Callable[[str], str], cuts: int, capsys: pytest.CaptureFixture[str]
) -> None:
    found, events = await endure(proxy, through(shared().network), cuts)
    assert found == []
    assert events > cuts
    with capsys.disabled():
        print(
            f"\n{proxy.cuts} answers to COMMIT cut off, {proxy.lost} lost on their way, {proxy.drops} connections dropped, {events} events"
        )


@pytest.mark.parametrize("believed,wrong", [(False, "is there 2 times"), (True, "is lost")])
async def test_without_a_look_at_what_became_of_a_commit_events_are_doubled_or_lost(
    proxy: Proxy,
    through: Callable[[str], str],
    monkeypatch: pytest.MonkeyPatch,
    believed: bool,
    wrong: str,
) -> None:
    monkeypatch.setattr(Transaction, "is_recorded", lambda *args, **options: believed)
    found, _ = await endure(proxy, through(shared().network), 5)
    assert any(wrong in one for one in found), found
