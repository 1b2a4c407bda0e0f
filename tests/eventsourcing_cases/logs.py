"""Logs for the cases, in every store: an empty one for each test, and what is closed when the test is over."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, NamedTuple, Protocol

import psycopg
from eventsourcing.tests.projection import EventCountersView
from eventsourcing.utils import Environment

from eventsourcing_cases.views import CountersInTables, CountersOnPostgres
from evrt.errors import NotFound
from evrt.log.check import check
from evrt.log.foreign.factory import LogFactory
from evrt.log.postgres.address import parse_postgres_url
from evrt.log.postgres.factory import Factory as PostgresFactory
from evrt.log.sqlite.factory import Factory as SqliteFactory
from evrt.log.sqlite.lock import FileLock
from postgres import passing_url

MODULE = "evrt.log.sqlite"
ON_POSTGRES = "evrt.log.postgres"


class Case(Protocol):
    """What a test case lets one do before it ends."""

    def enterContext(self, manager: AbstractContextManager[Any]) -> Any: ...  # noqa: N802
    def addCleanup(self, function: Callable[..., Any], /, *arguments: Any) -> None: ...  # noqa: N802


class Place(NamedTuple):
    """Where a log may be made, for evrt and in the library's words."""

    url: str
    settings: dict[str, str]


@contextmanager
def _in_a_file() -> Iterator[Place]:
    with tempfile.TemporaryDirectory(prefix="evrt-") as folder:
        yield Place(f"sqlite:///{folder}/evrt.db", {"SQLITE_DBNAME": f"{folder}/evrt.db"})
        _check(f"sqlite:///{folder}/evrt.db")


@contextmanager
def _on_a_server() -> Iterator[Place]:
    with passing_url() as url:
        yield Place(url, {"POSTGRES_DBNAME": url})
        _check(url)


def _check(url: str) -> None:
    """Whatever a test has put there, the check must accept it."""
    try:
        report = check(url)
    except NotFound:
        return
    assert report.findings == ()


@contextmanager
def _file_held(url: str) -> Iterator[None]:
    lock = FileLock(f"{url.removeprefix('sqlite:///')}-lock")
    lock.acquire()
    try:
        yield
    finally:
        lock.close()


@contextmanager
def _head_held(url: str) -> Iterator[None]:
    address = parse_postgres_url(url)
    with psycopg.connect(**address.parameters) as connection:  # type: ignore[arg-type]
        connection.execute(f"SELECT FROM {address.quoted_schema}.head FOR UPDATE")
        yield


class Store(NamedTuple):
    """A store as the cases use it."""

    module: str
    factory_class: type[LogFactory]
    place: Callable[[], AbstractContextManager[Place]]
    """A place of its own for one test; the check looks at what is there in the end."""
    held: Callable[[str], AbstractContextManager[None]]
    """The log's one lock, held by somebody else."""
    lock_timeout: str
    """The setting's name."""
    view_class: type[EventCountersView]


SQLITE = Store(MODULE, SqliteFactory, _in_a_file, _file_held, "SQLITE_LOCK_TIMEOUT", CountersInTables)
POSTGRES = Store(
    ON_POSTGRES, PostgresFactory, _on_a_server, _head_held, "POSTGRES_LOCK_TIMEOUT", CountersOnPostgres
)
STORES = (SQLITE, POSTGRES)


def new_settings(case: Case, store: Store) -> dict[str, str]:
    """Settings that name an empty log."""
    place: Place = case.enterContext(store.place())
    return place.settings


def new_factory(case: Case, store: Store, **settings: str) -> LogFactory:
    """A factory over an empty log."""
    factory = store.factory_class(Environment(env={**new_settings(case, store), **settings}))
    case.addCleanup(factory.close)
    return factory
