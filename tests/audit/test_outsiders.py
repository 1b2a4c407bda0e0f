"""What evrt signs and proves is accepted by programs that evrt has no part in, and refused once anything is changed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from audit.logs import KEY, OTHER_KEY, Place, run_a_workflow, sign_head
from audit.outsiders import OK, Go, Witness, go_record, go_tree, sigstore_includes, witness_log_includes
from evrt.audit.checkpoint import Checkpoint, parse_checkpoint, sign_checkpoint
from evrt.audit.folder import TreeFolder
from evrt.audit.proof import ConsistencyProof, InclusionProof
from evrt.audit.proving import prove_consistency, prove_inclusion
from evrt.audit.tiles import GrowingTree
from evrt.log.entry import leaf_hash

POSITIONS = (1, 2, 255, 256, 257, 300)


def inclusion(place: Place, position: int, checkpoint: Checkpoint) -> InclusionProof:
    return prove_inclusion(place.url, place.folder, position, checkpoint)


def newest(place: Place) -> Checkpoint:
    return parse_checkpoint(place.folder.checkpoint() or b"")


def spoilt(content: bytes) -> Iterator[bytes]:
    """The content with one bit flipped, at every seventh byte and at its end."""
    for place in {*range(0, len(content), 7), len(content) - 2}:
        if content[place + 1 : place + 2] == b"=":
            continue  # The last bits of a base64 text stand for nothing, and Go does not look at them.
        yield content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


# ---------------------------------------------------------------------------------------------------- Go


def test_go_opens_our_notes_and_no_altered_ones(go: Go, signed: Place, tmp_path: Path) -> None:
    content = (signed.tree / "checkpoint").read_bytes()
    files = [tmp_path / "note"]
    files[0].write_bytes(content)
    for number, altered in enumerate(spoilt(content)):
        files.append(tmp_path / f"altered-{number}")
        files[-1].write_bytes(altered)
    answers = go.ask(*(("note", KEY.verifier, file) for file in files))
    assert answers[0] == OK
    assert OK not in answers[1:]
    assert len(answers) > 20
    assert go.ask(("note", OTHER_KEY.verifier, files[0])) != [OK]


def test_go_reads_keys_as_we_write_them(go: Go, signed: Place, tmp_path: Path) -> None:
    file = signed.tree / "checkpoint"
    name, key_id, key = str(KEY.verifier).split("+", 2)
    assert go.ask(("note", f"{name}+{key_id}+{key}", file)) == [OK]
    assert go.ask(("note", f"{name}+00000000+{key}", file)) == ["invalid verifier hash"]


def test_go_reads_the_whole_tree_from_its_tiles(go: Go, signed: Place) -> None:
    finished = go.audit(signed.tree, KEY.verifier)
    assert (finished.returncode, finished.stdout) == (0, "300 entries are in the tree that was signed\n")


def test_go_reads_a_tree_of_three_levels_that_grew_in_between(go: Go, tmp_path: Path) -> None:
    """Leaves straight into the tree: a log of so many events would take longer than all the rest."""
    folder, old = TreeFolder(tmp_path / "tree"), tmp_path / "old"
    with folder.writing() as writer:
        tree = GrowingTree(writer.write)
        for size in (65_536 + 200, 65_536 + 500):
            while tree.size < size:
                entry = b"entry %d" % tree.size
                tree.add(leaf_hash(entry), entry)
            head = writer.commit("some log", tree)
            writer.replace("checkpoint", sign_checkpoint(KEY, head.size, head.root).encode())
            if not old.exists():
                old.write_bytes(folder.checkpoint() or b"")
    finished = go.audit(folder.path, KEY.verifier, old)
    assert (finished.returncode, finished.stdout) == (0, "66036 entries are in the tree that was signed\n")


@pytest.mark.parametrize(
    "name", ["tile/0/000", "tile/0/001.p/44", "tile/1/000.p/1", "tile/entries/000", "tile/entries/001.p/44"]
)
def test_go_refuses_a_tree_whose_tile_was_altered(go: Go, signed: Place, name: str) -> None:
    file = signed.tree / name
    content = file.read_bytes()
    file.write_bytes(
        content[:40] + bytes([content[40] ^ 1]) + content[41:] if len(content) > 40 else bytes(32)
    )
    assert go.audit(signed.tree, KEY.verifier).returncode == 1


def test_go_finds_our_proofs_of_inclusion_right_and_altered_ones_wrong(go: Go, signed: Place) -> None:
    entries = signed.entries()
    for position in POSITIONS:
        proof = inclusion(signed, position, newest(signed))
        question = go_record(proof, leaf_hash(entries[position - 1]))
        altered = [
            go_record(proof, leaf_hash(entries[position % 300])),
            [*question[:3], proof.index ^ 1, *question[4:]],
            question[:-1],
            [*question, question[-1]],
            [*question[:2], question[4], *question[3:]],
        ]
        answers = go.ask(question, *altered)
        assert answers[0] == OK
        assert OK not in answers[1:], (position, answers)


def test_go_finds_our_files_of_proofs_right_and_altered_ones_wrong(
    go: Go, signed: Place, tmp_path: Path
) -> None:
    entry = tmp_path / "entry"
    entry.write_bytes(signed.entries()[256])
    content = inclusion(signed, 257, newest(signed)).encoded().encode()
    questions = []
    for number, text in enumerate([content, *spoilt(content)]):
        file = tmp_path / f"{number}.tlog-proof"
        file.write_bytes(text)
        questions.append(("proof", KEY.verifier, file, entry))
    answers = go.ask(*questions)
    assert answers[0] == OK
    assert OK not in answers[1:]
    entry.write_bytes(signed.entries()[257])
    assert go.ask(questions[0]) != [OK]


def test_go_finds_that_every_tree_has_grown_and_no_other(go: Go, place: Place) -> None:
    checkpoints = []
    for events in (1, 1, 5, 249, 1, 200):
        place.fill(events)
        checkpoints.append(sign_head(place))
    new = checkpoints[-1]
    for old in checkpoints:
        path = prove_consistency(place.folder, old, new).path
        question = go_tree(new, old, path)
        altered = [
            [*question[:3], old.size + 1, *question[4:]],
            [*question[:4], question[2] if old != new else question[4], *question[5:]],
            [*question, question[2]],
            question[:-1],
        ]
        if old == new:
            altered = [altered[0], altered[2]]
        answers = go.ask(question, *altered)
        assert answers[0] == OK
        assert OK not in answers[1:], (old.size, answers)


def test_go_reads_the_tree_of_a_real_run_of_which_a_payload_was_erased(go: Go, place: Place) -> None:
    asyncio.run(run_a_workflow(place.url))
    checkpoint = sign_head(place)
    assert place.verify().report.erased == 1
    finished = go.audit(place.tree, KEY.verifier)
    assert finished.stdout == f"{checkpoint.size} entries are in the tree that was signed\n"


# ------------------------------------------------------------------------------------ witness-log, sigstore


@pytest.mark.parametrize("includes", [witness_log_includes, sigstore_includes])
def test_other_verifiers_find_our_proofs_right_and_altered_ones_wrong(
    signed: Place, includes: Callable[[InclusionProof, bytes], bool]
) -> None:
    entries = signed.entries()
    checkpoint = newest(signed)
    for position in POSITIONS:
        proof = inclusion(signed, position, checkpoint)
        entry = entries[position - 1]
        assert includes(proof, entry)
        assert not includes(proof, entries[position % 300])
        assert not includes(InclusionProof(proof.index ^ 1, proof.path, checkpoint), entry)
        assert not includes(InclusionProof(proof.index, proof.path[:-1], checkpoint), entry)
        assert not includes(InclusionProof(proof.index, [*proof.path, proof.path[0]], checkpoint), entry)
        for altered in spoilt(entry):
            assert not includes(proof, altered)


def test_a_witness_cosigns_a_log_that_grows(place: Place) -> None:
    place.fill(200)
    old = sign_head(place)
    witness = Witness(old.origin, KEY.verifier)
    assert witness.add(0, [], old.content)[0] == 200
    place.fill(400)
    new = sign_head(place)
    body = prove_consistency(place.folder, old, new).encoded()
    status, cosignature = witness.add_body(body)
    assert status == 200
    # Under the checkpoint it goes on being one, and proofs carry it along.
    (place.tree / "checkpoint").write_text(new.content + cosignature)
    cosigned = newest(place)
    assert cosigned.signed_by(KEY.verifier)
    assert [signature.name for signature in cosigned.note.signatures] == [KEY.name, "witness.example"]
    assert sign_head(place).content == cosigned.content
    assert cosignature in inclusion(place, 5, cosigned).encoded()


def test_a_witness_refuses_a_proof_that_was_altered(place: Place) -> None:
    place.fill(200)
    old = sign_head(place)
    place.fill(400)
    new = sign_head(place)
    witness = Witness(old.origin, KEY.verifier)
    assert witness.add(0, [], old.content)[0] == 200
    proof = prove_consistency(place.folder, old, new)
    for altered in (
        proof.path[1:],
        proof.path[::-1],
        [*proof.path, proof.path[0]],
        [old.root, *proof.path[1:]],
    ):
        assert witness.add(200, altered, new.content)[0] == 422
    assert witness.add_body(ConsistencyProof(199, proof.path, new).encoded())[0] == 409
    forged = parse_checkpoint(OTHER_KEY.sign(new.note.text))
    assert witness.add(200, proof.path, forged.content)[0] == 403
    assert witness.add(200, proof.path, new.content)[0] == 200
