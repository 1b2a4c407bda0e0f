"""Checking a log from its first event to its last: ``evrt db check``."""

from __future__ import annotations

import os
import sqlite3
from contextlib import aclosing, closing
from dataclasses import replace

from evrt.cli.output import out, out_json, paint, progress
from evrt.cli.place import Place, drive
from evrt.cli.text import counted
from evrt.errors import UnusableLog
from evrt.log import open_log
from evrt.log.address import parse_url
from evrt.log.check import CheckReport, Finding, check
from evrt.log.ends import open_source
from evrt.log.postgres.address import shown_url
from evrt.requeue import Astray, astray

SOUND = 0
UNSOUND = 1


def check_log(place: Place, *, as_json: bool) -> int:
    """Print what is wrong with a log; returns the exit code."""
    url = place.existing_url()
    try:
        with progress("Checking") as advance:
            report = check(url, progress=advance)
        if report.ok:
            # An event that cannot be believed says nothing of a queue.
            report = replace(report, findings=tuple(drive(_queue_findings(url))))
    except UnusableLog as error:
        if not isinstance(error.__cause__, sqlite3.Error):
            raise
        # That it cannot be read to its end is the answer to who asked, and no failure of the check.
        report = _damaged(url, error.__cause__)
    url = shown_url(url)
    if as_json:
        out_json(_document(url, report))
    else:
        _out_report(url, report)
    return SOUND if report.ok else UNSOUND


async def _queue_findings(url: str) -> list[Finding]:
    """Where the queue is not what the events say that it is."""
    with closing(open_source(url)) as source:
        if source.standing().copied_from is not None:
            return []  # Its queue comes when all events have.
    async with aclosing(await open_log(url, read_only=True)) as log:
        try:
            await log.coordination.counts()
        except UnusableLog:
            return []  # An older schema without a queue; migrating makes one.
        return [Finding(None, _told(one)) for one in await astray(log)]


def _told(one: Astray) -> str:
    if one.missing:
        return f"{one.run} is to be executed and has no entry in the queue: `evrt db requeue` makes it."
    return f"{one.run} has ended and still has an entry in the queue: `evrt db requeue` removes it."


def _damaged(url: str, error: sqlite3.Error) -> CheckReport:
    text = f"SQLite cannot read on, for the file is damaged: {error}. Restore it from a copy."
    size = os.path.getsize(parse_url(url) or "")
    return CheckReport("", 0, 0, 0, 0, size, (Finding(None, text),), 0)


def _out_report(url: str, report: CheckReport) -> None:
    erased = f" ({report.erased} erased)" if report.erased else ""
    size = f"{counted(report.events, 'event')}{erased} in {counted(report.streams, 'stream')}"
    verdict = paint("sound", "green") if report.ok else paint("not sound", "bold red")
    out(f"{url} is {verdict}: {size}, {report.file_bytes} bytes.")
    for finding in report.findings:
        where = "" if finding.position is None else f"position {finding.position}: "
        out(f"  {paint(where, 'bold')}{paint(finding.text)}")
    if report.findings_left_off:
        out(f"  and {report.findings_left_off} more.")


def _document(url: str, report: CheckReport) -> object:
    return {
        "url": url,
        "log": report.log,
        "ok": report.ok,
        "events": report.events,
        "streams": report.streams,
        "erased": report.erased,
        "payload_bytes": report.payload_bytes,
        "file_bytes": report.file_bytes,
        "findings": [finding._asdict() for finding in report.findings],
        "findings_left_off": report.findings_left_off,
    }
