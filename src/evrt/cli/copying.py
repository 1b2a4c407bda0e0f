"""Copies of a log, and logs of older versions: ``evrt db backup`` and ``evrt db migrate``."""

from __future__ import annotations

import os

from evrt.cli.output import note, out, out_json, progress
from evrt.cli.place import Place
from evrt.cli.text import counted
from evrt.log.backup import backup
from evrt.log.migrate import migrate


def back_up(place: Place, target: str, *, as_json: bool) -> None:
    """Copy a log while it may be in use, check the copy, and tell of it."""
    url = place.existing_url()
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


def bring_up_to_date(place: Place, *, as_json: bool) -> None:
    """Migrate a log to today's schema, and tell of it."""
    url = place.existing_url()
    with progress("Copying and checking") as advance:
        migrated = migrate(url, copying=advance, checking=advance)
    if as_json:
        out_json({"url": url, "from": migrated.before, "to": migrated.after, "copy": migrated.copy})
    elif migrated.copy is None:
        out(f"{url} has today's schema already, version {migrated.after}.")
    else:
        out(f"{url} went from version {migrated.before} of the schema to version {migrated.after}.")
        out(f"{migrated.copy} is the log as it was; remove it when you do not need it any more.")
        note("Processes of an older evrt that still have the log open go on writing to it: end them.")
