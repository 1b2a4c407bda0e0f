"""Where the log is that the library's setting ``SQLITE_DBNAME`` names: a file, or a folder of this process alone."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
import weakref
from dataclasses import dataclass
from urllib.parse import unquote

from evrt.errors import UsageError
from evrt.log.address import SQLITE_PREFIX, parse_url

FILE_PREFIX = "file:"


class PassingFolder:
    """A folder that is removed when nobody holds on to it any more: what the library calls a database in memory."""

    def __init__(self) -> None:
        self.path = tempfile.mkdtemp(prefix="evrt-")
        weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)


@dataclass(frozen=True)
class LogPlace:
    """The path of the log's file, and the folder to hold on to where it is to pass."""

    path: str
    folder: PassingFolder | None = None


_shared: weakref.WeakValueDictionary[str, PassingFolder] = weakref.WeakValueDictionary()
_lock = threading.Lock()


def find_place(name: str) -> LogPlace:
    """A path, ``file:path``, ``sqlite:///path``, or what SQLite calls a database in memory.

    ``:memory:`` is a new place every time; ``file:name?mode=memory&cache=shared`` is the same one for whoever
    gives that name in this process, as long as one of them uses it. Raises UsageError.
    """
    if ":memory:" in name or "mode=memory" in name:
        folder = _shared_folder(name) if "cache=shared" in name else PassingFolder()
        return LogPlace(os.path.join(folder.path, "evrt.db"), folder)
    if name.startswith(SQLITE_PREFIX):
        path = parse_url(name)
        assert path is not None
        return LogPlace(path)
    if not name.startswith(FILE_PREFIX):
        return LogPlace(name)
    path, _, parameters = name.removeprefix(FILE_PREFIX).partition("?")
    if parameters:
        raise UsageError(
            f"{name!r} cannot be used: of SQLite's parameters after a '?', a log takes mode=memory and "
            "cache=shared alone. evrt chooses the others itself."
        )
    return LogPlace(unquote(path.removeprefix("//")))


def _shared_folder(name: str) -> PassingFolder:
    with _lock:
        folder = _shared.get(name)
        if folder is None:
            folder = _shared[name] = PassingFolder()
        return folder
