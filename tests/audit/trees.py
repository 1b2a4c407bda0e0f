"""Trees by the RFC's own recursive definition, which is slow and hard to get wrong."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

from evrt.audit.tree import PerfectSubtree


def leaf(number: int) -> bytes:
    return sha256(b"\x00" + str(number).encode()).digest()


def by_definition(leaves: Sequence[bytes]) -> bytes:
    """MTH of RFC 6962, section 2.1, over leaf hashes."""
    if not leaves:
        return sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return sha256(b"\x01" + by_definition(leaves[:split]) + by_definition(leaves[split:])).digest()


def subtrees_of(leaves: Sequence[bytes]) -> PerfectSubtree:
    """Perfect subtrees over these leaves, remembered."""
    known: dict[tuple[int, int], bytes] = {}

    def subtree(height: int, index: int) -> bytes:
        if (height, index) not in known:
            known[height, index] = by_definition(leaves[index << height : (index + 1) << height])
        return known[height, index]

    return subtree
