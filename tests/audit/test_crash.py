"""Whatever moment a process that grows the tree is killed at, the tree it leaves is right, and the next goes on."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from audit import mortal
from audit.logs import KEY, Place, sign_head
from audit.test_growth import files
from evrt.audit.checkpoint import parse_checkpoint
from evrt.audit.folder import TreeFolder
from evrt.audit.growth import grow, sign
from evrt.audit.proving import prove_consistency, prove_inclusion
from evrt.audit.tree import root_at

EVENTS = 300
"""More than a tile: on the way it becomes full, is committed, and another begins."""

TURNS_MAX = 400
"""No growth of these tests does so many things to the file system."""

Grower = Callable[[int, str], str]


@contextmanager
def growing(place: Place) -> Iterator[Grower]:
    """Grows the tree in a process that dies at the given turn; says ``killed`` or ``grown``."""
    with subprocess.Popen(
        [sys.executable, mortal.__file__, place.url, str(place.tree)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None

        def grow_and_die(turn: int, when: str) -> str:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(f"{turn} {when}\n")
            process.stdin.flush()
            return process.stdout.readline().strip()

        yield grow_and_die
        process.stdin.close()


def assert_sound(place: Place, sizes: set[int]) -> None:
    """What a reader finds: a head of one of these sizes, tiles that give its root, and the old checkpoint."""
    head = place.folder.head()
    size = 0 if head is None else head.size
    assert size in sizes
    if head is not None:
        assert root_at(size, place.folder.subtrees(size)) == head.root
    content = place.folder.checkpoint()
    if content is not None:
        checkpoint = parse_checkpoint(content)
        assert prove_inclusion(place.url, place.folder, checkpoint.size, checkpoint).path
    for file in place.tree.rglob("*"):
        if file.is_file() and not file.name.startswith("."):
            assert file.stat().st_size > 0 or file.name == "lock"


@pytest.mark.parametrize("when, turns_min, size", [("before", 50, 250), ("torn", 7, 0)])
def test_a_growth_that_is_killed_anywhere_is_gone_on_with(
    place: Place, tmp_path: Path, when: str, turns_min: int, size: int
) -> None:
    begun = tmp_path / "begun"
    if size > 0:
        place.fill(size)
        sign_head(place)
        place.tree.rename(begun)
    else:
        begun.mkdir()
    old = files(begun)
    place.fill(EVENTS - size)
    whole = TreeFolder(tmp_path / "whole")
    grow(place.url, whole)
    turn = 0
    with growing(place) as grow_and_die:
        outcome = "killed"
        while outcome == "killed":
            turn += 1
            assert turn < TURNS_MAX
            shutil.rmtree(place.tree, ignore_errors=True)
            shutil.copytree(begun, place.tree)
            outcome = grow_and_die(turn, when)
            assert outcome in ("killed", "grown")
            assert_sound(place, {size, 256, EVENTS})
            place.grow()
            signed = {name: content for name, content in old.items() if name == "checkpoint"}
            assert files(place.tree) == files(whole.path) | signed
    assert turn > turns_min


@pytest.mark.parametrize("when", ["before", "torn"])
def test_a_tree_that_dies_again_and_again_arrives(place: Place, when: str) -> None:
    """Nobody puts anything right in between: each attempt gets one step further than the last."""
    place.fill(250)
    old = sign_head(place)
    place.fill(EVENTS - 250)
    turn = 0
    with growing(place) as grow_and_die:
        outcome = "killed"
        while outcome == "killed":
            turn += 1
            assert turn < TURNS_MAX
            outcome = grow_and_die(turn, when)
            assert_sound(place, {250, 256, EVENTS})
    assert outcome == "grown"
    assert place.verify(old.content).anchored == 250
    new = sign_head(place)
    assert prove_consistency(place.folder, old, new).old == 250
    assert new.signed_by(KEY.verifier)


def test_everything_is_synced_before_the_head_names_it(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """What only a power cut would show: each file is synced before it gets its name, each folder before the head."""
    names: dict[int, str] = {}
    synced: set[str] = set()
    unsynced_folders: set[str] = set()
    heads = 0
    real_open, real_fsync, real_replace = os.open, os.fsync, os.replace

    def opening(path: str | Path, *rest: int, **options: int) -> int:
        descriptor = real_open(path, *rest, **options)
        names[descriptor] = str(path)
        return descriptor

    def syncing(descriptor: int) -> None:
        real_fsync(descriptor)
        synced.add(names[descriptor])
        unsynced_folders.discard(names[descriptor])

    def replacing(source: Path, target: Path) -> None:
        nonlocal heads
        assert str(source) in synced
        synced.discard(str(source))
        if target.name == "head.json":
            heads += 1
            assert unsynced_folders == set()
        real_replace(source, target)
        unsynced_folders.update(
            map(str, (target.parent, *target.parents[: len(target.parts) - len(place.tree.parts)]))
        )

    place.fill(EVENTS)
    monkeypatch.setattr(os, "open", opening)
    monkeypatch.setattr(os, "fsync", syncing)
    monkeypatch.setattr(os, "replace", replacing)
    place.grow(commit_events=256)
    sign(place.folder, KEY)
    monkeypatch.undo()
    assert heads == 2
    assert unsynced_folders == set()
