"""Memory from the command line: set, forgotten, looked up and listed, of a user, of a conversation, in a system."""

from __future__ import annotations

import time

import pytest

from cli.forker import Forker
from cli.shell import Shell, new_shell


def knowing(shell: Shell) -> Shell:
    """A log that knows a user and a conversation."""
    shell.evrt("runs", "start", "parrot", "hello", "--user", "ann", "--conversation", "c1")
    return shell


@pytest.fixture
def known(shell: Shell) -> Shell:
    return knowing(shell)


@pytest.fixture(scope="module")
def untouched(tmp_path_factory: pytest.TempPathFactory, forker: Forker) -> Shell:
    """One for all tests in which nothing is written."""
    return knowing(new_shell(tmp_path_factory.mktemp("memory"), forker))


def test_what_is_set_is_got_listed_and_forgotten_by_whom_is_said(known: Shell) -> None:
    """S0.5, fault 9"""
    ann = ("--user", "ann")
    office = (*ann, "--system", "office")
    assert (
        known.evrt("memory", "set", "theme", "dark", *ann, "--by", "eve").out
        == "'theme' of user ann is set.\n"
    )
    assert known.evrt("memory", "set", "hours", '{"from": 9}', *office, "--json").document == {
        "key": "hours",
        "version": 1,
    }
    known.evrt("memory", "set", "goal", "ship", "--conversation", "c1", "--expires", "30d", "--source", "crm")
    known.evrt("memory", "set", "theme", "light", "--user", "bob")
    assert known.evrt("memory", "get", "theme", *ann).out == "dark\n"
    got = known.evrt("memory", "get", "hours", *office, "--json").document
    assert (got["value"], got["expires_at"], got["trust"]) == ({"from": 9}, None, "trusted")
    goal = known.evrt("memory", "get", "goal", "--conversation", "c1", "--json").document
    assert (goal["source"], goal["expires_at"][-1]) == ("crm", "Z")
    listed = known.evrt("memory", "list", "--json").document
    assert [(one["scope"], one["owner_id"], one["key"], one["value"]) for one in listed] == [
        ("user", "bob", "theme", "light"),
        ("conversation", "c1", "goal", "ship"),
        ("system", "ann", "hours", {"from": 9}),
        ("user", "ann", "theme", "dark"),
    ]
    table = known.evrt("memory", "list", "--limit", "2")
    assert [line.split()[:3] for line in table.out.splitlines()] == [
        ["SCOPE", "OF", "KEY"],
        ["user", "bob", "theme"],
        ["conversation", "c1", "goal"],
    ]
    assert "There are more than these 2" in table.err
    assert [one["key"] for one in known.evrt("memory", "list", "--prefix", "the", "--json").document] == []
    forgotten = known.evrt("memory", "forget", "theme", *ann, "--by", "eve", "--json").document
    assert forgotten == {"key": "theme", "forgotten": True}
    changes = known.evrt("memory", "history", "theme", *ann, "--json").document
    assert [(one["action"], one["value"], one["by"], one["actor"], one["run"]) for one in changes] == [
        ("set", "dark", "eve", "person", None),
        ("forgotten", None, "eve", "person", None),
    ]


def test_an_item_that_has_expired_is_shown_no_more_but_as_of_when_it_was_there(known: Shell) -> None:
    """B1"""
    known.evrt("memory", "set", "code", "1234", "--user", "ann", "--expires", "1s")
    position = known.evrt("memory", "history", "code", "--user", "ann", "--json").document[0]["position"]
    while known.evrt(
        "memory", "list", "--json"
    ).document:  # Until it has expired, however slow the machine is.
        time.sleep(0.05)
    assert "There is no 'code'" in known.refused("memory", "get", "code", "--user", "ann", code=3)
    assert known.evrt("memory", "get", "code", "--user", "ann", "--as-of", str(position)).out == "1234\n"


@pytest.mark.parametrize(
    "words, code, told",
    [
        ("set k v", 2, "Whose memory? Name one: --user ID or --conversation ID"),
        ("set k v --system office", 2, "Whose memory?"),
        ("set k v --conversation c1 --system office", 2, "Whose memory?"),
        (
            "forget k --user ann",
            3,
            "There is no 'k' in the memory of user ann, so there is nothing to forget.",
        ),
        ("set k v --user ann --expires soon", 2, "'soon' is not a length of time"),
        (
            "set k v --user ann --if-version 3",
            4,
            "Memory 'k' (user) is at version 0, not at 3: read it again.",
        ),
        ("forget k --user ann --if-version 3", 4, "is at version 0, not at 3"),
        ("list --as-of 1", 2, "Whose memory?"),
        ("get k --user ann --system nowhere", 3, "There is no system 'nowhere'"),
    ],
)
def test_what_cannot_be_done_is_told_in_one_paragraph(
    untouched: Shell, words: str, code: int, told: str
) -> None:
    assert told in untouched.refused("memory", *words.split(), code=code)


def test_a_key_that_cannot_be_one_is_refused_before_anything_is_written(untouched: Shell) -> None:
    assert "A memory key is text of 1 to 512 characters" in untouched.refused(
        "memory", "set", "k" * 10_000, "v", "--user", "eve", code=2
    )
    missing = untouched.refused("memory", "get", "k", "--user", "eve", code=3)
    assert missing.startswith("There is no user 'eve'")
