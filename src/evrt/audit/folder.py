"""The tree as a folder of files beside the log, in the layout of C2SP tlog-tiles: reading and writing it.

``tile/…`` and ``checkpoint`` are what a web server may hand out as they are. ``head.json`` says how far
the tiles go. Files appear whole or not at all, and no file of the tree is ever overwritten with
something else.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from evrt.audit.tiles import ENTRIES, WIDTH, GrowingTree, Tile, subtrees, tile_at
from evrt.audit.tree import HASH_BYTES, PerfectSubtree
from evrt.errors import Denied, TreeDisagrees, Unavailable
from evrt.log.sqlite.connect import sync_folder
from evrt.log.sqlite.lock import FileLock

HEAD = "head.json"
CHECKPOINT = "checkpoint"
LOCK = "lock"
LOCK_TIMEOUT_SECONDS = 30.0
TREE_SUFFIX = "-tree"


class Head(NamedTuple):
    """Whose tree it is, how many leaves it has, and its root."""

    log: str
    size: int
    root: bytes


def missing(what: str, folder: Path) -> str:
    return (
        f"{what}. The tree folder {folder} has been damaged. Move it away, compare it with a copy if you can, "
        "and let `evrt audit head` make another from the log."
    )


@dataclass(frozen=True)
class TreeFolder:
    """The folder; it need not be there yet."""

    path: Path

    def head(self) -> Head | None:
        """How far the tree goes, or None where there is none. Raises TreeDisagrees, Denied, Unavailable."""
        content = self._content(HEAD)
        if content is None:
            return None
        try:
            document = json.loads(content)
            head = Head(str(document["log"]), int(document["size"]), bytes.fromhex(document["root"]))
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
            head = Head("", -1, b"")
        if head.size < 0 or len(head.root) != HASH_BYTES:
            raise TreeDisagrees(missing(f"{HEAD} cannot be read", self.path))
        return head

    def checkpoint(self) -> bytes | None:
        """The newest signed checkpoint, if one has been signed."""
        return self._content(CHECKPOINT)

    def content(self, tile: Tile, size: int) -> bytes | None:
        """What a tile holds, and perhaps what was added to it later, up to a tree of this size; None if it is not there."""
        for found in dict.fromkeys(
            (tile, tile._replace(width=WIDTH), tile_at(tile.level, tile.number, size))
        ):
            content = self._content(found.path)
            if content is not None:
                return content
        return None

    def subtrees(self, size: int) -> PerfectSubtree:
        """The perfect subtrees of the tree that this folder holds, which has this size."""
        return subtrees(size, lambda tile: self.hashes(tile, size))

    def hashes(self, tile: Tile, size: int) -> bytes:
        """The hashes of a tile. Raises TreeDisagrees where they are not all there."""
        content = self.content(tile, size) or b""
        if len(content) < tile.width * HASH_BYTES:
            raise TreeDisagrees(missing(f"{tile.path} is not there, or too short", self.path))
        return content[: tile.width * HASH_BYTES]

    @contextmanager
    def writing(self) -> Iterator[FolderWriter]:
        """Write to the folder, alone. Raises Denied, Unavailable."""
        with _translated(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            sync_folder(str(self.path.parent))
        lock = FileLock(str(self.path / LOCK))
        try:
            if not lock.acquire_within(LOCK_TIMEOUT_SECONDS):
                raise Unavailable(
                    f"The tree folder {self.path} is being written by {lock.holder()}. Try again."
                )
            yield FolderWriter(self)
        finally:
            lock.close()

    def _content(self, name: str) -> bytes | None:
        with _translated(self.path):
            try:
                return (self.path / name).read_bytes()
            except (FileNotFoundError, NotADirectoryError):
                return None


class FolderWriter:
    """Adds to a folder. What it writes counts once ``commit`` has said so."""

    def __init__(self, folder: TreeFolder) -> None:
        self._folder = folder
        self._changed: set[Path] = set()
        self._filled: list[Tile] = []

    def write(self, tile: Tile, content: bytes) -> None:
        """Add a tile. One that is there already has to be the same: raises TreeDisagrees."""
        path = self._folder.path / tile.path
        if tile.full:
            self._filled.append(tile)
        with _translated(self._folder.path):
            if path.exists():
                if path.read_bytes() != content:
                    raise TreeDisagrees(
                        f"The tree folder {self._folder.path} holds another {tile.path} than the log's events come "
                        "to. Nothing has been overwritten; `evrt audit verify` finds the events that differ."
                    )
                return
            path.parent.mkdir(parents=True, exist_ok=True)
            _put(path, content)
        self._changed.add(path.parent)

    def commit(self, log: str, tree: GrowingTree) -> Head:
        """Write the tiles that are not full, then say how far the tree goes."""
        for tile, content in tree.unfinished():
            self.write(tile, content)
        head = Head(log, tree.size, tree.root())
        document = {"log": log, "size": head.size, "root": head.root.hex()}
        with _translated(self._folder.path):
            for folder in self._unsynced():
                sync_folder(str(folder))
            # Before the head: a process that dies in between fills the same tiles again, and drops the rest.
            for tile in self._filled:
                self._drop_partials(tile)
            self.replace(HEAD, f"{json.dumps(document)}\n".encode())
        self._filled.clear()
        return head

    def replace(self, name: str, content: bytes) -> None:
        """Put a file in the place of the one of that name, if there is one."""
        with _translated(self._folder.path):
            _put(self._folder.path / name, content)
            sync_folder(str(self._folder.path))

    def _unsynced(self) -> list[Path]:
        """The folders that have gained a name, the deepest first."""
        changed, self._changed = self._changed, set()
        above = {
            folder
            for leaf in changed
            for folder in (leaf, *leaf.parents)
            if folder.is_relative_to(self._folder.path)
        }
        return sorted(above, key=lambda folder: len(folder.parts), reverse=True)

    def _drop_partials(self, tile: Tile) -> None:
        """The full tile, durable by now, takes the place of what it was while it grew."""
        partials = (self._folder.path / tile._replace(width=1).path).parent
        with suppress(FileNotFoundError):
            for file in list(partials.iterdir()):
                file.unlink()
            partials.rmdir()


def tree_folder(path: str) -> Path:
    """Where the tree of a log's file is, unless somebody says otherwise."""
    return Path(os.path.abspath(f"{path}{TREE_SUFFIX}"))


def tile_name(tile: Tile) -> str:
    """A tile or bundle in words."""
    return f"{'bundle' if tile.level == ENTRIES else 'tile'} {tile.path}"


def _put(path: Path, content: bytes) -> None:
    """Make a file durable under another name, then give it its own."""
    passing = path.with_name(f".{path.name}.new")
    descriptor = os.open(passing, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
    try:
        written = 0
        while written < len(content):
            written += os.write(descriptor, content[written:])
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    os.replace(passing, path)


@contextmanager
def _translated(folder: Path) -> Iterator[None]:
    try:
        yield
    except PermissionError as error:
        raise Denied(
            f"The tree folder {folder} cannot be used: {error.filename or folder} is not open to this user. "
            "Another place for it is named with --tree."
        ) from None
    except OSError as error:
        raise Unavailable(
            f"The tree folder {folder} cannot be read or written: {error.strerror} ({error.filename})."
        ) from error
