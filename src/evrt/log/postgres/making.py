"""Makes the schema of a log where there is none, and tells what is there: a log, another program's, a newer one."""

from __future__ import annotations

import logging
import time
from typing import Any, Literal

import psycopg

from evrt.errors import UnusableLog, UsageError
from evrt.log.ids import new_event_id
from evrt.log.postgres.address import Address
from evrt.log.postgres.schema import MARK, SCHEMA, SCHEMA_VERSION, named
from evrt.log.standing import Origin

State = Literal["new", "ready"]

log_logger = logging.getLogger("evrt.log")

UNSAFE_WHEN_OFF = ("fsync", "full_page_writes")
"""Settings of a server without which nothing that it acknowledges is certain to be there after a power cut."""

# Catalogs are looked at without the table's name being resolved, for a schema that may not be entered has none.
LOOK = """
SELECT
    n.oid IS NOT NULL,
    EXISTS (SELECT FROM pg_catalog.pg_class AS c WHERE c.relnamespace = n.oid),
    (
        SELECT pg_catalog.obj_description(c.oid, 'pg_class')
        FROM pg_catalog.pg_class AS c WHERE c.relnamespace = n.oid AND c.relname = 'head'
    ),
    pg_catalog.current_setting('server_encoding'),
    pg_catalog.hashtextextended(%(schema)s || '', 45)
FROM (SELECT) AS one LEFT JOIN pg_catalog.pg_namespace AS n ON n.nspname = %(schema)s::text
"""

HEAD = "SELECT schema_version, log FROM @.head"


def judge(found: tuple[Any, ...], address: Address) -> State:
    """What ``LOOK`` found. Raises UnusableLog, UsageError."""
    _, inhabited, mark, encoding, _ = found
    if encoding != "UTF8":
        raise UsageError(
            f"The database of {address.shown} keeps its texts in {encoding}; a log needs UTF8. Make another with "
            "createdb --encoding=UTF8 --template=template0."
        )
    if not inhabited:
        return "new"
    if mark != MARK:
        raise UnusableLog(
            f"The schema {address.schema} of {address.shown} holds another program's tables, not a log. "
            "Name another with ?schema=…; it is made where it is not there."
        )
    return "ready"


def check_version(version: int, address: Address) -> None:
    """Raises UnusableLog for a schema that is not this program's."""
    refuse_newer(version, address, known=SCHEMA_VERSION)
    if version < SCHEMA_VERSION:
        raise UnusableLog(
            f"The log {address.shown} has schema version {version}, and this evrt writes {SCHEMA_VERSION}. End what "
            "uses it, then run `evrt db migrate`."
        )


def refuse_newer(version: int, address: Address, *, known: int) -> None:
    """Raises UnusableLog for a schema of a version that is not known yet."""
    if version > known:
        raise UnusableLog(
            f"The log {address.shown} has schema version {version}, and this evrt knows {known}: a newer one wrote it. "
            "Upgrade evrt."
        )


_SWITCHES = "SELECT current_setting('fsync'), current_setting('full_page_writes')"


def warn_of_unsafe(connection: psycopg.Connection[Any], address: Address) -> None:
    """Say it where the server is set not to care for power cuts. That may be meant, as for tests, so it is no error."""
    [values] = connection.execute(_SWITCHES).fetchall()
    for name, value in zip(UNSAFE_WHEN_OFF, values, strict=True):
        if value == "off":
            log_logger.warning(
                "The server of %s has %s = off: a power cut loses or damages what was acknowledged. Set it to on.",
                address.shown,
                name,
            )


def make_sure(connection: psycopg.Connection[Any], address: Address, origin: Origin | None = None) -> str:
    """Have a log be there; its id. A copy, where an origin is given. Safe when several processes come at once.

    Raises psycopg.Error, UnusableLog.
    """
    if judge(_look(connection, address), address) == "new":
        _make(connection, address, origin)
    row = connection.execute(named(HEAD, address.quoted_schema)).fetchone()
    if row is None:
        raise UnusableLog(f"The log {address.shown} has no head: its row has been removed.")
    check_version(row[0], address)
    return str(row[1])


def _look(connection: psycopg.Connection[Any], address: Address) -> tuple[Any, ...]:
    row = connection.execute(LOOK, {"schema": address.schema}).fetchone()
    assert row is not None
    return tuple(row)


def _make(connection: psycopg.Connection[Any], address: Address, origin: Origin | None) -> None:
    with connection.transaction():
        # One at a time, whatever their sessions are set to; it ends with the transaction.
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (_look(connection, address)[4],))
        found = _look(connection, address)
        if judge(found, address) == "ready":
            return
        schema = address.quoted_schema
        connection.execute("" if found[0] else f"CREATE SCHEMA {schema}")
        connection.execute(named(SCHEMA, schema))
        connection.execute(
            named("INSERT INTO @.head VALUES (true, 0, 0, 0, %s, %s, %s, NULL, %s)", schema),
            # A copy says so from the first moment on, so that nobody takes a part of it for the whole.
            (SCHEMA_VERSION, *(origin or (new_event_id(), time.time_ns() // 1_000, None))),
        )
