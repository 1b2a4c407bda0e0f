"""A tree that grows leaf by leaf is the tree made at once, and its tiles are those that C2SP tlog-tiles names."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audit.trees import by_definition, leaf
from evrt.audit.tiles import (
    ENTRIES,
    WIDTH,
    GrowingTree,
    Tile,
    bundled,
    edge,
    split_bundle,
    split_hashes,
    subtrees,
)
from evrt.audit.tree import consistency_proof, inclusion_proof, root_at, verify_consistency, verify_inclusion

LEAVES = [leaf(number) for number in range(2 * WIDTH * WIDTH // 100)]

# A third of what the profile says: each example makes a tree of some hundred leaves.
EXAMPLES = (settings.default or settings()).max_examples // 3


def entry(number: int) -> bytes:
    return str(number).encode() * (number % 3)


class Kept:
    """The tiles of a growing tree, in memory; it can stop at any size and go on from there."""

    def __init__(self) -> None:
        self.tiles: dict[Tile, bytes] = {}
        self.tree = GrowingTree(self.keep)

    def keep(self, tile: Tile, content: bytes) -> None:
        assert self.tiles.setdefault(tile, content) == content

    def grow(self, size: int, leaves: list[bytes] = LEAVES) -> None:
        for number in range(self.tree.size, size):
            self.tree.add(leaves[number], entry(number))

    def stop(self) -> None:
        """Keep what is unfinished, forget the tree, and begin again where its last tile begins."""
        for tile, content in self.tree.unfinished():
            self.keep(tile, content)
        size = self.tree.size
        begin = max(size - 1, 0) // WIDTH * WIDTH
        self.tree = GrowingTree(self.keep, begin, lambda tile: self.read(tile, size))

    def read(self, tile: Tile, size: int) -> bytes:
        for width in range(tile.width, WIDTH + 1):
            if tile._replace(width=width) in self.tiles:
                return self.tiles[tile._replace(width=width)][: tile.width * 32]
        raise AssertionError(f"{tile} is missing for size {size}")


@settings(max_examples=EXAMPLES)
@given(st.lists(st.integers(0, 900), min_size=1, max_size=6))
def test_a_tree_that_stops_and_goes_on_is_the_one_made_at_once(stops: list[int]) -> None:
    kept = Kept()
    for size in sorted(stops):
        kept.stop()
        kept.grow(size)
        assert kept.tree.size == size
        assert kept.tree.root() == by_definition(LEAVES[:size])


@settings(max_examples=EXAMPLES)
@given(st.data(), st.integers(1, len(LEAVES)))
def test_proofs_out_of_tiles_verify(data: st.DataObject, size: int) -> None:
    kept = Kept()
    kept.grow(size)
    root = kept.tree.root()
    kept.stop()
    subtree = subtrees(size, lambda tile: kept.read(tile, size))
    assert root_at(size, subtree) == root
    index, old = data.draw(st.integers(0, size - 1)), data.draw(st.integers(0, size))
    assert verify_inclusion(index, size, LEAVES[index], inclusion_proof(index, size, subtree), root)
    proof = consistency_proof(old, size, subtree)
    assert verify_consistency(old, by_definition(LEAVES[:old]), size, root, proof)


def test_a_tree_of_three_levels_has_the_tiles_that_the_specification_counts() -> None:
    leaves = [leaf(number) for number in range(1_000)] * 70
    kept = Kept()
    kept.grow(70_000, leaves)
    kept.stop()
    widths: dict[int, list[int]] = {}
    for tile in kept.tiles:
        widths.setdefault(tile.level, []).append(tile.width)
    assert {level: (found.count(WIDTH), min(found)) for level, found in widths.items()} == {
        0: (273, 112),
        1: (1, 17),
        2: (0, 1),
        ENTRIES: (273, 112),
    }
    assert [tile.width for tile in edge(70_000)] == [112, 17, 1]
    subtree = subtrees(70_000, lambda tile: kept.read(tile, 70_000))
    assert root_at(70_000, subtree) == by_definition(leaves)


def test_a_tree_of_one_full_tile_has_a_partial_one_above_it() -> None:
    kept = Kept()
    kept.grow(256)
    kept.stop()
    assert {tile.path for tile in kept.tiles} == {"tile/0/000", "tile/1/000.p/1", "tile/entries/000"}


@pytest.mark.parametrize(
    "tile, path",
    [
        (Tile(0, 0, 256), "tile/0/000"),
        (Tile(0, 0, 1), "tile/0/000.p/1"),
        (Tile(1, 999, 256), "tile/1/999"),
        (Tile(1, 1000, 256), "tile/1/x001/000"),
        (Tile(0, 1234067, 255), "tile/0/x001/x234/067.p/255"),
        (Tile(ENTRIES, 1234067, 256), "tile/entries/x001/x234/067"),
    ],
)
def test_tiles_have_the_paths_of_the_specification(tile: Tile, path: str) -> None:
    assert tile.path == path


@given(st.lists(st.binary(max_size=300), max_size=20))
def test_a_bundle_gives_back_its_entries(entries: list[bytes]) -> None:
    content = b"".join(map(bundled, entries))
    assert split_bundle(content) == entries
    if content and entries[-1]:
        with pytest.raises(ValueError, match="within an entry"):
            split_bundle(content[:-1])


def test_an_entry_of_the_largest_size_fits_into_a_bundle() -> None:
    assert split_bundle(bundled(b"x" * 65_535)) == [b"x" * 65_535]


def test_the_leaves_of_a_tile_are_in_order() -> None:
    kept = Kept()
    kept.grow(256)
    assert split_hashes(kept.tiles[Tile(0, 0, 256)]) == LEAVES[:256]
    assert split_bundle(kept.tiles[Tile(ENTRIES, 0, 256)]) == [entry(number) for number in range(256)]
