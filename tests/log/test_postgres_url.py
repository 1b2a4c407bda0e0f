"""The URL of a log on PostgreSQL: what it says, what it never shows, and what is said where nothing is found there."""

from __future__ import annotations

import asyncio
import secrets
import socket
import sys
from contextlib import aclosing

import pytest

from evrt.config import as_url
from evrt.errors import Denied, EvrtError, NotFound, Unavailable, UsageError
from evrt.log import open_log
from evrt.log.address import is_postgres
from evrt.log.postgres.address import Address, parse_postgres_url, shown_url
from log.stores import append, draft
from postgres import shared
from postgres_server import PASSWORD


@pytest.mark.parametrize(
    "url, parameters, schema, shown",
    [
        (
            "postgresql://ann:pass@db.example:5433/agents?schema=tenant_7",
            {"user": "ann", "password": "pass", "host": "db.example", "port": "5433", "dbname": "agents"},
            "tenant_7",
            "postgresql://ann@db.example:5433/agents?schema=tenant_7",
        ),
        ("postgres://", {}, "evrt", "postgresql://"),
        (
            "postgresql:///agents?host=/run/pg&sslmode=require&password=pass",
            {"dbname": "agents", "host": "/run/pg", "sslmode": "require", "password": "pass"},
            "evrt",
            "postgresql:///agents?host=/run/pg&sslmode=require",
        ),
        (
            "postgresql://ann:p%40s%2Fs@one:1,two,[::1]:3/agents?target_session_attrs=read-write",
            {
                "user": "ann",
                "password": "p@s/s",
                "host": "one,two,::1",
                "port": "1,,3",
                "dbname": "agents",
                "target_session_attrs": "read-write",
            },
            "evrt",
            "postgresql://ann@one:1,two,[::1]:3/agents?target_session_attrs=read-write",
        ),
    ],
)
def test_a_url_is_taken_apart_and_shown_without_its_password(
    url: str, parameters: dict[str, str], schema: str, shown: str
) -> None:
    assert parse_postgres_url(url) == Address(parameters, schema, False, shown)
    assert shown_url(url) == shown
    assert is_postgres(as_url(url))


def test_what_stands_behind_a_pooler_says_so() -> None:
    assert parse_postgres_url("postgresql://db/agents?prepare_threshold=none").pooled
    assert not parse_postgres_url("postgresql://db/agents?prepare_threshold=5").pooled


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://ann:top#secret@x:port/agents",
        "postgresql://ann:top#secret@x:99999/agents",
        "postgresql://ann:top#secret/rest@x/agents?schema=a%20b",
        "postgresql://ann:top#secret@x/agents?schema=",
        "postgresql://ann:top#secret@x/agents?schema=pg_catalog",
        f"postgresql://ann:top#secret@x/agents?schema={'x' * 64}",
        "postgresql://ann:top#secret@x/agents?prepare_threshold=maybe",
        "postgresql://ann:top#secret@x/agents?nonsense",
        "postgresql://ann:top@secret/rest@localhost/agents",
        "postgresql://ann:top/secret@localhost/agents",
        "postgresql://ann:1?secret=rest@localhost/agents",
        "postgresql://ann:top@x?secret@localhost/agents",
        "postgresql://ann:top#secret@localhost/agents?sslmode=nonsense",
        "postgresql://ann:top#secret@localhost/agents?no_such_parameter=1",
    ],
)
async def test_a_url_that_is_wrong_is_refused_without_its_password_being_shown(url: str) -> None:
    with pytest.raises(EvrtError) as refused:
        await open_log(url)
    assert isinstance(refused.value, UsageError | Unavailable)
    assert "secret" not in str(refused.value)
    assert "secret" not in shown_url(url)


async def test_a_server_that_is_not_there_is_unavailable() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        port = nobody.getsockname()[1]
        for read_only in (False, True):
            with pytest.raises(
                Unavailable, match=rf"postgresql://ann@127.0.0.1:{port}/agents\): .*refused"
            ) as refused:
                await open_log(f"postgresql://ann:hidden@127.0.0.1:{port}/agents", read_only=read_only)
            assert "hidden" not in str(refused.value)
            assert "?" not in str(refused.value)  # What is asked there, nobody can answer.


async def test_a_wrong_password_is_denied_and_not_shown() -> None:
    url = shared().network.replace(PASSWORD, "wrong-secret")
    assert url != shared().network
    with pytest.raises(Denied, match=r"does not let this user in.*password authentication failed") as refused:
        await open_log(url)
    assert "wrong-secret" not in str(refused.value)


async def test_a_database_that_is_not_there_is_not_found() -> None:
    with pytest.raises(NotFound, match="createdb"):
        await open_log(shared().owner.replace("@/evrt?", "@/nowhere?"))


async def test_who_may_make_no_schema_is_denied() -> None:
    with pytest.raises(Denied, match="evrt db roles"):
        await open_log(shared().owner.replace("@/evrt?", "@/postgres?"))


async def test_a_log_is_opened_by_the_network_and_shows_no_password() -> None:
    url = f"{shared().network}?schema=test_{secrets.token_hex(8)}"
    async with aclosing(await open_log(url)) as log:
        assert (await log.append(append(draft()))).position == 1
        assert PASSWORD not in log.url
        assert PASSWORD not in repr(log)


async def test_behind_a_pooler_everything_works_without_a_session(postgres: str) -> None:
    url = f"{postgres}&prepare_threshold=none"
    async with aclosing(await open_log(url)) as log, aclosing(await open_log(url)) as other:
        async with aclosing(other.subscribe()) as subscription:
            waiting = asyncio.create_task(anext(subscription))
            await asyncio.sleep(0)
            await log.append(append(draft(payload=b"seen")))
            # Nobody notifies; it looks by itself.
            assert (await waiting).payload == b"seen"
        assert await log.ref("user", "ann") == await other.ref("user", "ann")


async def test_without_psycopg_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in [name for name in sys.modules if name.startswith("evrt.log.postgres.")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(UsageError, match=r"pip install 'evrt\[postgres\]'"):
        await open_log("postgresql:///agents")
