"""The server that tests are given: a real one, for nobody but the tests, and gone with them."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import time
from contextlib import aclosing
from pathlib import Path

import psycopg
import pytest

from evrt.log import NEW, Append, open_log
from evrt.log.coordination import Enqueue
from evrt.log.postgres.schema import GUARDED
from log.stores import draft
from postgres import Server, empty, shared


def test_who_owns_the_schemas_is_no_superuser() -> None:
    with psycopg.connect(shared().owner) as connection:
        row = connection.execute(
            "SELECT current_setting('is_superuser'), current_setting('fsync')"
        ).fetchone()
    assert row == ("off", "on")


def test_a_password_is_asked_for_by_the_network(own_server: Server) -> None:
    psycopg.connect(own_server.network_url()).close()
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(own_server.network_url(password="wrong"))


def test_a_server_that_was_killed_starts_again_with_what_was_committed(own_server: Server) -> None:
    with psycopg.connect(own_server.url(), autocommit=True) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS number")
        own_server.kill()
        with pytest.raises(psycopg.OperationalError):
            _ask_for_ever(connection)
    own_server.start()
    with psycopg.connect(own_server.url()) as connection:
        assert connection.execute("SELECT number FROM kept").fetchone() == (42,)


async def test_a_log_that_was_emptied_is_as_guarded_as_a_new_one_and_holds_nothing_of_before(
    postgres: str, empty_postgres: str
) -> None:
    made = []
    for url in (postgres, empty_postgres, empty_postgres):
        async with aclosing(await open_log(url)) as log:
            assert (await log.position(), await log.streams("")) == (0, [])
            assert await log.coordination.entry("run-1") is None
            with psycopg.connect(url.partition("schema=")[0].rstrip("?&")) as connection:
                triggers = connection.execute(TRIGGERS, (url.partition("schema=")[2],)).fetchall()
            await log.append(Append([draft("run-1")], {"run-1": NEW}, beside=[Enqueue("run-1", "t")]))
            made.append((log.id, triggers))
        empty(empty_postgres)
    assert len({log for log, _ in made}) == 3
    assert len(made[0][1]) == sum(map(len, GUARDED.values()))
    assert made[0][1] == made[1][1] == made[2][1]


TRIGGERS = """
SELECT c.relname, t.tgname, t.tgenabled::text
FROM pg_trigger AS t JOIN pg_class AS c ON c.oid = t.tgrelid JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE n.nspname = %s ORDER BY 1, 2
"""


def _ask_for_ever(connection: psycopg.Connection) -> None:
    """The process behind a connection notices that its server has been killed when it next has nothing to do."""
    while True:
        connection.execute("SELECT 1")


@pytest.mark.parametrize("how", ["in peace", "by SIGKILL"])
def test_nothing_is_left_of_a_server_whose_users_have_gone(how: str, tmp_path: Path) -> None:
    script = """
        import os, signal, sys
        for name in ("PYTEST_XDIST_TESTRUNUID", "EVRT_TEST_POSTGRES_FOLDER"):
            os.environ.pop(name, None)
        from postgres import shared
        import psycopg
        psycopg.connect(shared().owner).close()
        print(os.environ["EVRT_TEST_POSTGRES_FOLDER"], flush=True)
        if sys.argv[1] == "by SIGKILL":
            os.kill(os.getpid(), signal.SIGKILL)
    """
    tests = Path(__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), how],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        cwd=tests,
    )
    assert done.stdout, done.stderr
    folder = Path(done.stdout.strip())
    until = time.monotonic() + 60
    while folder.exists() or _is_mentioned_in_a_process(str(folder)):
        assert time.monotonic() < until, "The server is still there."
        time.sleep(0.02)


def _is_mentioned_in_a_process(text: str) -> bool:
    shown = subprocess.run(["ps", "axww", "-o", "args"], capture_output=True, text=True, check=True).stdout
    return text in shown
