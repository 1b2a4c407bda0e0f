"""Copies of a log, and logs of older versions: ``evrt db backup`` and ``evrt db migrate``."""

from __future__ import annotations

import os

from evrt.cli.output import note, out, out_json, progress
from evrt.cli.place import Place, drive
from evrt.cli.requeueing import requeued
from evrt.cli.text import counted
from evrt.log.address import SQLITE_PREFIX, is_postgres
from evrt.log.backup import backup, check_free
from evrt.log.check import CheckReport, check
from evrt.log.migrate import Migrated, migrate
from evrt.log.postgres.address import needing_psycopg, parse_postgres_url, shown_url
from evrt.moving import copy


def back_up(place: Place, target: str, *, as_json: bool) -> None:
    """Copy a log while it may be in use, check the copy, and tell of it."""
    url = place.existing_url()
    if is_postgres(url):
        report = _from_postgres(url, target)
        url = shown_url(url)
    else:
        with progress("Copying and checking") as advance:
            report = backup(url, target, copying=advance, checking=advance)
    if as_json:
        out_json(
            {
                "url": url,
                "copy": os.path.abspath(target),
                "log": report.log,
                "events": report.events,
                "bytes": report.file_bytes,
            }
        )
    else:
        out(
            f"{target} is a sound copy of {url}: {counted(report.events, 'event')}, {report.file_bytes} bytes."
        )


def _from_postgres(url: str, target: str) -> CheckReport:
    """Copy a log on PostgreSQL into a file that is not there yet, row by row, and check that."""
    from evrt.cli.moving import told

    check_free(target)
    file = f"{SQLITE_PREFIX}{os.path.abspath(target)}"
    with told(follow=False) as teller:
        copy(url, file, teller=teller)
    with progress("Checking") as advance:
        return check(file, progress=advance)


def bring_up_to_date(place: Place, *, as_json: bool) -> None:
    """Migrate a log to today's schema, have its waiting runs in the queue, and tell of it."""
    url = place.existing_url()
    migrated = _migrated(url)
    # An older schema may have kept no queue: without an entry no worker would go on with what waits.
    queued = drive(requeued(url)) if migrated.before < migrated.after else None
    shown = shown_url(url)
    if as_json:
        told = {"from": migrated.before, "to": migrated.after, "copy": migrated.copy, "queued": queued}
        out_json({"url": shown, **told})
    elif queued is None:
        out(f"{shown} has today's schema already, version {migrated.after}.")
    else:
        out(f"{shown} went from version {migrated.before} of the schema to version {migrated.after}.")
        out(f"Its queue was made from its events: {counted(queued, 'run')} in it, for workers to go on with.")
        if migrated.copy is not None:
            out(f"{migrated.copy} is the log as it was; remove it when you do not need it any more.")
            note("Processes of an older evrt that still have the log open go on writing to it: end them.")


def _migrated(url: str) -> Migrated:
    if is_postgres(url):
        with needing_psycopg():
            from evrt.log.postgres.migrating import migrate_postgres
        return Migrated(*migrate_postgres(parse_postgres_url(url)), copy=None)
    with progress("Copying and checking") as advance:
        return migrate(url, copying=advance, checking=advance)
