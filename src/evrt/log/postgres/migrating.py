"""A log on PostgreSQL of an older version of the schema made one of today's: what ``evrt db migrate`` does.

Forward only, in one transaction under the lock that every writer takes: whatever happens meanwhile, the log is as it
was or as it is to be. No event changes, so neither does any proof. Processes that have the log open look at the
version whenever they write, so one that knows only the older refuses from then on.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import psycopg

from evrt.errors import Denied, NotFound, UnusableLog
from evrt.log.postgres.address import Address
from evrt.log.postgres.connect import connect_writing, settings, translate
from evrt.log.postgres.making import LOOK, judge, refuse_newer
from evrt.log.postgres.schema import SCHEMA_VERSION, STEPS, named

LOCK_TIMEOUT_SECONDS = 30.0

_NOT_OWNER_STATE = "42501"

# What a step makes belongs to whoever the rest belongs to, also where that is a role of several users.
_BE_OWNER = """
SELECT set_config('role', pg_get_userbyid(c.relowner), true)
FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE n.nspname = %s AND c.relname = 'head' AND pg_has_role(c.relowner, 'MEMBER')
"""


class Stepped(NamedTuple):
    """From which version to which."""

    before: int
    after: int


def migrate_postgres(
    address: Address,
    *,
    steps: Mapping[int, str] = STEPS,
    to: int = SCHEMA_VERSION,
    lock_timeout_seconds: float = LOCK_TIMEOUT_SECONDS,
) -> Stepped:
    """Bring the log in a schema to today's version; ``steps`` are SQL by the version they begin at. Blocks.

    Raises NotFound, Denied (this user does not own the tables), UnusableLog (newer, or another program's), UsageError,
    Unavailable.
    """
    try:
        connection = connect_writing(address, lock_timeout_seconds=lock_timeout_seconds)
        try:
            # Like whoever makes a log: one at a time, and one transaction for all of it.
            with connection.transaction():
                connection.execute(*settings(address, lock_timeout_seconds, local=True))
                return _migrate(connection, address, steps, to)
        finally:
            connection.close()
    except psycopg.Error as error:
        what = "The log could not be migrated and is as it was"
        if error.sqlstate == _NOT_OWNER_STATE:
            said = error.diag.message_primary
            raise Denied(
                f"{what} ({address.shown}): {said}. Only the owner of its tables may migrate it: be a member of that role."
            ) from error
        raise translate(error, address, what) from error


def _migrate(
    connection: psycopg.Connection[Any], address: Address, steps: Mapping[int, str], to: int
) -> Stepped:
    found = connection.execute(LOOK, {"schema": address.schema}).fetchone()
    assert found is not None
    if judge(found, address) == "new":
        raise NotFound(f"There is no log in the schema {address.schema} of {address.shown}.")
    connection.execute("SELECT pg_advisory_xact_lock(%s)", (found[4],))
    schema = address.quoted_schema
    head: Any = named("SELECT schema_version FROM @.head FOR UPDATE", schema)
    row = connection.execute(head).fetchone()
    if row is None:
        raise UnusableLog(f"The log {address.shown} has no head: its row has been removed.")
    before = int(row[0])
    refuse_newer(before, address, known=to)
    missing = [version for version in range(before, to) if version not in steps]
    if missing:
        raise UnusableLog(
            f"The log {address.shown} has schema version {before}, which this evrt does not know. It has been left as it is."
        )
    if before < to:
        connection.execute(_BE_OWNER, (address.schema,))
        for version in range(before, to):
            step: Any = named(steps[version], schema)
            connection.execute(step)
        changed: Any = named("UPDATE @.head SET schema_version = %s", schema)
        connection.execute(changed, (to,))
    return Stepped(before, to)
