"""A correlation is read from where the range begins to where it ends: what lies outside costs nothing."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import aclosing, closing
from itertools import product
from pathlib import Path
from typing import cast

import pytest

from evrt.log import Append, Draft, Next, open_log
from evrt.log.sqlite.store import READ_CORRELATION, SqliteLog
from log.stores import Open, append, draft, url

NAME = "conversation-1"


def own(number: int) -> Draft:
    return draft(NAME, correlation=NAME, payload=b"")


def others(number: int) -> Draft:
    return draft(f"run-{number}", correlation=NAME, payload=b"")


async def steps_of_sqlite(path: Path, kind: Callable[[int], Draft], around: int, *, upto: bool) -> int:
    """How many steps of SQLite's machine it takes to read five events with so many before and behind them."""
    async with aclosing(await open_log(url(path))) as log:
        await log.append(append(*map(kind, range(2 * around + 5))))
        await log.position()
        [readers] = cast("SqliteLog", log)._readers.values()
        connection = readers.rows._connection
        assert connection is not None
        steps = 0

        def step() -> None:
            nonlocal steps
            steps += 1

        await connection.set_progress_handler(step, 1)
        rows = await log.read(
            correlation=NAME, after=around, upto=around + 5 if upto else None, limit=1_000 if upto else 5
        )
        assert [row.position for row in rows] == list(range(around + 1, around + 6))
        return steps


@pytest.mark.parametrize("upto", [True, False], ids=["upto", "limit"])
@pytest.mark.parametrize("kind", [own, others])
async def test_what_lies_outside_costs_nothing(
    tmp_path: Path, kind: Callable[[int], Draft], upto: bool
) -> None:
    few = await steps_of_sqlite(tmp_path / "few.db", kind, 30, upto=upto)
    many = await steps_of_sqlite(tmp_path / "many.db", kind, 3_000, upto=upto)
    # A hundred times as many is seven more halvings on the way to each end. Each takes about fifty steps.
    assert many <= few + 2 * 7 * 60


async def test_every_step_of_the_statement_is_a_search(path: Path) -> None:
    async with aclosing(await open_log(url(path))) as log:
        await log.append(append(*map(own, range(10))))
    with closing(sqlite3.connect(path)) as connection:
        wanted = {"correlation": NAME, "after": 3, "upto": 6, "limit": 10}
        plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {READ_CORRELATION}", wanted)]
    assert not [step for step in plan if step.startswith(("SCAN events", "SCAN streams", "SCAN e", "SCAN s"))]
    searches = " ".join(step for step in plan if step.startswith("SEARCH events"))
    assert "events_by_stream (stream=? AND version>? AND version<?)" in searches
    assert "events_by_stream (stream=? AND version=?)" in searches
    assert "events_by_correlation (correlation=? AND rowid>? AND rowid<?)" in searches


async def test_every_range_of_a_correlation_is_what_lies_in_it(open_lasting: Open) -> None:
    """In its own stream, which begins at 0 and has events of another correlation too, and in other streams."""
    async with open_lasting() as log:
        named = [
            (NAME, NAME),
            ("run-1", NAME),
            ("run-2", "run-2"),
            (NAME, "run-2"),
            (NAME, NAME),
            ("run-2", NAME),
            (NAME, NAME),
            ("run-1", "run-1"),
        ]
        for number, (stream, correlation) in enumerate(named):
            expect = {NAME: Next(0)} if number == 0 else {}
            await log.append(Append([draft(stream, correlation=correlation)], expect))
        ends = range(-1, len(named) + 2)
        asked = list(product(ends, [None, *ends], (0, 1, 2, 99)))
        answers = await asyncio.gather(
            *(log.read(correlation=NAME, after=after, upto=upto, limit=limit) for after, upto, limit in asked)
        )
        assert len(answers) == len(asked)
        for (after, upto, limit), rows in zip(asked, answers, strict=True):
            wanted = [
                position
                for position, (_, correlation) in enumerate(named, 1)
                if correlation == NAME and after < position and (upto is None or position <= upto)
            ]
            assert [row.position for row in rows] == wanted[:limit]
