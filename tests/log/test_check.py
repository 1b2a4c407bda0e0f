"""The check finds whatever somebody who can write the file has done to it, and names the place."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import aclosing, closing
from pathlib import Path

import pytest

from evrt.errors import NotFound, UnusableLog, UsageError
from evrt.log import Claim, Next, open_log
from evrt.log.check import FINDINGS_MAX, CheckReport, check
from evrt.log.sqlite.schema import SCHEMA
from evrt.log.walk import PAGE_EVENTS
from log.stores import append, claimed, draft


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "evrt.db"
    asyncio.run(fill(f"sqlite:///{path}"))
    return path


async def fill(url: str) -> None:
    async with aclosing(await open_log(url)) as log:
        await log.append(append(draft(), draft("run-2", correlation="conversation-1")))
        await log.append(append(claimed("run-1", 1), draft(), run_1=Claim(1)))
        await log.append(append(draft("run-2", correlation="conversation-1")))
        await log.append(append(claimed("run-1", 2), run_1=Claim(2)))
        await log.erase_payload(5)


def tamper(path: Path, *statements: str, restore: bool = True) -> CheckReport:
    """Do what the triggers would refuse, put them back, and check."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'trigger'").fetchall():
            connection.execute(f"DROP TRIGGER {name}")
        for statement in statements:
            connection.execute(statement)
        for statement in SCHEMA if restore else ():
            if statement.startswith("CREATE TRIGGER"):
                connection.execute(statement)
    return check(f"sqlite:///{path}")


def test_a_log_that_nobody_has_touched_is_in_order(path: Path) -> None:
    report = check(f"sqlite:///{path}")
    assert report.ok
    assert report.findings_left_off == 0
    assert (report.events, report.streams, report.erased, report.payload_bytes) == (6, 2, 1, 25)
    assert report.file_bytes >= path.stat().st_size


def test_a_trigger_of_somebody_else_is_told_of(path: Path) -> None:
    report = tamper(
        path,
        "CREATE TRIGGER forget AFTER INSERT ON events BEGIN "
        "UPDATE events SET salt = NULL, payload = NULL WHERE position = NEW.position; END",
    )
    assert [finding.text for finding in report.findings] == [
        "The database has a trigger forget that is not ours: it could change what is written."
    ]


def test_progress_is_told_page_by_page(path: Path) -> None:
    asyncio.run(add(f"sqlite:///{path}", PAGE_EVENTS))
    told: list[tuple[int, int]] = []
    check(f"sqlite:///{path}", progress=lambda done, total: told.append((done, total)))
    assert told == [(PAGE_EVENTS, PAGE_EVENTS + 6), (PAGE_EVENTS + 6, PAGE_EVENTS + 6)]


async def add(url: str, count: int) -> None:
    async with aclosing(await open_log(url)) as log:
        await log.append(append(*[draft() for _ in range(count)]))


@pytest.mark.parametrize(
    "statement, position, text",
    [
        ("UPDATE events SET payload = CAST('hello!' AS BLOB) WHERE position = 3", 3, "payload"),
        ("UPDATE events SET payload = x'0102030405' WHERE position = 1", 1, "digest"),
        ("UPDATE events SET salt = zeroblob(32) WHERE position = 4", 4, "digest"),
        ("UPDATE events SET payload = NULL WHERE position = 4", 4, "one of payload and salt"),
        ("UPDATE events SET salt = NULL WHERE position = 4", 4, "one of payload and salt"),
        ("UPDATE events SET type = 'other' WHERE position = 2", 2, "leaf"),
        ("UPDATE events SET meta = CAST('{\"a\":1}' AS BLOB) WHERE position = 2", 2, "leaf"),
        ("UPDATE events SET meta = x'ff' WHERE position = 2", 2, "meta is not a JSON object"),
        ("UPDATE events SET meta = CAST('{\"epoch\":true}' AS BLOB) WHERE position = 2", 2, "whole number"),
        ("UPDATE events SET meta = CAST('{\"epoch\":1}' AS BLOB) WHERE position = 6", 6, "leaf"),
        ("UPDATE events SET meta = CAST('{\"epoch\":0}' AS BLOB) WHERE position = 6", 6, "after epoch 1"),
        ("UPDATE events SET event_id = zeroblob(16) WHERE position = 6", 6, "leaf"),
        ("UPDATE events SET event_id = zeroblob(3) WHERE position = 6", 6, "leaf"),
        ("UPDATE events SET correlation = stream WHERE position = 5", 5, "leaf"),
        ("UPDATE events SET payload_length = 6 WHERE position = 5", 5, "leaf"),
        ("UPDATE events SET payload_digest = zeroblob(32) WHERE position = 5", 5, "leaf"),
        ("UPDATE events SET time = 1 WHERE position = 3", 3, "older"),
        ("UPDATE events SET leaf = zeroblob(32) WHERE position = 4", 4, "leaf"),
        ("UPDATE events SET leaf = zeroblob(32) WHERE position = 4", 6, "leaf"),
        ("UPDATE events SET leaf = zeroblob(32) WHERE position = 6", None, "leaf of its last event"),
        ("UPDATE events SET version = 9 WHERE position = 5", 5, "no version 8"),
        ("DELETE FROM events WHERE position = 3", 4, "position 2: some are missing"),
        ("DELETE FROM events WHERE position = 3", 4, "no version 2"),
        ("DELETE FROM events WHERE position = 6", None, "head of run-1 is at version 4"),
        ("DELETE FROM events WHERE stream = 2", None, "head of run-2 is at version 2; its last event has 0"),
        ("DELETE FROM streams WHERE name = 'run-2'", None, "2 events belong to no stream"),
        ("UPDATE streams SET name = 'run-9' WHERE name = 'run-1'", 1, "leaf"),
        ("UPDATE streams SET version = 3 WHERE name = 'run-1'", None, "version 3; its last event has 4"),
        ("UPDATE streams SET leaf = NULL WHERE name = 'run-1'", None, "leaf of its last event"),
        ("UPDATE streams SET epoch = 1 WHERE name = 'run-1'", None, "at epoch 1; its events reach 2"),
        ("UPDATE streams SET epoch = 1 WHERE name = 'run-2'", None, "at epoch 1; its events reach 0"),
        ("UPDATE log SET id = 'other'", 1, "leaf"),
        ("DROP INDEX events_by_correlation", None, "lacks its INDEX events_by_correlation"),
    ],
)
def test_tampering_is_found(path: Path, statement: str, position: int | None, text: str) -> None:
    findings = tamper(path, statement).findings
    assert any(finding.position == position and text in finding.text for finding in findings), findings


def test_a_stream_that_begins_at_0_is_in_order_until_somebody_touches_it(path: Path) -> None:
    async def add_streams() -> None:
        async with aclosing(await open_log(f"sqlite:///{path}")) as log:
            await log.append(
                append(draft("run-3"), draft("run-3"), draft("run-4"), run_3=Next(0), run_4=Next(0))
            )

    asyncio.run(add_streams())
    report = check(f"sqlite:///{path}")
    assert report.ok
    assert (report.events, report.streams) == (9, 4)
    for statement, position, text in (
        ("DELETE FROM events WHERE position = 9", None, "head of run-4 does not carry the leaf"),
        (
            "UPDATE streams SET leaf = NULL WHERE name = 'run-3'",
            None,
            "head of run-3 does not carry the leaf",
        ),
        ("UPDATE streams SET version = 0 WHERE name = 'run-3'", None, "at version 0; its last event has 1"),
        ("UPDATE events SET version = -1 WHERE position = 7", 7, "no version -2"),
    ):
        findings = tamper(path, statement).findings
        assert any(finding.position == position and text in finding.text for finding in findings), findings


def test_two_events_that_change_places_are_found(path: Path) -> None:
    report = tamper(
        path,
        "UPDATE events SET position = -3 WHERE position = 3",
        "UPDATE events SET position = 3 WHERE position = 4",
        "UPDATE events SET position = 4 WHERE position = -3",
    )
    assert {finding.position for finding in report.findings} >= {3, 4}
    assert any("comes before the version that precedes it" in finding.text for finding in report.findings)


def test_missing_triggers_are_found(path: Path) -> None:
    findings = [finding.text for finding in tamper(path, restore=False).findings]
    triggers = [statement.split()[2] for statement in SCHEMA if statement.startswith("CREATE TRIGGER")]
    assert len(triggers) == 9
    assert findings == [
        f"The database lacks its TRIGGER {name}, or has another of that name." for name in triggers
    ]


def test_a_trigger_that_was_weakened_is_found(path: Path) -> None:
    weakened = "CREATE TRIGGER events_delete BEFORE DELETE ON events WHEN 0 BEGIN SELECT 1; END"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("DROP TRIGGER events_delete")
        connection.execute(weakened)
    [finding] = check(f"sqlite:///{path}").findings
    assert "events_delete" in finding.text


def test_a_log_that_left_wal_mode_is_noticed(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
    [finding] = check(f"sqlite:///{path}").findings
    assert "WAL" in finding.text


def test_a_page_that_was_overwritten_is_found_or_refused(path: Path) -> None:
    content = path.read_bytes()
    for start in range(4096, len(content), 4096):
        path.write_bytes(content[:start] + b"\xa5" * 4096 + content[start + 4096 :])
        try:
            ok = check(f"sqlite:///{path}").ok
        except UnusableLog:
            ok = False
        assert not ok


def test_a_log_beyond_repair_does_not_fill_the_memory_with_findings(path: Path) -> None:
    asyncio.run(add(f"sqlite:///{path}", 300))
    report = tamper(path, "UPDATE events SET leaf = zeroblob(32)")
    assert len(report.findings) == FINDINGS_MAX
    assert report.findings_left_off > 200
    assert not report.ok


def test_checking_changes_nothing(path: Path) -> None:
    before = path.read_bytes()
    check(f"sqlite:///{path}")
    assert path.read_bytes() == before


async def test_a_log_can_be_checked_while_it_is_written(path: Path) -> None:
    async with aclosing(await open_log(f"sqlite:///{path}")) as log:
        writing = [log.append(append(draft(), draft("run-2"))) for _ in range(200)]
        reports = [await asyncio.to_thread(check, f"sqlite:///{path}") for _ in range(5)]
        await asyncio.gather(*writing)
    assert all(report.ok for report in reports)


@pytest.mark.parametrize(
    "make, error",
    [
        (lambda path: path.unlink(), NotFound),
        (lambda path: path.write_bytes(b""), NotFound),
        (lambda path: path.write_bytes(b"hello"), UnusableLog),
    ],
)
def test_what_is_no_log_cannot_be_checked(
    path: Path, make: Callable[[Path], object], error: type[Exception]
) -> None:
    make(path)
    with pytest.raises(error):
        check(f"sqlite:///{path}")


def test_a_log_in_memory_cannot_be_checked() -> None:
    with pytest.raises(UsageError):
        check("memory://")
