"""Looks at what a log on PostgreSQL stands on: the driver, the server, its settings, the log itself.

Part of ``evrt doctor``, in the style of ``evrt.log.doctor``: nothing is changed.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import psycopg

from evrt.errors import EvrtError, NotFound
from evrt.log.diagnosis import CHECKED_EVENTS_MAX, Diagnosis, examine_events, examine_python, examine_standing
from evrt.log.postgres.address import Address
from evrt.log.postgres.connect import connect_walking, translate
from evrt.log.postgres.making import UNSAFE_WHEN_OFF
from evrt.log.postgres.rows import PostgresRows, open_postgres_rows
from evrt.log.postgres.schema import SCHEMA_VERSION, named

ROUND_TRIPS = 15
SLOW_SECONDS = 0.02
"""A run waits for two of these at every append."""

SESSIONS_FREE_MIN = 10

_SESSIONS = """
SELECT current_setting('max_connections')::bigint - current_setting('superuser_reserved_connections')::bigint,
    (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend')
"""
_HELD = """
SELECT a.application_name, extract(epoch FROM clock_timestamp() - a.xact_start)::float8
FROM pg_locks AS l JOIN pg_stat_activity AS a ON a.pid = l.pid
WHERE l.relation = to_regclass(%s) AND l.mode = 'RowShareLock' AND a.xact_start < clock_timestamp() - interval '5 seconds'
ORDER BY 2 DESC LIMIT 1
"""


def examine_postgres(address: Address, url: str) -> Iterator[Diagnosis]:
    """Examine a server and the log that is to be there. Yields as it goes; blocks."""
    yield examine_python()
    yield _driver()
    try:
        with connect_walking(address) as connection:
            for name, look in (
                ("server", _server),
                ("settings", _settings),
                ("sessions", _sessions),
                ("round trips", _round_trips),
            ):
                yield _guarded(name, address, partial(look, connection))
    except (psycopg.Error, EvrtError) as error:
        refusal = (
            translate(error, address, "The server cannot be reached")
            if isinstance(error, psycopg.Error)
            else error
        )
        yield Diagnosis("server", "bad", str(refusal).removesuffix("."))
        return
    found = _guarded("log", address, lambda: _log(address))
    yield found
    if found.verdict == "bad" or found.found.startswith("there is none"):
        return
    yield _guarded("write lock", address, lambda: _write_lock(address))
    yield _guarded("events", address, lambda: _events(address, url))


def _guarded(name: str, address: Address, look: Callable[[], Diagnosis]) -> Diagnosis:
    try:
        return look()
    except EvrtError as error:
        return Diagnosis(name, "bad", str(error).removesuffix("."))
    except psycopg.Error as error:
        text = str(translate(error, address, "It could not be looked at"))
        return Diagnosis(name, "bad", text.removesuffix("."))


def _driver() -> Diagnosis:
    version = psycopg.__version__
    library = psycopg.pq.version()
    if psycopg.pq.__impl__ == "python":
        return Diagnosis(
            "psycopg",
            "mind",
            f"{version} in plain Python, libpq {library // 10_000}",
            "Install psycopg[binary]: it is several times as fast.",
        )
    return Diagnosis("psycopg", "ok", f"{version}, libpq {library // 10_000}")


def _server(connection: psycopg.Connection[Any]) -> Diagnosis:
    version = connection.execute("SHOW server_version").fetchone()
    standby = connection.execute("SELECT pg_is_in_recovery()").fetchone()
    assert version is not None
    assert standby is not None
    if standby[0]:
        return Diagnosis(
            "server",
            "mind",
            f"PostgreSQL {version[0]}, a standby: the log can only be read, and late",
            "Name the primary in the URL, or several hosts with target_session_attrs=read-write.",
        )
    return Diagnosis("server", "ok", f"PostgreSQL {version[0]}")


def _settings(connection: psycopg.Connection[Any]) -> Diagnosis:
    for setting in UNSAFE_WHEN_OFF:
        row = connection.execute("SELECT current_setting(%s)", (setting,)).fetchone()
        if row is not None and row[0] != "on":
            return Diagnosis(
                "settings",
                "bad",
                f"{setting} is {row[0]}: a power cut loses or damages what was acknowledged",
                f"Set {setting} to on for the server.",
            )
    row = connection.execute("SHOW synchronous_commit").fetchone()
    if row is not None and row[0] == "off":
        return Diagnosis("settings", "ok", "synchronous_commit is off, and evrt turns it on for its writers")
    return Diagnosis(
        "settings", "ok", f"fsync and full_page_writes are on, synchronous_commit is {row and row[0]}"
    )


def _sessions(connection: psycopg.Connection[Any]) -> Diagnosis:
    row = connection.execute(_SESSIONS).fetchone()
    assert row is not None
    most, there = row
    text = f"{there} of {most} in use"
    if most - there < SESSIONS_FREE_MIN:
        return Diagnosis(
            "sessions", "mind", text, "Raise max_connections, or put a pooler before the server."
        )
    return Diagnosis("sessions", "ok", text)


def _round_trips(connection: psycopg.Connection[Any]) -> Diagnosis:
    taken = []
    for _ in range(ROUND_TRIPS):
        began = time.perf_counter()
        connection.execute("SELECT 1")
        taken.append(time.perf_counter() - began)
    median = statistics.median(taken)
    text = f"one takes {median * 1_000:.3f} ms"
    if median > SLOW_SECONDS:
        return Diagnosis(
            "round trips", "mind", text, "Run workers near the server: each append waits for two."
        )
    return Diagnosis("round trips", "ok", text)


def _log(address: Address) -> Diagnosis:
    try:
        with open_postgres_rows(address, "The log cannot be read") as rows:
            assert isinstance(rows, PostgresRows)
            text = f"{rows.id}, {rows.position():,} events, schema {SCHEMA_VERSION}"
            return examine_standing(text, rows.standing())
    except NotFound:
        return Diagnosis(
            "log", "ok", f"there is none in the schema {address.schema} yet; the first run makes it"
        )


def _write_lock(address: Address) -> Diagnosis:
    with connect_walking(address) as connection:
        held: Any = _HELD
        row = connection.execute(held, (named("@.head", address.quoted_schema),)).fetchone()
    if row is None:
        return Diagnosis("write lock", "ok", "nobody holds it for long")
    return Diagnosis(
        "write lock",
        "bad",
        f"the session {row[0]!r} has held the head row for {row[1]:.0f} seconds, so nobody else can write",
        "If it is stuck, end it with pg_terminate_backend.",
    )


def _events(address: Address, url: str) -> Diagnosis:
    with open_postgres_rows(address, "The log cannot be read") as rows:
        events = rows.position()
    if events > CHECKED_EVENTS_MAX:
        return Diagnosis("events", "ok", f"{events:,}, too many to check now", "Run `evrt db check`.")
    return examine_events(url)
