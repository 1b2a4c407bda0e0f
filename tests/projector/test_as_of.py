"""As of every moment, a key's documents are the fold of the log up to there: with views, without, and with stale ones."""

from __future__ import annotations

import asyncio
import sqlite3
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager, closing
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import evrt
from evrt.codec import encode
from evrt.errors import UsageError
from evrt.events.run import RunStarted, RunTimedOut
from evrt.history import memory_at
from evrt.log import Log, open_log
from evrt.log.envelopes import Row
from evrt.projection import AnyProjection, Correlation, Documents, Stream, digest, place_of
from evrt.projector.asof import document_as_of, documents_as_of, family_as_of
from evrt.projector.files import FileReader, open_file
from evrt.projector.reading import ViewReader
from evrt.projector.sources import read_source
from projector.as_of_cases import (
    BUILT_IN,
    CONVERSATION,
    FAMILIES,
    NOTES,
    PROJECTIONS,
    STREAMS_BY_TYPE,
    TALKS,
    TYPES,
    Happened,
    count_of,
    every_state,
    histories,
    keep,
    record,
)

EXAMPLES = settings().max_examples
"""As many as there are projections, each test has some of them."""


@pytest.fixture(autouse=True)
def small_marks() -> Iterator[None]:
    """Marks and pages so small that short histories have many."""
    with (
        patch("evrt.projector.folding.MARK_EVENTS", 3),
        patch("evrt.projector.folding.MARK_POSITIONS", 7),
        patch("evrt.projector.reading.MARK_POSITIONS", 7),
        patch("evrt.projector.sources.PAGE_EVENTS", 4),
        patch("evrt.projector.sources.FIRST_PAGE_EVENTS", 2),
    ):
        yield


class Kept(NamedTuple):
    """A log, and the file of its views with a reader on it."""

    log: Log
    rows: list[Row]
    path: Path
    views: ViewReader


@asynccontextmanager
async def kept(
    history: Sequence[Happened],
    projections: Sequence[AnyProjection],
    cuts: Sequence[int],
    url: str = "memory://",
) -> AsyncIterator[Kept]:
    """A log with this history, whose views were kept in batches that end at these positions."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "views"
        async with aclosing(await open_log(url)) as log:
            rows = await record(log, history)
            async with aclosing(await open_file(str(path), log.id)) as store:
                for projection in projections:
                    await keep(store, projection, rows, cuts)
            async with aclosing(FileReader(str(path))) as views:
                yield Kept(log, rows, path, views)


def keys_of(states: list[Documents[Any]]) -> list[str]:
    return [*sorted({key for documents in states for key, _ in documents}), "no such key"]


async def compare(
    log: Log, views: ViewReader | None, projection: AnyProjection, states: list[Documents[Any]], step: int = 1
) -> None:
    """Every document of every key as of every position, or each so many, against the fold."""
    for position in range(1, len(states), step):
        documents = states[position]
        for key in keys_of(states):
            wanted = {place: document for place, document in documents.items() if place[0] == key}
            family = await family_as_of(log, views, projection, key, position)
            assert [document.place for document in family] == sorted(wanted), (position, key)
            found = {document.place: document for document in family}
            assert digest(projection, found) == digest(projection, wanted), (position, key)
            parts = sorted({part for state in states for its, part in state if its == key} | {""})
            # Of many parts each position looks at some, and the next at others.
            for part in parts[position % 4 :: 4] if len(parts) > 4 else parts:
                one = await document_as_of(log, views, projection, key, part, position)
                assert one == found.get((key, part)), (position, key, part)


async def compare_walks(
    log: Log, views: ViewReader, projection: AnyProjection, states: list[Documents[Any]], positions: list[int]
) -> None:
    """Every document as of all these positions at once, against the fold."""
    for place in {place for documents in states for place in documents}:
        found = await documents_as_of(log, views, projection, *place, positions)
        assert found == [states[position].get(place) for position in positions], (place, positions)


cuts = st.lists(st.integers(0, 30), max_size=8).map(sorted)


# ------------------------------------------------------------------------------------- the same answer


@pytest.mark.parametrize("projection", PROJECTIONS, ids=lambda p: p.name)
@settings(max_examples=EXAMPLES // 16)
@given(history=histories, cuts=cuts, step=st.integers(1, 7))
def test_as_of_every_moment_it_is_the_fold(
    projection: AnyProjection, history: list[Happened], cuts: list[int], step: int
) -> None:
    """The view has come as far as the last cut: nowhere, somewhere, or to the end."""

    async def run() -> None:
        async with kept(history, [projection], cuts) as there:
            states = every_state(projection, there.rows)
            await compare(there.log, there.views, projection, states)
            await compare_walks(
                there.log, there.views, projection, states, list(range(step, len(states), step))
            )

    asyncio.run(run())


@pytest.mark.parametrize("projection", PROJECTIONS, ids=lambda p: p.name)
@settings(max_examples=EXAMPLES // 30)
@given(history=histories)
def test_without_a_view_it_is_the_fold(projection: AnyProjection, history: list[Happened]) -> None:
    async def run() -> None:
        async with aclosing(await open_log("memory://")) as log:
            rows = await record(log, history)
            await compare(log, None, projection, every_state(projection, rows))

    asyncio.run(run())


@pytest.mark.parametrize("projection", PROJECTIONS, ids=lambda p: p.name)
@settings(max_examples=EXAMPLES // 40)
@given(history=histories, tables=st.sampled_from([["snapshots"], ["snapshots", "marks"]]))
def test_without_what_was_kept_it_is_the_same(
    projection: AnyProjection, history: list[Happened], tables: list[str]
) -> None:
    async def run() -> None:
        async with kept(history, [projection], [len(history)]) as there:
            with closing(sqlite3.connect(there.path, isolation_level=None)) as connection:
                for table in tables:
                    connection.execute(f"DELETE FROM {table}_1")
            await compare(there.log, there.views, projection, every_state(projection, there.rows))

    asyncio.run(run())


@pytest.mark.parametrize("projection", PROJECTIONS, ids=lambda p: p.name)
@settings(max_examples=EXAMPLES // 16)
@given(history=histories)
def test_a_key_and_its_source_are_inverse(projection: AnyProjection, history: list[Happened]) -> None:
    """Whatever belongs to a key is in the key's source."""

    async def run() -> None:
        async with aclosing(await open_log("memory://")) as log:
            rows = await record(log, history)
            places = {row.position: place_of(projection, row.envelope) for row in rows}
            for key in {place[0] for place in places.values() if place is not None}:
                pages = read_source(log, projection.source(key), after=0, upto=len(rows))
                found = {recorded.position async for page in pages for recorded in page}
                assert {at for at, place in places.items() if place is not None and place[0] == key} <= found

    asyncio.run(run())


# --------------------------------------------------------------------------------- runs that really ran


@evrt.tool(effect="read")
async def look(n: int) -> int:
    """Give back what was given."""
    return n


async def test_what_runs_of_a_conversation_did_is_read_as_it_was(tmp_path: Path) -> None:
    """Memory of a user and of a conversation, across four runs, is at each event what the history says."""
    app = evrt.App(f"sqlite:///{tmp_path / 'evrt.db'}")

    @app.workflow
    async def talk(ctx: evrt.Context[None], n: int) -> None:
        await ctx.memory.set("last", n, scope="conversation")
        await ctx.memory.set(f"talk {n}", await ctx.call(look, n=n), scope="user")
        if n % 2:
            await ctx.memory.forget(f"talk {n - 1}", scope="user")

    async with app:
        runs = [
            (await app.run("talk", n, conversation=conversation, user="ann")).run_id
            for n, conversation in enumerate(["one", "two", "one", "two"])
        ]
        log = await app.log()
        rows = [Row(recorded) for recorded in await log.read()]
        async with aclosing(await open_file(str(tmp_path / "views"), log.id)) as store:
            for projection in (NOTES, *BUILT_IN):
                await keep(store, projection, rows, [len(rows) // 3, len(rows)])
        async with aclosing(FileReader(str(tmp_path / "views"))) as views:
            for projection in (NOTES, *BUILT_IN):
                await compare(log, views, projection, every_state(projection, rows), step=11)
            notes = await family_as_of(log, views, NOTES, rows[0].correlation, len(rows))
            assert [document.part for document in notes] == ["last", "talk 0", "talk 2"]
            built_in = {projection.name: projection for projection in BUILT_IN}
            for run in runs:
                whole = await app.get(run)
                for version, event in enumerate(whole.events, 1):
                    then = whole.at(version)
                    state = await document_as_of(log, views, built_in["runs"], run, "", event.position)
                    assert state is not None
                    assert state.value == then.state
                    remembered = await memory_at(log, then)
                    for scope, ref in (("user", then.state.user), ("conversation", then.state.conversation)):
                        family = await family_as_of(
                            log, views, built_in["memory"], f"memory-{ref}", event.position
                        )
                        values = {document.part: document.value.value for document in family}
                        assert values == {key: item.value for key, item in remembered[scope].items()}


# ------------------------------------------------------------------------- views that cannot be believed


def counted(*streams: str) -> list[Happened]:
    """So many events of runs in these streams."""
    return [Happened(stream, CONVERSATION, event := RunStarted(), encode(event)) for stream in streams]


async def test_a_view_of_another_history_is_not_believed() -> None:
    """As where the log was put back from a copy, and went on otherwise, before the projector has noticed."""
    async with (
        kept(counted(*["run-a"] * 9), [STREAMS_BY_TYPE], [9]) as there,
        aclosing(await open_log("memory://")) as other,
    ):
        rows = await record(other, counted("run-a", "run-b", *["run-a"] * 6))
        await compare(other, there.views, STREAMS_BY_TYPE, every_state(STREAMS_BY_TYPE, rows))
        longer = await record(other, counted("run-b", "run-a", "run-b"))
        await compare(other, there.views, STREAMS_BY_TYPE, every_state(STREAMS_BY_TYPE, longer))


async def test_a_view_of_another_version_or_none_is_passed_over() -> None:
    async with kept(counted(*["run-a"] * 9), [STREAMS_BY_TYPE], [9]) as there:
        for projection in (replace(STREAMS_BY_TYPE, version=2, evolve=lambda before, _: before), TALKS):
            await compare(there.log, there.views, projection, every_state(projection, there.rows))


@pytest.mark.parametrize("position", [4, 6])
async def test_a_view_that_is_replaced_while_it_is_read_is_read_anew(position: int) -> None:
    async with kept(counted(*["run-a"] * 9), [STREAMS_BY_TYPE], [9]) as there:
        wanted = await family_as_of(there.log, None, STREAMS_BY_TYPE, "run-a", position)
        mark, looks = there.views.mark, 0

        async def replaced(*asked: Any) -> Any:
            """At the first look the generation goes, and its tables with it."""
            nonlocal looks
            looks += 1
            if looks == 1:
                async with aclosing(await open_file(str(there.path), there.log.id)) as store:
                    [generation] = await store.generations()
                    await store.remove(generation)
                    await keep(store, STREAMS_BY_TYPE, there.rows, [6, 9])
            return await mark(*asked)

        with patch.object(there.views, "mark", replaced):
            assert await family_as_of(there.log, there.views, STREAMS_BY_TYPE, "run-a", position) == wanted
        assert looks == 2


async def test_a_projection_that_raises_is_told_of_with_the_event() -> None:
    def failing(before: Any, envelope: Any) -> Any:
        return before if envelope.position < 3 else before.missing

    projection = replace(STREAMS_BY_TYPE, evolve=failing)
    async with kept(counted(*["run-a"] * 5), [], []) as there:
        assert len(await family_as_of(there.log, there.views, projection, "run-a", 2)) == 1
        with pytest.raises(
            UsageError,
            match=r"The projection streams failed at event 3, run.started of run-a.*AttributeError",
        ):
            await family_as_of(there.log, there.views, projection, "run-a", 4)


# ---------------------------------------------------------------------------------------- what it costs


@pytest.mark.parametrize(
    "projection, key", [(STREAMS_BY_TYPE, "run-a"), (TALKS, CONVERSATION), (FAMILIES, "run")]
)
async def test_a_long_key_is_read_from_its_last_mark_on(
    projection: AnyProjection, key: str, tmp_path: Path
) -> None:
    """No more rows of the log than lie between two marks, of 600; of source Everything none but the cursor's."""
    history = counted(*["run-a", "run-b"] * 300)
    with patch("evrt.projector.folding.MARK_EVENTS", 20):
        async with kept(history, [projection], [100, 600], f"sqlite:///{tmp_path / 'evrt.db'}") as there:
            states = every_state(projection, there.rows)
            read = 0
            fetch = there.log._fetch  # type: ignore[attr-defined]

            async def counting(*asked: Any, **named: Any) -> Any:
                nonlocal read
                rows = await fetch(*asked, **named)
                read += len(rows)
                return rows

            there.log._fetch = counting  # type: ignore[attr-defined]
            for position in (97, 300, 301, 455, 580):
                read = 0
                family = await family_as_of(there.log, there.views, projection, key, position)
                assert {document.place: document for document in family} == {
                    place: document for place, document in states[position].items() if place[0] == key
                }
                assert read <= (1 if projection is FAMILIES else 2 * 20 + 4)


@pytest.mark.parametrize("source", [Stream, Correlation])
async def test_a_key_with_few_events_of_a_long_source_is_read_without_the_rest(
    source: Any, tmp_path: Path
) -> None:
    """Of 600 rows of its source the view takes 4: no more than the seven after a moment that it knows are read."""
    key = "run-a" if source is Stream else CONVERSATION
    rare = count_of(
        "rare",
        {"run.timed_out"},
        lambda c: getattr(c, "stream" if source is Stream else "correlation"),
        source,
    )
    history = counted(*["run-a"] * 600)
    ended = RunTimedOut(timeout_seconds=1)
    for position in (50, 300, 303, 590):
        history[position - 1] = Happened("run-a", CONVERSATION, ended, encode(ended))
    async with kept(history, [rare], [100, 301, 600], f"sqlite:///{tmp_path / 'evrt.db'}") as there:
        with closing(sqlite3.connect(there.path)) as connection:
            marks = connection.execute("SELECT position FROM marks_1").fetchall()
        # Neither the first event of a key, nor one that comes soon after a mark.
        assert marks == [(300,), (590,)]
        states = every_state(rare, there.rows)
        read = 0
        fetch = there.log._fetch  # type: ignore[attr-defined]

        async def counting(*asked: Any, **named: Any) -> Any:
            nonlocal read
            rows = await fetch(*asked, **named)
            read += len(rows)
            return rows

        there.log._fetch = counting  # type: ignore[attr-defined]
        for position in (10, 49, 50, 51, 200, 299, 300, 302, 303, 450, 589, 595):
            read = 0
            found = await document_as_of(there.log, there.views, rare, key, "", position)
            assert found == states[position].get((key, ""))
            # Looking for where to begin in the stream is counted too.
            assert read <= 7 + 1 + 12


@pytest.mark.parametrize("projection", [NOTES, TALKS, FAMILIES, TYPES, STREAMS_BY_TYPE], ids=lambda p: p.name)
async def test_no_statement_scans_a_table(projection: AnyProjection, tmp_path: Path) -> None:
    history = counted(*["run-a", "run-b", "run-a"] * 7)
    path = tmp_path / "evrt.db"
    async with kept(history, [projection], [7, 15], f"sqlite:///{path}") as there:
        statements: list[tuple[Path, str, Any]] = []
        for file, owner in ((there.path, there.views), (path, there.log)):
            fetch = owner._fetch  # type: ignore[union-attr]

            async def noting(
                sql: str, *asked: Any, fetch: Any = fetch, file: Path = file, **named: Any
            ) -> Any:
                statements.append((file, sql, named or asked))
                return await fetch(sql, *asked, **named)

            owner._fetch = noting  # type: ignore[union-attr,method-assign]
        await compare(there.log, there.views, projection, every_state(projection, there.rows))
        await compare(there.log, None, projection, every_state(projection, there.rows))
        seen = set()
        for file, sql, asked in statements:
            if sql in seen:
                continue
            seen.add(sql)
            with closing(sqlite3.connect(file)) as connection:
                tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema")}
                plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {sql}", asked)]
                scans = [
                    step
                    for step in plan
                    if step.startswith("SCAN ") and step.split()[1] in {*tables, *"esdvs"}
                ]
                assert not scans, (sql, plan)
        assert len(seen) >= 4
