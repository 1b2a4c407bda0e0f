"""The tree cut into tiles, as C2SP tlog-tiles has it: files of 256 hashes, and the tree that grows by them.

Pure. A tile of level 0 holds leaves; one of level L the hashes of 256 full tiles of level L - 1 each.
Full tiles never change. Entries stand in bundles beside the tiles of level 0.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from evrt.audit.tree import HASH_BYTES, PerfectSubtree, fold_peaks, peaks, perfect_hash

HEIGHT = 8
WIDTH = 1 << HEIGHT
"""Hashes in a full tile, entries in a full bundle."""

ENTRIES = -1
"""The level that bundles of entries are given here."""


class Tile(NamedTuple):
    """Which tile: its level, its number there from 0, and how many hashes or entries it holds."""

    level: int
    number: int
    width: int

    @property
    def full(self) -> bool:
        return self.width == WIDTH

    @property
    def path(self) -> str:
        """Its place in the folder: ``tile/0/x001/234``, ``tile/entries/000.p/17``."""
        level = "entries" if self.level == ENTRIES else str(self.level)
        above, last = divmod(self.number, 1000)
        parts = [f"{last:03d}"]
        while above:
            above, part = divmod(above, 1000)
            parts.insert(0, f"x{part:03d}")
        return f"tile/{level}/{'/'.join(parts)}{'' if self.full else f'.p/{self.width}'}"


def tile_at(level: int, number: int, size: int) -> Tile:
    """The tile as it is in a tree of this size; its width is 0 where the tree does not reach it."""
    there = size >> HEIGHT * max(level, 0)
    return Tile(level, number, min(max(there - (number << HEIGHT), 0), WIDTH))


def edge(size: int) -> Iterator[Tile]:
    """The last hash tile of every level of a tree of this size, where it is not full, lowest first."""
    level = 0
    while there := size >> HEIGHT * level:
        if there % WIDTH:
            yield Tile(level, there // WIDTH, there % WIDTH)
        level += 1


def split_hashes(content: bytes) -> list[bytes]:
    """The hashes of a tile."""
    return [content[i : i + HASH_BYTES] for i in range(0, len(content), HASH_BYTES)]


def bundled(entry: bytes) -> bytes:
    """An entry as it stands in a bundle: its length in two bytes, then the entry."""
    return len(entry).to_bytes(2, "big") + entry


def split_bundle(content: bytes) -> list[bytes]:
    """The entries of a bundle. Raises ValueError where it ends within one."""
    entries = []
    at = 0
    while at < len(content):
        end = at + 2 + int.from_bytes(content[at : at + 2], "big")
        if end > len(content):
            raise ValueError("the bundle ends within an entry")
        entries.append(content[at + 2 : end])
        at = end
    return entries


def subtrees(size: int, read: Callable[[Tile], bytes]) -> PerfectSubtree:
    """The perfect subtrees of a tree of this size, out of its tiles."""

    def subtree(height: int, index: int) -> bytes:
        level, within = divmod(height, HEIGHT)
        first = index << within
        content = read(tile_at(level, first >> HEIGHT, size))
        start = first % WIDTH
        return perfect_hash(split_hashes(content)[start : start + (1 << within)])

    return subtree


class GrowingTree:
    """A tree to add leaves to, one after the other: its right edge and nothing else.

    Each leaf costs one hash. ``finished`` is told of every tile and bundle as it becomes full.
    """

    def __init__(
        self,
        finished: Callable[[Tile, bytes], None],
        size: int = 0,
        read: Callable[[Tile], bytes] | None = None,
    ) -> None:
        """Begin with nothing, or go on from ``size``, a multiple of 256, with the tiles that ``read`` gives."""
        assert size % WIDTH == 0, "A tree goes on where a bundle begins."
        self._finished = finished
        self.size = size
        # Unfinished tiles by level; the hashes in them, side by side.
        self._levels: list[bytearray] = [bytearray()]
        self._bundle = bytearray()
        if read is not None:
            for tile in edge(size):
                self._level(tile.level).extend(read(tile))

    def add(self, leaf: bytes, entry: bytes) -> None:
        """Add a leaf, and its entry to the bundle."""
        self._bundle += bundled(entry)
        self.size += 1
        if self.size % WIDTH == 0:
            self._finished(Tile(ENTRIES, self.size // WIDTH - 1, WIDTH), bytes(self._bundle))
            self._bundle.clear()
        self._put(0, leaf)

    def _put(self, level: int, hash_: bytes) -> None:
        hashes = self._level(level)
        hashes += hash_
        if len(hashes) == WIDTH * HASH_BYTES:
            content = bytes(hashes)
            hashes.clear()
            self._finished(Tile(level, (self.size >> HEIGHT * (level + 1)) - 1, WIDTH), content)
            self._put(level + 1, perfect_hash(split_hashes(content)))

    def _level(self, level: int) -> bytearray:
        while len(self._levels) <= level:
            self._levels.append(bytearray())
        return self._levels[level]

    def unfinished(self) -> Iterable[tuple[Tile, bytes]]:
        """The tiles and the bundle that are not full, as they are now."""
        for tile in edge(self.size):
            yield tile, bytes(self._levels[tile.level])
        if self._bundle:
            yield Tile(ENTRIES, self.size // WIDTH, self.size % WIDTH), bytes(self._bundle)

    def root(self) -> bytes:
        """The root of all leaves so far."""
        return fold_peaks(self._peaks())

    def _peaks(self) -> Iterator[bytes]:
        for content in self._levels:
            hashes = split_hashes(bytes(content))
            for height, index in peaks(0, len(hashes)):
                yield perfect_hash(hashes[index << height : (index + 1) << height])
