"""A log on a server, or for a user, that an administrator has set up in his own way."""

from __future__ import annotations

import logging
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path

import psycopg
import pytest

from evrt.errors import Unavailable, UsageError
from evrt.log import open_log
from evrt.log.check import check
from evrt.log.coordination import Enqueue
from evrt.log.postgres.address import parse_postgres_url
from evrt.log.postgres.connect import translate
from evrt.projector.views import open_views
from log.stores import append, draft
from postgres import shared
from postgres_server import Server


def user_with(url: str, **settings: str) -> str:
    """The URL of a new user, for whom these settings are made."""
    name = f"odd_{secrets.token_hex(4)}"
    with psycopg.connect(shared().superuser, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {name} LOGIN".encode())
        connection.execute(f"GRANT CREATE ON DATABASE evrt TO {name}".encode())
        for setting, value in settings.items():
            connection.execute(f"ALTER ROLE {name} SET {setting} = '{value}'".encode())
    return url.replace("://evrt@", f"://{name}@")


@pytest.mark.parametrize("pooled", ["", "&prepare_threshold=none"])
async def test_whatever_a_user_is_set_to_the_log_the_queue_and_the_views_are_the_same(
    postgres: str, pooled: str
) -> None:
    with psycopg.connect(shared().superuser, autocommit=True) as connection:
        # Whoever finds these instead of the server's own, or the log's, is in a trap.
        connection.execute("CREATE SCHEMA IF NOT EXISTS traps")
        connection.execute("GRANT USAGE ON SCHEMA traps TO PUBLIC")
        for table in ("head", "events", "streams", "queue", "views", "log"):
            connection.execute(f"CREATE TABLE IF NOT EXISTS traps.{table} (mine integer)".encode())
    url = user_with(
        postgres + pooled,
        search_path="traps",
        statement_timeout="60s",
        # Between two statements a machine with much to do takes more than a moment.
        idle_in_transaction_session_timeout="100ms",
        lock_timeout="1min",
        default_transaction_isolation="serializable",
        default_transaction_deferrable="on",
        standard_conforming_strings="off",
        TimeZone="Asia/Kathmandu",
        DateStyle="German, DMY",
        IntervalStyle="sql_standard",
        bytea_output="escape",
        extra_float_digits="-15",
        client_encoding="LATIN1",
        quote_all_identifiers="on",
    )
    payload = "back\\slash 'quote' \u00fc".encode()
    async with aclosing(await open_log(url)) as log, aclosing(await open_views(log)) as views:
        await log.append(append(draft("run-\u00fc", payload=payload)))
        assert [row.payload for row in await log.read_stream("run-\u00fc")] == [payload]
        queue = log.coordination
        await queue.change(Enqueue("run-\u00fc", "t"))
        await queue.renew("host:1:a")
        assert [one.run for one in await queue.claim("host:1:a", targets={"t": None}, limit=1)] == [
            "run-\u00fc"
        ]
        await views.list("runs", min_position=await log.position())
        assert not views.temporary
    assert check(url).findings == ()


async def test_a_user_who_is_set_to_read_only_is_not_overruled(postgres: str) -> None:
    async with aclosing(await open_log(user_with(postgres))) as log:
        await log.append(append(draft()))
    name = parse_postgres_url(postgres).quoted_schema
    with psycopg.connect(shared().superuser, autocommit=True) as connection:
        url = user_with(postgres, default_transaction_read_only="on")
        user = parse_postgres_url(url).parameters["user"]
        connection.execute(f"GRANT ALL ON SCHEMA {name} TO {user}".encode())
        connection.execute(f"GRANT ALL ON ALL TABLES IN SCHEMA {name} TO {user}".encode())
    async with aclosing(await open_log(f"{url}", lock_timeout_seconds=1)) as log:
        with pytest.raises(Unavailable, match="was set to be read only"):
            await log.append(append(draft()))
        assert await log.position() == 1


@pytest.fixture
def careless() -> Iterator[Server]:
    """A server that syncs nothing."""
    shared()
    server = Server(Path(tempfile.mkdtemp(prefix="evrt-postgres-own-")), settings={"fsync": "off"})
    try:
        server.start()
        yield server
    finally:
        server.remove()


async def test_a_server_that_does_not_sync_is_warned_of_when_a_log_is_opened(
    careless: Server, postgres: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, logger="evrt.log"):
        async with aclosing(await open_log(postgres)) as log:
            await log.append(append(draft()))
        assert caplog.messages == []
        async with aclosing(await open_log(careless.url(schema="agents"))) as log:
            await log.append(append(draft()))
            await log.append(append(draft()))
    [message] = caplog.messages
    assert "has fsync = off: a power cut loses" in message


def test_a_pooler_without_transactions_is_named() -> None:
    said = psycopg.OperationalError("transaction blocks not allowed in statement pooling mode")
    error = translate(said, parse_postgres_url("postgresql:///"), "The log cannot be opened")
    assert isinstance(error, UsageError)
    assert "Set its pool_mode to transaction and say ?prepare_threshold=none" in str(error)
