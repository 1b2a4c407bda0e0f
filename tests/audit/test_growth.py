"""The tree folder keeps step with the log, and where the two do not agree it says so and changes nothing."""

from __future__ import annotations

import json
import os
import sqlite3
import stat
from collections.abc import Callable
from contextlib import aclosing, closing
from pathlib import Path
from threading import Thread

import pytest

from audit.forging import edit, forge, truncate
from audit.logs import KEY, OTHER_KEY, Place, sign_head
from evrt.audit.checkpoint import parse_checkpoint
from evrt.audit.folder import Head, TreeFolder
from evrt.audit.growth import grow, sign
from evrt.audit.proving import prove_consistency, prove_inclusion
from evrt.audit.tree import EMPTY_ROOT
from evrt.errors import Conflict, NotFound, TreeDisagrees, Unavailable, UsageError
from evrt.log import Next, open_log
from evrt.log.entry import leaf_hash
from log.stores import append, draft


def files(folder: Path) -> dict[str, bytes]:
    """What a web server would hand out, and the head."""
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in sorted(folder.rglob("*"))
        if file.is_file() and file.name != "lock"
    }


def refused(place: Place, words: str) -> None:
    """Growing is refused with these words, and the folder stays as it was."""
    before = files(place.tree)
    with pytest.raises(TreeDisagrees, match=words):
        place.grow()
    assert files(place.tree) == before


def test_a_tree_that_grew_step_by_step_has_the_files_of_one_made_at_once(
    place: Place, tmp_path: Path
) -> None:
    for events in (1, 0, 254, 1, 1, 255, 1, 37):
        place.fill(events)
        place.grow()
    at_once = TreeFolder(tmp_path / "at-once")
    assert grow(place.url, at_once) == place.folder.head()
    assert files(at_once.path).items() <= files(place.tree).items()
    # And nothing of a tile that has become full in between.
    full = {"tile/0/000", "tile/0/001", "tile/entries/000", "tile/entries/001"}
    assert full <= files(place.tree).keys()
    assert not any(name.startswith(tuple(f"{tile}.p" for tile in full)) for name in files(place.tree))


def test_a_tree_that_has_nothing_to_add_is_left_alone(signed: Place) -> None:
    before = {file: file.stat().st_mtime_ns for file in signed.tree.rglob("*") if file.name != "lock"}
    signed.grow()
    assert {file: file.stat().st_mtime_ns for file in before} == before


def test_an_empty_log_has_the_empty_tree(place: Place) -> None:
    place.fill(0)
    assert place.grow().root == EMPTY_ROOT
    assert sign_head(place).size == 0
    # Which anchors nothing.
    verdict = place.verify((place.tree / "checkpoint").read_text())
    assert (verdict.ok, verdict.anchored) == (True, None)
    place.fill(1)
    assert sign_head(place).size == 1


def test_a_long_log_is_taken_up_in_pieces(place: Place) -> None:
    place.fill(900)
    with pytest.raises(KeyboardInterrupt):
        grow(place.url, place.folder, progress=interrupt_at(600), commit_events=512)
    head = place.folder.head()
    assert head is not None
    assert head.size == 512
    assert place.grow().size == 900
    assert place.verify().ok


def interrupt_at(events: int) -> Callable[[int, int], None]:
    def progress(done: int, total: int) -> None:
        assert total == 900
        if done > events:
            raise KeyboardInterrupt

    return progress


def test_a_log_of_which_all_payloads_are_erased_keeps_its_tree(signed: Place) -> None:
    with closing(sqlite3.connect(signed.path)) as connection:
        connection.execute("UPDATE events SET payload = NULL, salt = NULL")
        connection.commit()
    signed.fill(1)
    assert signed.grow().size == 301
    assert signed.verify((signed.tree / "checkpoint").read_text()).anchored == 300


async def test_streams_may_begin_at_version_zero(place: Place) -> None:
    async with aclosing(await open_log(place.url)) as log:
        await log.append(append(draft("run-1"), draft("run-2"), draft("run-1"), run_1=Next(0)))
    checkpoint = sign_head(place)
    assert place.verify(checkpoint.content).anchored == 3
    entries = [json.loads(entry) for entry in place.entries()]
    assert [(entry["stream"], entry["version"]) for entry in entries] == [
        ("run-1", 0),
        ("run-2", 1),
        ("run-1", 1),
    ]
    assert entries[0]["prev"] is None
    assert entries[2]["prev"] == leaf_hash(place.entries()[0]).hex()


def test_a_log_can_be_written_while_its_tree_grows(place: Place) -> None:
    def write() -> None:
        for _ in range(10):
            place.fill(100)

    place.fill(10)
    writing = Thread(target=write)
    writing.start()
    sizes = [place.grow().size]
    while writing.is_alive():
        sizes.append(place.grow().size)
    writing.join()
    assert place.grow().size == 1_010
    assert sizes == sorted(sizes)
    assert place.verify().ok


def test_two_that_grow_the_same_tree_take_turns(place: Place) -> None:
    place.fill(700)
    heads: list[Head] = []
    growing = [Thread(target=lambda: heads.append(place.grow(commit_events=256))) for _ in range(3)]
    for thread in growing:
        thread.start()
    for thread in growing:
        thread.join()
    assert len(heads) == 3
    assert len(set(heads)) == 1
    assert place.verify().ok


# ---------------------------------------------------------------------------------------- disagreement


def test_a_log_that_was_cut_off_is_refused(signed: Place) -> None:
    forge(signed, truncate(20), consistently=True)
    refused(signed, "events 281 to 300 are missing from the end of the log")


def test_a_log_whose_last_events_were_rewritten_is_refused(signed: Place) -> None:
    forge(signed, edit(270), consistently=True)
    signed.fill(5)
    refused(signed, "first 300 events do not give the root")


def test_a_log_whose_last_full_tile_was_rewritten_is_refused(place: Place) -> None:
    place.fill(256)
    place.grow()
    forge(place, edit(200), consistently=True)
    place.fill(5)
    refused(place, "holds another tile/")


def test_an_event_that_is_not_what_was_recorded_is_named_and_ends_the_tree_before_it(signed: Place) -> None:
    signed.fill(20)
    forge(signed, edit(310), consistently=False)
    refused(signed, "event at position 311 .* is not what was recorded")


def test_a_gap_is_named(signed: Place) -> None:
    signed.fill(20)
    forge(signed, lambda rows: rows[:310] + rows[311:], consistently=False)
    refused(signed, "no event at position 311")


def test_the_tree_of_another_log_is_refused(signed: Place, tmp_path: Path) -> None:
    other = Place(tmp_path / "other.db")
    other.fill(301)
    with pytest.raises(TreeDisagrees, match="belongs to another log"):
        grow(other.url, signed.folder)
    signed.tree.joinpath("head.json").unlink()
    with pytest.raises(TreeDisagrees, match="holds another tile/entries/000"):
        grow(other.url, signed.folder)


@pytest.mark.parametrize("name", ["tile/0/001.p/44", "tile/1/000.p/1", "tile/entries/001.p/44"])
def test_files_that_are_still_needed_are_tried_before_anything_is_added(signed: Place, name: str) -> None:
    content = (signed.tree / name).read_bytes()
    (signed.tree / name).write_bytes(bytes([content[0] ^ 1]) + content[1:])
    if name != "tile/1/000.p/1":
        # Of the last tile nothing is needed but what the log gives again: `verify` compares it.
        assert not signed.verify().ok
        return
    signed.fill(1)
    refused(signed, "do not give the root")


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{}",
        '{"log": "x", "size": 300, "root": "00"}',
        "[]",
        "\0",
        '{"log": "x", "size": Infinity, "root": "00"}',
        "[" * 100_000,
    ],
    ids=["nothing", "no keys", "short root", "a list", "no JSON", "no end", "too deep"],
)
def test_a_head_that_cannot_be_read_is_refused(signed: Place, content: str) -> None:
    (signed.tree / "head.json").write_text(content)
    refused(signed, "head.json cannot be read")


def test_a_head_that_was_set_back_is_not_taken_for_an_older_tree(signed: Place) -> None:
    head = signed.folder.head()
    assert head is not None
    (signed.tree / "head.json").write_text(
        json.dumps({"log": head.log, "size": 290, "root": head.root.hex()})
    )
    refused(signed, "first 290 events do not give the root")


# --------------------------------------------------------------------------------------------- signing


def test_a_checkpoint_is_signed_once_for_each_size(signed: Place) -> None:
    first = sign_head(signed)
    assert sign_head(signed) == first
    signed.fill(1)
    assert sign_head(signed).size == 301


def test_signatures_of_others_under_a_checkpoint_are_kept(signed: Place) -> None:
    checkpoint = sign_head(signed)
    cosigned = checkpoint.content + OTHER_KEY.sign("x\n").split("\n\n")[1]
    (signed.tree / "checkpoint").write_text(cosigned)
    assert sign_head(signed).content == cosigned


def test_another_key_can_sign_the_same_size(signed: Place) -> None:
    assert sign_head(signed, OTHER_KEY).signed_by(OTHER_KEY.verifier)


def test_what_was_signed_is_never_contradicted(signed: Place, tmp_path: Path) -> None:
    before = (signed.tree / "checkpoint").read_bytes()
    forge(signed, edit(50), consistently=True)
    aside = tmp_path / "aside"
    signed.tree.rename(aside)
    signed.grow()
    (signed.tree / "checkpoint").write_bytes(before)
    with pytest.raises(TreeDisagrees, match="would contradict it"):
        sign(signed.folder, KEY)
    assert (signed.tree / "checkpoint").read_bytes() == before


# -------------------------------------------------------------------------------------------- proving


def test_what_cannot_be_proved_is_refused(signed: Place, tmp_path: Path) -> None:
    checkpoint = sign_head(signed)
    signed.fill(5)
    with pytest.raises(NotFound, match="positions 1 to 305; there is no position 306"):
        prove_inclusion(signed.url, signed.folder, 306, checkpoint)
    with pytest.raises(NotFound, match="covers positions 1 to 300, not yet 301"):
        prove_inclusion(signed.url, signed.folder, 301, checkpoint)
    with pytest.raises(NotFound, match="has no tree"):
        prove_inclusion(signed.url, TreeFolder(tmp_path / "none"), 1, checkpoint)
    later = sign_head(signed)
    with pytest.raises(Conflict, match="earlier checkpoint has size 305"):
        prove_consistency(signed.folder, later, checkpoint)
    forged = parse_checkpoint(KEY.sign(later.note.text.replace("305\n", "304\n")))
    with pytest.raises(TreeDisagrees, match="was not signed over this tree"):
        prove_inclusion(signed.url, signed.folder, 1, forged)
    with pytest.raises(TreeDisagrees, match="first 304 leaves have another root"):
        prove_consistency(signed.folder, forged, later)


def test_an_event_that_was_changed_is_not_proved(signed: Place) -> None:
    checkpoint = sign_head(signed)
    forge(signed, edit(50), consistently=True)
    with pytest.raises(TreeDisagrees, match="event at position 51 is not the one in its tree"):
        prove_inclusion(signed.url, signed.folder, 51, checkpoint)
    assert prove_inclusion(signed.url, signed.folder, 50, checkpoint).index == 49


def test_proofs_are_made_from_a_checkpoint_whose_partial_tiles_are_gone(signed: Place) -> None:
    checkpoint = sign_head(signed)
    signed.fill(300)
    signed.grow()
    assert not (signed.tree / "tile/0/001.p").exists()
    assert prove_inclusion(signed.url, signed.folder, 300, checkpoint).index == 299
    assert prove_consistency(signed.folder, checkpoint, sign_head(signed)).old == 300


# --------------------------------------------------------------------------------------------- places


def test_a_log_in_memory_has_no_tree(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="in memory"):
        grow("memory://", TreeFolder(tmp_path))


def test_a_folder_that_is_a_file_is_refused(place: Place) -> None:
    place.fill(1)
    place.tree.write_text("not a folder")
    with pytest.raises(Unavailable, match="cannot be read or written"):
        place.grow()


def test_a_log_that_may_only_be_read_can_have_its_tree_elsewhere(signed: Place, tmp_path: Path) -> None:
    for file in signed.path.parent.glob("evrt.db*"):
        file.chmod(stat.S_IRUSR | (stat.S_IXUSR if file.is_dir() else 0))
    folder = TreeFolder(tmp_path / "elsewhere" / "tree")
    assert grow(signed.url, folder) == signed.folder.head()
    assert signed.verify().ok
    for file in signed.path.parent.glob("evrt.db*"):
        file.chmod(0o700)


def test_growing_writes_nothing_to_the_log(signed: Place) -> None:
    signed.fill(10)
    before = signed.path.read_bytes(), os.stat(signed.path).st_mtime_ns
    signed.grow()
    signed.verify()
    assert (signed.path.read_bytes(), os.stat(signed.path).st_mtime_ns) == before
