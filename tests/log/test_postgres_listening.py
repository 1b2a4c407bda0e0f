"""One process hears of what another commits; a watch never looks by itself, so it shows that there was a word."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import psycopg

from evrt.log import Log, open_log
from evrt.log.postgres.address import parse_postgres_url
from log.stores import append, draft
from postgres import shared

FOR_EVER = 60.0
"""Seconds: longer than any word takes. Who is not told by then fails."""

SESSIONS = "SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'evrt listener %' AND query LIKE %s"


def listening(url: str) -> list[int]:
    """The server's processes that listen for a log."""
    channel = parse_postgres_url(url).channel
    with psycopg.connect(shared().superuser) as connection:
        return [
            pid for (pid,) in connection.execute(SESSIONS.replace(" %'", " %%'"), (f'LISTEN "{channel}"',))
        ]


async def until_listening(url: str, but: int | None = None) -> int:
    async with asyncio.timeout(FOR_EVER):
        while not (found := [pid for pid in listening(url) if pid != but]):  # noqa: ASYNC110  # The server is waited for.
            await asyncio.sleep(0.05)
    return found[0]


async def heard(log: Log) -> None:
    """Have a watch listen, and past the ring that says that it does."""
    watch = log.watch()
    await watch.wait(FOR_EVER)


async def test_a_watch_hears_of_commits_of_others_and_goes_on_when_its_session_was_ended(
    postgres: str,
) -> None:
    async with aclosing(await open_log(postgres)) as log, aclosing(await open_log(postgres)) as other:
        await heard(log)
        watch = log.watch()
        waiting = asyncio.create_task(watch.wait(FOR_EVER))
        first = await until_listening(postgres)
        await other.append(append(draft()))
        assert await waiting

        waiting = asyncio.create_task(watch.wait(FOR_EVER))
        with psycopg.connect(shared().superuser, autocommit=True) as connection:
            connection.execute("SELECT pg_terminate_backend(%s)", (first,))
        # That it listens anew is a ring of its own: there may have been something in between.
        assert await waiting
        waiting = asyncio.create_task(watch.wait(FOR_EVER))
        await until_listening(postgres, but=first)
        await other.append(append(draft()))
        assert await waiting


async def test_a_log_is_told_of_its_own_commits_once(postgres: str) -> None:
    async with aclosing(await open_log(postgres)) as log:
        await heard(log)
        watch = log.watch()
        for _ in range(5):
            waiting = asyncio.create_task(watch.wait(FOR_EVER))
            await asyncio.sleep(0)
            await log.append(append(draft()))
            assert await waiting
            # What it notified for others comes back to it, and is no news.
            assert not await watch.wait(0.05)


async def test_many_commits_are_told_in_few_words(postgres: str) -> None:
    channel = parse_postgres_url(postgres).channel
    async with aclosing(await open_log(postgres)) as log:
        with psycopg.connect(shared().owner, autocommit=True) as listener:
            listener.execute(f'LISTEN "{channel}"')
            for _ in range(200):
                await log.append(append(draft()))
            await log.aclose()
            words = list(listener.notifies(timeout=1))
    assert 1 <= len(words) < 200
