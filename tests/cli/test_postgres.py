"""The command line on a log on PostgreSQL."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

from cli.shell import Shell
from evrt.log import open_log
from evrt.log.postgres.schema import SCHEMA_VERSION
from log.stores import append, draft


def test_roles_are_printed_for_a_log_on_postgresql_alone(shell: Shell) -> None:
    told = shell.evrt(
        "db", "roles", "--db", "postgresql://ann:hidden@db/agents?schema=x", "--writer", "agents"
    )
    assert 'GRANT USAGE ON SCHEMA "x" TO agents;' in told.out
    assert 'ALTER SCHEMA "x_views" OWNER TO agents;' in told.out
    assert "hidden" not in told.out + told.err
    assert "postgresql://" in shell.evrt("db", "roles", expect=2).err


def test_commands_read_a_log_on_postgresql_and_show_no_password(shell: Shell, postgres: str) -> None:
    url = f"{postgres}&password=hidden"
    nothing = shell.evrt("runs", "list", "--db", url, expect=3)
    assert "There is no log in the schema" in nothing.err

    async def make() -> None:
        async with aclosing(await open_log(url)) as log:
            await log.append(append(draft()))

    asyncio.run(make())
    listed = shell.evrt("runs", "list", EVRT_DB=url)
    checked = shell.evrt("db", "check", "--db", url)
    assert "is sound: 1 event in 1 stream" in checked.out
    for told in (nothing, listed, checked):
        assert "hidden" not in told.out + told.err


def test_a_log_on_postgresql_is_migrated_where_there_is_anything_to_do(shell: Shell, postgres: str) -> None:
    url = f"{postgres}&password=hidden"
    shell.refused("db", "migrate", "--db", url, code=3)

    async def make() -> None:
        async with aclosing(await open_log(url)) as log:
            await log.append(append(draft()))

    asyncio.run(make())
    told = shell.evrt("db", "migrate", "--db", url)
    assert f"has today's schema already, version {SCHEMA_VERSION}." in told.out
    assert "hidden" not in told.out + told.err
