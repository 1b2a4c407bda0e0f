"""The check of a log on PostgreSQL finds what somebody who owns the schema has done to it, as that of a file does."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import psycopg
import pytest

from evrt.log import Claim, open_log
from evrt.log.check import CheckReport, check
from evrt.log.postgres.address import parse_postgres_url
from evrt.log.postgres.schema import GUARDED
from log.stores import append, claimed, draft


@pytest.fixture
def log(postgres: str) -> str:
    """A log with two streams, two epochs and an erased payload."""
    asyncio.run(fill(postgres))
    return postgres


async def fill(url: str) -> None:
    async with aclosing(await open_log(url)) as log:
        await log.append(append(draft(), draft("run-2", correlation="conversation-1")))
        await log.append(append(claimed("run-1", 1), draft(), run_1=Claim(1)))
        await log.append(append(draft("run-2", correlation="conversation-1")))
        await log.append(append(claimed("run-1", 2), run_1=Claim(2)))
        await log.erase_payload(5)


def tamper(url: str, statement: str, *, guarded: bool = False) -> CheckReport:
    """Do what the triggers would refuse, and check. ``guarded``: they are left alone, unless the statement is about them."""
    address = parse_postgres_url(url)
    disabled = [f"ALTER TABLE {table} DISABLE TRIGGER USER" for table in GUARDED]
    enabled = [
        f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER {trigger}"
        for table, triggers in GUARDED.items()
        for trigger in triggers
    ]
    statements = [statement] if guarded else [*disabled, statement, *enabled]
    with psycopg.connect(**address.parameters, autocommit=True) as connection:  # type: ignore[arg-type]
        for sql in (f"SET search_path TO {address.quoted_schema}", *statements):
            connection.execute(sql.encode())
    return check(url)


def test_a_log_that_nobody_has_touched_is_in_order(log: str) -> None:
    report = check(log)
    assert report.findings == ()
    assert (report.events, report.streams, report.erased, report.payload_bytes) == (6, 2, 1, 25)
    assert report.file_bytes > 0


@pytest.mark.parametrize(
    "statement, position, text",
    [
        (
            "UPDATE events SET meta = '{\"a\":1}' WHERE position = 2",
            2,
            "Its leaf is not the hash of its entry",
        ),
        ("UPDATE events SET payload = 'x' WHERE position = 2", 2, "Its payload is not the one whose digest"),
        ("UPDATE events SET time = 1 WHERE position = 4", 4, "It is older than the event before it"),
        ("DELETE FROM events WHERE position = 3", 4, "The event before it has position 2"),
        (
            "DELETE FROM events WHERE position = 6",
            None,
            "The log's head is at position 6; its last event has 5.",
        ),
        (
            "UPDATE streams SET version = 9 WHERE name = 'run-1'",
            None,
            "is at version 9; its last event has 4.",
        ),
        ("UPDATE streams SET epoch = 7 WHERE name = 'run-1'", None, "is at epoch 7; its events reach 2."),
        (
            "UPDATE streams SET leaf = 'x' WHERE name = 'run-1'",
            None,
            "does not carry the leaf of its last event",
        ),
        ("UPDATE head SET streams = 1", None, "The log's head counts 1 streams; the last has number 3."),
        ("UPDATE head SET time = 1", None, "The log's head is older than its last event."),
    ],
)
def test_tampering_is_found(log: str, statement: str, position: int | None, text: str) -> None:
    found = tamper(log, statement).findings
    assert any(finding.position == position and text in finding.text for finding in found), found


@pytest.mark.parametrize(
    "statement, text",
    [
        ("DROP TRIGGER events_delete ON events", "lacks its trigger events_delete."),
        ("ALTER TABLE events DISABLE TRIGGER events_update", "another trigger events_update"),
        ("ALTER TABLE events ENABLE TRIGGER events_update", "another trigger events_update"),
        (
            (
                "DROP TRIGGER events_update ON events; CREATE TRIGGER events_update BEFORE UPDATE ON events FOR EACH ROW "
                "WHEN (NEW.salt IS NOT NULL) EXECUTE FUNCTION refuse('x'); "
                "ALTER TABLE events ENABLE ALWAYS TRIGGER events_update"
            ),
            "another trigger events_update",
        ),
        (
            (
                "CREATE OR REPLACE FUNCTION check_events() RETURNS trigger LANGUAGE plpgsql AS "
                "$$ BEGIN RETURN NULL; END $$"
            ),
            "lacks its function check_events",
        ),
        (
            "CREATE TRIGGER mine BEFORE INSERT ON events FOR EACH ROW EXECUTE FUNCTION refuse('x')",
            "The table events has a trigger mine that is not ours",
        ),
        ("ALTER TABLE head DISABLE TRIGGER head_update; UPDATE head SET position = 9", "is at position 9"),
    ],
)
def test_what_was_done_to_the_database_is_found(log: str, statement: str, text: str) -> None:
    found = tamper(log, statement, guarded=True).findings
    assert any(text in finding.text for finding in found), found
