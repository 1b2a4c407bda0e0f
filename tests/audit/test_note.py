"""Keys, notes, checkpoints and files of proofs: what is written is read, and nothing that was altered is believed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.logs import KEY, OTHER_KEY
from audit.trees import by_definition, leaf, subtrees_of
from evrt.audit.checkpoint import parse_checkpoint, sign_checkpoint
from evrt.audit.note import SignerKey, make_key, parse_note, parse_signer, parse_verifier
from evrt.audit.proof import ConsistencyProof, InclusionProof, parse_proofs
from evrt.audit.tree import consistency_proof, inclusion_proof
from evrt.errors import InvalidInput

LEAVES = [leaf(number) for number in range(13)]
SUBTREES = subtrees_of(LEAVES)
CHECKPOINT = parse_checkpoint(sign_checkpoint(KEY, 13, by_definition(LEAVES)))
INCLUSION = InclusionProof(5, inclusion_proof(5, 13, SUBTREES), CHECKPOINT)
CONSISTENCY = ConsistencyProof(6, consistency_proof(6, 13, SUBTREES), CHECKPOINT)
OLD_ROOT = by_definition(LEAVES[:6])

# The example of Go's note package.
PETER = "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz"
PETER_VKEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
PETER_TEXT = (
    "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
)
PETER_NOTE = f"{PETER_TEXT}\n— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"


def test_the_note_of_go_comes_out_byte_for_byte() -> None:
    key = parse_signer(PETER)
    assert key.encoded() == PETER
    assert str(key.verifier) == PETER_VKEY
    assert key.sign(PETER_TEXT) == PETER_NOTE
    assert parse_note(PETER_NOTE.encode()).signed_by(parse_verifier(PETER_VKEY))


def test_a_new_key_reads_back_and_does_not_show_itself() -> None:
    key = make_key("evrt/some-log")
    assert parse_signer(key.encoded()) == key
    assert parse_verifier(str(key.verifier)) == key.verifier
    assert key != make_key("evrt/some-log")
    assert key.seed.hex() not in repr(key)
    assert repr(key) == "SignerKey('evrt/some-log', …)"


@pytest.mark.parametrize("name", ["", "a b", "a+b", "a\u2003b", "a\nb", "a\x00b"])
def test_names_that_would_break_a_note_are_refused(name: str) -> None:
    with pytest.raises(InvalidInput, match="cannot be the name of a key"):
        make_key(name)


@pytest.mark.parametrize(
    "text, words",
    [
        ("", "not a verifier key"),
        ("PeterNeumann", "not a verifier key"),
        ("PeterNeumann+c74f20a3+!!!", "not a verifier key"),
        (PETER_VKEY[:-4], "not a verifier key"),
        (PETER_VKEY.replace("c74f", "c74e"), "id does not belong"),
        (PETER_VKEY.replace("Peter", "Pater"), "id does not belong"),
        (PETER_VKEY.replace("+ARpc", "+ARpd"), "id does not belong"),
        (PETER_VKEY.replace("+AR", "+BB"), "knows Ed25519"),
        (str(SignerKey("a", bytes(32)).verifier).replace("a+", "+", 1), "cannot be the name"),
    ],
)
def test_a_verifier_key_that_is_none_is_refused(text: str, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        parse_verifier(text)


@pytest.mark.parametrize("text", [PETER_VKEY, PETER[:-2], PETER.replace("c74f", "0000"), "PRIVATE+KEY+"])
def test_a_private_key_that_is_none_is_refused_without_being_shown(text: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        parse_signer(text)
    assert "FALVFGyN" not in str(refused.value)


@given(st.binary(max_size=200))
def test_bytes_that_are_no_note_are_refused(content: bytes) -> None:
    with pytest.raises(InvalidInput):
        parse_checkpoint(content)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "origin\n",
        "origin\n5\n",
        "origin\n05\n{root}\n",
        "origin\n-5\n{root}\n",
        "origin\n+5\n{root}\n",
        "origin\n5\nAAAA\n",
        "\n5\n{root}\n",
        "origin\n5\n{root}\n\nextension\n",
        "origin\n٥\n{root}\n",
    ],
)
def test_a_note_that_is_no_checkpoint_is_refused(text: str) -> None:
    root = CHECKPOINT.note.text.split("\n")[2]
    with pytest.raises(InvalidInput):
        parse_checkpoint(KEY.sign(text.replace("{root}", root)))


def test_lines_that_others_have_added_to_a_checkpoint_are_part_of_what_is_signed() -> None:
    extended = parse_checkpoint(KEY.sign(CHECKPOINT.note.text + "extension\n"))
    assert (extended.size, extended.root) == (CHECKPOINT.size, CHECKPOINT.root)
    assert extended.signed_by(KEY.verifier)


def test_signatures_of_strangers_count_for_nothing_and_spoil_nothing() -> None:
    ours, theirs = CHECKPOINT.content, OTHER_KEY.sign(CHECKPOINT.note.text)
    both = parse_checkpoint(ours + theirs.split("\n\n")[1])
    assert both.signed_by(KEY.verifier)
    assert both.signed_by(OTHER_KEY.verifier)
    assert not parse_checkpoint(theirs).signed_by(KEY.verifier)


def test_a_bad_signature_in_the_name_of_a_key_spoils_a_good_one() -> None:
    bad = KEY.sign("something else\n").split("\n\n")[1]
    assert not parse_checkpoint(CHECKPOINT.content + bad).signed_by(KEY.verifier)


# ----------------------------------------------------------------------------------------------- proofs


def test_proofs_read_back_alone_and_together() -> None:
    assert parse_proofs(INCLUSION.encoded()) == [INCLUSION]
    assert parse_proofs(CONSISTENCY.encoded()) == [CONSISTENCY]
    together = "\n".join(proof.encoded() for proof in (INCLUSION, CONSISTENCY, INCLUSION))
    assert parse_proofs(together) == [INCLUSION, CONSISTENCY, INCLUSION]


def test_a_proof_looks_as_the_specification_shows_it() -> None:
    lines = INCLUSION.encoded().split("\n")
    assert lines[:2] == ["c2sp.org/tlog-proof@v1", "index 5"]
    assert lines[6:9] == ["", KEY.name, "13"]
    assert CONSISTENCY.encoded().startswith("old 6\n")


def test_extra_lines_of_others_are_read_over() -> None:
    content = INCLUSION.encoded().replace("index 5", "extra AAAA\nindex 5")
    assert parse_proofs(content) == [INCLUSION]


@pytest.mark.parametrize(
    "content",
    [
        "",
        "c2sp.org/tlog-proof@v1\n",
        INCLUSION.encoded().replace("@v1", "@v2"),
        INCLUSION.encoded().replace("index 5", "index 05"),
        INCLUSION.encoded().replace("index 5", "index -1"),
        INCLUSION.encoded().replace("index 5\n", ""),
        CONSISTENCY.encoded().replace("old 6", "old x"),
        CONSISTENCY.encoded().replace("old 6\n", "old 6\n" + "A" * 43 + "=\n" * 64),
        INCLUSION.encoded().partition("\n\n")[0],
    ],
)
def test_a_file_that_is_no_proof_is_refused(content: str) -> None:
    with pytest.raises(InvalidInput):
        parse_proofs(content)


def believed(content: bytes) -> bool:
    """Whether a file proves what it was made for, to somebody who has key, leaf, and old root."""
    try:
        proofs = parse_proofs(content.decode())
    except (InvalidInput, UnicodeDecodeError):
        return False
    return all(
        proof.checkpoint.signed_by(KEY.verifier)
        and proof.proves(LEAVES[5] if isinstance(proof, InclusionProof) else OLD_ROOT)
        for proof in proofs
    )


def every_bit(content: bytes) -> Iterator[bytes]:
    for bit in range(len(content) * 8):
        changed = bytearray(content)
        changed[bit // 8] ^= 1 << bit % 8
        yield bytes(changed)


@pytest.mark.parametrize("proof", [INCLUSION, CONSISTENCY], ids=["inclusion", "consistency"])
def test_a_proof_with_any_single_bit_flipped_proves_nothing(proof: InclusionProof | ConsistencyProof) -> None:
    content = proof.encoded().encode()
    assert believed(content)
    assert [altered for altered in every_bit(content) if believed(altered)] == []


def test_a_proof_does_not_prove_another_leaf_or_another_past() -> None:
    assert not INCLUSION.proves(LEAVES[6])
    assert not CONSISTENCY.proves(by_definition(LEAVES[:7]))
