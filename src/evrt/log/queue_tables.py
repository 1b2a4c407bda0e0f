"""The tables of the queue and what stands beside it, in words that SQLite and PostgreSQL both understand.

Every state that is looked for often has an index of its own that holds only the entries in it: what a worker is
given next, what is due next, who is next in a lane are each the first row of one, however long the queue is.
"""

from __future__ import annotations

import re

NAMES = ("queue", "leases", "keys", "rates", "ticks", "turns")

TABLES = (
    # news: 1 when its worker is to be told that the run was woken or paused.
    """
CREATE TABLE queue (
    run TEXT PRIMARY KEY,
    state TEXT NOT NULL,
    target TEXT NOT NULL,
    priority BIGINT NOT NULL,
    place BIGINT NOT NULL,
    lane TEXT,
    due BIGINT,
    worker TEXT,
    news BIGINT NOT NULL
)
""",
    "CREATE INDEX queue_ready ON queue (target, priority DESC, place, run) WHERE state = 'ready'",
    "CREATE INDEX queue_oldest ON queue (target, place, run) WHERE state = 'ready'",
    "CREATE INDEX queue_due ON queue (target, due) WHERE state IN ('delayed', 'waiting')",
    "CREATE INDEX queue_claimed ON queue (worker, target) WHERE state = 'claimed'",
    "CREATE INDEX queue_news ON queue (worker) WHERE news = 1",
    "CREATE INDEX queue_by_lane ON queue (lane, place, run) WHERE lane IS NOT NULL",
    "CREATE INDEX queue_by_place ON queue (place)",
    # On the clock of leases, in microseconds.
    """
CREATE TABLE leases (
    worker TEXT PRIMARY KEY,
    begun BIGINT NOT NULL,
    ends BIGINT NOT NULL
)
""",
    """
CREATE TABLE keys (
    owner TEXT NOT NULL,
    key TEXT NOT NULL,
    run TEXT NOT NULL,
    PRIMARY KEY (owner, key)
)
""",
    # When runs of a key with a rate may begin, each as long as it counts; later: one that asked to begin later.
    """
CREATE TABLE rates (
    run TEXT PRIMARY KEY,
    key TEXT NOT NULL,
    begins BIGINT NOT NULL,
    later BIGINT NOT NULL,
    counts_until BIGINT NOT NULL
)
""",
    "CREATE INDEX rates_by_key ON rates (key, later, begins)",
    "CREATE INDEX rates_by_end ON rates (counts_until)",
    """
CREATE TABLE ticks (
    schedule TEXT PRIMARY KEY,
    tick BIGINT NOT NULL
)
""",
    # One row. How many entries have been given to workers; how many transactions have changed these tables.
    """
CREATE TABLE turns (
    one BIGINT PRIMARY KEY,
    claims BIGINT NOT NULL,
    changes BIGINT NOT NULL
)
""",
)


def for_postgres() -> str:
    """The same as PostgreSQL is told them, ``@`` standing for the schema; texts are compared by their bytes."""
    named = [re.sub(r"\b(TABLE|ON) (\w+) \(", r"\1 @.\2 (", statement.strip()) for statement in TABLES]
    return "\n".join(f"{statement};" for statement in named).replace("TEXT", 'text COLLATE "C"')


def for_sqlite() -> tuple[str, ...]:
    """The same as SQLite is told them: strict about types, and each table one tree."""
    return tuple(
        re.sub(r"\n\)$", "\n) STRICT, WITHOUT ROWID", statement.strip()).replace("BIGINT", "INTEGER")
        for statement in TABLES
    )
