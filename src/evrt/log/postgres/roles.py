"""Who may do what to a log: the statements that give an owner, a writer and a reader the least each needs.

The owner makes the schema, brings it to a newer version and seals a log that moves; only an owner can take triggers
away, so nothing that runs agents should be one. The writer appends, and changes what may change: a stream's head, the
log's end, payloads that turn to NULL, refs, blobs and the queue. The reader reads.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from evrt.errors import UsageError
from evrt.log.postgres.address import NAME_BYTES_MAX, Address
from evrt.log.postgres.schema import named
from evrt.log.queue_tables import NAMES as QUEUE_TABLES

_NAME = re.compile(r"[a-z_][a-z0-9_$]*")


class Roles(NamedTuple):
    """What the roles are called."""

    owner: str
    writer: str
    reader: str


DEFAULT_ROLES = Roles("evrt_owner", "evrt_writer", "evrt_reader")

# Who only appends needs no more than this of each table; what is not here nobody but the owner may change.
_WRITER = """
GRANT USAGE ON SCHEMA @ TO {writer};
REVOKE ALL ON ALL TABLES IN SCHEMA @ FROM {writer};
GRANT SELECT ON ALL TABLES IN SCHEMA @ TO {writer};
GRANT UPDATE (position, time, streams) ON @.head TO {writer};
GRANT INSERT ON @.streams, @.events TO {writer};
GRANT UPDATE (version, leaf, epoch) ON @.streams TO {writer};
GRANT UPDATE (salt, payload) ON @.events TO {writer};
GRANT INSERT, UPDATE, DELETE ON {changing} TO {writer};
"""

_READER = """
GRANT USAGE ON SCHEMA @ TO {reader};
REVOKE ALL ON ALL TABLES IN SCHEMA @ FROM {reader};
GRANT SELECT ON ALL TABLES IN SCHEMA @ TO {reader};
"""

# Whoever runs this may have made the log, and is to go on being able to migrate and move it.
_OWNER = """
GRANT {owner} TO CURRENT_USER;
ALTER SCHEMA @ OWNER TO {owner};
{tables}
REVOKE CREATE ON SCHEMA @ FROM PUBLIC;
"""

CHANGING = ("refs", "blobs", "blob_pieces", "tracking", "snapshots", *QUEUE_TABLES)
"""Tables whose rows may be changed and removed: they are no history."""

KEPT = ("head", "streams", "events")


def roles_sql(address: Address, roles: Roles = DEFAULT_ROLES) -> str:
    """SQL for psql that makes the roles where they are not there, and gives each its rights to a log that is there.

    They are groups: none of them can log in; grant one to each user. Raises UsageError for a name that is none.
    """
    for role in roles:
        if not _NAME.fullmatch(role) or len(role) > NAME_BYTES_MAX or role.startswith("pg_"):
            raise UsageError(
                f"{role!r} cannot name a role: it takes lower-case letters, digits and '_', and begins with a letter."
            )
    if len(set(roles)) < len(roles):
        raise UsageError(
            "Owner, writer and reader have to be three roles: else one could do what another may not."
        )
    making = "\n".join(
        f"DO $$ BEGIN IF to_regrole('{role}') IS NULL THEN CREATE ROLE {role} NOLOGIN; END IF; END $$;"
        for role in roles
    )
    owned = [f"ALTER TABLE @.{table} OWNER TO {{owner}};" for table in (*KEPT, *CHANGING)]
    owned += [f"ALTER FUNCTION @.{function}() OWNER TO {{owner}};" for function in ("refuse", "check_events")]
    words = {**roles._asdict(), "changing": ", ".join(f"@.{table}" for table in CHANGING)}
    text = "\n".join([_OWNER.replace("{tables}", "\n".join(owned)), _WRITER, _READER]).format(**words)
    return (
        f"-- The rights to the log in the schema {address.schema}. Run it as a superuser, or as its owner who may create roles,\n"
        f"-- and again after `evrt db migrate`:\n"
        f"-- evrt db roles | psql DATABASE\n"
        f"-- Then: GRANT {roles.writer} TO the users that append, GRANT {roles.reader} TO those that only read, and\n"
        f"-- GRANT {roles.owner} TO who migrates the log or moves it; whoever runs this is granted that here.\n"
        f"BEGIN;\n{making}\n{named(text, address.quoted_schema).strip()}\nCOMMIT;\n"
    )
