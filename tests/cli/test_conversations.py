"""Conversations from the command line: titled, forked, and deleted after a person at a terminal has said yes."""

from __future__ import annotations

import os
import pty
import subprocess
import sys

from cli.desk import DESK
from cli.shell import Shell


def answered(shell: Shell, answer: str) -> subprocess.CompletedProcess[str]:
    """What comes of deleting c1 where a person at a terminal answers this."""
    ours, theirs = pty.openpty()
    try:
        os.write(ours, f"{answer}\n".encode())
        return subprocess.run(
            [sys.executable, "-m", "evrt", "conversations", "delete", "c1"],
            cwd=shell.folder,
            env=shell.environment_with(TERM="xterm"),
            stdin=theirs,
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        os.close(theirs)
        os.close(ours)


def test_a_conversation_is_titled_forked_and_deleted(shell: Shell) -> None:
    """S1.12, B19, section 5."""
    shell.write("support.py", DESK)
    for text in ("hello", "hi"):
        shell.evrt("runs", "start", "desk", text, "--conversation", "c1", "--user", "ann")
    ref = shell.evrt("conversations", "title", "c1", "Of it", "--by", "ann", "--json").document[
        "conversation"
    ]
    assert shell.evrt("conversations", "title", "c1", "Of it all").out == f"{ref} is called 'Of it all'.\n"
    forked = shell.evrt("conversations", "fork", "c1", "--upto", "2", "--as", "c2", "--json").document
    assert (forked["source"], forked["messages"]) == (ref, 2)
    assert "first 0 to 4 messages" in shell.refused("conversations", "fork", "c1", "--upto", "5", code=2)
    assert len(shell.evrt("conversations", "show", "c2", "--json").document["messages"]) == 2
    shown = shell.evrt("conversations", "show", "c1", "--json").document
    assert (shown["title"], shown["runs"]) == ("Of it all", 2)
    deleted = shell.evrt("conversations", "delete", ref, "--by", "ann", "--yes", "--json").document
    assert deleted["conversation"] == ref
    assert deleted["events"] > 10
    assert "by ann, with everything in it" in shell.refused("conversations", "show", ref, code=3)
    assert "There is no conversation 'c1'" in shell.refused("conversations", "delete", "c1", "--yes", code=3)
    assert [one["conversation_name"] for one in shell.evrt("conversations", "list", "--json").document] == [
        "c2"
    ]
    assert shell.evrt("conversations", "show", "c2", "--json").document["messages"] == []


def test_a_person_at_a_terminal_is_asked_before_a_conversation_is_deleted(shell: Shell) -> None:
    """Section 5."""
    shell.write("support.py", DESK)
    shell.evrt("runs", "start", "desk", "hello", "--conversation", "c1")
    refused = answered(shell, "")
    assert refused.returncode == 1
    assert "with everything in it? This cannot be taken back. [y/N]" in refused.stderr
    assert "Nothing has been deleted." in refused.stderr
    shell.evrt("conversations", "show", "c1")
    agreed = answered(shell, "y")
    assert (agreed.returncode, "is deleted" in agreed.stdout) == (0, True)
    shell.evrt("conversations", "show", "c1", expect=3)


def test_where_nobody_can_be_asked_nothing_is_deleted_without_yes(shell: Shell) -> None:
    shell.evrt("runs", "start", "parrot", "keep me", "--conversation", "c1")
    for options in ((), ("--json",), ("--force",)):
        told = shell.refused("conversations", "delete", "c1", *options, code=2, stdin="y\n")
        assert "add --yes" in told
        assert "Nothing has been deleted." in told
    shown = shell.evrt("conversations", "show", "c1", "--json").document
    assert shown["messages"][0]["content"] == "keep me"
