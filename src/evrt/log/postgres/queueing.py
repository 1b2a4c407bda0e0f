"""Statements for every database as PostgreSQL is told them: its own placeholders, tables in the log's schema."""

from __future__ import annotations

import re
from functools import lru_cache

from psycopg.types.numeric import Int8

from evrt.log.coordinating import Statement
from evrt.log.queue_tables import NAMES

TABLES = (*NAMES, "events", "streams", "tracking", "snapshots")

CLOCK = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint"

STATEMENTS_KEPT_MAX = 1_000

_TABLE = re.compile(rf"\b(FROM|JOIN|INTO|UPDATE) ({'|'.join(TABLES)})\b")
_NAMED = re.compile(r":(\w+)")


def to_postgres(statement: Statement) -> tuple[str, dict[str, object]]:
    """SQL and its parameters. ``@`` stands for the schema."""
    # Of one size whatever its value, so that one statement is prepared and not one for each size.
    parameters = {
        name: Int8(value) if isinstance(value, int) else value for name, value in statement.parameters.items()
    }
    return _translated(statement.sql), parameters


@lru_cache(maxsize=STATEMENTS_KEPT_MAX)
def _translated(sql: str) -> str:
    return _NAMED.sub(r"%(\1)s", _TABLE.sub(r"\1 @.\2", sql))
