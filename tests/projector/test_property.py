"""Whatever happened, however it was cut into batches and whoever began anew in between: a view is the fold of the log."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Sequence
from contextlib import aclosing, closing
from importlib.metadata import entry_points
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evrt.codec import encode
from evrt.events import Envelope
from evrt.log import Append, Draft, Log, open_log
from evrt.log.envelopes import Row
from evrt.log.ids import new_event_id
from evrt.projection import (
    AnyProjection,
    Correlation,
    Documents,
    Everything,
    Source,
    Stream,
    digest,
    fold,
)
from evrt.projector import folding
from evrt.projector.files import FileReader, open_file
from evrt.projector.folding import Folding
from evrt.projector.reading import ViewReader
from evrt.projector.store import ViewStore
from projector.tallies import PROJECTIONS, THINGS, Item, digest_stored, items, put, rows_of
from pure.histories import histories

BUILT_IN: Sequence[AnyProjection] = tuple(
    point.load() for point in sorted(entry_points(group="evrt.projections"))
)
MARK_EVENTS = 4

cuts = st.lists(st.integers(1, 40), max_size=8)


class Keeping:
    """One view in a file of its own, kept by hand: batches end where the test wants them to."""

    def __init__(self, store: ViewStore, projection: AnyProjection) -> None:
        self.store = store
        self.projection = projection
        self.folding: Folding[Any] | None = None

    async def take(self, rows: Sequence[Row]) -> None:
        """Fold these rows; what is before the cursor has been folded already."""
        if self.folding is None:
            generation = await self.store.ensure(self.projection)
            assert generation is not None
            self.folding = Folding(self.store, generation, self.projection)
        change = await self.folding.fold(rows)
        assert change.error is None
        await self.store.commit([change], "the test")
        self.folding.committed(change)

    def begin_anew(self) -> None:
        """Forget everything that is not in the file, as a new process does."""
        self.folding = None


async def keep_and_check(log: Log, projections: Sequence[AnyProjection], ends: Sequence[int]) -> None:
    """Views kept in batches that end there, by a new process now and then, are the fold, also as of their marks."""
    rows = await rows_of(log)
    with TemporaryDirectory() as folder:
        path = f"{folder}/views"
        async with aclosing(await open_file(path, log.id)) as store:
            for projection in projections:
                keeping, begin = Keeping(store, projection), 0
                for number, end in enumerate(sorted({*(min(end, len(rows)) for end in ends), len(rows)})):
                    # Every other batch brings rows again that have been folded.
                    await keeping.take(rows[max(begin - 3 * (number % 2), 0) : end])
                    begin = end
                    if number % 3 == 1:
                        keeping.begin_anew()
        async with aclosing(FileReader(path)) as reader:
            for projection in projections:
                await check_view(reader, projection, [row.envelope for row in rows])


async def check_view(reader: ViewReader, projection: AnyProjection, envelopes: Sequence[Envelope]) -> None:
    generation = await reader.live(projection)
    assert generation is not None
    assert generation.cursor == len(envelopes)
    expected = fold(projection, envelopes)
    assert await digest_stored(reader, generation) == digest(projection, expected)
    keys = {projection.key(e) for e in envelopes if projection.wants(e.type)} - {None}
    for key in keys:
        assert key is not None
        for position in range(len(envelopes) + 1):
            then = of_key(fold(projection, envelopes[:position]), key)
            found = await as_of(reader, projection, generation, key, position, envelopes)
            assert found == then, (projection.name, key, position)


async def as_of(
    reader: ViewReader,
    projection: AnyProjection,
    generation: Any,
    key: str,
    position: int,
    envelopes: Sequence[Envelope],
) -> Documents[Any]:
    """The documents of a key by its last mark and the events of its source after it."""
    source = projection.source(key)
    if isinstance(source, Everything):
        return await reader.kept(projection, generation, key, position)
    mark = await reader.mark(generation, key, position)
    if mark is None:
        start, documents = 0, {}
    else:
        start, documents = mark.position, await reader.kept(projection, generation, key, mark.position)
    tail = [e for e in envelopes[start:position] if selects(source, e)]
    return of_key(fold(projection, tail, documents), key)


def of_key(documents: Documents[Any], key: str) -> Documents[Any]:
    return {place: document for place, document in documents.items() if place[0] == key}


def selects(source: Source, envelope: Envelope) -> bool:
    match source:
        case Stream(name):
            return envelope.stream == name
        case Correlation(name):
            return envelope.correlation == name
        case _:
            return True


@settings(max_examples=30)
@given(history=st.lists(items, min_size=1, max_size=40), ends=cuts)
def test_a_view_is_the_fold_of_the_log_however_it_was_kept_and_as_of_every_moment(
    history: Sequence[Item], ends: Sequence[int]
) -> None:
    async def check() -> None:
        async with aclosing(await open_log("memory://")) as log:
            await put(log, *history)
            await keep_and_check(log, PROJECTIONS, ends)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(folding, "MARK_EVENTS", MARK_EVENTS)
        asyncio.run(check())


@settings(max_examples=8)
@given(history=histories(), ends=cuts)
def test_so_is_every_view_that_is_built_in(history: Sequence[Envelope], ends: Sequence[int]) -> None:
    async def check() -> None:
        async with aclosing(await open_log("memory://")) as log:
            drafts = [
                Draft(e.stream, e.event.type, new_event_id(), e.correlation, b"{}", encode(e.event))
                for e in history
            ]
            await log.append(Append(drafts, {}))
            await keep_and_check(log, BUILT_IN, ends)

    if history:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(folding, "MARK_EVENTS", MARK_EVENTS)
            asyncio.run(check())


async def test_several_marks_of_one_key_in_one_batch_keep_what_was_before_the_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folding, "MARK_EVENTS", 3)
    async with aclosing(await open_log("memory://")) as log:
        await put(log, Item(part="b"), Item(part="c"), *[Item(part="a")] * 7, Item(part="c", gone=True))
        await put(log, Item(part="c"), *[Item(part="a")] * 6)
        rows = await rows_of(log)
        async with aclosing(await open_file(str(tmp_path / "views"), log.id)) as store:
            keeping = Keeping(store, THINGS)
            await keeping.take(rows[:2])
            await keeping.take(rows[2:])
        async with aclosing(FileReader(str(tmp_path / "views"))) as reader:
            await check_view(reader, THINGS, [row.envelope for row in rows])
            generation = await reader.live(THINGS)
            assert generation is not None
            mark = await reader.mark(generation, "box-1", 9)
            assert mark is not None
            assert mark.position == 9


async def kept(tmp_path: Path, projection: AnyProjection, moved: Sequence[Item], *batches: slice) -> None:
    """A view kept in these batches, each by a new process, is the fold, also as of every moment."""
    async with aclosing(await open_log("memory://")) as log:
        await put(log, *moved)
        rows = await rows_of(log)
        async with aclosing(await open_file(str(tmp_path / "views"), log.id)) as store:
            keeping = Keeping(store, projection)
            for batch in batches:
                await keeping.take(rows[batch])
                keeping.begin_anew()
        async with aclosing(FileReader(str(tmp_path / "views"))) as reader:
            await check_view(reader, projection, [row.envelope for row in rows])


async def test_rows_that_come_again_change_nothing(tmp_path: Path) -> None:
    await kept(tmp_path, THINGS, [Item()] * 9, slice(6), slice(2, 6), slice(3, 9))


async def test_a_document_that_begins_again_has_a_new_beginning(tmp_path: Path) -> None:
    moved = [Item(), Item(gone=True), Item(), Item(), Item(gone=True), Item()]
    await kept(tmp_path, THINGS, moved, slice(1), slice(1, 4), slice(4, 6))


async def test_a_deletion_between_two_marks_is_known_at_the_second(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folding, "MARK_EVENTS", MARK_EVENTS)
    moved = [*[Item(part="a"), Item(part="b")] * 2, Item(part="a", gone=True), *[Item(part="b")] * 4]
    await kept(tmp_path, THINGS, moved, slice(4), slice(4, 5), slice(5, 9))


async def test_events_of_a_key_are_counted_from_process_to_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folding, "MARK_EVENTS", MARK_EVENTS)
    await kept(tmp_path, THINGS, [Item()] * 10, *(slice(n, n + 1) for n in range(10)))
    with closing(sqlite3.connect(tmp_path / "views")) as connection:
        assert connection.execute("SELECT position FROM marks_1").fetchall() == [(4,), (8,)]


async def test_rows_that_would_leave_a_gap_are_refused(tmp_path: Path) -> None:
    async with aclosing(await open_log("memory://")) as log:
        await put(log, Item(), Item(), Item())
        rows = await rows_of(log)
        async with aclosing(await open_file(str(tmp_path / "views"), log.id)) as store:
            with pytest.raises(ValueError, match="Events between 0 and 2 would be passed over"):
                await Keeping(store, THINGS).take(rows[1:])
