"""The list of planted bugs is as old as the code: each can be made; and each, tried in a soak, is caught."""

from __future__ import annotations

import re

import pytest

from mutants.mutant import Mutant
from mutants.plants import MUTANTS
from mutants.trying import ROOT, SOURCE, planted, try_mutant, try_without


@pytest.mark.parametrize("mutant", MUTANTS, ids=[mutant.what for mutant in MUTANTS])
def test_a_mutant_can_be_made_and_names_a_test_that_is_there(mutant: Mutant) -> None:
    changed = planted(mutant, SOURCE)
    assert all(text != path.read_text("utf-8") for path, text in changed.items())
    file, test, *_ = [*mutant.caught_by.split("::"), ""]
    source = (ROOT / file).read_text("utf-8")
    assert not test or re.search(rf"(def|class) {re.escape(test.partition('[')[0])}\(", source)


def test_processes_that_tests_start_have_the_bug_too() -> None:
    """A mutant is put before what is installed by PYTHONPATH; a process that is given another knows nothing of it."""
    without = re.compile(r'"PYTHONPATH": str\(')
    files = (ROOT / "tests").rglob("*.py")
    assert [file.name for file in files if without.search(file.read_text("utf-8"))] == []


def test_each_changes_the_source_in_another_way() -> None:
    assert len({mutant.edits for mutant in MUTANTS}) == len(MUTANTS)


def test_there_are_enough_of_them_and_no_two_are_called_the_same() -> None:
    assert len({mutant.what for mutant in MUTANTS}) == len(MUTANTS) >= 120


def test_a_mutant_that_no_longer_applies_is_noticed() -> None:
    stale = MUTANTS[0]._replace(edits=(MUTANTS[0].edits[0]._replace(old="there is no such text"),))
    with pytest.raises(AssertionError, match="0 times 'there is no such text'"):
        planted(stale, SOURCE)


def test_what_no_test_notices_is_told_to_be_missed() -> None:
    harmless = MUTANTS[0]._replace(
        edits=(
            MUTANTS[0]
            .edits[0]
            ._replace(file="retry.py", old="NO_RETRY = Retry(attempts_max=1)", new="NO_RETRY = Retry(1)"),
        ),
        caught_by="tests/test_retry.py",
    )
    assert try_mutant(harmless).verdict == "missed"


def test_a_test_that_could_not_even_be_tried_proves_nothing() -> None:
    assert try_mutant(MUTANTS[0]._replace(caught_by="tests/no_such_test.py")).verdict == "broken"


@pytest.mark.soak
def test_without_a_bug_all_the_tests_pass() -> None:
    code, told = try_without(MUTANTS)
    assert code == 0, told


@pytest.mark.soak
@pytest.mark.parametrize("mutant", MUTANTS, ids=[mutant.what for mutant in MUTANTS])
def test_a_mutant_is_caught(mutant: Mutant) -> None:
    trial = try_mutant(mutant)
    assert trial.verdict == "caught", trial.told
