"""Checkpoints, as C2SP tlog-checkpoint has them: a note that says whose log has which size and root.

Pure.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from evrt.audit.note import Note, SignerKey, VerifierKey, from_base64, parse_note, to_base64
from evrt.audit.tree import HASH_BYTES
from evrt.errors import InvalidInput

DECIMAL = re.compile(r"0|[1-9][0-9]{0,18}")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What somebody has said of a tree, and how they signed it. ``content`` is the note as it was read."""

    origin: str
    size: int
    root: bytes
    content: str
    note: Note

    def signed_by(self, key: VerifierKey) -> bool:
        return self.note.signed_by(key)


def head_text(origin: str, size: int, root: bytes) -> str:
    """What is signed: origin, size and root, a line each."""
    return f"{origin}\n{size}\n{to_base64(root)}\n"


def sign_checkpoint(key: SignerKey, size: int, root: bytes) -> str:
    """A checkpoint whose origin is the key's name, as C2SP recommends."""
    return key.sign(head_text(key.name, size, root))


def parse_checkpoint(content: str | bytes) -> Checkpoint:
    """A checkpoint, its signatures not yet verified. Raises InvalidInput."""
    encoded = content if isinstance(content, bytes) else content.encode()
    note = parse_note(encoded)
    lines = note.text[:-1].split("\n")
    root = from_base64(lines[2]) if len(lines) >= 3 and all(lines) else None
    if root is None or len(root) != HASH_BYTES or not DECIMAL.fullmatch(lines[1]):
        raise InvalidInput(
            "It is not a checkpoint: a note whose first lines are an origin, a size and a root."
        )
    return Checkpoint(lines[0], int(lines[1]), root, encoded.decode(), note)
