"""What the library's settings for PostgreSQL may say, and what a log keeps open on the server."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import aclosing, contextmanager
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
from eventsourcing.dispatch import singledispatchmethod
from eventsourcing.persistence import InfrastructureFactory, InterfaceError, StoredEvent, Tracking
from eventsourcing.projection import Projection, ProjectionRunner
from eventsourcing.tests.projection import EventCountersView
from eventsourcing.utils import get_topic

import evrt.log.postgres
from eventsourcing_cases.bank import Account, Bank, open_evrt
from eventsourcing_cases.logs import ON_POSTGRES
from eventsourcing_cases.views import CountersOnPostgres
from evrt.events.run import RunSucceeded
from evrt.log import open_log
from evrt.log.postgres.address import parse_postgres_url
from evrt.log.postgres.connect import session_name
from evrt.log.postgres.factory import VIEWS_SUFFIX, Factory
from postgres import shared

SECRET = "postgresql://evrt:s3cret@localhost/evrt"


@contextmanager
def superuser() -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(shared().superuser, autocommit=True) as connection:
        yield connection


def sessions(purpose: str) -> int:
    """How many this process has open for that."""
    with superuser() as connection:
        row = connection.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = %s", (session_name(purpose),)
        ).fetchone()
    assert row is not None
    return int(row[0])


def until(holds: Callable[[], bool]) -> None:
    """Wait until something holds; the test's own time-out ends what never does."""
    while not holds():
        time.sleep(0.01)


def event(version: int = 1) -> StoredEvent:
    return StoredEvent("order-1", version, "shop:Placed", b"")


def in_parts(url: str) -> dict[str, str]:
    """A URL as the library's settings say it."""
    address = parse_postgres_url(url)
    given = address.parameters
    return {
        "POSTGRES_DBNAME": given["dbname"],
        "POSTGRES_HOST": given.get("host", ""),
        "POSTGRES_PORT": given.get("port", ""),
        "POSTGRES_USER": given.get("user", ""),
        "POSTGRES_PASSWORD": given.get("password", ""),
        "POSTGRES_SCHEMA": address.schema,
    }


def on_the_network(url: str) -> str:
    """The same log by loopback and with a password."""
    return (
        f"{shared().network}{'&' if '?' in shared().network else '?'}schema={parse_postgres_url(url).schema}"
    )


def ask_password() -> str:
    """As somebody would who gets a new one every quarter of an hour."""
    return urlsplit(shared().network).password or ""


# ------------------------------------------------------------------------------- finding the factory


def test_the_library_finds_the_factory_after_a_log_was_opened_without_it(postgres: str) -> None:
    script = f"""
        import asyncio, json, sys
        from contextlib import aclosing
        from evrt.log import open_log

        async def open_and_close():
            async with aclosing(await open_log({postgres!r})) as log:
                return await log.position()

        asyncio.run(open_and_close())
        before = "eventsourcing" in sys.modules

        from eventsourcing.application import Application
        found = []
        for topic in ("evrt.log.postgres", "evrt.log.postgres:Factory"):
            with Application(env={{"PERSISTENCE_MODULE": topic, "POSTGRES_DBNAME": {postgres!r}}}) as app:
                found += [type(app.factory).__module__, type(app.recorder).__name__]
        print(json.dumps([before, found]))
    """
    told = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], check=True, capture_output=True, text=True
    )
    assert json.loads(told.stdout) == [False, ["evrt.log.postgres.factory", "LogApplicationRecorder"] * 2]
    assert evrt.log.postgres.Factory is Factory


# ------------------------------------------------------------------------------------------- settings

PARTS = {
    "POSTGRES_DBNAME": "evrt",
    "POSTGRES_HOST": "localhost",
    "POSTGRES_USER": "evrt",
    "POSTGRES_PASSWORD": "s3cret",
}


@pytest.mark.parametrize(
    "settings, words",
    [
        ({}, r"set POSTGRES_DBNAME, or name everything in one URL"),
        ({"POSTGRES_DBNAME": "evrt"}, r"set POSTGRES_USER"),
        ({**PARTS, "POSTGRES_ENABLE_DB_FUNCTIONS": "y"}, r"could read position 8 before 7 is committed"),
        ({**PARTS, "SINGLE_ROW_TRACKING": "n"}, r"leave SINGLE_ROW_TRACKING out"),
        ({**PARTS, "ORIGINATOR_ID_TYPE": "int"}, r"takes 'uuid' or 'text'; it is 'int'"),
        ({**PARTS, "POSTGRES_LOCK_TIMEOUT": "soon"}, r"whole number of seconds.*'soon'"),
        ({**PARTS, "POSTGRES_CONNECT_TIMEOUT": "soon"}, r"whole number of seconds.*'soon'"),
        ({**PARTS, "POSTGRES_POOL_SIZE": "-1"}, r"whole number.*'-1'"),
        ({**PARTS, "POSTGRES_PORT": "x"}, r"no number from 1 to 65535"),
        ({**PARTS, "POSTGRES_SCHEMA": "pg_mine"}, r"belongs to PostgreSQL"),
        ({"POSTGRES_DBNAME": SECRET, "POSTGRES_SCHEMA": "a b"}, r"cannot name the schema of a log"),
    ],
)
def test_a_setting_that_cannot_be_used_is_refused_in_words(settings: dict[str, str], words: str) -> None:
    with pytest.raises(OSError, match=words) as caught:
        InfrastructureFactory.construct({"PERSISTENCE_MODULE": ON_POSTGRES, **settings})
    assert "s3cret" not in str(caught.value)


def test_making_a_factory_connects_to_nothing() -> None:
    made = Factory({**PARTS, "POSTGRES_HOST": "nowhere.invalid", "POSTGRES_LOCK_TIMEOUT": "0"})
    made.mapper()
    made.close()


def test_the_librarys_own_settings_and_a_url_name_the_same_log(postgres: str) -> None:
    network = on_the_network(postgres)
    ways = [
        {"POSTGRES_DBNAME": postgres},
        {
            "POSTGRES_DBNAME": postgres.replace("schema=", "schema=not_"),
            "POSTGRES_SCHEMA": in_parts(postgres)["POSTGRES_SCHEMA"],
        },
        in_parts(postgres),
        in_parts(network),
        {
            **in_parts(network),
            "POSTGRES_PASSWORD": "",
            "POSTGRES_GET_PASSWORD_TOPIC": get_topic(ask_password),
        },
    ]
    for number, settings in enumerate(ways, start=1):
        made = Factory(settings)
        assert made.application_recorder().insert_events([event(number)]) == [number]
        made.close()


def test_a_view_reaches_the_server_as_the_log_does(postgres: str) -> None:
    settings = {
        **in_parts(on_the_network(postgres)),
        "POSTGRES_PASSWORD": "",
        "POSTGRES_GET_PASSWORD_TOPIC": get_topic(ask_password),
    }
    for _ in range(2):
        made = Factory(settings)
        made.tracking_recorder(CountersOnPostgres)
        made.close()


def test_what_cannot_be_opened_is_an_interface_error_without_the_password(postgres: str) -> None:
    address = parse_postgres_url(postgres)
    with superuser() as connection:
        connection.execute(f'CREATE SCHEMA "{address.schema}" CREATE TABLE mine (one int)')
    for settings, words in (
        (
            {"POSTGRES_DBNAME": postgres},
            "another program's tables",
        ),
        ({**PARTS, "POSTGRES_HOST": "127.0.0.1", "POSTGRES_PORT": "1"}, "cannot be opened"),
    ):
        made = Factory(settings)
        with pytest.raises(InterfaceError, match=words) as caught:
            made.application_recorder()
        assert "s3cret" not in str(caught.value)
        made.close()


# -------------------------------------------------------------------------------------- beside evrt


class Counting(Projection[EventCountersView]):
    """Counts accounts that were opened and runs that succeeded."""

    name = "counters"
    topics = (get_topic(Account.Created), get_topic(RunSucceeded))

    @singledispatchmethod
    def process_event(self, event: object, tracking: Tracking) -> None:
        raise AssertionError("No other topic was asked for.")

    @process_event.register
    def opened(self, event: Account.Created, tracking: Tracking) -> None:
        self.view.incr_created_event_counter(tracking)

    @process_event.register
    def succeeded(self, event: RunSucceeded, tracking: Tracking) -> None:
        self.view.incr_subsequent_event_counter(tracking)


def follow(url: str, *, opened: int, succeeded: int) -> None:
    """Open an account and make a run while a view follows; then it has counted so many."""
    env = {"PERSISTENCE_MODULE": ON_POSTGRES, "POSTGRES_DBNAME": url}
    with ProjectionRunner(
        application_class=Bank, projection_class=Counting, view_class=CountersOnPostgres, env=env
    ) as runner:
        account = runner.app.open_account()
        runner.app.credit(account, 5)
        assert runner.app.balance(account) == 5
        open_evrt(url).run_sync("exchange", 1, user="u-1").unwrap()
        [last] = [
            one.id
            for one in runner.app.recorder.select_notifications(None, 1_000)
            if one.topic in Counting.topics
        ][-1:]
        runner.wait(last, timeout=60)
        view = runner.projection.view
        assert (view.get_created_event_counter(), view.get_subsequent_event_counter()) == (opened, succeeded)


def test_an_application_and_a_projection_open_a_log_in_which_evrt_runs(postgres: str) -> None:
    follow(postgres, opened=1, succeeded=1)
    follow(postgres, opened=2, succeeded=2)

    async def streams() -> list[str]:
        async with aclosing(await open_log(postgres)) as log:
            return [row.stream for row in await log.read(limit=1_000)]

    everything = asyncio.run(streams())
    assert sum(stream.startswith("run-") for stream in everything) > 0
    assert len([stream for stream in everything if not stream.startswith(("run-", "memory-", "log"))]) >= 4
    # The view is beside the log, and is made anew where it is gone.
    schema = f"{parse_postgres_url(postgres).schema}{VIEWS_SUFFIX}"
    with superuser() as connection:
        connection.execute(f'DROP SCHEMA "{schema}" CASCADE')
    follow(postgres, opened=3, succeeded=3)


def test_a_view_whose_schema_would_have_too_long_a_name_is_refused(postgres: str) -> None:
    made = Factory({"POSTGRES_DBNAME": postgres, "POSTGRES_SCHEMA": "x" * 50})
    with pytest.raises(InterfaceError, match="Choose one of at most 49 bytes"):
        made.tracking_recorder(CountersOnPostgres)
    made.close()


# --------------------------------------------------------------------------------- what is kept open


def test_no_more_connections_read_than_the_pool_may_have(postgres: str) -> None:
    made = Factory({"POSTGRES_DBNAME": postgres, "POSTGRES_POOL_SIZE": "2", "POSTGRES_MAX_OVERFLOW": "0"})
    recorder = made.application_recorder()
    recorder.insert_events([event()])
    most: list[int] = []

    def read() -> None:
        for _ in range(20):
            assert recorder.max_notification_id() == 1

    threads = [threading.Thread(target=read) for _ in range(12)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        most.append(sessions("reader"))
    for thread in threads:
        thread.join()
    assert 1 <= max([*most, sessions("reader")]) <= 2
    made.close()


def test_what_was_cut_is_opened_again_and_what_was_closed_leaves_no_session(postgres: str) -> None:
    made = Factory({"POSTGRES_DBNAME": postgres})
    recorder = made.application_recorder()
    recorder.insert_events([event(1)])
    heard: list[int] = []

    def listen() -> None:
        with recorder.subscribe() as subscription:
            heard.extend(one.id for one in subscription)

    following = threading.Thread(target=listen)
    following.start()
    until(lambda: heard == [1] and sessions("listener") == 1)
    with superuser() as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = ANY(%s)",
            ([session_name(purpose) for purpose in ("reader", "listener", "writer")],),
        )
    assert recorder.max_notification_id() == 1
    assert recorder.insert_events([event(2)]) == [2]
    other = Factory({"POSTGRES_DBNAME": postgres})
    other.application_recorder().insert_events([event(3)])
    other.close()
    until(lambda: heard == [1, 2, 3] and sessions("listener") == 1)
    made.close()
    following.join()
    until(lambda: sessions("reader") + sessions("listener") + sessions("writer") == 0)
