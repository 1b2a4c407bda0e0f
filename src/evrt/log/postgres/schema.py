"""What the schema of a log holds, and what the database itself refuses to do to it.

The tables are those of the log in SQLite (see ``evrt.log.sqlite.schema``), and the ``head`` row beside them: where
the log ends, and the lock that every writing transaction takes first. What an event is, its entry and its leaf, is
final; the tables around it have versions:

    1   the first
"""

from __future__ import annotations

from evrt.log.queue_tables import for_postgres

SCHEMA_VERSION = 1

MARK = "evrt: the head of an event log"
"""The comment on the head table, by which the schema of a log is told from another program's."""

REFUSAL_STATE = "EV001"
"""SQLSTATE of what the triggers refuse."""

_REFUSAL = "evrt: the log is append-only:"

TABLES = """
CREATE TABLE @.head (
    one boolean PRIMARY KEY CHECK (one),
    position bigint NOT NULL,
    time bigint NOT NULL,
    streams bigint NOT NULL,
    schema_version integer NOT NULL,
    log text NOT NULL,
    created bigint NOT NULL,
    moved_to text,
    copied_from text
);

CREATE TABLE @.streams (
    id bigint PRIMARY KEY,
    version bigint NOT NULL,
    epoch bigint NOT NULL,
    name text COLLATE "C" NOT NULL UNIQUE,
    leaf bytea
) WITH (fillfactor = 70);

CREATE TABLE @.events (
    position bigint PRIMARY KEY,
    time bigint NOT NULL,
    stream bigint NOT NULL,
    version bigint NOT NULL,
    correlation bigint NOT NULL,
    payload_length integer NOT NULL,
    event_id uuid NOT NULL,
    type text COLLATE "C" NOT NULL,
    meta bytea NOT NULL,
    payload_digest bytea NOT NULL,
    leaf bytea NOT NULL,
    salt bytea,
    payload bytea
);
CREATE UNIQUE INDEX events_by_stream ON @.events (stream, version);
CREATE INDEX events_by_correlation ON @.events (correlation, position) WHERE correlation <> stream;

CREATE TABLE @.refs (
    ref text COLLATE "C" PRIMARY KEY,
    kind text COLLATE "C" NOT NULL,
    external bytea NOT NULL,
    UNIQUE (kind, external)
);

CREATE TABLE @.blobs (
    id bigint PRIMARY KEY,
    digest bytea UNIQUE,
    length bigint NOT NULL,
    time bigint NOT NULL
);
CREATE TABLE @.blob_pieces (
    place bigint PRIMARY KEY,
    bytes bytea NOT NULL
);
ALTER TABLE @.blob_pieces ALTER bytes SET STORAGE EXTERNAL;

CREATE TABLE @.tracking (
    application text COLLATE "C" PRIMARY KEY,
    notification_id bigint NOT NULL
);
CREATE TABLE @.snapshots (
    purpose text COLLATE "C" NOT NULL,
    originator text COLLATE "C" NOT NULL,
    version bigint NOT NULL,
    topic text NOT NULL,
    state bytea NOT NULL,
    PRIMARY KEY (purpose, originator, version)
);
"""
"""``@`` stands for the schema. Fixed columns come first, for PostgreSQL aligns them; an external id is bytes, because
its texts take no zero character."""

_GUARDS = f"""
CREATE FUNCTION @.refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '{_REFUSAL} %', TG_ARGV[0] USING ERRCODE = '{REFUSAL_STATE}';
END $$;

CREATE FUNCTION @.check_events() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    low bigint;
    high bigint;
    number bigint;
BEGIN
    SELECT min(position), max(position), count(*) INTO low, high, number FROM inserted;
    IF number = 0 THEN
        RETURN NULL;
    END IF;
    IF high - low + 1 <> number
        OR low <> coalesce((SELECT e.position FROM @.events AS e WHERE e.position < low ORDER BY e.position DESC LIMIT 1), 0) + 1
        OR EXISTS (SELECT FROM @.events AS e WHERE e.position > high)
        OR EXISTS (
            SELECT FROM (
                SELECT stream, version, lag(version) OVER (PARTITION BY stream ORDER BY position) AS before FROM inserted
            ) AS i
            WHERE i.version <> coalesce(
                i.before + 1,
                (
                    SELECT e.version + 1 FROM @.events AS e
                    WHERE e.stream = i.stream AND e.version < i.version ORDER BY e.version DESC LIMIT 1
                ),
                CASE WHEN i.version = 0 THEN 0 ELSE 1 END
            )
        )
    THEN
        RAISE EXCEPTION '{_REFUSAL} an event takes the next position of the log and the next version of its stream'
            USING ERRCODE = '{REFUSAL_STATE}';
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER events_insert AFTER INSERT ON @.events REFERENCING NEW TABLE AS inserted
    FOR EACH STATEMENT EXECUTE FUNCTION @.check_events();
CREATE TRIGGER events_update BEFORE UPDATE ON @.events FOR EACH ROW WHEN (
    (NEW.position, NEW.time, NEW.stream, NEW.version, NEW.correlation, NEW.payload_length, NEW.event_id, NEW.type,
        NEW.meta, NEW.payload_digest, NEW.leaf)
    IS DISTINCT FROM
    (OLD.position, OLD.time, OLD.stream, OLD.version, OLD.correlation, OLD.payload_length, OLD.event_id, OLD.type,
        OLD.meta, OLD.payload_digest, OLD.leaf)
    OR NEW.salt IS NOT NULL OR NEW.payload IS NOT NULL
) EXECUTE FUNCTION @.refuse('an event can only lose its payload and salt, both at once');
CREATE TRIGGER events_delete BEFORE DELETE ON @.events
    FOR EACH ROW EXECUTE FUNCTION @.refuse('no event can be deleted');
CREATE TRIGGER events_truncate BEFORE TRUNCATE ON @.events
    FOR EACH STATEMENT EXECUTE FUNCTION @.refuse('no event can be deleted');

CREATE TRIGGER streams_update BEFORE UPDATE ON @.streams FOR EACH ROW WHEN (
    NEW.id IS DISTINCT FROM OLD.id OR NEW.name IS DISTINCT FROM OLD.name
    OR NEW.version < OLD.version OR NEW.epoch < OLD.epoch
) EXECUTE FUNCTION @.refuse('a stream keeps its id and name, and its version and epoch never fall');
CREATE TRIGGER streams_delete BEFORE DELETE ON @.streams
    FOR EACH ROW EXECUTE FUNCTION @.refuse('no stream can be deleted');
CREATE TRIGGER streams_truncate BEFORE TRUNCATE ON @.streams
    FOR EACH STATEMENT EXECUTE FUNCTION @.refuse('no stream can be deleted');

CREATE TRIGGER head_update BEFORE UPDATE ON @.head FOR EACH ROW WHEN (
    NEW.one IS DISTINCT FROM OLD.one OR NEW.log IS DISTINCT FROM OLD.log OR NEW.created IS DISTINCT FROM OLD.created
    OR NEW.position < OLD.position OR NEW.time < OLD.time OR NEW.streams < OLD.streams
    OR NEW.schema_version < OLD.schema_version
) EXECUTE FUNCTION @.refuse('it keeps its id, and its end never falls');
CREATE TRIGGER head_delete BEFORE DELETE ON @.head
    FOR EACH ROW EXECUTE FUNCTION @.refuse('it keeps its id');
CREATE TRIGGER head_truncate BEFORE TRUNCATE ON @.head
    FOR EACH STATEMENT EXECUTE FUNCTION @.refuse('it keeps its id');
"""
"""An UPDATE that is allowed costs no call: what refuses it stands in the trigger's condition."""

GUARDED = {
    "events": ("events_insert", "events_update", "events_delete", "events_truncate"),
    "streams": ("streams_update", "streams_delete", "streams_truncate"),
    "head": ("head_update", "head_delete", "head_truncate"),
}
"""The triggers of each table."""

_ALWAYS = "\n".join(
    f"ALTER TABLE @.{table} " + ", ".join(f"ENABLE ALWAYS TRIGGER {trigger}" for trigger in triggers) + ";"
    for table, triggers in GUARDED.items()
)
"""Also for a session that calls itself a replica (session_replication_role), where triggers rest otherwise."""

SCHEMA = f"""
{TABLES}
{for_postgres()}
{_GUARDS}
{_ALWAYS}
COMMENT ON TABLE @.head IS '{MARK}';
REVOKE ALL ON ALL TABLES IN SCHEMA @ FROM PUBLIC;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA @ FROM PUBLIC;
"""
"""Of the current version, as a new log is made."""

STEPS: dict[int, str] = {}
"""What turns a log of a version into one of the next."""


def named(sql: str, schema: str) -> str:
    """SQL with the quoted name of a schema where ``@`` stands for it."""
    return sql.replace("@", schema)


RECORDED = """
e.position, e.event_id, e.time, s.name, e.version, e.type, c.name, e.meta,
e.payload_length, e.payload_digest, e.salt, e.payload, e.leaf
"""
"""Columns in the order of ``Recorded``."""

FROM_EVENTS = """
FROM @.events AS e
JOIN @.streams AS s ON s.id = e.stream
JOIN @.streams AS c ON c.id = e.correlation
"""

SELECT_RECORDED = f"SELECT {RECORDED} {FROM_EVENTS}"
