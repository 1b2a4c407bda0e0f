"""What the owner of a log's file can do to it: change rows, and then make everything else fit them again.

In raw SQL, with the triggers dropped and put back. Nothing of evrt's writer is used; whatever columns
the tables have are carried along.
"""

from __future__ import annotations

import itertools
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from typing import Any

from audit.logs import KEY, Place
from evrt.audit.growth import grow, sign
from evrt.log.entry import entry_of, leaf_hash, payload_digest
from evrt.log.sqlite.rows import EVENTS, step

Row = dict[str, Any]
Change = Callable[[list[Row]], list[Row]]
FORGED = b'{"forged":true}'


def forge(place: Place, change: Change, *, consistently: bool) -> None:
    """Replace the events by what ``change`` makes of them.

    ``consistently``: versions, leaves and the heads of streams are made to fit, so that the log by itself
    looks sound.
    """
    with closing(sqlite3.connect(place.path, isolation_level=None)) as connection:
        connection.row_factory = sqlite3.Row
        triggers = connection.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'").fetchall()
        for trigger in triggers:
            connection.execute(f"DROP TRIGGER {trigger['name']}")
        rows = [dict(row) for row in connection.execute("SELECT * FROM events ORDER BY position")]
        first_versions = {row["stream"]: row["version"] for row in reversed(rows)}
        changed = change([dict(row) for row in rows])
        if consistently:
            renumber(changed, first_versions)
        connection.execute("DELETE FROM events")
        for row in changed:
            insert(connection, row)
        if consistently:
            recompute(connection)
        for trigger in triggers:
            connection.execute(trigger["sql"])


def renumber(rows: list[Row], first_versions: dict[int, int]) -> None:
    following = dict(first_versions)
    for position, row in enumerate(rows, start=1):
        row["position"] = position
        row["version"] = following[row["stream"]]
        following[row["stream"]] += 1
    for earlier, later in itertools.pairwise(rows):
        later["time"] = max(earlier["time"], later["time"])


def insert(connection: sqlite3.Connection, row: Row) -> None:
    columns = ", ".join(row)
    connection.execute(
        f"INSERT INTO events ({columns}) VALUES ({', '.join('?' * len(row))})", [*row.values()]
    )


def recompute(connection: sqlite3.Connection) -> None:
    """Leaves, one after the other because each is in the entry of the next, then the heads."""
    connection.row_factory = None
    (log,) = connection.execute("SELECT id FROM log").fetchone()
    (end,) = connection.execute("SELECT max(position) FROM events").fetchone()
    for position in range(1, end + 1):
        event, _, previous_leaf, *_ = step(connection.execute(EVENTS, (position - 1, 1)).fetchone())
        leaf = leaf_hash(entry_of(log, event, previous_leaf))
        connection.execute("UPDATE events SET leaf = ? WHERE position = ?", (leaf, position))
    last = "FROM events WHERE stream = streams.id ORDER BY version DESC LIMIT 1"
    connection.execute(
        f"UPDATE streams SET version = (SELECT version {last}), leaf = (SELECT leaf {last}) "
        "WHERE id IN (SELECT stream FROM events)"
    )


def grow_another_tree(place: Place) -> None:
    """Do away with the tree and make one from the log as it is now, signed with the true key."""
    shutil.rmtree(place.tree)
    grow(place.url, place.folder)
    sign(place.folder, KEY)


def rewritten(row: Row) -> Row:
    """An event that says something else, payload and all."""
    digest = payload_digest(row["salt"], FORGED)
    return row | {"payload": FORGED, "payload_length": len(FORGED), "payload_digest": digest}


# What can be done to the events; places count from 0.


def edit(place: int) -> Change:
    return lambda rows: [*rows[:place], rewritten(rows[place]), *rows[place + 1 :]]


def delete(place: int) -> Change:
    return lambda rows: [*rows[:place], *rows[place + 1 :]]


def swap(place: int) -> Change:
    def change(rows: list[Row]) -> list[Row]:
        one, two = rows[place], rows[place + 1]
        one["position"], two["position"] = two["position"], one["position"]
        return [*rows[:place], two, one, *rows[place + 2 :]]

    return change


def truncate(count: int) -> Change:
    return lambda rows: rows[:-count]


def replace_from(place: int) -> Change:
    """Another history from there on, of the same length."""
    return lambda rows: [*rows[:place], *map(rewritten, rows[place:])]
