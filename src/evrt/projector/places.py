"""Where views are kept: beside their log, or where that cannot be, in a temporary folder of this process."""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from typing import TYPE_CHECKING

from evrt.log import Log
from evrt.log.address import is_postgres, parse_url

if TYPE_CHECKING:
    from evrt.log.postgres.address import Address


class TemporaryFolder:
    """A folder that is removed with the process that made it, or before; not by its forked children."""

    def __init__(self) -> None:
        self.name = tempfile.mkdtemp(prefix="evrt-views-")
        self.cleanup = weakref.finalize(self, _remove_folder, self.name, os.getpid())


def _remove_folder(name: str, process: int) -> None:
    if os.getpid() == process:
        shutil.rmtree(name, ignore_errors=True)


def views_path(url: str) -> str | None:
    """The file that the views of a log are kept in; None for a log in memory or on PostgreSQL."""
    path = None if is_postgres(url) else parse_url(url)
    return None if path is None else f"{os.path.abspath(path)}-views"


def address_of(log: Log) -> Address | None:
    """Where a log on PostgreSQL is; None for others."""
    found: Address | None = getattr(log, "address", None)
    return found


def may_keep(path: str) -> bool:
    """Whether this user may write views there."""
    folder = os.path.dirname(path)
    return os.access(folder, os.W_OK | os.X_OK) and (not os.path.exists(path) or os.access(path, os.W_OK))
