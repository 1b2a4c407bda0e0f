"""Sources: the events of a key between two positions, in order, in pages, and no more of the log than that."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evrt.log import Append, Draft, Log, Next, Recorded, open_log
from evrt.log.ids import new_event_id
from evrt.projection import Correlation, Everything, Source, Stream
from evrt.projector.sources import FIRST_PAGE_EVENTS, PAGE_EVENTS, read_source

NAMES = ("run-a", "run-b", "conversation-1")
SOURCES: Sequence[Source] = (Everything(), *map(Stream, NAMES), *map(Correlation, NAMES), Stream("none"))

happened = st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(NAMES)), min_size=1, max_size=25)


def draft(stream: str, correlation: str = "conversation-1") -> Draft:
    return Draft(stream, "note.written", new_event_id(), correlation, b"{}", b"")


def is_in(row: Recorded, source: Source) -> bool:
    match source:
        case Stream(name):
            return row.stream == name
        case Correlation(name):
            return row.correlation == name
        case Everything():
            return True


async def positions(log: Log, source: Source, after: int, upto: int, version: int | None = None) -> list[int]:
    """Those of a source's events in this range. Every page that comes has events."""
    found = []
    async for page in read_source(log, source, after=after, upto=upto, version=version):
        assert page
        found += [row.position for row in page]
    return found


async def compare(log: Log) -> None:
    rows = await log.read()
    for source in SOURCES:
        wanted = [row for row in rows if is_in(row, source)]
        for after in range(-1, len(rows) + 1):
            for upto in (after - 1, after, after + 1, after + 4, len(rows)):
                within = [row.position for row in wanted if after < row.position <= upto]
                assert await positions(log, source, after, upto) == within
        if isinstance(source, Stream):
            for mark in wanted:
                for upto in range(mark.position, len(rows) + 1):
                    within = [row.position for row in wanted if mark.position < row.position <= upto]
                    assert await positions(log, source, mark.position, upto, mark.version) == within


@settings(max_examples=settings().max_examples // 8)
@given(happened=happened, first=st.sampled_from([0, 1]))
def test_every_range_of_every_source_is_what_lies_in_it(happened: list[tuple[str, str]], first: int) -> None:
    async def run() -> None:
        async with aclosing(await open_log("memory://")) as log:
            for number, names in enumerate(happened):
                # A stream may begin at version 0, as other libraries' do.
                expect = {names[0]: Next(first)} if number == 0 else {}
                await log.append(Append([draft(*names)], expect))
            await compare(log)

    with (
        patch("evrt.projector.sources.PAGE_EVENTS", 4),
        patch("evrt.projector.sources.FIRST_PAGE_EVENTS", 2),
    ):
        asyncio.run(run())


@asynccontextmanager
async def long_log(path: Path, drafts: Sequence[Draft]) -> AsyncIterator[tuple[Log, list[int]]]:
    """A log in SQLite, and a list of the positions that are read from it."""
    async with aclosing(await open_log(f"sqlite:///{path / 'evrt.db'}")) as log:
        for start in range(0, len(drafts), 5_000):
            await log.append(Append(drafts[start : start + 5_000], {}))
        seen: list[int] = []
        for name in ("read", "read_stream"):
            read = getattr(log, name)

            async def noting(*asked: Any, read: Any = read, **named: Any) -> Any:
                rows = await read(*asked, **named)
                seen.extend(row.position for row in rows)
                return rows

            setattr(log, name, noting)
        yield log, seen


async def test_a_stream_that_is_alone_is_read_to_the_row(tmp_path: Path) -> None:
    async with long_log(tmp_path, [draft("run-a") for _ in range(4_000)]) as (log, seen):
        assert await positions(log, Stream("run-a"), 2_000, 2_500, 2_000) == list(range(2_001, 2_501))
        assert seen == list(range(2_001, 2_501))


async def test_of_what_lies_behind_the_end_less_is_read_than_a_page(tmp_path: Path) -> None:
    drafts = [draft(f"run-{'ab'[number % 2]}") for number in range(8_000)]
    async with long_log(tmp_path, drafts) as (log, seen):
        found = await positions(log, Stream("run-a"), 0, 5_000)
        assert found == list(range(1, 5_001, 2))
        assert len(seen) < len(found) + PAGE_EVENTS
        seen.clear()
        found = await positions(log, Stream("run-a"), 4_001, 4_100, 2_001)
        assert found == list(range(4_003, 4_101, 2))
        assert len(seen) < len(found) + FIRST_PAGE_EVENTS


async def test_without_a_mark_the_place_to_begin_at_is_found_in_few_looks(tmp_path: Path) -> None:
    drafts = [draft(f"run-{'ab'[number % 2]}") for number in range(8_000)]
    async with long_log(tmp_path, drafts) as (log, seen):
        assert await positions(log, Stream("run-b"), 6_001, 6_010) == [6_002, 6_004, 6_006, 6_008, 6_010]
        assert len(seen) <= 12 + 9


@pytest.mark.parametrize("source", [Correlation("conversation-1"), Everything()])
async def test_of_a_correlation_and_of_everything_nothing_else_is_read(
    tmp_path: Path, source: Source
) -> None:
    drafts = [draft(f"run-{number}") for number in range(4_000)]
    async with long_log(tmp_path, drafts) as (log, seen):
        assert await positions(log, source, 500, 3_000) == seen == list(range(501, 3_001))
