"""Where a log is: the URLs that ``open_log`` understands."""

from __future__ import annotations

from evrt.errors import UsageError

MEMORY_URL = "memory://"
SQLITE_PREFIX = "sqlite:///"


def parse_url(url: str) -> str | None:
    """The path of a log's file, relative as given, or None for a log in memory."""
    if url == MEMORY_URL:
        return None
    if not url.startswith(SQLITE_PREFIX):
        raise UsageError(
            f"{url!r} is not the URL of a log. Write sqlite:///evrt.db for a file in the current folder, "
            "sqlite:////var/lib/evrt.db for an absolute path, or memory:// for a log that is not kept."
        )
    path = url.removeprefix(SQLITE_PREFIX)
    if not path or path == ":memory:":
        raise UsageError(f"{url!r} names no file. For a log that is not kept, write memory://.")
    if "?" in path or "\x00" in path:
        raise UsageError(f"{url!r} cannot be used: the URL of a log takes no parameters after a '?'.")
    return path
