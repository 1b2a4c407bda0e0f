"""The server is killed, restarted and cut off while a log is used: nothing is lost, nothing is there twice."""

from __future__ import annotations

import asyncio
import secrets
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import psycopg
import pytest

from evrt.errors import EvrtError, Unavailable
from evrt.log import NEW, Append, Claim, Draft, Log, open_log
from evrt.log.ids import new_event_id
from evrt.log.writing import NOTHING, UNKNOWN
from log.stores import append, claimed, draft
from postgres import Server, shared
from postgres_proxy import How, Proxy
from postgres_server import SUPERUSER


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A server that the tests of this file may do anything to, as long as it runs when they end."""
    shared()
    one = Server(Path(tempfile.mkdtemp(prefix="evrt-postgres-own-")))
    try:
        one.start()
        yield one
    finally:
        one.remove()


@pytest.fixture
def schema() -> str:
    return f"test_{secrets.token_hex(8)}"


@asynccontextmanager
async def opened(url: str, *, seconds: float = 30.0) -> AsyncIterator[Log]:
    async with aclosing(await open_log(url, lock_timeout_seconds=seconds)) as log:
        yield log


def as_superuser(server: Server) -> psycopg.Connection:
    return psycopg.connect(server.url(user=SUPERUSER), autocommit=True)


def end_sessions(server: Server) -> int:
    """End every session of a log as an administrator does; how many there were."""
    with as_superuser(server) as connection:
        ended = connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'evrt %'"
        ).fetchall()
    return len(ended)


async def payloads(log: Log) -> list[bytes | None]:
    return [row.payload for row in await log.read(limit=10_000)]


# ------------------------------------------------------------------------------- the answer to COMMIT


@pytest.mark.parametrize("how", ["before the commit", "after the commit"])
async def test_an_append_whose_answer_is_cut_off_is_answered_and_recorded_once(
    server: Server, schema: str, how: How
) -> None:
    with Proxy(server.url()) as proxy:
        async with opened(proxy.url(schema)) as log:
            proxy.cut(how)
            first = await log.append(append(draft(payload=b"first")))
            assert (first.position, first.versions) == (1, (1,))
            assert proxy.cuts == 1
            second = await log.append(append(draft(payload=b"second")))
            assert (second.position, second.versions) == (2, (2,))
            assert await payloads(log) == [b"first", b"second"]


@pytest.mark.parametrize("how", ["before the commit", "after the commit"])
async def test_what_leaves_no_event_is_done_once_as_well(server: Server, schema: str, how: How) -> None:
    with Proxy(server.url()) as proxy:
        async with opened(proxy.url(schema)) as log:
            proxy.cut(how)
            ref = await log.ref("user", "ann")
            assert await log.ref("user", "ann") == ref
            key = await log.write_blob(_pieces(b"bytes"))
        async with opened(proxy.url(schema)) as log:
            proxy.cut(how)
            await log.erase_blob(key.sha256)
            assert proxy.cuts == 2
            assert await log.blob_length(key.sha256) is None


async def _pieces(content: bytes) -> AsyncIterator[bytes]:
    yield content


async def test_a_repeat_tells_what_became_of_an_append_that_is_not_known(server: Server, schema: str) -> None:
    with Proxy(server.url()) as proxy:
        async with opened(proxy.url(schema), seconds=1.5) as log:
            proxy.cut("silent after the commit")
            request = append(draft(payload=b"once"))
            with pytest.raises(Unavailable, match=UNKNOWN):
                await log.append(request)
            again = await log.append(Append(request.drafts, {}, repeat_after={"run-1": 0}))
            assert again.position == 1
            assert await payloads(log) == [b"once"]


# ------------------------------------------------------------------------------ sessions and servers


async def test_sessions_that_are_ended_again_and_again_lose_and_repeat_nothing(
    server: Server, schema: str
) -> None:
    async with opened(server.url(schema=schema)) as log, opened(server.url(schema=schema)) as other:
        seen: list[int] = []
        following = asyncio.create_task(_follow(other, 200, seen))
        for number in range(200):
            await asyncio.gather(
                (log, other)[number % 2].append(append(draft(payload=b"%d" % number))), log.position()
            )
            if number % 40 == 20:
                assert end_sessions(server) >= 2
        await following
        assert seen == list(range(1, 201))
        assert await payloads(log) == [b"%d" % number for number in range(200)]


async def _follow(log: Log, events: int, seen: list[int]) -> None:
    async with aclosing(log.subscribe()) as subscription:
        while len(seen) < events:
            seen.append((await anext(subscription)).position)


@pytest.mark.parametrize("how", ["kill", "quit", "stop"])
async def test_a_server_that_dies_and_comes_back_is_gone_on_with(
    server: Server, schema: str, how: str
) -> None:
    async with opened(server.url(schema=schema)) as log:
        await log.append(append(claimed("run-1", 1), run_1=Claim(1)))
        under_way = [log.append(append(draft(payload=b"%d" % number))) for number in range(500)]
        end = {"kill": server.kill, "quit": server.quit, "stop": server.stop}[how]
        end()
        under_way += [log.append(append(draft(payload=b"%d" % number))) for number in range(500, 600)]
        server.start()
        answers = await asyncio.gather(*under_way)
        assert [answer.position for answer in answers] == list(range(2, 602))
        assert await payloads(log) == [b"hello", *[b"%d" % number for number in range(600)]]
        assert (await log.head("run-1")).epoch == 1


async def test_without_a_server_appends_and_reads_say_so_and_work_again_when_it_is_back(
    server: Server, schema: str
) -> None:
    async with opened(server.url(schema=schema), seconds=1.0) as log:
        await log.append(append(draft(payload=b"before")))
        server.stop()
        try:
            with pytest.raises(Unavailable, match=f"{NOTHING}. The log cannot be written .*then try again"):
                await log.append(append(draft()))
            with pytest.raises(Unavailable, match="The log cannot be read"):
                await log.read()
        finally:
            server.start()
        await log.append(append(draft(payload=b"after")))
        assert await payloads(log) == [b"before", b"after"]


async def test_a_standby_is_read_and_not_written(server: Server, schema: str) -> None:
    async with opened(server.url(schema=schema), seconds=1.0) as log:
        await log.append(append(draft(payload=b"before")))
        server.stop()
        server.make_standby()
        try:
            server.start()
            with pytest.raises(Unavailable, match=f"{NOTHING}.*takes no writes.*name the primary"):
                await log.append(append(draft()))
            assert await payloads(log) == [b"before"]
        finally:
            server.make_primary()
            server.restart()
        await log.append(append(draft(payload=b"after")))
        assert await payloads(log) == [b"before", b"after"]


# --------------------------------------------------------------------------- what the server refuses


REFUSING = """
CREATE SEQUENCE "{schema}".attempts;
CREATE FUNCTION "{schema}".refuse_some() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF nextval('"{schema}".attempts') <= {attempts} THEN
        RAISE EXCEPTION 'as a test wants it' USING ERRCODE = '{state}';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER refuse_some BEFORE INSERT ON "{schema}".events FOR EACH ROW EXECUTE FUNCTION "{schema}".refuse_some();
"""


def refuse_some(server: Server, schema: str, *, state: str, attempts: int) -> None:
    """Have so many attempts at an insert fail with a SQLSTATE. A sequence keeps count, for it is never rolled back."""
    with psycopg.connect(server.url(), autocommit=True) as connection:
        connection.execute(REFUSING.format(schema=schema, state=state, attempts=attempts))


@pytest.mark.parametrize("state", ["40001", "40P01", "57014"])
async def test_a_transaction_that_lost_a_race_or_was_cancelled_is_tried_again(
    server: Server, schema: str, state: str
) -> None:
    async with opened(server.url(schema=schema)) as log:
        refuse_some(server, schema, state=state, attempts=3)
        answers = await asyncio.gather(*[log.append(append(draft())) for _ in range(5)])
        assert [answer.position for answer in answers] == [1, 2, 3, 4, 5]


async def test_a_full_disk_is_said_and_the_next_append_is_taken_when_there_is_room(
    server: Server, schema: str
) -> None:
    async with opened(server.url(schema=schema)) as log:
        refuse_some(server, schema, state="53100", attempts=1)
        with pytest.raises(Unavailable, match=f"{NOTHING}.*Make room on the server"):
            await log.append(append(draft()))
        assert (await log.append(append(draft()))).position == 1


async def test_a_head_that_somebody_keeps_locked_is_waited_for_and_given_up(
    server: Server, schema: str
) -> None:
    async with opened(server.url(schema=schema), seconds=1.0) as log:
        with psycopg.connect(server.url()) as holder:
            holder.execute(f'SELECT * FROM "{schema}".head FOR UPDATE')
            with pytest.raises(Unavailable, match=f"{NOTHING}.*another session holds"):
                await log.append(append(draft()))
            waiting = log.append(append(draft()))
            await asyncio.sleep(0.2)
            holder.rollback()
            assert (await waiting).position == 1


async def test_a_user_with_no_connection_left_is_told_so(server: Server, schema: str) -> None:
    with as_superuser(server) as connection:
        connection.execute("CREATE ROLE lonely LOGIN CONNECTION LIMIT 0")
        connection.execute("GRANT ALL ON DATABASE evrt TO lonely")
    with pytest.raises(Unavailable, match="as many connections as it takes"):
        await open_log(server.url(user="lonely", schema=schema))


async def test_a_session_that_was_cut_off_in_the_middle_holds_up_nobody(server: Server, schema: str) -> None:
    """The server does not know that its client has gone, and keeps the lock for it; so it is told."""
    with Proxy(server.url()) as proxy:
        async with opened(proxy.url(schema)) as log:
            await log.append(append(draft()))
            proxy.cut("before the commit")
            proxy.keep_server = True
            # Less than the server would take to end an idle transaction, and within the time of an append.
            assert (await log.append(append(draft()))).position == 2


async def test_an_error_is_one_of_evrts(server: Server, schema: str) -> None:
    async with opened(server.url(schema=schema)) as log:
        with psycopg.connect(server.url(), autocommit=True) as connection:
            connection.execute(f'DROP SCHEMA "{schema}" CASCADE')
        with pytest.raises(EvrtError, match="is gone"):
            await log.append(append(draft()))
        with pytest.raises(EvrtError, match="is gone"):
            await log.read()


FROZEN = """
import asyncio, signal, sys
from contextlib import aclosing
from evrt.log import NEW, Append, Draft, open_log
from evrt.log.ids import new_event_id
from evrt.log.postgres import connect, transaction

connect.IDLE_SECONDS_MAX = 1
decide = transaction.Transaction.append
frozen = False

def freeze_once(self, request):
    global frozen
    if not frozen:
        frozen = True
        print("holds the head", flush=True)
        signal.raise_signal(signal.SIGSTOP)
    return decide(self, request)

transaction.Transaction.append = freeze_once

async def main():
    async with aclosing(await open_log(sys.argv[1])) as log:
        draft = Draft("late", "late", new_event_id(), "late", b"{}", b"")
        print((await log.append(Append([draft], {"late": NEW}))).position, flush=True)

asyncio.run(main())
"""


async def test_who_is_frozen_with_the_head_locked_does_not_hold_up_the_others_for_good(postgres: str) -> None:
    async with aclosing(await open_log(postgres, lock_timeout_seconds=20)) as log:
        frozen = subprocess.Popen(  # noqa: ASYNC220  (it is waited for by hand, frozen and thawed)
            [sys.executable, "-c", FROZEN, postgres], stdout=subprocess.PIPE, text=True
        )
        assert frozen.stdout is not None
        try:
            assert frozen.stdout.readline() == "holds the head\n"
            early = Draft("early", "early", new_event_id(), "early", b"{}", b"")
            assert (await log.append(Append([early], {"early": NEW}))).position == 1
            frozen.send_signal(signal.SIGCONT)
            # It was thrown out, comes back, and writes what it had to write, once.
            assert frozen.stdout.readline() == "2\n"
            assert frozen.wait() == 0
        finally:
            frozen.send_signal(signal.SIGCONT)
            frozen.kill()
            frozen.communicate()
        assert [row.stream for row in await log.read()] == ["early", "late"]
