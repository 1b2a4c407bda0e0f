"""The log: the one truth, in terms of bytes. ``open_log`` gives one by its URL.

    async with contextlib.aclosing(await open_log("sqlite:///evrt.db")) as log:
        await log.append(Append([draft], {"run-1": NEW}))

The stores and what they stand on (sqlite3, aiosqlite) are imported when a log is opened.
"""

from __future__ import annotations

from evrt.errors import UsageError
from evrt.log.address import is_postgres, parse_url
from evrt.log.contract import (
    BLOB_BYTES_MAX,
    BLOB_PIECE_BYTES,
    EMPTY_HEAD,
    META_BYTES_MAX,
    NAME_BYTES_MAX,
    NEW,
    PAYLOAD_BYTES_MAX,
    REQUEST_EVENTS_MAX,
    Append,
    Appended,
    BlobKey,
    Claim,
    Draft,
    Exact,
    Expectation,
    Fence,
    Head,
    Log,
    Next,
    Recorded,
    Subscription,
)

__all__ = [
    "BLOB_BYTES_MAX",
    "BLOB_PIECE_BYTES",
    "EMPTY_HEAD",
    "META_BYTES_MAX",
    "NAME_BYTES_MAX",
    "NEW",
    "PAYLOAD_BYTES_MAX",
    "REQUEST_EVENTS_MAX",
    "Append",
    "Appended",
    "BlobKey",
    "Claim",
    "Draft",
    "Exact",
    "Expectation",
    "Fence",
    "Head",
    "Log",
    "Next",
    "Recorded",
    "Subscription",
    "open_log",
]

LOCK_TIMEOUT_SECONDS = 30.0
"""How long an append waits, by default, for another process to let go of the file."""


async def open_log(
    url: str,
    *,
    payload_bytes_max: int = PAYLOAD_BYTES_MAX,
    read_only: bool = False,
    lock_timeout_seconds: float = LOCK_TIMEOUT_SECONDS,
) -> Log:
    """Open a log, and create it where there is none yet.

    ``sqlite:///relative.db``, ``sqlite:////absolute.db``, ``postgresql://user:password@host:port/database?schema=name``
    (libpq's parameters pass through; the schema is ``evrt`` unless named), or ``memory://`` for a log of this
    process that begins empty and ends with it. A SQLite file that may not be written is opened
    for reading; appending to it raises Denied.

    Raises UsageError (not such a URL, not a file), NotFound (no such folder; no such file when
    ``read_only``), Denied, UnusableLog, Unavailable.
    """
    if is_postgres(url):
        return await _open_postgres(
            url,
            payload_bytes_max=payload_bytes_max,
            read_only=read_only,
            lock_timeout_seconds=lock_timeout_seconds,
        )
    path = parse_url(url)
    if path is None:
        if read_only:
            raise UsageError("A log in memory begins empty, so it cannot be opened read-only.")
        from evrt.log.memory import MemoryLog

        return MemoryLog(payload_bytes_max=payload_bytes_max)

    from evrt.log.sqlite.store import open_sqlite

    return await open_sqlite(
        url,
        path,
        payload_bytes_max=payload_bytes_max,
        read_only=read_only,
        lock_timeout_seconds=lock_timeout_seconds,
    )


async def _open_postgres(
    url: str, *, payload_bytes_max: int, read_only: bool, lock_timeout_seconds: float
) -> Log:
    from evrt.log.postgres.address import needing_psycopg, parse_postgres_url

    address = parse_postgres_url(url)
    with needing_psycopg():
        from evrt.log.postgres.store import open_postgres
    return await open_postgres(
        address,
        payload_bytes_max=payload_bytes_max,
        read_only=read_only,
        lock_timeout_seconds=lock_timeout_seconds,
    )
