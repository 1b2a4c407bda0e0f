"""A copy of a log, taken while others write to it: what ``evrt db backup`` makes.

The copy is the log as of one moment. It is made beside its final name, checked from its first event to its
last, and only then given that name, so what bears the name is whole.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress

from evrt.errors import Conflict, Denied, EvrtError, NotFound, Unavailable, UnusableLog, UsageError
from evrt.log.address import parse_url
from evrt.log.check import CheckReport, Progress, check
from evrt.log.sqlite.connect import check_place, connect_reading, inspect, sync_folder, translate

STEP_PAGES = 256
"""Pages copied between two looks at the clock: 1 MiB."""


def backup(
    url: str, target: str, *, copying: Progress | None = None, checking: Progress | None = None
) -> CheckReport:
    """Copy the SQLite log at this URL to a file that is not there yet; returns the check of the copy.

    ``copying`` is told pages, ``checking`` events. Others may write to the log meanwhile; its WAL grows until
    the copy is made. Blocks; run it in a thread where an event loop runs.
    Raises UsageError, NotFound, Conflict (something is at ``target``), Denied, UnusableLog, Unavailable.
    """
    path = existing_file(url)
    target = os.path.abspath(target)
    check_free(target)
    with _unfinished(target) as part:
        position, leaf = _copy(path, part, target, copying)
        report = check(f"sqlite:///{part}", progress=checking)
        _compare(path, part, position, leaf, report)
    return report


def check_free(target: str) -> None:
    """Raises UsageError, Conflict, NotFound where no copy can be made."""
    target = os.path.abspath(target)
    if os.path.isdir(target):
        raise UsageError(f"{target} is a folder; a copy is a file. Give it a name, such as {target}/evrt.db.")
    for taken in files_of(target):
        # Also what belonged to an earlier file of that name: SQLite would take its WAL for the copy's.
        if os.path.lexists(taken):
            raise Conflict(
                f"There is something at {taken} already. It has been left as it is; name another file."
            )
    if not os.path.isdir(os.path.dirname(target)):
        raise NotFound(f"There is no folder {os.path.dirname(target)} for the copy. Create it first.")


def files_of(path: str) -> list[str]:
    """Where a database is, and what SQLite takes for a part of it."""
    return [path + suffix for suffix in ("", "-wal", "-shm", "-journal")]


def existing_file(url: str) -> str:
    """The file of the SQLite log at a URL. Raises UsageError, NotFound, Denied, UnusableLog."""
    path = parse_url(url)
    if path is None:
        raise UsageError("A log in memory has no file; give the URL of one.")
    path = check_place(path, read_only=True)
    if inspect(path) == "new":
        raise NotFound(f"{path} is empty: no log has been made there yet.")
    return path


@contextmanager
def _unfinished(target: str) -> Iterator[str]:
    """A name beside the final one; what is there in the end gets that, durably, and nothing else stays."""
    part = f"{target}.part-{os.getpid()}"
    try:
        # Made before SQLite opens it: what hinders that is told of the copy, not of the log.
        os.close(os.open(part, os.O_RDWR | os.O_CREAT, 0o644))
        yield part
        _sync(part)
        _name(part, target)
        sync_folder(os.path.dirname(target))
    except FileExistsError:
        raise Conflict(f"There is something at {target} now. It has been left as it is.") from None
    except PermissionError:
        raise Denied(f"The copy {target} could not be written: this user has no permission to.") from None
    except OSError as error:
        raise Unavailable(f"The copy {target} could not be written: {error.strerror}.") from error
    finally:
        for file in files_of(part):
            with suppress(OSError):
                os.unlink(file)


def _copy(path: str, part: str, target: str, progress: Progress | None) -> tuple[int, bytes | None]:
    """Copy all pages as of one moment; the position and leaf of the last event at that moment."""

    def told(status: int, remaining: int, total: int) -> None:
        if progress is not None:
            progress(total - remaining, total)

    try:
        with closing(connect_reading(path)) as source:
            # A transaction held open: what others commit meanwhile neither shows nor makes the copy begin anew.
            source.execute("BEGIN")
            last = source.execute(
                "SELECT position, leaf FROM events ORDER BY position DESC LIMIT 1"
            ).fetchone()
            with closing(sqlite3.connect(part)) as copy:
                source.backup(copy, pages=STEP_PAGES, progress=told)
            return last or (0, None)
    except sqlite3.Error as error:
        full = getattr(error, "sqlite_errorname", "") == "SQLITE_FULL"  # The log is only read.
        raise translate(error, target if full else path, "The log could not be copied") from error


def _compare(path: str, part: str, position: int, leaf: bytes | None, report: CheckReport) -> None:
    with closing(connect_reading(part)) as copy:
        found = copy.execute("SELECT position, leaf FROM events ORDER BY position DESC LIMIT 1").fetchone()
    if not report.ok:
        raise unsound(path, report)
    if (found or (0, None)) != (position, leaf):
        raise UnusableLog(
            f"The copy of {path} ends with another event than the log did when the copy was begun, so it has been "
            "removed. Run `evrt db check`, then try again."
        )


def unsound(path: str, report: CheckReport) -> EvrtError:
    """What to say of a log whose copy does not pass the check."""
    first = report.findings[0]
    where = "" if first.position is None else f"position {first.position}: "
    more = len(report.findings) + report.findings_left_off - 1
    return UnusableLog(
        f"{path} is not sound, so the copy of it is not kept. {where}{first.text}"
        + (f" And {more} more." if more else "")
        + " `evrt db check` tells all of it."
    )


def _name(part: str, target: str) -> None:
    """Give it the name by a link, for that never replaces what somebody has put there meanwhile."""
    try:
        os.link(part, target)
    except FileExistsError:
        raise
    except OSError:  # Not every file system has links.
        os.rename(part, target)


def _sync(path: str) -> None:
    descriptor = os.open(path, os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
