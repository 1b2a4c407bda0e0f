"""Identifiers: event ids that sort by time, and short random refs."""

from __future__ import annotations

import os
import time
from base64 import b32encode

REF_BYTES = 10


def new_event_id() -> str:
    """A version 7 UUID (RFC 9562) in canonical form: 48 bits of milliseconds, the rest random."""
    try:
        random = _pool.pop()
    except IndexError:
        random = _fetch()
    text = ((time.time_ns() // 1_000_000).to_bytes(6, "big") + random).hex()
    variant = "89ab"[int(text[16], 16) & 3]
    return f"{text[:8]}-{text[8:12]}-7{text[13:16]}-{variant}{text[17:20]}-{text[20:]}"


def new_ref(kind: str) -> str:
    """A random stream name such as ``run-k3v9xq2mfw7p5tzd``: 80 random bits in lower-case base 32."""
    return f"{kind}-{b32encode(os.urandom(REF_BYTES)).decode('ascii').lower()}"


_pool: list[bytes] = []
"""Random bytes for event ids, ten at a time, fetched from the system in larger pieces.

Each call to the system lets go of the interpreter's lock, and beside a busy writer thread it took
longer to get that back than the rest of an append.
"""

POOL_IDS = 256


def _fetch() -> bytes:
    """Fetch a block, keep all of it but the first ten bytes."""
    block = os.urandom(10 * POOL_IDS)
    _pool.extend([block[start : start + 10] for start in range(10, len(block), 10)])
    return block[:10]


# A forked child must not go on with the same bytes as its parent.
os.register_at_fork(after_in_child=_pool.clear)
