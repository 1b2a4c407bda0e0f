"""From an older schema of PostgreSQL to today's: forward only, all or nothing, by the owner alone."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import aclosing

import psycopg
import pytest

from evrt.errors import Denied, NotFound, Unavailable, UnusableLog
from evrt.log import open_log
from evrt.log.check import check
from evrt.log.postgres import schema
from evrt.log.postgres.address import Address, parse_postgres_url
from evrt.log.postgres.migrating import Stepped, migrate_postgres
from log.postgres_users import Users
from log.stores import append, draft

NEXT = schema.SCHEMA_VERSION + 2

STEPS = {
    schema.SCHEMA_VERSION: "CREATE TABLE @.later (number bigint); INSERT INTO @.later VALUES (1);",
    schema.SCHEMA_VERSION
    + 1: "UPDATE @.later SET number = number + 1; ALTER TABLE @.queue ADD later bigint;",
}
"""Of an evrt that is yet to come: to it the schema of today is an old one."""


@pytest.fixture
def old(postgres: str) -> Address:
    """A log with an event, of the version before the next."""

    async def make() -> None:
        async with aclosing(await open_log(postgres)) as log:
            await log.append(append(draft(payload=b"first")))

    asyncio.run(make())
    return parse_postgres_url(postgres)


@pytest.fixture
def connection(old: Address) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    parameters = dict(old.parameters)
    with psycopg.connect(psycopg.conninfo.make_conninfo("", **parameters)) as connection:
        yield connection


def ask(connection: psycopg.Connection[tuple[object, ...]], address: Address, text: str) -> object:
    row = connection.execute(schema.named(text, address.quoted_schema).encode()).fetchone()
    connection.rollback()
    return None if row is None else row[0]


def version_of(connection: psycopg.Connection[tuple[object, ...]], address: Address) -> object:
    return ask(connection, address, "SELECT schema_version FROM @.head")


def test_every_step_is_taken_in_its_order_and_no_event_changes(
    old: Address, postgres: str, connection: psycopg.Connection[tuple[object, ...]]
) -> None:
    assert migrate_postgres(old, steps=STEPS, to=NEXT) == Stepped(schema.SCHEMA_VERSION, NEXT)
    assert version_of(connection, old) == NEXT
    assert ask(connection, old, "SELECT number FROM @.later") == 2
    assert ask(connection, old, "SELECT payload FROM @.events") == b"first"
    # Again it is there already.
    assert migrate_postgres(old, steps=STEPS, to=NEXT) == Stepped(NEXT, NEXT)
    assert ask(connection, old, "SELECT number FROM @.later") == 2


def test_a_step_that_fails_leaves_all_as_it_was(
    old: Address, postgres: str, connection: psycopg.Connection[tuple[object, ...]]
) -> None:
    broken = {**STEPS, schema.SCHEMA_VERSION + 1: "ALTER TABLE @.queue ADD later no_type;"}
    with pytest.raises(Unavailable, match="could not be migrated and is as it was"):
        migrate_postgres(old, steps=broken, to=NEXT)
    assert version_of(connection, old) == schema.SCHEMA_VERSION
    assert ask(connection, old, "SELECT to_regclass('@.later')") is None
    assert check(postgres).findings == ()


@pytest.mark.parametrize("pooled", ["", "&prepare_threshold=none"])
async def test_a_writer_that_knows_only_the_older_schema_refuses_from_then_on(
    postgres: str, pooled: str
) -> None:
    async with aclosing(await open_log(postgres)) as log:
        await log.append(append(draft()))
        await asyncio.to_thread(
            migrate_postgres, parse_postgres_url(f"{postgres}{pooled}"), steps=STEPS, to=NEXT
        )
        with pytest.raises(UnusableLog, match="a newer one wrote it"):
            await log.append(append(draft()))


async def test_many_who_migrate_at_once_take_each_step_once(postgres: str) -> None:
    async with aclosing(await open_log(postgres)):
        pass
    address = parse_postgres_url(postgres)
    done = await asyncio.gather(
        *[asyncio.to_thread(migrate_postgres, address, steps=STEPS, to=NEXT) for _ in range(4)]
    )
    assert sorted(done) == [Stepped(schema.SCHEMA_VERSION, NEXT)] + 3 * [Stepped(NEXT, NEXT)]


def test_who_holds_the_head_is_waited_for_and_no_longer_than_that(
    old: Address, connection: psycopg.Connection[tuple[object, ...]]
) -> None:
    connection.execute(schema.named("SELECT FROM @.head FOR UPDATE", old.quoted_schema).encode())
    with pytest.raises(Unavailable, match="another session holds the log's head"):
        migrate_postgres(old, steps=STEPS, to=NEXT, lock_timeout_seconds=0.1)
    connection.rollback()
    assert migrate_postgres(old, steps=STEPS, to=NEXT).after == NEXT


def test_a_newer_log_and_one_of_an_unknown_version_are_left_as_they_are(
    old: Address, connection: psycopg.Connection[tuple[object, ...]]
) -> None:
    with pytest.raises(UnusableLog, match="which this evrt does not know"):
        migrate_postgres(old, steps={schema.SCHEMA_VERSION + 1: ""}, to=NEXT)
    migrate_postgres(old, steps=STEPS, to=NEXT)
    with pytest.raises(UnusableLog, match="a newer one wrote it"):
        migrate_postgres(old)
    assert version_of(connection, old) == NEXT


def test_only_the_owner_migrates_and_what_comes_new_is_the_owners(
    old: Address, postgres: str, connection: psycopg.Connection[tuple[object, ...]]
) -> None:
    users = Users(postgres)
    for role in (users.roles.writer, users.roles.reader):
        with pytest.raises(Denied, match="Only the owner of its tables may migrate it"):
            migrate_postgres(parse_postgres_url(users.url_of(role)), steps=STEPS, to=NEXT)
    migrate_postgres(parse_postgres_url(users.url_of(users.roles.owner)), steps=STEPS, to=NEXT)
    owner = f"SELECT tableowner FROM pg_tables WHERE schemaname = '{old.schema}' AND tablename = 'later'"
    assert ask(connection, old, owner) == users.roles.owner


def test_a_log_that_is_not_there_is_not_migrated(postgres: str) -> None:
    with pytest.raises(NotFound, match="There is no log in the schema"):
        migrate_postgres(parse_postgres_url(postgres))


def test_todays_steps_lead_from_every_version_to_todays() -> None:
    assert set(schema.STEPS) == set(range(1, schema.SCHEMA_VERSION))
