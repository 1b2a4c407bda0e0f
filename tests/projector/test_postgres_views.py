"""Views on PostgreSQL are what they are in a file: the fold of the log, whoever keeps them and whatever is done to them."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import psycopg
import pytest
from pydantic import BaseModel, ConfigDict

from evrt.errors import InvalidInput, Unavailable, UnusableLog
from evrt.events import Envelope
from evrt.log import Log, open_log
from evrt.log.postgres.address import parse_postgres_url
from evrt.projection import AnyProjection, Projection, Stream, digest
from evrt.projector.postgres import SchemaReader, in_postgres, views_schema
from evrt.projector.verify import verify_view
from evrt.projector.views import Views, open_views
from projector.tallies import (
    PROJECTIONS,
    Item,
    digest_stored,
    folded,
    put,
    small,
    until,
    viewed,
)
from projector.things import THINGS, at_random, draft, say, things


@asynccontextmanager
async def opened(url: str, *own: AnyProjection) -> AsyncIterator[tuple[Log, Views]]:
    async with aclosing(await open_log(url)) as log, viewed(log, *own) as views:
        yield log, views


async def check(log: Log, url: str, *projections: AnyProjection, upto: int | None = None) -> None:
    """Every view is the fold of the log up to its cursor."""
    async with aclosing(SchemaReader(parse_postgres_url(url))) as reader:
        for projection in projections:
            generation = await reader.live(projection)
            assert generation is not None
            assert upto is None or generation.cursor == upto, (projection.name, generation)
            found = await digest_stored(reader, generation)
            assert found == digest(projection, await folded(log, projection, generation.cursor))


def execute(url: str, statement: str) -> None:
    """What somebody does to the database by other means. ``@`` stands for the schema of the views."""
    address = views_schema(parse_postgres_url(url))
    parameters: dict[str, Any] = dict(address.parameters)
    with psycopg.connect(**parameters, autocommit=True) as connection:
        connection.execute(statement.replace("@", address.quoted_schema).encode())


async def test_every_view_is_the_fold_of_the_log_in_batches_and_marks_of_any_size(
    postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    small(monkeypatch)
    chance = random.Random(7)
    async with opened(postgres, *PROJECTIONS) as (log, views):
        for _ in range(20):
            await put(log, Item(f"box-{chance.randrange(3)}", text="x" * chance.randrange(40)))
        await views.wait_for(await log.position())
        await check(log, postgres, *PROJECTIONS, upto=await log.position())
        for projection in PROJECTIONS:
            assert (await verify_view(views, projection.name)).agrees


async def test_a_document_is_read_as_of_every_position(
    postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    small(monkeypatch)
    chance = random.Random(8)
    async with opened(postgres, THINGS) as (log, views):
        for _ in range(30):
            await say(log, at_random(chance, 2))
        await views.wait_for(30)
        for position in range(1, 31):
            expected = {
                key: document.value
                for key, document in (await folded(log, THINGS, position)).items()
                if key[0] == "thing-1"
            }
            found = await views.family("things", "thing-1", as_of=position)
            assert {(one.key, one.part): one.value for one in found} == expected


async def test_documents_are_listed_by_their_fields_page_by_page(postgres: str) -> None:
    async with opened(postgres, THINGS) as (log, views):
        for number in range(9):
            await say(log, draft(f"thing-{number}", colour="red" if number % 2 else None))
        red = await views.list("things", where={"colour": "red"}, limit=3)
        assert [one.key for one in red.documents] == ["thing-7", "thing-5", "thing-3"]
        more = await views.list("things", where={"colour": "red"}, limit=3, more=red.more)
        assert [one.key for one in more.documents] == ["thing-1"]
        none = await views.list("things", where={"colour": None}, oldest_first=True)
        assert [one.key for one in none.documents] == ["thing-0", "thing-2", "thing-4", "thing-6", "thing-8"]
        assert (await views.list("things", where={"colour": 7})).documents == []
        with pytest.raises(InvalidInput, match="no index on 'name'"):
            await views.list("things", where={"name": "x"})
        with pytest.raises(InvalidInput):
            await views.view("things", "\ud800")


class Count(BaseModel):
    """A document whose fields are a number, a truth, a float, and what may be either."""

    model_config = ConfigDict(frozen=True)

    number: int = 0
    even: bool = True
    half: float | None = None
    either: int | str = 0
    text: str = ""


def _count(count: Count, envelope: Envelope) -> Count:
    number = count.number + 1
    return Count(
        number=number,
        even=number % 2 == 0,
        half=number / 2,
        either=number if number % 2 else f"n{number}",
        text="zero \x00 and 5€",
    )


COUNTS: Projection[Count] = Projection(
    name="counts",
    version=1,
    document=Count,
    handles=frozenset({"thing.*"}),
    key=lambda columns: columns.stream,
    source=Stream,
    initial=lambda key, part: Count(),
    evolve=_count,
    indexes=("number", "even", "half", "either", "text"),
)


async def test_fields_of_every_kind_are_found_and_compared_as_what_they_are(postgres: str) -> None:
    async with opened(postgres, COUNTS) as (log, views):
        for number in range(1, 13):
            await say(log, *(draft(f"thing-{number}") for _ in range(number)))

        async def keys(**asked: Any) -> list[str]:
            listed = await views.list("counts", oldest_first=True, **asked)
            return [one.key for one in listed.documents]

        assert await keys(where={"number": 11}) == ["thing-11"]
        assert await keys(since={"number": 10}) == ["thing-10", "thing-11", "thing-12"]
        assert await keys(until={"number": 3}) == ["thing-1", "thing-2"]
        assert await keys(where={"even": True}, since={"number": 9}) == ["thing-10", "thing-12"]
        assert await keys(where={"half": 2.5}) == ["thing-5"]
        assert await keys(where={"either": 7}) == ["thing-7"]
        assert await keys(where={"either": "n8"}) == ["thing-8"]
        assert len(await keys(where={"text": "zero \x00 and 5€"})) == 12
        with pytest.raises(InvalidInput, match="another kind"):
            await keys(where={"number": "many"})


async def test_a_view_of_a_newer_version_is_built_beside_the_old_one_and_takes_its_place(
    postgres: str,
) -> None:
    chance = random.Random(9)
    async with aclosing(await open_log(postgres)) as log:
        async with viewed(log, THINGS) as views:
            await say(log, *(at_random(chance, 4, lost=0) for _ in range(40)))
            await views.wait_for(40)
        second = things(2)
        async with viewed(log, second) as views:
            found = await views.list("things")
            assert all(one.value.revised for one in found.documents)
            await check(log, postgres, second, upto=40)
            assert [status.stage for status in await views.status()] == ["live"]
        async with viewed(log, THINGS) as views:
            with pytest.raises(Exception, match="was built with version 2"):
                await views.view("things", "thing-1")


async def test_a_rebuilt_view_is_the_one_that_was_kept(postgres: str) -> None:
    chance = random.Random(10)
    async with opened(postgres, THINGS) as (log, views):
        await say(log, *(at_random(chance, 4) for _ in range(60)))
        await views.wait_for(60)
        await views.rebuild("things")
        await check(log, postgres, THINGS, upto=60)
        assert (await verify_view(views, "things")).agrees


async def test_a_document_that_was_changed_by_other_means_is_noticed(postgres: str) -> None:
    async with opened(postgres, THINGS) as (log, views):
        await say(log, draft("thing-1", colour="red"))
        await views.wait_for(1)
        [status] = await views.status()
        assert status.documents == 1
        [generation] = await views.store.generations()
        execute(postgres, f"UPDATE @.view_{generation.id} SET document = replace(document, 'red', 'blue')")
        assert not (await verify_view(views, "things")).agrees


async def test_of_two_projectors_one_keeps_a_view_and_the_other_reads_it(
    postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    small(monkeypatch)
    chance = random.Random(11)
    async with (
        opened(postgres, THINGS) as (log, one),
        opened(postgres, THINGS) as (_, other),
    ):
        for _ in range(15):
            await say(log, *(at_random(chance, 4) for _ in range(4)))
            position = await log.position()
            await asyncio.gather(one.wait_for(position), other.wait_for(position))
        await check(log, postgres, THINGS, upto=60)


async def test_a_list_is_watched_while_another_process_s_views_are_kept(postgres: str) -> None:
    async with opened(postgres, THINGS) as (log, keeper), opened(postgres, THINGS) as (_, reader):
        keeper.project()
        async with aclosing(reader.watch("things", "thing-1")) as watched:
            await say(log, draft("thing-1", colour="red"))
            frame = await anext(watched)
            assert frame is not None
            await say(log, draft("thing-1", colour="green"))
            assert await anext(watched) is not None


async def test_a_schema_that_is_dropped_is_made_again(postgres: str) -> None:
    async with opened(postgres, THINGS) as (log, views):
        await say(log, draft("thing-1", colour="red"))
        await views.wait_for(1)
        execute(postgres, "DROP SCHEMA @ CASCADE")
        await say(log, draft("thing-1", colour="green"))

        async def there() -> bool:
            try:
                return bool((await views.view("things", "thing-1")).value.colour == "green")
            except (Unavailable, UnusableLog):
                return False

        await until(there)
        await check(log, postgres, THINGS, upto=2)


async def test_sessions_that_the_server_ends_cost_nothing(postgres: str) -> None:
    async with opened(postgres, THINGS) as (log, views):
        for number in range(6):
            await say(log, draft("thing-1", notes={"n": number}))
            execute(
                postgres,
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE application_name LIKE 'evrt %' AND pid <> pg_backend_pid() AND query LIKE '%' || "
                f"'{parse_postgres_url(postgres).schema}' || '%'",
            )
        await until(lambda: _is_at(views, 6))
        await check(log, postgres, THINGS, upto=6)


async def _is_at(views: Views, position: int) -> bool:
    try:
        return (await views.view("things", "thing-1", timeout_seconds=5)).position == position
    except (Unavailable, UnusableLog):
        return False


async def test_another_program_s_schema_is_left_as_it_is(postgres: str) -> None:
    execute(postgres, "CREATE SCHEMA @; CREATE TABLE @.theirs (n integer)")
    async with aclosing(await open_log(postgres)) as log:
        with pytest.raises(UnusableLog, match="is in the way"):
            await open_views(log, [THINGS])
    execute(postgres, "SELECT * FROM @.theirs")


async def test_views_of_another_log_are_thrown_away(postgres: str) -> None:
    async with opened(postgres, THINGS) as (log, views):
        await say(log, draft("thing-1"))
        await views.wait_for(1)
    execute(postgres, "UPDATE @.log SET id = 'another'")
    async with opened(postgres, THINGS) as (log, views):
        assert (await views.view("things", "thing-1")).position == 1
        await check(log, postgres, THINGS, upto=1)


def test_a_long_name_of_a_schema_gives_another_for_the_views() -> None:
    address = parse_postgres_url(f"postgresql://h/d?schema={'s' * 60}")
    assert len(views_schema(address).schema) <= 63
    other = parse_postgres_url(f"postgresql://h/d?schema={'s' * 59}t")
    assert views_schema(address).schema != views_schema(other).schema


def test_statements_are_put_into_postgresql_s_words() -> None:
    assert in_postgres("SELECT 1 FROM views AS v WHERE v.id = ?", '"e"') == (
        'SELECT 1 FROM "e".views AS v WHERE v.id = %s'
    )
    assert in_postgres(
        "WITH wanted (key) AS (VALUES (?)) SELECT 1 FROM wanted CROSS JOIN view_12 AS d ON TRUE", "e"
    ) == ("WITH wanted (key) AS (VALUES (%s)) SELECT 1 FROM wanted JOIN e.view_12 AS d ON TRUE")
