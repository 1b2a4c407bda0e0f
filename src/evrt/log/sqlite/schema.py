"""What the file holds, and what the database itself refuses to do to it.

``streams`` is the dictionary of names, correlations too, and holds each stream's head; events
carry its small integers. Events change in one way only: payload and salt turn to NULL.

What an event is, its entry and its leaf, is final; the tables around it have versions. A log of an older
version is read as it is, and written after ``evrt db migrate``:

    1   the first
    2   streams of other programs may begin at version 0; their tracking and snapshots; blobs; a smaller index
    3   the queue and what stands beside it (``evrt.log.queue_tables``); where a log has moved to
"""

from __future__ import annotations

from evrt.log.queue_tables import for_sqlite

APPLICATION_ID = 0x45565254
"""'EVRT' in the header of the file: this is a log, and no other program's database."""

SCHEMA_VERSION = 3

_REFUSAL = "evrt: the log is append-only:"

TABLES = (
    """
CREATE TABLE log (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    id TEXT NOT NULL,
    created INTEGER NOT NULL
) STRICT
""",
    """
CREATE TABLE streams (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    version INTEGER NOT NULL,
    leaf BLOB,
    epoch INTEGER NOT NULL
) STRICT
""",
    # The payload comes last, so that nobody has to walk over a large one to read the rest.
    """
CREATE TABLE events (
    position INTEGER PRIMARY KEY,
    event_id BLOB NOT NULL,
    time INTEGER NOT NULL,
    stream INTEGER NOT NULL,
    version INTEGER NOT NULL,
    type TEXT NOT NULL,
    correlation INTEGER NOT NULL,
    meta BLOB NOT NULL,
    payload_length INTEGER NOT NULL,
    payload_digest BLOB NOT NULL,
    leaf BLOB NOT NULL,
    salt BLOB,
    payload BLOB
) STRICT
""",
    "CREATE UNIQUE INDEX events_by_stream ON events (stream, version)",
    # Without those that are found by their stream: of a run without a conversation there is no entry at all.
    "CREATE INDEX events_by_correlation ON events (correlation) WHERE correlation <> stream",
    # Not history: who is behind a ref can be changed and erased.
    """
CREATE TABLE refs (
    ref TEXT PRIMARY KEY,
    kind TEXT NOT NULL,
    external TEXT NOT NULL,
    UNIQUE (kind, external)
) STRICT, WITHOUT ROWID
""",
    # What is too large for a payload, found by its SHA-256. The digest is NULL until all of it is there.
    # A piece's place is 65,536 times the blob's id, and its number: one tree for both.
    """
CREATE TABLE blobs (
    id INTEGER PRIMARY KEY,
    digest BLOB UNIQUE,
    length INTEGER NOT NULL,
    time INTEGER NOT NULL
) STRICT
""",
    """
CREATE TABLE blob_pieces (
    place INTEGER PRIMARY KEY,
    bytes BLOB NOT NULL
) STRICT
""",
    # Not history, and of other libraries' applications: how far each has come, and states kept to begin from.
    """
CREATE TABLE tracking (
    application TEXT PRIMARY KEY,
    notification_id INTEGER NOT NULL
) STRICT, WITHOUT ROWID
""",
    """
CREATE TABLE snapshots (
    purpose TEXT NOT NULL,
    originator TEXT NOT NULL,
    version INTEGER NOT NULL,
    topic TEXT NOT NULL,
    state BLOB NOT NULL,
    PRIMARY KEY (purpose, originator, version)
) STRICT, WITHOUT ROWID
""",
)

# A BEFORE INSERT trigger is what stops INSERT OR REPLACE and upserts: the rows they would remove
# pass no DELETE trigger unless recursive_triggers happens to be on.
TRIGGERS = (
    f"""
CREATE TRIGGER events_insert BEFORE INSERT ON events
WHEN NEW.position <> (SELECT coalesce(max(position), 0) + 1 FROM events)
  OR NEW.version <> coalesce(
         (SELECT max(version) + 1 FROM events WHERE stream = NEW.stream),
         CASE WHEN NEW.version = 0 THEN 0 ELSE 1 END
     )
BEGIN
    SELECT RAISE(ABORT, '{_REFUSAL} an event takes the next position of the log and the next version of its stream');
END
""",
    f"""
CREATE TRIGGER events_update BEFORE UPDATE ON events
WHEN NEW.position IS NOT OLD.position
  OR NEW.event_id IS NOT OLD.event_id
  OR NEW.time IS NOT OLD.time
  OR NEW.stream IS NOT OLD.stream
  OR NEW.version IS NOT OLD.version
  OR NEW.type IS NOT OLD.type
  OR NEW.correlation IS NOT OLD.correlation
  OR NEW.meta IS NOT OLD.meta
  OR NEW.payload_length IS NOT OLD.payload_length
  OR NEW.payload_digest IS NOT OLD.payload_digest
  OR NEW.leaf IS NOT OLD.leaf
  OR NEW.salt IS NOT NULL
  OR NEW.payload IS NOT NULL
BEGIN
    SELECT RAISE(ABORT, '{_REFUSAL} an event can only lose its payload and salt, both at once');
END
""",
    f"""
CREATE TRIGGER events_delete BEFORE DELETE ON events
BEGIN
    SELECT RAISE(ABORT, '{_REFUSAL} no event can be deleted');
END
""",
    f"""
CREATE TRIGGER streams_insert BEFORE INSERT ON streams
WHEN EXISTS (SELECT 1 FROM streams WHERE id = NEW.id OR name = NEW.name)
BEGIN
    SELECT RAISE(ABORT, '{_REFUSAL} no stream can be replaced');
END
""",
    f"""
CREATE TRIGGER streams_update BEFORE UPDATE ON streams
WHEN NEW.id IS NOT OLD.id
  OR NEW.name IS NOT OLD.name
  OR NEW.version < OLD.version
  OR NEW.epoch < OLD.epoch
BEGIN
    SELECT RAISE(ABORT, '{_REFUSAL} a stream keeps its id and name, and its version and epoch never fall');
END
""",
    f"""
CREATE TRIGGER streams_delete BEFORE DELETE ON streams
BEGIN
    SELECT RAISE(ABORT, '{_REFUSAL} no stream can be deleted');
END
""",
    f"""
CREATE TRIGGER log_insert BEFORE INSERT ON log
WHEN EXISTS (SELECT 1 FROM log)
BEGIN
    SELECT RAISE(ABORT, '{_REFUSAL} it keeps its id');
END
""",
    f"""
CREATE TRIGGER log_update BEFORE UPDATE ON log
BEGIN
    SELECT RAISE(ABORT, '{_REFUSAL} it keeps its id');
END
""",
    f"""
CREATE TRIGGER log_delete BEFORE DELETE ON log
BEGIN
    SELECT RAISE(ABORT, '{_REFUSAL} it keeps its id');
END
""",
)

# One row, if any: see ``evrt.log.standing``.
_MOVES = """
CREATE TABLE moves (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    moved_to TEXT,
    copied_from TEXT
) STRICT
""".strip()

_ADDED_IN_3 = (*for_sqlite(), _MOVES)

SCHEMA = tuple(statement.strip() for statement in (*TABLES, *_ADDED_IN_3, *TRIGGERS))
"""Of the current version, in the order in which a new log is made."""

_ADDED_IN_2 = ("blobs", "blob_pieces", "tracking", "snapshots")

_EVENTS_INSERT_1 = f"""
CREATE TRIGGER events_insert BEFORE INSERT ON events
WHEN NEW.position <> (SELECT coalesce(max(position), 0) + 1 FROM events)
  OR NEW.version <> (SELECT coalesce(max(version), 0) + 1 FROM events WHERE stream = NEW.stream)
BEGIN
    SELECT RAISE(ABORT, '{_REFUSAL} an event takes the next position of the log and the next version of its stream');
END
""".strip()

_BY_CORRELATION_1 = "CREATE INDEX events_by_correlation ON events (correlation)"


def schema_of(version: int) -> tuple[str, ...]:
    """The statements that a log of this version was made with."""
    if version >= 3:
        return SCHEMA
    kept = [sql for sql in SCHEMA if sql not in _ADDED_IN_3]
    if version == 2:
        return tuple(kept)
    changed = (*_ADDED_IN_2, "events_insert", "events_by_correlation")
    return (*[sql for sql in kept if _name(sql) not in changed], _EVENTS_INSERT_1, _BY_CORRELATION_1)


def steps_from(version: int) -> tuple[str, ...]:
    """What turns a log of this version into one of the next."""
    assert 1 <= version < SCHEMA_VERSION
    there, then = schema_of(version), schema_of(version + 1)
    gone = [f"DROP {sql.split()[1]} {_name(sql)}" for sql in there if sql not in then]
    return (*gone, *(sql for sql in then if sql not in there))


def _name(sql: str) -> str:
    """What a CREATE statement makes: the third word, or the fourth of a unique index."""
    words = sql.split()
    return words[3] if words[1] == "UNIQUE" else words[2]


RECORDED = """
e.position, e.event_id, e.time, s.name, e.version, e.type, c.name, e.meta,
e.payload_length, e.payload_digest, e.salt, e.payload, e.leaf
"""
"""Columns in the order of ``Recorded``."""

# CROSS JOIN keeps the events outermost: one walk along the log, two look-ups by rowid for each.
FROM_EVENTS = """
FROM events AS e
CROSS JOIN streams AS s ON s.id = e.stream
CROSS JOIN streams AS c ON c.id = e.correlation
"""

SELECT_RECORDED = f"SELECT {RECORDED} {FROM_EVENTS}"
