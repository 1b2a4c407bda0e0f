"""The entry, byte by byte. Its format is final: these vectors are added to and never edited."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evrt.errors import InvalidInput
from evrt.log import META_BYTES_MAX, NAME_BYTES_MAX
from evrt.log.entry import ENTRY_BYTES_MAX, build_entry, leaf_hash, payload_digest
from evrt.log.plan import check_request
from log.stores import Open, append, draft

GOLDEN = json.loads((Path(__file__).parents[1] / "vectors" / "entries.json").read_text(encoding="utf-8"))
VECTORS: list[dict[str, Any]] = GOLDEN["vectors"]

KEYS = [
    "v",
    "log",
    "position",
    "time",
    "event_id",
    "stream",
    "version",
    "prev",
    "type",
    "correlation",
    "meta",
    "payload_length",
    "payload_digest",
]


def build(row: dict[str, Any], digest: bytes) -> bytes:
    return build_entry(
        log=GOLDEN["log"],
        position=row["position"],
        time=row["time"],
        event_id=row["event_id"],
        stream=row["stream"],
        version=row["version"],
        prev=None if row["prev"] is None else bytes.fromhex(row["prev"]),
        type=row["type"],
        correlation=row["correlation"],
        meta=row["meta"].encode(),
        payload_length=len(row["payload"]) // 2,
        payload_digest=digest,
    )


@pytest.mark.parametrize("vector", VECTORS, ids=[vector["name"] for vector in VECTORS])
def test_the_golden_vectors_hold(vector: dict[str, Any]) -> None:
    row = vector["row"]
    digest = payload_digest(bytes.fromhex(row["salt"]), bytes.fromhex(row["payload"]))
    assert digest.hex() == vector["payload_digest"]
    entry = build(row, digest)
    assert entry == vector["entry"].encode()
    assert leaf_hash(entry).hex() == vector["leaf"]


def test_the_golden_vectors_are_the_ones_that_were_published() -> None:
    leaves = "".join(vector["leaf"] for vector in VECTORS[:6])
    assert (
        sha256(leaves.encode()).hexdigest()
        == "4b871ec8359d04a6c1e627ac9778187f80eb63142dd16a7b20626c59f229f96c"
    )


@pytest.mark.parametrize("vector", VECTORS, ids=[vector["name"] for vector in VECTORS])
def test_an_entry_needs_no_payload(vector: dict[str, Any]) -> None:
    """After erasure the digest and the length in the row are all there is, and all that is needed."""
    row = {**vector["row"], "payload": "00" * (len(vector["row"]["payload"]) // 2)}
    assert build(row, bytes.fromhex(vector["payload_digest"])) == vector["entry"].encode()


def test_an_entry_has_its_keys_in_their_order() -> None:
    for vector in VECTORS:
        assert list(json.loads(vector["entry"])) == KEYS


@given(
    st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=40),
    st.integers(1, 2**63 - 1),
    st.one_of(st.none(), st.binary(min_size=32, max_size=32)),
    st.dictionaries(st.text(), st.one_of(st.text(), st.integers(-(2**53), 2**53), st.none()), max_size=4),
)
def test_an_entry_is_what_json_makes_of_the_same_values(
    name: str, number: int, prev: bytes | None, meta: dict[str, Any]
) -> None:
    compact = json.dumps(meta, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")
    entry = build_entry(
        log=GOLDEN["log"],
        position=number,
        time=number,
        event_id="018f3c9e-0000-7000-8000-000000000001",
        stream=name,
        version=number,
        prev=prev,
        type=name,
        correlation=name,
        meta=compact,
        payload_length=number,
        payload_digest=b"\xab" * 32,
    )
    expected = {
        "v": 1,
        "log": GOLDEN["log"],
        "position": number,
        "time": number,
        "event_id": "018f3c9e-0000-7000-8000-000000000001",
        "stream": name,
        "version": number,
        "prev": None if prev is None else prev.hex(),
        "type": name,
        "correlation": name,
        "meta": meta,
        "payload_length": number,
        "payload_digest": "ab" * 32,
    }
    assert entry == json.dumps(expected, ensure_ascii=False, separators=(",", ":")).encode()


@pytest.mark.parametrize("code", [*range(0x20), *range(0x7F, 0xA0)])
def test_control_characters_never_come_into_an_entry(code: int) -> None:
    for refused in (
        draft(f"run{chr(code)}1"),
        draft(type=f"note{chr(code)}"),
        draft(correlation=f"{chr(code)}run-1"),
    ):
        with pytest.raises(InvalidInput, match="control characters"):
            check_request(append(refused), 100)


def test_the_largest_entry_fits_into_a_tile() -> None:
    name = '"' * NAME_BYTES_MAX
    entry = build_entry(
        log=GOLDEN["log"],
        position=2**63 - 1,
        time=2**63 - 1,
        event_id="018f3c9e-0000-7000-8000-000000000001",
        stream=name,
        version=2**63 - 1,
        prev=b"\x00" * 32,
        type=name,
        correlation=name,
        meta=b'{"a":"' + b"x" * (META_BYTES_MAX - 8) + b'"}',
        payload_length=2**63 - 1,
        payload_digest=b"\x00" * 32,
    )
    assert len(entry) <= ENTRY_BYTES_MAX


async def test_erasure_leaves_the_entry_and_the_leaf_of_every_vector_equal(open_lasting: Open) -> None:
    async with open_lasting() as log:
        for vector in VECTORS:
            row = vector["row"]
            meta = row["meta"].replace('"epoch":1,', "").encode()
            await log.append(
                append(
                    draft(
                        row["stream"],
                        bytes.fromhex(row["payload"]),
                        type=row["type"],
                        correlation=row["correlation"],
                        event_id=row["event_id"],
                        meta=meta,
                    )
                )
            )
        before = await log.read()
        for recorded in before:
            await log.erase_payload(recorded.position)
        after = await log.read()
    assert after == [recorded._replace(salt=None, payload=None) for recorded in before]
