"""The Merkle tree of RFC 6962, in the abstract: what a root is, and proofs, made and verified.

Pure. Leaves are hashes already (``evrt.log.entry.leaf_hash``); indexes count from 0. Whoever makes a
proof hands in how to get at the *perfect* subtrees, those over 2^height leaves that begin at a multiple
of that: they never change as the tree grows, so they are what is stored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from hashlib import sha256

HASH_BYTES = 32
NODE_PREFIX = b"\x01"

EMPTY_ROOT = sha256(b"").digest()
"""The root of a tree without leaves."""

PerfectSubtree = Callable[[int, int], bytes]
"""The hash over leaves ``index << height`` to ``(index + 1) << height``, by height and index."""


def node_hash(left: bytes, right: bytes) -> bytes:
    """SHA-256(0x01 ‖ left ‖ right)."""
    return sha256(NODE_PREFIX + left + right).digest()


def perfect_hash(hashes: Sequence[bytes]) -> bytes:
    """What 2^n neighbouring subtrees of one height come to."""
    while len(hashes) > 1:
        hashes = [node_hash(hashes[i], hashes[i + 1]) for i in range(0, len(hashes), 2)]
    return hashes[0]


def fold_peaks(peaks: Iterable[bytes]) -> bytes:
    """The hash over perfect subtrees that stand side by side, largest first, given from right to left."""
    right_to_left = iter(peaks)
    hash_ = next(right_to_left, EMPTY_ROOT)
    for left in right_to_left:
        hash_ = node_hash(left, hash_)
    return hash_


def peaks(lo: int, hi: int) -> Iterator[tuple[int, int]]:
    """The perfect subtrees over leaves lo to hi, right to left, by height and index.

    ``lo`` has to be where a subtree of that size can begin, as it is in every split below.
    """
    while lo < hi:
        height = ((hi - lo) & (lo - hi)).bit_length() - 1
        hi -= 1 << height
        yield height, hi >> height


def range_hash(lo: int, hi: int, subtree: PerfectSubtree) -> bytes:
    """The hash over leaves lo to hi, as the RFC has it."""
    return fold_peaks(subtree(height, index) for height, index in peaks(lo, hi))


def root_at(size: int, subtree: PerfectSubtree) -> bytes:
    """The root of the first ``size`` leaves."""
    return range_hash(0, size, subtree)


# ------------------------------------------------------------------------------------------------- making


def inclusion_proof(index: int, size: int, subtree: PerfectSubtree) -> list[bytes]:
    """The path from leaf ``index`` to the root of ``size`` leaves, the leaf's sibling first (RFC 6962, 2.1.1).

    Raises ValueError where there is no such leaf.
    """
    if not 0 <= index < size:
        raise ValueError(f"a tree of size {size} has no leaf {index}")
    path = []
    lo, hi = 0, size
    while hi - lo > 1:
        split = _split(lo, hi)
        if index < split:
            path.append(range_hash(split, hi, subtree))
            hi = split
        else:
            path.append(range_hash(lo, split, subtree))
            lo = split
    return path[::-1]


def consistency_proof(old: int, new: int, subtree: PerfectSubtree) -> list[bytes]:
    """That the first ``old`` of ``new`` leaves are those of the tree of size ``old`` (RFC 6962, 2.1.2).

    Empty where the sizes are equal or ``old`` is 0. Raises ValueError where ``old`` is the larger one.
    """
    if not 0 <= old <= new:
        raise ValueError(f"a tree of size {new} cannot have grown from one of size {old}")
    if old in (0, new):
        return []
    proof = []
    lo, hi = 0, new
    while hi != old:
        split = _split(lo, hi)
        if old <= split:
            proof.append(range_hash(split, hi, subtree))
            hi = split
        else:
            proof.append(range_hash(lo, split, subtree))
            lo = split
    if lo > 0:
        # Else what is left is the old tree itself, whose root the verifier has.
        proof.append(range_hash(lo, hi, subtree))
    return proof[::-1]


def _split(lo: int, hi: int) -> int:
    """Where the right half of leaves lo to hi begins: after the largest power of two that leaves one over."""
    return lo + (1 << (hi - lo - 1).bit_length() - 1)


# ---------------------------------------------------------------------------------------------- verifying


def verify_inclusion(index: int, size: int, leaf: bytes, path: Sequence[bytes], root: bytes) -> bool:
    """Whether the tree of this size and root has this leaf at this index."""
    if not 0 <= index < size or not _hashes(leaf, root, *path):
        return False
    # Up to where the paths of this leaf and of the last one meet there is a sibling on every level; above,
    # only where this path comes from the right.
    inner = (index ^ (size - 1)).bit_length()
    if len(path) != inner + (index >> inner).bit_count():
        return False
    hash_ = leaf
    for level, sibling in enumerate(path):
        from_left = level < inner and not index >> level & 1
        hash_ = node_hash(hash_, sibling) if from_left else node_hash(sibling, hash_)
    return hash_ == root


def verify_consistency(
    old_size: int, old_root: bytes, new_size: int, new_root: bytes, proof: Sequence[bytes]
) -> bool:
    """Whether the tree of the new size and root has grown from that of the old by adding leaves only."""
    if not 0 <= old_size <= new_size or not _hashes(old_root, new_root, *proof):
        return False
    if old_size == 0:
        return not proof and old_root == EMPTY_ROOT and (new_size > 0 or new_root == EMPTY_ROOT)
    if old_size == new_size:
        return not proof and old_root == new_root
    # The last leaf of the old tree, counted on the level where its last perfect subtree stands.
    shift = (old_size & -old_size).bit_length() - 1
    index, last = old_size - 1 >> shift, new_size - 1 >> shift
    rest = list(proof)
    if index == 0:
        rest.insert(0, old_root)
    inner = (index ^ last).bit_length()
    if len(rest) != 1 + inner + (index >> inner).bit_count():
        return False
    old = new = rest[0]
    for level, sibling in enumerate(rest[1:]):
        if level < inner and not index >> level & 1:
            new = node_hash(new, sibling)
        else:
            old, new = node_hash(sibling, old), node_hash(sibling, new)
    return old == old_root and new == new_root


def _hashes(*given: bytes) -> bool:
    return all(len(hash_) == HASH_BYTES for hash_ in given)
