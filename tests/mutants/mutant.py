"""A mutant: a small change of the source that somebody could make by mistake, and the test that notices.

Its edits are given as text that occurs once, so that a list which has grown older than the code is noticed
too (``test_mutants.py``).
"""

from __future__ import annotations

from typing import NamedTuple


class Edit(NamedTuple):
    """In this file below src/evrt, this text, which occurs once, becomes that."""

    file: str
    old: str
    new: str


class Mutant(NamedTuple):
    """A bug: what it is, how it is made, and the test that has to fail because of it."""

    what: str
    edits: tuple[Edit, ...]
    caught_by: str


def mutant(what: str, file: str, old: str, new: str, caught_by: str) -> Mutant:
    return Mutant(what, (Edit(file, old, new),), caught_by)
