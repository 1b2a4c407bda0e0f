"""Looks at the file of a log's views: whose it is, whether it is sound, and which views stand still or fall behind.

Part of ``evrt doctor``, in the style of ``evrt.log.doctor``: nothing is changed.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from evrt.errors import EvrtError
from evrt.log.diagnosis import Diagnosis
from evrt.log.sqlite.connect import connect_reading
from evrt.projector.places import views_path
from evrt.projector.projector import STALLED_SECONDS
from evrt.projector.schema import APPLICATION_ID, SCHEMA_VERSION

FAR_BEHIND_EVENTS = 10_000
"""What a view may be behind without being told of: the next command that reads it catches up at once."""

CHECKED_BYTES_MAX = 64 * 1024 * 1024
"""A file up to this size is checked whole; a larger one as far as it is read."""

REMOVE = "Remove it and its -wal and -shm while no program uses it: nothing of the log is lost, and the views are built again."


class _Row(NamedTuple):
    """A generation of a view, as the file has it."""

    name: str
    stage: str
    cursor: int
    error: str | None
    error_position: int | None


def examine_views(url: str) -> Iterator[Diagnosis]:
    """Examine the views of the log at this URL, which is there. Yields nothing where there are none yet; blocks."""
    path = views_path(url)
    if path is None or not os.path.lexists(path):
        return
    try:
        found = _file(path, url)
        if found is not None:
            yield found
            return
        yield from _views(path, url)
    except sqlite3.Error as error:
        yield Diagnosis("views", "bad", f"{path} is damaged ({error})", REMOVE)
    except OSError as error:
        yield Diagnosis("views", "bad", f"{path} could not be looked at: {error.strerror or error}")
    except EvrtError as error:
        yield Diagnosis("views", "bad", str(error).removesuffix("."))


# ------------------------------------------------------------------------------------------ the file


def _file(path: str, url: str) -> Diagnosis | None:
    """What is to be said instead of examining views; nothing where they are there and sound."""
    if not os.path.isfile(path):
        return _in_the_way(path, "it is not a file")
    if os.path.getsize(path) == 0:
        return Diagnosis("views", "ok", "none have been built yet")
    with closing(_connect(path)) as connection:
        try:
            (application,) = connection.execute("PRAGMA application_id").fetchone()
        except sqlite3.DatabaseError as error:
            if error.sqlite_errorname != "SQLITE_NOTADB":
                raise
            return _in_the_way(path, "it is no database, or its beginning is damaged")
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if application != APPLICATION_ID:
            return _in_the_way(path, "it is the database of another program")
        if version > SCHEMA_VERSION:
            return Diagnosis("views", "bad", f"{path} was written by a newer evrt", "Upgrade evrt.")
        if os.path.getsize(path) <= CHECKED_BYTES_MAX:
            (told,) = connection.execute("PRAGMA quick_check(1)").fetchone()
            if told != "ok":
                return Diagnosis("views", "bad", f"{path} is damaged ({' '.join(told.split())})", REMOVE)
        if connection.execute("SELECT id FROM log").fetchall() != [(_log(url)[0],)]:
            return Diagnosis(
                "views", "mind", f"{path} has views of another log", "They are built again when one is read."
            )
    return None


def _in_the_way(path: str, what: str) -> Diagnosis:
    return Diagnosis(
        "views",
        "bad",
        f"{path} is in the way: views are to be kept there, and {what}",
        "Move it to another name.",
    )


def _connect(path: str) -> sqlite3.Connection:
    return sqlite3.connect(f"{Path(path).as_uri()}?mode=ro", uri=True)


def _log(url: str) -> tuple[str, int]:
    """The log's id and its last position."""
    path = views_path(url)
    assert path is not None
    with closing(connect_reading(path.removesuffix("-views"))) as connection:
        (log,) = connection.execute("SELECT id FROM log").fetchone()
        (head,) = connection.execute("SELECT coalesce(max(position), 0) FROM events").fetchone()
    return log, head


# ----------------------------------------------------------------------------------------- the views


def _views(path: str, url: str) -> Iterator[Diagnosis]:
    rows = _rows(path)
    _, head = _log(url)
    parked = [row for row in rows if row.error is not None]
    late = [row for row in rows if row.error is None and _is_late(row, head)]
    if late:
        # Who keeps views commits several times in that time.
        time.sleep(STALLED_SECONDS)
        moved = {(row.name, row.stage): row.cursor for row in _rows(path)}
        late = [row for row in late if moved.get((row.name, row.stage)) == row.cursor]
    for row in parked:
        yield Diagnosis(
            f"view {row.name}",
            "bad",
            f"parked at position {row.cursor}, as its projection failed: {(row.error or '').removesuffix('.')}",
            f"Mend the projection and run `evrt projections run`, or any program that reads the view. The event: `evrt log "
            f"--after {(row.error_position or 1) - 1}`. Is the projection gone, `evrt projections remove {row.name}` ends this.",
        )
    for row in late:
        if row.stage == "building":
            yield Diagnosis(
                f"view {row.name}",
                "mind",
                f"building it anew was left at position {row.cursor:,} of {head:,}; readers see the old one",
                f"Run `evrt projections rebuild {row.name}`, which goes on there.",
            )
        else:
            yield Diagnosis(
                f"view {row.name}",
                "mind",
                f"{head - row.cursor:,} events behind, and nobody keeps it",
                "Run `evrt projections run`; or whoever reads the view next waits until it has caught up.",
            )
    if not parked and not late:
        names = {row.name for row in rows}
        behind = max((head - row.cursor for row in rows), default=0)
        yield Diagnosis(
            "views", "ok", f"{len(names)}, at most {behind:,} events behind" if names else "none yet"
        )


def _is_late(row: _Row, head: int) -> bool:
    return row.stage == "building" or head - row.cursor > FAR_BEHIND_EVENTS


def _rows(path: str) -> list[_Row]:
    with closing(_connect(path)) as connection:
        return [
            _Row(*row)
            for row in connection.execute(
                "SELECT name, stage, cursor, error, error_position FROM views ORDER BY name, stage DESC"
            )
        ]
