"""What the file of the views holds: a row for each generation of a view, and the tables of its documents.

The file can be thrown away at any time; it is built again from the log. So it has one version and no migrations:
a file of another version, or of another log, is emptied.
"""

from __future__ import annotations

import orjson

from evrt.errors import InvalidInput
from evrt.projection import AnyProjection

APPLICATION_ID = 0x45565256
"""'EVRV' in the header of the file."""

SCHEMA_VERSION = 1

TABLES = (
    "CREATE TABLE log (one INTEGER PRIMARY KEY CHECK (one = 1), id TEXT NOT NULL) STRICT",
    # A generation: the documents of one version of a projection up to its cursor, a position. One is live, and
    # another may be building. The leaf is that of the event at the cursor, so that views never belong to a history
    # that is not there any more, as where a log has been put back from a backup. The owner committed last.
    """
CREATE TABLE views (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL,
    version INTEGER NOT NULL,
    shape TEXT NOT NULL,
    stage TEXT NOT NULL CHECK (stage IN ('live', 'building')),
    cursor INTEGER NOT NULL,
    leaf BLOB,
    owner TEXT,
    error TEXT,
    error_position INTEGER,
    UNIQUE (name, stage)
) STRICT
""",
)

MARK_POSITIONS = 5_000
"""The first event of a key that comes so many positions after its first event or its last mark is a mark.

So between two marks nothing of the key happened any later than that, and nobody has to look. Readers of a file count on
it: with another number it needs another version of the schema.
"""

INDEX_COLUMN = "by_"
"""Prefix of the columns that hold indexed fields."""


def shape(projection: AnyProjection) -> str:
    """What a projection's tables depend on besides its version."""
    return orjson.dumps([projection.index_fields, projection.variant]).decode()


def column(value: object) -> object:
    """An indexed value as SQLite takes it; whatever is not a text, a number or None is found as its text.

    Raises InvalidInput for a number that SQLite cannot hold.
    """
    if value is None or isinstance(value, str | float):
        return value
    if isinstance(value, int):
        value = int(value)  # A truth is found as 0 or 1.
        if not -(2**63) <= value < 2**63:
            raise InvalidInput(f"{value} is beyond 64 bits, so nothing can be found by it.")
        return value
    return str(value)


def documents(view: int) -> str:
    """Name of the table of a view's documents."""
    return f"view_{view}"


def families(view: int) -> str:
    """Name of the table that counts the events of each key, and says where its last mark is."""
    return f"families_{view}"


def marks(view: int) -> str:
    """Name of the table of moments for which the documents of a key have been kept."""
    return f"marks_{view}"


def snapshots(view: int) -> str:
    """Name of the table of what has been kept: as of a mark, the last row up to it of each part."""
    return f"snapshots_{view}"


def tables_of(view: int, projection: AnyProjection) -> list[str]:
    """Statements that make a generation's tables."""
    columns = "".join(f', "{INDEX_COLUMN}{field}" ANY' for field in projection.indexed)
    # The position of the event that began a document is its rowid: every index ends in it, so what an index
    # finds comes in the order in which the documents came to be.
    made = [
        f"""
CREATE TABLE {documents(view)} (
    first INTEGER PRIMARY KEY,
    key TEXT NOT NULL,
    part TEXT NOT NULL,
    position INTEGER NOT NULL,
    document TEXT NOT NULL{columns},
    UNIQUE (key, part)
) STRICT
""",
        f"""
CREATE TABLE {families(view)} (
    key TEXT PRIMARY KEY,
    events INTEGER NOT NULL,
    marked INTEGER NOT NULL,
    mark INTEGER NOT NULL,
    first INTEGER NOT NULL
) STRICT, WITHOUT ROWID
""",
        f"""
CREATE TABLE {marks(view)} (
    key TEXT NOT NULL,
    position INTEGER NOT NULL,
    version INTEGER NOT NULL,
    PRIMARY KEY (key, position)
) STRICT, WITHOUT ROWID
""",
        f"""
CREATE TABLE {snapshots(view)} (
    key TEXT NOT NULL,
    part TEXT NOT NULL,
    position INTEGER NOT NULL,
    first INTEGER,
    changed INTEGER,
    document TEXT,
    PRIMARY KEY (key, part, position)
) STRICT
""",
    ]
    if type(projection).part is not projection.part:
        # A mark looks for what has changed since the mark before, of a key that may have very many documents.
        made.append(f"CREATE INDEX changed_{view} ON {documents(view)} (key, position)")
    for number, index in enumerate(projection.index_fields):
        fields = ", ".join(f'"{INDEX_COLUMN}{field}"' for field in index)
        made.append(f"CREATE INDEX index_{view}_{number} ON {documents(view)} ({fields})")
    return made


def drop_tables_of(view: int) -> list[str]:
    """Statements that remove them."""
    return [f"DROP TABLE IF EXISTS {name(view)}" for name in (documents, families, marks, snapshots)]
