"""PostgreSQL for tests: one real server for a session, a schema of its own for each test; loaded by conftest.py.

It is the server that EVRT_TEST_POSTGRES names, else one that is started here and shared by the processes of the
session. Nothing of it is left running: see ``shared``.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
import pytest

import postgres_server
from evrt.log.ids import new_event_id
from evrt.log.postgres.schema import GUARDED
from postgres_server import START_SECONDS_MAX, Server

__all__ = [
    "Address",
    "Server",
    "empty",
    "empty_postgres",
    "fresh_url",
    "lasting_schema",
    "own_server",
    "passing_url",
    "postgres",
    "shared",
]


class Address(NamedTuple):
    """How to reach the session's server: each a URL without a schema."""

    owner: str
    superuser: str
    """May be no superuser where the server is not ours."""
    network: str
    """By loopback and with a password."""


@cache
def shared() -> Address:
    """Where the session's server is; the first to ask starts it.

    It runs under a process that holds nothing but the wish for an exclusive lock, while each process that uses the
    server shares that lock. The kernel lets go of it for whoever ends, by whatever means; then the server ends.
    """
    if named := os.environ.get("EVRT_TEST_POSTGRES"):
        return Address(named, named, named)
    session = os.environ.get("PYTEST_XDIST_TESTRUNUID") or secrets.token_hex(16)
    folder = Path(tempfile.gettempdir()) / f"evrt-postgres-{session[:16]}"
    os.environ["EVRT_TEST_POSTGRES_FOLDER"] = str(folder)
    while True:
        folder.mkdir(exist_ok=True)
        try:
            lock = (folder / "start.lock").open("w")
        except FileNotFoundError:
            continue
        with lock as start:
            fcntl.flock(start, fcntl.LOCK_EX)
            # Kept open until this process ends.
            users = os.open(folder / "users.lock", os.O_CREAT | os.O_WRONLY)
            fcntl.flock(users, fcntl.LOCK_SH)
            if not _is_there(users, folder / "users.lock"):
                # Whoever used it last has ended meanwhile, and the server with it.
                os.close(users)
                continue
            if not (folder / "address").exists():
                _start(folder)
            return Address(*(folder / "address").read_text().splitlines())


def _is_there(file: int, path: Path) -> bool:
    try:
        return os.stat(path).st_ino == os.fstat(file).st_ino
    except FileNotFoundError:
        return False


def _start(folder: Path) -> None:
    said = folder / "keeper.log"
    with said.open("wb") as log:
        keeper = subprocess.Popen(
            [sys.executable, postgres_server.__file__, folder],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            # Ctrl-C is for the tests.
            start_new_session=True,
        )
    deadline = time.monotonic() + START_SECONDS_MAX
    while not (folder / "address").exists():
        if keeper.poll() is not None or time.monotonic() > deadline:
            keeper.kill()
            text = said.read_text() if said.exists() else "and it has removed what it said."
            raise RuntimeError(f"The tests' PostgreSQL server could not be started.\n{text}")
        time.sleep(0.02)
    # It outlives this process by a moment, so nobody waits for it here.
    keeper.returncode = 0


def fresh_url(address: str) -> str:
    """The URL of a log that is not there yet, in a schema of its own."""
    return f"{address}{'&' if '?' in address else '?'}schema=test_{secrets.token_hex(8)}"


@contextmanager
def passing_url() -> Iterator[str]:
    """The URL of a log on PostgreSQL that is not there yet, and is gone afterwards where the server stays."""
    url = fresh_url(shared().owner)
    yield url
    if "EVRT_TEST_POSTGRES" in os.environ:
        address, schema = url.split("schema=")
        with psycopg.connect(address.rstrip("?&"), autocommit=True) as connection:
            connection.execute(f'DROP SCHEMA IF EXISTS "{schema}", "{schema}_eventsourcing" CASCADE')


@pytest.fixture
def postgres() -> Iterator[str]:
    """The URL of a log on PostgreSQL that is not there yet."""
    with passing_url() as url:
        yield url


@pytest.fixture(scope="session")
def lasting_schema() -> Iterator[str]:
    """The URL of the log that ``empty_postgres`` empties again and again."""
    with passing_url() as url:
        yield url


@pytest.fixture
def empty_postgres(lasting_schema: str) -> str:
    """The URL of a log on PostgreSQL with nothing in it: for what is not about a log's being made.

    Making one takes the server six times as long as emptying one.
    """
    empty(lasting_schema)
    return lasting_schema


def empty(url: str) -> None:
    """Take everything out of a log on PostgreSQL; one that is not there yet is left so."""
    address, schema = url.split("schema=")
    with psycopg.connect(address.rstrip("?&")) as connection:
        connection.execute(f"SET search_path TO {schema}")
        found = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = %s", (schema,))
        tables = {name for (name,) in found}
        if tables:
            _empty(connection, tables)


def _empty(connection: psycopg.Connection[Any], tables: set[str]) -> None:
    """Take out what the log's own triggers would not let go, and give it another id."""
    statements = [f"ALTER TABLE {table} DISABLE TRIGGER USER" for table in GUARDED]
    statements += [f"DELETE FROM {table}" for table in sorted(tables - {"head"})]
    statements.append(
        f"UPDATE head SET position = 0, time = 0, streams = 0, log = '{new_event_id()}', moved_to = NULL"
    )
    statements += [
        f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER {trigger}"
        for table, triggers in GUARDED.items()
        for trigger in triggers
    ]
    connection.execute(";".join(statements))


@pytest.fixture
def own_server() -> Iterator[Server]:
    """A server that belongs to one test: to be killed, stopped and started again."""
    folder = Path(tempfile.mkdtemp(prefix="evrt-postgres-own-"))
    shared()
    server = Server(folder)
    try:
        server.start()
        yield server
    finally:
        server.remove()
