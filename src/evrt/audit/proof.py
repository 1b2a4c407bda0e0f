"""Proofs as files: C2SP tlog-proof for inclusion; for consistency what C2SP tlog-witness is sent.

Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from evrt.audit.checkpoint import DECIMAL, Checkpoint, parse_checkpoint
from evrt.audit.note import from_base64, to_base64
from evrt.audit.tree import HASH_BYTES, verify_consistency, verify_inclusion
from evrt.errors import InvalidInput

INCLUSION_START = "c2sp.org/tlog-proof@v1"
CONSISTENCY_START = "old "
INDEX_START = "index "
EXTRA_START = "extra "
HASHES_MAX = 63

# An origin has no space, so the line that begins a consistency proof is not mistaken for one.
_NEXT = re.compile(rf"(?<=\n\n)(?=old [0-9]+\n)|(?<=\n)(?={re.escape(INCLUSION_START)}\n)")


@dataclass(frozen=True, slots=True)
class InclusionProof:
    """That the tree of a checkpoint has a certain leaf at this index, counted from 0."""

    index: int
    path: Sequence[bytes]
    checkpoint: Checkpoint

    def encoded(self) -> str:
        lines = [INCLUSION_START, f"{INDEX_START}{self.index}", *map(to_base64, self.path), ""]
        return "\n".join(lines) + "\n" + self.checkpoint.content

    def proves(self, leaf: bytes) -> bool:
        return verify_inclusion(self.index, self.checkpoint.size, leaf, self.path, self.checkpoint.root)


@dataclass(frozen=True, slots=True)
class ConsistencyProof:
    """That the tree of a checkpoint has grown from that of ``old`` leaves by adding only."""

    old: int
    path: Sequence[bytes]
    checkpoint: Checkpoint

    def encoded(self) -> str:
        """What a witness takes at ``add-checkpoint``."""
        lines = [f"{CONSISTENCY_START}{self.old}", *map(to_base64, self.path), ""]
        return "\n".join(lines) + "\n" + self.checkpoint.content

    def proves(self, old_root: bytes) -> bool:
        new = self.checkpoint
        return verify_consistency(self.old, old_root, new.size, new.root, self.path)


Proof = InclusionProof | ConsistencyProof


def parse_proofs(content: str) -> list[Proof]:
    """The proofs of a file, one after the other with an empty line before the next. Raises InvalidInput."""
    starts = [match.start() for match in _NEXT.finditer(content)]
    bounds = [0, *starts, len(content)]
    pieces = [content[a:b] for a, b in pairwise(bounds)]
    # Of the empty line between two of them, nothing belongs to a proof.
    return [_parse(piece[:-1] if piece.endswith("\n\n") else piece) for piece in pieces]


def _parse(content: str) -> Proof:
    head, gap, checkpoint = content.partition("\n\n")
    lines = iter(head.split("\n"))
    first = next(lines)
    if gap and first == INCLUSION_START:
        second = next(lines, "")
        if second.startswith(EXTRA_START):
            second = next(lines, "")
        return InclusionProof(_number(second, INDEX_START), list(_path(lines)), parse_checkpoint(checkpoint))
    if gap and first.startswith(CONSISTENCY_START):
        return ConsistencyProof(
            _number(first, CONSISTENCY_START), list(_path(lines)), parse_checkpoint(checkpoint)
        )
    raise InvalidInput(
        f"It is not a proof: one of inclusion begins with {INCLUSION_START}, one of consistency with "
        f"'{CONSISTENCY_START}' and a size, and both end with a checkpoint."
    )


def _number(line: str, start: str) -> int:
    text = line.removeprefix(start)
    if not line.startswith(start) or not DECIMAL.fullmatch(text):
        raise InvalidInput(f"A line of the proof is not '{start}' and a number: {line!r}.")
    return int(text)


def _path(lines: Iterator[str]) -> Iterator[bytes]:
    for number, line in enumerate(lines):
        hash_ = from_base64(line)
        if hash_ is None or len(hash_) != HASH_BYTES or number == HASHES_MAX:
            raise InvalidInput(f"A line of the proof is not a hash, or one too many: {line!r}.")
        yield hash_
