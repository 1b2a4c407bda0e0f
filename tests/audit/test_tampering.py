"""Who sees which tampering, given what an auditor kept: a checkpoint, and the proofs of all events under it.

The table is the one in docs/audit.md. Everything is done to a real log's file, in raw SQL.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from audit.forging import (
    delete,
    edit,
    forge,
    grow_another_tree,
    replace_from,
    swap,
    truncate,
)
from audit.logs import KEY, Place, sign_head
from audit.outsiders import OK, Go, Witness, go_record, sigstore_includes, witness_log_includes
from docs_pages import DOCS, Page
from evrt.audit.checkpoint import Checkpoint, parse_checkpoint
from evrt.audit.proof import InclusionProof
from evrt.audit.proving import prove_inclusion
from evrt.audit.tree import consistency_proof
from evrt.log.entry import entry_of, leaf_hash
from evrt.log.walk import open_rows

EVENTS_BEFORE, EVENTS_AFTER = 280, 20
"""Events that the checkpoint covers, and events after it."""

PLACE = 100
SEEN, UNSEEN = "yes", "no"


@dataclass(frozen=True, slots=True)
class Kept:
    """What the auditor has, outside of the operator's reach."""

    checkpoint: Checkpoint
    proofs: list[InclusionProof]
    file: Path


@dataclass(frozen=True, slots=True)
class Case:
    """A log that was tampered with, what was kept before, and who can look."""

    place: Place
    kept: Kept
    go: Go
    witness: Witness


# ------------------------------------------------------------------------------------------- tamperings


def resigned(place: Place) -> None:
    grow_another_tree(place)


def edited(place: Place) -> None:
    forge(place, edit(PLACE), consistently=False)


def deleted(place: Place) -> None:
    forge(place, delete(PLACE), consistently=False)


def swapped(place: Place) -> None:
    forge(place, swap(PLACE), consistently=False)


def edited_and_made_to_fit(place: Place) -> None:
    forge(place, edit(PLACE), consistently=True)


def truncated(place: Place) -> None:
    forge(place, truncate(EVENTS_AFTER + 30), consistently=True)


def truncated_and_resigned(place: Place) -> None:
    truncated(place)
    resigned(place)


def edited_and_resigned(place: Place) -> None:
    edited_and_made_to_fit(place)
    resigned(place)


def deleted_and_resigned(place: Place) -> None:
    forge(place, delete(PLACE), consistently=True)
    resigned(place)


def swapped_and_resigned(place: Place) -> None:
    forge(place, swap(PLACE), consistently=True)
    resigned(place)


def forked_at_equal_size(place: Place) -> None:
    forge(place, lambda rows: replace_from(EVENTS_BEFORE - 50)(rows[:EVENTS_BEFORE]), consistently=True)
    resigned(place)


def cut_back_and_regrown(place: Place) -> None:
    forge(place, truncate(EVENTS_AFTER + 30), consistently=True)
    place.fill(100)
    resigned(place)


def changed_after_the_checkpoint(place: Place) -> None:
    forge(place, edit(EVENTS_BEFORE + 5), consistently=True)
    resigned(place)


TAMPERINGS: dict[str, Callable[[Place], None]] = {
    "edit an event": edited,
    "delete an event": deleted,
    "swap two events": swapped,
    "edit, and recompute every leaf": edited_and_made_to_fit,
    "cut off the end": truncated,
    "edit, recompute, rebuild the tree, re-sign": edited_and_resigned,
    "delete, close the gap, rebuild, re-sign": deleted_and_resigned,
    "swap, recompute, rebuild, re-sign": swapped_and_resigned,
    "cut off the end, rebuild, re-sign": truncated_and_resigned,
    "fork at equal size, re-sign": forked_at_equal_size,
    "cut off the end, append others, re-sign": cut_back_and_regrown,
    "edit after the checkpoint, rebuild, re-sign": changed_after_the_checkpoint,
}


# -------------------------------------------------------------------------------------------- verifiers


def entries_now(place: Place) -> dict[int, bytes]:
    """Entries by index, as an auditor builds them from the rows, whatever state these are in."""
    with open_rows(place.url, "Test") as rows:
        steps = [step for page in rows.steps() for step in page]
        return {one.event.position - 1: entry_of(rows.id, one.event, one.previous_leaf) for one in steps}


def evrt_rejects(case: Case) -> bool:
    return not case.place.verify(case.kept.checkpoint.content).ok


def go_rejects_tree(case: Case) -> bool:
    return case.go.audit(case.place.tree, KEY.verifier, case.kept.file).returncode != 0


def go_rejects_proofs(case: Case) -> bool:
    entries = entries_now(case.place)
    questions = [go_record(proof, leaf_hash(entries.get(proof.index, b""))) for proof in case.kept.proofs]
    return any(answer != OK for answer in case.go.ask(*questions))


def witness_log_rejects_proofs(case: Case) -> bool:
    entries = entries_now(case.place)
    return not all(witness_log_includes(proof, entries.get(proof.index, b"")) for proof in case.kept.proofs)


def sigstore_rejects_proofs(case: Case) -> bool:
    entries = entries_now(case.place)
    return not all(sigstore_includes(proof, entries.get(proof.index, b"")) for proof in case.kept.proofs)


def witness_refuses(case: Case) -> bool:
    """Whether a witness that signed the kept checkpoint refuses the newest, with the best proof there can be."""
    place, old = case.place, case.kept.checkpoint
    new = parse_checkpoint(place.folder.checkpoint() or b"")
    path = consistency_proof(min(old.size, new.size), new.size, place.folder.subtrees(new.size))
    status, _ = case.witness.add(min(old.size, new.size), path, new.content)
    assert status in (200, 409, 422)
    return status != 200


VERIFIERS: dict[str, Callable[[Case], bool]] = {
    "evrt audit verify": evrt_rejects,
    "Go, the tree": go_rejects_tree,
    "Go, proofs": go_rejects_proofs,
    "witness-log, proofs": witness_log_rejects_proofs,
    "sigstore, proofs": sigstore_rejects_proofs,
    "a witness": witness_refuses,
}


# ------------------------------------------------------------------------------------------------ tests


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> tuple[Place, Kept]:
    """A log whose checkpoint somebody kept, and which has grown since."""
    folder = tmp_path_factory.mktemp("original")
    place = Place(folder / "evrt.db")
    place.fill(EVENTS_BEFORE)
    checkpoint = sign_head(place)
    proofs = [
        prove_inclusion(place.url, place.folder, position, checkpoint)
        for position in range(1, checkpoint.size + 1)
    ]
    file = folder / "kept.checkpoint"
    file.write_text(checkpoint.content)
    place.fill(EVENTS_AFTER)
    sign_head(place)
    return place, Kept(checkpoint, proofs, file)


@pytest.fixture
def case(original: tuple[Place, Kept], go: Go, tmp_path: Path) -> Case:
    place, kept = original
    witness = Witness(KEY.name, KEY.verifier)
    assert witness.add(0, [], kept.checkpoint.content)[0] == 200
    return Case(place.copy(tmp_path / "copy"), kept, go, witness)


def table() -> dict[str, dict[str, str]]:
    """The table of the page: tampering, verifier, whether it is seen."""
    [rows] = [rows for rows in Page(DOCS / "audit.md").tables() if rows[0][1][0] == "what was done"]
    heading = rows[0][1]
    return {cells[0]: dict(zip(heading[1:], cells[1:], strict=True)) for _, cells in rows[1:]}


def test_nobody_rejects_a_log_that_has_only_grown(case: Case) -> None:
    assert [name for name, rejects in VERIFIERS.items() if rejects(case)] == []


@pytest.mark.parametrize("tampering", TAMPERINGS)
def test_tampering_is_seen_by_those_that_the_page_names(case: Case, tampering: str) -> None:
    TAMPERINGS[tampering](case.place)
    found = {name: SEEN if rejects(case) else UNSEEN for name, rejects in VERIFIERS.items()}
    assert found == table()[tampering]


def test_the_page_names_every_tampering_and_only_what_comes_after_the_checkpoint_escapes() -> None:
    assert list(table()) == list(TAMPERINGS)
    escapes = [tampering for tampering, seen in table().items() if SEEN not in seen.values()]
    assert escapes == ["edit after the checkpoint, rebuild, re-sign"]


# -------------------------------------------------------------------------------------- what evrt says


def said(case: Case, *checkpoints: Checkpoint) -> list[str]:
    verdict = case.place.verify(*(checkpoint.content for checkpoint in checkpoints))
    assert not verdict.ok
    assert verdict.anchored is None or verdict.anchored < EVENTS_BEFORE
    return [f"{finding.position}: {finding.text}" for finding in verdict.findings]


def test_the_event_that_was_edited_is_named(case: Case) -> None:
    edited(case.place)
    findings = said(case, case.kept.checkpoint)
    assert any(text.startswith("101: Its leaf is not the hash of its entry") for text in findings)
    assert any(text.startswith("101: The tree folder has another leaf for it") for text in findings)
    assert any("The tree folder still has the leaves that were signed." in text for text in findings)


def test_the_events_are_named_whose_leaves_were_recomputed(case: Case) -> None:
    edited_and_made_to_fit(case.place)
    findings = said(case, case.kept.checkpoint)
    assert any("something among the events 1 to 280 has been changed" in text for text in findings)
    [first, *_] = [text for text in findings if not text.startswith("None")]
    assert first.startswith("101: The tree folder has another")


def test_a_tree_that_was_rebuilt_leaves_the_bracket_between_two_checkpoints(
    case: Case, tmp_path: Path
) -> None:
    earlier = case.place.copy(tmp_path / "earlier")
    forge(earlier, truncate(EVENTS_BEFORE + EVENTS_AFTER - 90), consistently=True)
    grow_another_tree(earlier)
    first = parse_checkpoint(earlier.folder.checkpoint() or b"")
    edited_and_resigned(case.place)
    verdict = case.place.verify(first.content, case.kept.checkpoint.content)
    assert verdict.anchored == 90
    assert [finding.text.partition(": ")[2] for finding in verdict.findings] == [
        "something among the events 91 to 280 has been changed, or this is another log."
    ]


def test_the_events_are_named_that_are_missing_from_the_end(case: Case) -> None:
    truncated(case.place)
    findings = said(case, case.kept.checkpoint)
    assert len([text for text in findings if "events 251 to 280 are missing from the end" in text]) == 1
    assert len([text for text in findings if "events 251 to 300 are missing from the end" in text]) == 2


def test_without_anything_from_outside_a_rewritten_log_is_unanchored_and_no_more(case: Case) -> None:
    edited_and_resigned(case.place)
    verdict = case.place.verify()
    assert verdict.ok
    assert verdict.anchored is None
