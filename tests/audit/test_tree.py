"""Roots and proofs are those of RFC 6962: by its own definition, by known vectors, and under every flipped bit."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.trees import by_definition, leaf, subtrees_of
from evrt.audit.tree import (
    EMPTY_ROOT,
    consistency_proof,
    inclusion_proof,
    root_at,
    verify_consistency,
    verify_inclusion,
)
from evrt.log.entry import leaf_hash

PAIRS_SIZE_MAX = 70
"""Past 64, so that every shape of a tree up to six levels occurs."""

LEAVES = [leaf(number) for number in range(300)]
SUBTREES = subtrees_of(LEAVES)

# The tests of Certificate Transparency have these eight entries, and so has everybody since.
KNOWN_ENTRIES = (
    "",
    "00",
    "10",
    "2021",
    "3031",
    "40414243",
    "5051525354555657",
    "606162636465666768696a6b6c6d6e6f",
)
KNOWN_ROOTS = (
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
)
OF_0_AND_1 = "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e"
KNOWN_PATHS = {
    (0, 8): (
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        OF_0_AND_1,
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ),
    (5, 8): (
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        KNOWN_ROOTS[4],
    ),
    (2, 3): (KNOWN_ROOTS[2],),
    (1, 5): (
        KNOWN_ROOTS[1],
        OF_0_AND_1,
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ),
}
KNOWN_GROWTH = {
    (1, 8): KNOWN_PATHS[0, 8],
    (6, 8): (
        "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        KNOWN_ROOTS[4],
    ),
    (2, 5): (OF_0_AND_1, "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b"),
}

known_subtrees = subtrees_of([leaf_hash(bytes.fromhex(entry)) for entry in KNOWN_ENTRIES])


class Inclusion(NamedTuple):
    """All that a verifier of inclusion is given."""

    place: int
    size: int
    leaf: bytes
    path: list[bytes]
    root: bytes

    def verified(self) -> bool:
        return verify_inclusion(self.place, self.size, self.leaf, self.path, self.root)


class Consistency(NamedTuple):
    """All that a verifier of consistency is given."""

    old_size: int
    old_root: bytes
    new_size: int
    new_root: bytes
    path: list[bytes]

    def verified(self) -> bool:
        return verify_consistency(self.old_size, self.old_root, self.new_size, self.new_root, self.path)


def inclusion(index: int, size: int) -> Inclusion:
    path = inclusion_proof(index, size, SUBTREES)
    return Inclusion(index, size, LEAVES[index], path, root_at(size, SUBTREES))


def consistency(old: int, new: int) -> Consistency:
    proof = consistency_proof(old, new, SUBTREES)
    return Consistency(old, root_at(old, SUBTREES), new, root_at(new, SUBTREES), proof)


def hexes(hashes: Sequence[bytes]) -> tuple[str, ...]:
    return tuple(hash_.hex() for hash_ in hashes)


def flipped(content: bytes, bit: int) -> bytes:
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


# ---------------------------------------------------------------------------------------- known vectors


@pytest.mark.parametrize("size", range(9))
def test_the_known_roots_come_out(size: int) -> None:
    assert root_at(size, known_subtrees).hex() == KNOWN_ROOTS[size]


@pytest.mark.parametrize("index, size", KNOWN_PATHS)
def test_the_known_inclusion_proofs_come_out(index: int, size: int) -> None:
    assert hexes(inclusion_proof(index, size, known_subtrees)) == KNOWN_PATHS[index, size]


@pytest.mark.parametrize("old, new", KNOWN_GROWTH)
def test_the_known_consistency_proofs_come_out(old: int, new: int) -> None:
    assert hexes(consistency_proof(old, new, known_subtrees)) == KNOWN_GROWTH[old, new]


# ------------------------------------------------------------------------------------ every size and pair


def test_roots_are_those_of_the_definition() -> None:
    for size in range(len(LEAVES)):
        assert root_at(size, SUBTREES) == by_definition(LEAVES[:size])


def test_every_leaf_of_every_size_is_proved_and_no_other_in_its_place() -> None:
    for size in range(1, PAIRS_SIZE_MAX + 1):
        for index in range(size):
            proof = inclusion(index, size)
            assert proof.verified()
            assert not proof._replace(leaf=LEAVES[index + 1]).verified()


def test_every_pair_of_sizes_is_consistent_and_no_two_others_with_its_proof() -> None:
    for new in range(1, PAIRS_SIZE_MAX + 1):
        for old in range(new + 1):
            proof = consistency(old, new)
            assert proof.verified(), (old, new)
            for other in (old - 1, old + 1):
                assert not proof._replace(old_size=other).verified(), (old, other, new)
            if 0 < old < new:
                # A history that was written anew, and one that is another from its last event on.
                assert not proof._replace(old_root=root_at(old, lambda h, i: SUBTREES(h, i + 1))).verified()
                assert not proof._replace(old_root=by_definition([*LEAVES[: old - 1], LEAVES[-1]])).verified()


def test_proofs_are_refused_for_what_is_not_in_a_tree() -> None:
    for index, size in ((0, 0), (5, 5), (-1, 5)):
        with pytest.raises(ValueError, match="has no leaf"):
            inclusion_proof(index, size, SUBTREES)
    for old, new in ((6, 5), (-1, 5)):
        with pytest.raises(ValueError, match="cannot have grown"):
            consistency_proof(old, new, SUBTREES)


def test_an_empty_tree_grows_into_any_and_proves_nothing() -> None:
    assert Consistency(0, EMPTY_ROOT, 0, EMPTY_ROOT, []).verified()
    assert Consistency(0, EMPTY_ROOT, 5, LEAVES[0], []).verified()
    assert not Consistency(0, LEAVES[0], 5, LEAVES[0], []).verified()
    assert not Consistency(0, EMPTY_ROOT, 5, LEAVES[0], [LEAVES[0]]).verified()
    assert not Consistency(0, EMPTY_ROOT, 0, LEAVES[0], []).verified()
    assert not Inclusion(0, 0, LEAVES[0], [], LEAVES[0]).verified()


# ---------------------------------------------------------------------------------------------- tampering


def spoilt_paths(path: list[bytes], bit: int) -> list[list[bytes]]:
    """The ways in which the hashes of a proof can be wrong, short of being made for another tree."""
    ways = [path + path[:1], [*path, LEAVES[0]]]
    for place in range(len(path)):
        before, hash_, after = path[:place], path[place], path[place + 1 :]
        ways += [[*before, flipped(hash_, bit), *after], before + after, [*before, hash_, hash_, *after]]
        ways += [[*before, hash_[:-1], *after]]
    return [*ways, path[::-1]]


@given(st.data(), st.integers(1, 299), st.integers(0, 255))
def test_an_inclusion_proof_with_anything_changed_is_rejected(
    data: st.DataObject, size: int, bit: int
) -> None:
    proof = inclusion(data.draw(st.integers(0, size - 1)), size)
    assert proof.verified()
    assert not proof._replace(leaf=flipped(proof.leaf, bit)).verified()
    assert not proof._replace(root=flipped(proof.root, bit)).verified()
    for index in {*range(size), -1, size, size + bit} - {proof.place}:
        assert not proof._replace(place=index).verified()
    for path in spoilt_paths(proof.path, bit):
        assert path == proof.path or not proof._replace(path=path).verified()


@given(st.data(), st.integers(2, 299), st.integers(0, 255))
def test_a_consistency_proof_with_anything_changed_is_rejected(
    data: st.DataObject, new: int, bit: int
) -> None:
    proof = consistency(data.draw(st.integers(1, new - 1)), new)
    assert proof.verified()
    assert not proof._replace(old_root=flipped(proof.old_root, bit)).verified()
    assert not proof._replace(new_root=flipped(proof.new_root, bit)).verified()
    for old in range(-1, new + 2):
        assert old == proof.old_size or not proof._replace(old_size=old).verified()
    for path in spoilt_paths(proof.path, bit):
        assert path == proof.path or not proof._replace(path=path).verified()


@given(st.integers(1, 70), st.integers(0, 69), st.integers(1, 140))
def test_a_size_that_changes_the_shape_of_the_path_is_rejected(size: int, index: int, other: int) -> None:
    """A size of equally shaped paths is not told from another by the path alone: root and size are signed together."""
    index %= size
    proof = inclusion(index, size)
    if other <= index or len(inclusion_proof(index, max(other, index + 1), _any)) != len(proof.path):
        assert not proof._replace(size=other).verified()


def _any(height: int, index: int) -> bytes:
    return sha256(bytes([height])).digest()
