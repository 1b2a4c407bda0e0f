"""Where views are kept: beside their log, or where that cannot be, in a temporary folder of this process."""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref

from evrt.log.address import parse_url


class TemporaryFolder:
    """A folder that is removed with the process that made it, or before; not by its forked children."""

    def __init__(self) -> None:
        self.name = tempfile.mkdtemp(prefix="evrt-views-")
        self.cleanup = weakref.finalize(self, _remove_folder, self.name, os.getpid())


def _remove_folder(name: str, process: int) -> None:
    if os.getpid() == process:
        shutil.rmtree(name, ignore_errors=True)


def views_path(url: str) -> str | None:
    """Where the views of a log are kept; None for a log in memory."""
    path = parse_url(url)
    return None if path is None else f"{os.path.abspath(path)}-views"


def may_keep(path: str) -> bool:
    """Whether this user may write views there."""
    folder = os.path.dirname(path)
    return os.access(folder, os.W_OK | os.X_OK) and (not os.path.exists(path) or os.access(path, os.W_OK))
