"""Verifying says what a log is worth as evidence: anchored, unanchored, or what does not agree."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from audit.forging import edit, forge, truncate
from audit.logs import KEY, OTHER_KEY, Place, run_a_workflow, sign_head
from evrt.audit.checkpoint import Checkpoint, parse_checkpoint, sign_checkpoint
from evrt.audit.folder import TreeFolder
from evrt.audit.proof import ConsistencyProof, InclusionProof, Proof
from evrt.audit.proving import prove_consistency, prove_inclusion
from evrt.audit.verifying import HeldProof, Verdict, verify
from evrt.errors import UnusableLog


def texts(verdict: Verdict) -> list[str]:
    return [finding.text for finding in verdict.findings]


def newest(place: Place) -> Checkpoint:
    return parse_checkpoint(place.folder.checkpoint() or b"")


def proof_of(place: Place, position: int) -> InclusionProof:
    return prove_inclusion(place.url, place.folder, position, newest(place))


def with_proof(place: Place, proof: Proof) -> Verdict:
    return place.verify(proofs=(HeldProof("proof", proof),))


def flip(file: Path, at: int = 0) -> None:
    content = file.read_bytes()
    file.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])


# ------------------------------------------------------------------------------------------ what is sound


def test_a_log_by_itself_is_sound_and_unanchored(signed: Place) -> None:
    verdict = signed.verify()
    assert verdict.ok
    assert verdict.anchored is None
    assert (verdict.report.events, verdict.root) == (300, newest(signed).root)
    assert verdict.tree == signed.folder.head()


def test_a_log_without_a_tree_folder_can_be_verified(signed: Place, tmp_path: Path) -> None:
    checkpoint = newest(signed).content
    signed.tree.rename(tmp_path / "elsewhere")
    verdict = signed.verify(checkpoint)
    assert (verdict.ok, verdict.anchored, verdict.tree) == (True, 300, None)


def test_checkpoints_from_outside_anchor_what_they_cover(signed: Place) -> None:
    first = newest(signed).content
    signed.fill(30)
    second = sign_head(signed).content
    signed.fill(7)
    assert signed.verify(first).anchored == 300
    assert signed.verify(second, first).anchored == 330
    assert signed.verify(first).report.events == 337


def test_a_real_run_is_anchored_also_when_a_payload_was_erased_since(place: Place) -> None:
    asyncio.run(run_a_workflow(place.url))
    checkpoint = sign_head(place)
    asyncio.run(run_a_workflow(place.url))
    verdict = place.verify(checkpoint.content)
    assert verdict.ok
    assert verdict.anchored == checkpoint.size
    assert verdict.report.erased == 1


def test_proofs_from_outside_anchor_as_their_checkpoints_do(signed: Place) -> None:
    old = newest(signed)
    inclusion = proof_of(signed, 5)
    signed.fill(30)
    consistency = prove_consistency(signed.folder, old, sign_head(signed))
    assert with_proof(signed, inclusion).anchored == 300
    assert with_proof(signed, consistency).anchored == 330


# --------------------------------------------------------------------------------------------- signatures


def test_a_checkpoint_that_another_key_has_signed_anchors_nothing(signed: Place) -> None:
    verdict = signed.verify(newest(signed).content, key=OTHER_KEY)
    assert texts(verdict) == [
        f"checkpoint 1 does not carry a valid signature of {KEY.name}+{OTHER_KEY.verifier.id.hex()}."
    ]
    assert verdict.anchored is None


def test_a_checkpoint_whose_root_was_doctored_is_not_signed(signed: Place) -> None:
    head = signed.folder.head()
    assert head is not None
    true, false = newest(signed), sign_checkpoint(KEY, 300, bytes(32))
    doctored = false.split("\n\n")[0] + "\n\n" + true.content.split("\n\n")[1]
    assert "does not carry a valid signature" in texts(signed.verify(doctored))[0]
    # The true key over a false root: signed, and wrong.
    assert "signed over 300 events that are not the log's first 300" in texts(signed.verify(false))[0]


# ---------------------------------------------------------------------------------------- the tree folder


@pytest.mark.parametrize(
    "name, words",
    [
        ("tile/0/000", "(tile tile/0/000)"),
        ("tile/0/001.p/44", "(tile tile/0/001.p/44)"),
        ("tile/1/000.p/1", "tile/1/000.p/1 does not hold the hashes of the tiles below it"),
        ("tile/entries/000", "bundle tile/entries/000 is damaged: the bundle ends within an entry"),
        ("tile/entries/001.p/44", "bundle tile/entries/001.p/44 is damaged"),
        ("head.json", "head.json cannot be read"),
        ("checkpoint", "checkpoint was signed over"),
    ],
)
def test_every_file_of_the_tree_is_compared(signed: Place, name: str, words: str) -> None:
    if name == "checkpoint":
        (signed.tree / name).write_text(sign_checkpoint(KEY, 299, bytes(32)))
    else:
        flip(signed.tree / name)
    verdict = signed.verify(newest(signed).content) if name != "checkpoint" else signed.verify()
    assert any(words in text for text in texts(verdict)), verdict.findings


@pytest.mark.parametrize("name", ["tile/0/000", "tile/0/001.p/44", "tile/1/000.p/1", "tile/entries/000"])
def test_a_file_of_the_tree_that_was_cut_short_is_named(signed: Place, name: str) -> None:
    file = signed.tree / name
    file.write_bytes(file.read_bytes()[:-32])
    assert any(name in text for text in texts(signed.verify()))


def test_the_entry_and_the_leaf_that_a_tree_has_otherwise_are_named(signed: Place) -> None:
    flip(signed.tree / "tile/0/001.p/44", at=32 * 3 + 5)
    flip(signed.tree / "tile/entries/000", at=100)
    found = {finding.position: finding.text for finding in signed.verify().findings}
    assert found == {
        260: "The tree folder has another leaf for it (tile tile/0/001.p/44).",
        1: "The tree folder has another entry for it (bundle tile/entries/000).",
    }


@pytest.mark.parametrize("name", ["tile/0/000", "tile/1/000.p/1", "tile/entries/001.p/44"])
def test_a_file_that_is_missing_from_the_tree_is_named(signed: Place, name: str) -> None:
    (signed.tree / name).unlink()
    [text] = texts(signed.verify())
    assert f"lacks the {'bundle' if 'entries' in name else 'tile'} {name}" in text


def test_a_head_with_another_root_is_noticed(signed: Place) -> None:
    head = signed.folder.head()
    assert head is not None
    file = signed.tree / "head.json"
    file.write_text(file.read_text().replace(head.root.hex(), "00" * 32))
    assert "names another root" in texts(signed.verify())[0]


def test_the_tree_of_another_log_is_noticed(signed: Place, tmp_path: Path) -> None:
    other = Place(tmp_path / "other.db")
    other.fill(300)
    verdict = verify(other.url, signed.folder)
    assert any("belongs to another log" in text for text in texts(verdict))


def test_a_tree_longer_than_the_log_is_noticed(signed: Place) -> None:
    forge(signed, truncate(10), consistently=True)
    found = texts(signed.verify())
    assert any("events 291 to 300 are missing from the end of the log" in text for text in found)


def test_findings_beyond_counting_are_counted(signed: Place) -> None:
    (signed.tree / "tile/0/000").write_bytes(bytes(256 * 32))
    verdict = signed.verify()
    assert len(verdict.findings) == 100
    assert verdict.findings_left_off > 150


# ------------------------------------------------------------------------------------------------ proofs


def test_a_proof_of_an_event_that_was_changed_names_it(signed: Place) -> None:
    proof = proof_of(signed, 51)
    forge(signed, edit(50), consistently=True)
    found = with_proof(signed, proof).findings
    assert any(finding.position == 51 and "does not prove it" in finding.text for finding in found)


def test_a_proof_is_tried_on_the_leaf_that_the_log_has(signed: Place) -> None:
    proof, other = proof_of(signed, 51), proof_of(signed, 52)
    for wrong in (
        InclusionProof(51, proof.path, proof.checkpoint),
        InclusionProof(50, other.path, proof.checkpoint),
        InclusionProof(50, proof.path[:-1], proof.checkpoint),
    ):
        assert [text for text in texts(with_proof(signed, wrong)) if "does not prove it" in text]


def test_a_proof_of_an_event_that_was_cut_off_is_noticed(signed: Place) -> None:
    proof = proof_of(signed, 300)
    forge(signed, truncate(10), consistently=True)
    assert "proof is about position 300, which the log does not have." in texts(with_proof(signed, proof))


def test_a_proof_of_growth_is_tried_on_the_root_that_the_log_had(signed: Place) -> None:
    old = newest(signed)
    signed.fill(30)
    proof = prove_consistency(signed.folder, old, sign_head(signed))
    wrong = ConsistencyProof(299, proof.path, proof.checkpoint)
    assert "does not prove that the tree has grown" in texts(with_proof(signed, wrong))[0]
    beyond = ConsistencyProof(331, proof.path, proof.checkpoint)
    assert "begins at size 331, which the log does not reach" in texts(with_proof(signed, beyond))[0]


def test_a_file_that_sqlite_cannot_read_is_refused(signed: Place) -> None:
    signed.path.write_bytes(b"no database")
    with pytest.raises(UnusableLog):
        verify(signed.url, TreeFolder(signed.tree))
