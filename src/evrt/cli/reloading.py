"""Noticing that code has changed: the folders of what has been imported, looked at again and again.

Polling the times of a few hundred files costs a millisecond, so no library watches them.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterable, Mapping

LOOK_SECONDS = 0.4
SETTLE_SECONDS = 0.1
"""An editor, or a checkout, writes more than one file: what has changed is to be whole."""


def code_folders() -> list[str]:
    """Folders in or below the current one, outside of any installation, that modules were imported from."""
    here = os.path.join(os.path.realpath(os.getcwd()), "")
    installed = tuple(
        os.path.join(os.path.realpath(path), "")
        for path in {sys.prefix, *(p for p in sys.path if p.endswith(("site-packages", "dist-packages")))}
    )
    files = [getattr(module, "__file__", None) for module in list(sys.modules.values())]
    folders = {os.path.dirname(os.path.realpath(file)) for file in files if isinstance(file, str)}
    return sorted(
        folder
        for folder in folders
        if (below := os.path.join(folder, "")).startswith(here)
        and not below.startswith(tuple(place for place in installed if place != here))
    )


def code_files(folders: Iterable[str]) -> Mapping[str, tuple[int, int]]:
    """The Python files in these folders, each with the time of its last change (ns) and its size."""
    found = {}
    for folder in folders:
        try:
            entries = list(os.scandir(folder))
        except OSError:  # Renamed, say.
            continue
        for entry in entries:
            if entry.name.endswith(".py"):
                try:
                    stat = entry.stat()
                except FileNotFoundError:
                    continue
                found[entry.path] = (stat.st_mtime_ns, stat.st_size)
    return found


def shortened(path: str) -> str:
    """A path as seen from here."""
    return os.path.relpath(path, os.path.realpath(os.getcwd()))


class Watched:
    """Folders, of which there may come to be more."""

    def __init__(self, folders: Iterable[str]) -> None:
        self._folders = set(folders)
        self._files = dict(code_files(self._folders))

    def add(self, folders: Iterable[str]) -> None:
        """What is there now in folders that were not watched yet is how they are."""
        new = set(folders) - self._folders
        self._folders |= new
        self._files |= code_files(new)

    async def changed(self) -> str:
        """Wait until a file has changed, come or gone; its path."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            before = self._files
            if (now := dict(await asyncio.to_thread(code_files, self._folders))) == before:
                continue
            while True:
                await asyncio.sleep(SETTLE_SECONDS)
                later = dict(await asyncio.to_thread(code_files, self._folders))
                if later == now:
                    break
                now = later
            self._files = now
            different = {path for path, _ in before.items() ^ now.items()}
            if different:  # And not written back as it was.
                return min(different)
