"""Where a log is: the URLs that ``open_log`` understands."""

from __future__ import annotations

from evrt.errors import UsageError
from evrt.log.postgres.address import SCHEMES, shown_url

MEMORY_URL = "memory://"
SQLITE_PREFIX = "sqlite:///"


def is_postgres(url: str) -> bool:
    """Whether a URL is of a log on PostgreSQL."""
    return url.startswith(SCHEMES)


def parse_url(url: str) -> str | None:
    """The path of a log's file, relative as given, or None for a log in memory. Raises UsageError for any other."""
    if url == MEMORY_URL:
        return None
    if is_postgres(url):
        raise UsageError(f"This takes a log in a file, and {shown_url(url)} is one on PostgreSQL.")
    if not url.startswith(SQLITE_PREFIX):
        raise UsageError(
            f"{url!r} is not the URL of a log. Write sqlite:///evrt.db for a file in the current folder, "
            "sqlite:////var/lib/evrt.db for an absolute path, postgresql://user:password@host/database for "
            "PostgreSQL, or memory:// for a log that is not kept."
        )
    path = url.removeprefix(SQLITE_PREFIX)
    if not path or path == ":memory:":
        raise UsageError(f"{url!r} names no file. For a log that is not kept, write memory://.")
    if "?" in path or "\x00" in path:
        raise UsageError(f"{url!r} cannot be used: the URL of a log takes no parameters after a '?'.")
    return path
