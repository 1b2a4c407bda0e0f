"""What the database itself refuses, who may do what, and how a log comes to be there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from evrt.errors import Denied, EvrtError, NotFound, UnusableLog, UsageError
from evrt.log import Claim, open_log
from evrt.log.coordination import Enqueue
from evrt.log.postgres import connect, schema
from evrt.log.postgres.address import parse_postgres_url
from evrt.log.postgres.roles import Roles, roles_sql
from log.copies import copied
from log.postgres_users import Users
from log.stores import append, claimed, draft, url
from postgres import fresh_url, shared


def database(url: str) -> str:
    """The URL without what only evrt understands."""
    return url.replace("?schema=", "&schema=").split("&schema=")[0]


class Attacker:
    """Somebody who owns the log's tables and speaks SQL."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.connection = psycopg.connect(database(url), autocommit=True)
        name = sql.Identifier(parse_postgres_url(url).schema)
        self.connection.execute(sql.SQL("SET search_path TO {}").format(name))

    def run(self, text: str) -> None:
        self.connection.execute(text)

    def everything(self) -> list[object]:
        tables = ("events", "streams", "head")
        return [self.connection.execute(f"SELECT * FROM {table} ORDER BY 1").fetchall() for table in tables]


async def fill(url: str) -> None:
    """Three events in two streams, one of them claimed."""
    async with aclosing(await open_log(url)) as log:
        await log.append(append(claimed("run-1", 1), draft(payload=b"secret"), run_1=Claim(1)))
        await log.append(append(draft("run-2")))


@pytest.fixture
def attacked(postgres: str) -> Iterator[Attacker]:
    asyncio.run(fill(postgres))
    attacker = Attacker(postgres)
    yield attacker
    attacker.connection.close()


@pytest.fixture(scope="module")
def standing() -> Iterator[Attacker]:
    """A log whose attackers get nowhere, so that one is enough."""
    url = fresh_url(shared().owner)
    asyncio.run(fill(url))
    attacker = Attacker(url)
    yield attacker
    attacker.connection.close()


COLUMNS = "time, stream, version, correlation, payload_length, event_id, type, meta, payload_digest, leaf, salt, payload"


def inserted(position: str, stream: str, version: str) -> str:
    """An event made of the first one."""
    values = COLUMNS.replace("stream, version", f"{stream}, {version}")
    return (
        f"INSERT INTO events (position, {COLUMNS}) SELECT {position}, {values} FROM events WHERE position = 1"
    )


TWO_IN_THE_WRONG_ORDER = (
    f"INSERT INTO events (position, {COLUMNS}) SELECT 4 + n, {COLUMNS.replace('version', '4 - n')} "
    "FROM events, generate_series(0, 1) AS n WHERE position = 1"
)


@pytest.mark.parametrize(
    "text",
    [
        "UPDATE events SET payload = 'forged' WHERE position = 2",
        "UPDATE events SET payload = NULL WHERE position = 2",
        "UPDATE events SET salt = NULL WHERE position = 2",
        "UPDATE events SET type = 'other', salt = NULL, payload = NULL WHERE position = 2",
        "UPDATE events SET leaf = 'x', salt = NULL, payload = NULL",
        "UPDATE events SET position = 9, salt = NULL, payload = NULL WHERE position = 3",
        "UPDATE events SET time = 0, salt = NULL, payload = NULL WHERE position = 3",
        "DELETE FROM events WHERE position = 3",
        "TRUNCATE events",
        "TRUNCATE streams CASCADE",
        "TRUNCATE head",
        "DELETE FROM streams",
        "DELETE FROM head",
        "UPDATE streams SET version = version - 1 WHERE version = 2",
        "UPDATE streams SET epoch = 0 WHERE epoch = 1",
        "UPDATE streams SET name = 'other' WHERE version = 2",
        "UPDATE streams SET id = 99 WHERE version = 2",
        "UPDATE head SET position = 1",
        "UPDATE head SET time = 0",
        "UPDATE head SET log = 'another'",
        "UPDATE head SET schema_version = 0",
        inserted("5", "1", "3"),
        inserted("3", "1", "3"),
        inserted("0", "1", "3"),
        inserted("4", "1", "4"),
        inserted("4", "1", "2"),
        inserted("4", "99", "2"),
        inserted("4", "99", "-1"),
        TWO_IN_THE_WRONG_ORDER,
        "SET session_replication_role = replica; DELETE FROM events",
    ],
)
def test_the_database_refuses_whatever_would_change_what_was_recorded(standing: Attacker, text: str) -> None:
    before = standing.everything()
    with pytest.raises(psycopg.Error) as refused:
        standing.run(text)
    # By a trigger, by a unique index, or because only a superuser may.
    assert refused.value.sqlstate in (schema.REFUSAL_STATE, "23505", "42501")
    assert standing.everything() == before


@pytest.mark.parametrize(
    "text",
    [
        "UPDATE events SET salt = NULL, payload = NULL WHERE position = 2",
        "UPDATE streams SET version = version + 1",
        inserted("4", "1", "3"),
        inserted("4", "99", "0"),
        inserted("4", "99", "1"),
    ],
)
def test_what_a_log_does_itself_is_let_through(attacked: Attacker, text: str) -> None:
    attacked.run(text)


def test_triggers_stand_also_for_a_superuser_who_plays_a_replica(attacked: Attacker, postgres: str) -> None:
    name = sql.Identifier(parse_postgres_url(postgres).schema)
    with psycopg.connect(shared().superuser, autocommit=True) as connection:
        connection.execute("SET session_replication_role = replica")
        for text in ("DELETE FROM {}.events", "UPDATE {}.streams SET epoch = 0", "TRUNCATE {}.head"):
            with pytest.raises(psycopg.Error) as refused:
                connection.execute(sql.SQL(text).format(name))
            assert refused.value.sqlstate == schema.REFUSAL_STATE


async def test_a_writer_that_somebody_went_behind_says_so(attacked: Attacker, postgres: str) -> None:
    async with aclosing(await open_log(postgres)) as log:
        await log.append(append(draft()))
        attacked.run(inserted("5", "1", "4"))
        with pytest.raises(UnusableLog, match="by other means than evrt"):
            await log.append(append(draft()))


# --------------------------------------------------------------------------------------------- roles


async def make(url: str) -> None:
    async with aclosing(await open_log(url)) as log:
        await log.append(append(draft(payload=b"first")))


async def test_a_writer_does_all_that_a_log_does(postgres: str) -> None:
    await make(postgres)
    users = Users(postgres)
    async with aclosing(await open_log(users.url_of(users.roles.writer))) as log:
        await log.append(append(draft(), claimed("run-2", 1), run_2=Claim(1)))
        await log.erase_payload(1)
        await log.ref("user", "ann")
        await log.coordination.renew("w")
        await log.coordination.change(Enqueue("run-3", "t"))
        assert [given.run for given in await log.coordination.claim("w", targets={"t": None}, limit=1)] == [
            "run-3"
        ]
        key = await log.write_blob(_pieces())
        await log.erase_blob(key.sha256)
        assert [row.payload for row in await log.read()] == [None, b"hello", b"hello"]


async def _pieces() -> AsyncIterator[bytes]:
    yield b"bytes"


@pytest.fixture(scope="module")
def trusted_writer(standing: Attacker) -> Iterator[Attacker]:
    """Somebody with the role of a writer, and bad intentions."""
    users = Users(standing.url)
    attacker = Attacker(users.url_of(users.roles.writer))
    yield attacker
    attacker.connection.close()


@pytest.mark.parametrize(
    "text",
    [
        "ALTER TABLE events DISABLE TRIGGER events_update",
        "ALTER TABLE events DISABLE TRIGGER ALL",
        "DROP TRIGGER events_delete ON events",
        "SET session_replication_role = replica",
        "DROP TABLE events CASCADE",
        "DELETE FROM events",
        "TRUNCATE events",
        "UPDATE events SET type = 'other'",
        "UPDATE head SET log = 'other'",
        "UPDATE head SET schema_version = 9",
        "UPDATE streams SET name = 'other'",
        "DELETE FROM streams",
        "TRUNCATE queue",
        "ALTER TABLE queue ADD mine integer",
        "UPDATE head SET moved_to = 'elsewhere'",
        "CREATE TABLE mine (number integer)",
        "CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
    ],
)
def test_a_writer_may_not_touch_what_keeps_the_log_whole(trusted_writer: Attacker, text: str) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        trusted_writer.run(text)


async def test_a_reader_reads_and_is_denied_the_rest(postgres: str) -> None:
    await make(postgres)
    users = Users(postgres)
    reader = users.url_of(users.roles.reader)
    async with aclosing(await open_log(reader, read_only=True)) as log:
        assert [row.payload for row in await log.read()] == [b"first"]
        with pytest.raises(Denied, match="reading only"):
            await log.append(append(draft()))
    async with aclosing(await open_log(reader)) as log:
        with pytest.raises(Denied, match="evrt db roles"):
            await log.append(append(draft()))


async def test_an_owner_goes_on_with_its_log(postgres: str) -> None:
    await make(postgres)
    users = Users(postgres)
    async with aclosing(await open_log(users.url_of(users.roles.owner))) as log:
        assert (await log.append(append(draft()))).position == 2


async def test_a_log_is_copied_by_who_reads_it_and_moved_by_its_owner_alone(
    postgres: str, tmp_path: Path
) -> None:
    await make(postgres)
    users = Users(postgres)
    copied(users.url_of(users.roles.reader), url(tmp_path / "reader.db"))
    with pytest.raises(Denied, match="this user may append to it and no more"):
        copied(users.url_of(users.roles.writer), url(tmp_path / "writer.db"), switch=True)
    with pytest.raises(Denied, match="permission denied"):
        copied(url(tmp_path / "reader.db"), users.url_of(users.roles.writer))
    async with aclosing(await open_log(users.url_of(users.roles.writer))) as log:
        assert (await log.append(append(draft()))).position == 2
    assert copied(users.url_of(users.roles.owner), url(tmp_path / "owner.db"), switch=True).moved


async def test_roles_can_be_given_again(postgres: str) -> None:
    await make(postgres)
    users = Users(postgres)
    with psycopg.connect(shared().superuser, autocommit=True) as connection:
        users.grant(connection)


@pytest.mark.parametrize("name", ["", "Writer", "a b", 'x"; DROP TABLE events', "pg_writer", "x" * 64])
def test_a_name_that_is_no_roles_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="cannot name a role"):
        roles_sql(parse_postgres_url("postgresql:///"), Roles("owner", name, "reader"))


def test_one_role_cannot_be_two() -> None:
    with pytest.raises(UsageError, match="three roles"):
        roles_sql(parse_postgres_url("postgresql:///"), Roles("owner", "writer", "writer"))


# ---------------------------------------------------------------------------------- coming to be there


async def test_many_who_come_at_once_make_one_log(postgres: str) -> None:
    logs = await asyncio.gather(*[open_log(postgres) for _ in range(8)])
    try:
        assert len({log.id for log in logs}) == 1
        answers = await asyncio.gather(*[log.append(append(draft())) for log in logs])
        assert sorted(answer.position for answer in answers) == list(range(1, 9))
    finally:
        for log in logs:
            await log.aclose()


async def test_a_log_that_is_not_there_is_not_made_by_who_only_reads(postgres: str) -> None:
    with pytest.raises(NotFound, match="There is no log in the schema"):
        await open_log(postgres, read_only=True)


async def test_the_schema_of_another_program_is_left_alone(postgres: str) -> None:
    name = parse_postgres_url(postgres).schema
    with psycopg.connect(database(postgres), autocommit=True) as connection:
        connection.execute(f'CREATE SCHEMA "{name}"; CREATE TABLE "{name}".head (position bigint)')
        for read_only in (False, True):
            with pytest.raises(UnusableLog, match="another program's tables"):
                await open_log(postgres, read_only=read_only)
        found = connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = %s", (name,)).fetchone()
    assert found == (1,)


async def test_an_empty_schema_is_taken(postgres: str) -> None:
    name = parse_postgres_url(postgres).schema
    with psycopg.connect(database(postgres), autocommit=True) as connection:
        connection.execute(f'CREATE SCHEMA "{name}"')
    await make(postgres)


@pytest.mark.parametrize("version, words", [(99, "a newer one wrote it"), (-1, "evrt db migrate")])
async def test_a_log_of_another_version_is_refused(
    postgres: str, version: int, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("evrt.log.postgres.making.SCHEMA_VERSION", version)
    log = await open_log(postgres)
    monkeypatch.undo()
    with pytest.raises(UnusableLog, match=words):
        await log.append(append(draft()))
    await log.aclose()
    for read_only in (False, True):
        with pytest.raises(UnusableLog, match=words):
            await open_log(postgres, read_only=read_only)


async def test_a_server_that_is_too_old_is_named(postgres: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connect, "OLDEST_SERVER", 990_000)
    for read_only in (False, True):
        with pytest.raises(UsageError, match=r"is PostgreSQL 1.*evrt needs 99 or newer"):
            await open_log(postgres, read_only=read_only)


async def test_a_log_that_was_replaced_while_open_takes_no_more_events(postgres: str) -> None:
    name = parse_postgres_url(postgres).schema
    async with aclosing(await open_log(postgres)) as log:
        await log.append(append(draft()))
        with psycopg.connect(database(postgres), autocommit=True) as connection:
            connection.execute(f'DROP SCHEMA "{name}" CASCADE')
        await make(postgres)
        with pytest.raises(EvrtError, match="another log than when it was opened"):
            await log.append(append(draft()))


async def test_a_commit_is_durable_whatever_the_user_is_set_to(postgres: str) -> None:
    with psycopg.connect(shared().superuser, autocommit=True) as connection:
        connection.execute("CREATE ROLE hasty LOGIN")
        connection.execute("ALTER ROLE hasty SET synchronous_commit = off")
        connection.execute("GRANT CREATE ON DATABASE evrt TO hasty")
    url = postgres.replace("://evrt@", "://hasty@")
    async with aclosing(await open_log(url)) as log:
        assert (await log.append(append(draft()))).position == 1
    # Where no session may be set up, each transaction is.
    async with aclosing(await open_log(f"{url}&prepare_threshold=none")) as log:
        assert (await log.append(append(draft()))).position == 2
