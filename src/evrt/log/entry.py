"""The entry and its leaf: the bytes that an event is proved by. Final from the first event on.

An entry is UTF-8 JSON without white space, its keys in the order below. It holds
everything about an event but the payload, which it pins by a salted digest, and it
can be rebuilt from the row for ever, erased or not. Golden vectors in the tests pin it.
"""

from __future__ import annotations

from hashlib import sha256

import orjson

from evrt.log.contract import Recorded

ENTRY_VERSION = 1
ENTRY_BYTES_MAX = 65_535
LEAF_PREFIX = b"\x00"


def payload_digest(salt: bytes, payload: bytes) -> bytes:
    """SHA-256(salt ‖ payload), 32 bytes. The salt keeps a guessable payload from being confirmed."""
    return sha256(salt + payload).digest()


def build_entry(
    *,
    log: str,
    position: int,
    time: int,
    event_id: str,
    stream: str,
    version: int,
    prev: bytes | None,
    type: str,
    correlation: str,
    meta: bytes,
    payload_length: int,
    payload_digest: bytes,
) -> bytes:
    """The entry's exact bytes; ``meta`` goes in as the raw JSON it is, digests as lower-case hex."""
    return orjson.dumps(
        {
            "v": ENTRY_VERSION,
            "log": log,
            "position": position,
            "time": time,
            "event_id": event_id,
            "stream": stream,
            "version": version,
            "prev": None if prev is None else prev.hex(),
            "type": type,
            "correlation": correlation,
            "meta": orjson.Fragment(meta),
            "payload_length": payload_length,
            "payload_digest": payload_digest.hex(),
        }
    )


def entry_of(log: str, event: Recorded, prev: bytes | None) -> bytes:
    """The entry that a row comes to. Raises TypeError, ValueError where it holds what no entry can."""
    return build_entry(
        log=log,
        position=event.position,
        time=event.time,
        event_id=event.event_id,
        stream=event.stream,
        version=event.version,
        prev=prev,
        type=event.type,
        correlation=event.correlation,
        meta=event.meta,
        payload_length=event.payload_length,
        payload_digest=event.payload_digest,
    )


def leaf_hash(entry: bytes) -> bytes:
    """SHA-256(0x00 ‖ entry): the leaf of RFC 6962, section 2.1."""
    return sha256(LEAF_PREFIX + entry).digest()
