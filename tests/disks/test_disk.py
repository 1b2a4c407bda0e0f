"""The disk itself, whose word the other tests take: what it may lose, what it may not, and what it may mix up."""

from __future__ import annotations

import random
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from disks.disk import SECTOR, Disk, Names, count, draw, every, share

OLD, NEW, NEWER = (bytes([letter]) * SECTOR for letter in b"onw")

MODELS: list[Names] = ["journal", "posix"]


def states(disk: Disk) -> list[dict[str, bytes]]:
    pieces = disk.pieces()
    assert count(pieces) < 1_000
    found = [disk.state(pieces, choice, None) for choice in every(pieces)]
    return [state for number, state in enumerate(found) if state not in found[:number]]


def with_a_file(names: Names, content: bytes) -> Disk:
    disk = Disk(names)
    disk.create("a")
    disk.write("a", 0, content)
    disk.sync("a")
    disk.sync_folder()
    assert states(disk) == [{"a": content}]
    return disk


@pytest.mark.parametrize("names", MODELS)
def test_each_sector_that_is_not_synced_may_be_of_any_version(names: Names) -> None:
    disk = with_a_file(names, OLD + OLD)
    disk.write("a", 0, NEW + NEW)
    disk.write("a", 0, NEWER)
    found = {state["a"] for state in states(disk)}
    assert found == {first + second for first in (OLD, NEW, NEWER) for second in (OLD, NEW)}
    disk.sync("a")
    assert states(disk) == [{"a": NEWER + NEW}]


@pytest.mark.parametrize("names", MODELS)
def test_a_file_that_has_grown_may_have_grown_over_nothing(names: Names) -> None:
    disk = with_a_file(names, OLD)
    disk.write("a", SECTOR, NEW)
    assert {state["a"] for state in states(disk)} == {OLD, OLD + bytes(SECTOR), OLD + NEW}


@pytest.mark.parametrize("names", MODELS)
def test_a_file_that_was_cut_may_come_back_whole_or_as_nothing(names: Names) -> None:
    disk = with_a_file(names, OLD + OLD)
    disk.truncate("a", 0)
    assert {state["a"] for state in states(disk)} == {OLD + OLD, b""}
    disk.write("a", 0, NEW)
    assert {state["a"] for state in states(disk)} >= {OLD + OLD, b"", NEW, OLD, bytes(SECTOR)}


def test_what_a_failed_sync_was_to_write_is_read_and_never_reaches_the_disk() -> None:
    disk = with_a_file("posix", OLD + OLD)
    disk.write("a", 0, NEW)
    disk.fail_sync("a")
    disk.write("a", SECTOR, NEWER)
    disk.sync("a")
    assert disk.looks() == {"a": NEW + NEWER}
    assert states(disk) == [{"a": OLD + NEWER}]
    # A sector that is written again takes along what else is read there.
    disk.write("a", 0, b"!")
    disk.sync("a")
    assert states(disk) == [{"a": b"!" + NEW[1:] + NEWER}]


def test_names_come_out_in_order_on_a_journal_and_one_by_one_otherwise() -> None:
    found = {}
    for names in MODELS:
        disk = with_a_file(names, OLD)
        disk.create("b")
        disk.unlink("a")
        found[names] = sorted(sorted(state) for state in states(disk))
    assert found["journal"] == [["a"], ["a", "b"], ["b"]]
    assert found["posix"] == [[], ["a"], ["a", "b"], ["b"]]


def test_syncing_a_new_file_commits_its_name_on_a_journal_only() -> None:
    found = {}
    for names in MODELS:
        disk = Disk(names)
        disk.create("a")
        disk.write("a", 0, NEW)
        disk.sync("a")
        found[names] = states(disk)
        disk.sync_folder()
        assert states(disk) == [{"a": NEW}]
    assert found == {"journal": [{"a": NEW}], "posix": [{}, {"a": NEW}]}


@given(
    writes=st.lists(
        st.tuples(st.integers(0, 2_000), st.binary(min_size=1, max_size=1_500)), min_size=1, max_size=8
    ),
    synced=st.integers(0, 8),
    seed=st.integers(0, 2**32),
)
def test_no_byte_comes_out_that_was_never_there(
    writes: list[tuple[int, bytes]], synced: int, seed: int
) -> None:
    disk = Disk("posix")
    disk.create("a")
    disk.sync_folder()
    looks = [b""]
    for number, (offset, content) in enumerate(writes):
        if number == synced:
            disk.sync("a")
            looks = looks[-1:]
        disk.write("a", offset, content)
        looks.append(disk.looks()["a"])
    pieces = disk.pieces()
    chance = random.Random(seed)
    for _ in range(20):
        left = disk.state(pieces, draw(pieces, chance), None)["a"]
        assert len(left) in {len(look) for look in looks}
        for place, byte in enumerate(left):
            assert byte in {look[place] if place < len(look) else 0 for look in looks}
    assert disk.state(pieces, [len(piece.values) - 1 for piece in pieces], None) == disk.looks()


def test_all_states_are_tried_where_there_are_few() -> None:
    shares = share({1: 2, 2: 10, 3: 2**40, 4: 2**90}, 100)
    assert shares == {1: 2, 2: 10, 3: 44, 4: 44}


def test_every_counts_what_it_yields() -> None:
    disk = with_a_file("posix", OLD * 3)
    disk.write("a", 0, NEW * 2)
    disk.truncate("a", SECTOR)
    assert len(list(islice(every(disk.pieces()), 1_000))) == count(disk.pieces()) == 8
