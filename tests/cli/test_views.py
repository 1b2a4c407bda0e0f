"""What the system is asked: conversations, memory, usage, what waits, who did what; now and as of a moment."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import NamedTuple

import pytest

from cli.desk import DESK
from cli.forker import Forker
from cli.shell import NOBODY, Shell, new_shell

PAST = Path(__file__).parent.parent / "formats" / "v1.db"
LONG = "long" * 20_000


class Desk(NamedTuple):
    """A shell with a log: what was said in conversation c1 by ann, in these runs; and bob's c2."""

    shell: Shell
    runs: list[str]


def start(shell: Shell, *words: str, expect: int = 0) -> str:
    return shell.evrt("runs", "start", *words, expect=expect).run


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory, forker: Forker) -> Desk:
    shell = new_shell(tmp_path_factory.mktemp("desk"), forker)
    shell.write("support.py", DESK)
    ann = ("--user", "ann", "--conversation", "c1")
    runs = [
        start(shell, "desk", "hello", *ann),
        start(shell, "desk", "overload", *ann, expect=1),
        start(shell, "desk", "hello", *ann),
        start(shell, "desk", "long", *ann),
        start(shell, "learn", '"rain"', *ann),
        start(shell, "learn", f'"{LONG}"', *ann),
        start(shell, "learn", "null", *ann),
        start(shell, "learn", '"snow"', *ann),
        start(shell, "desk", "hi", "--user", "bob", "--conversation", "c2"),
    ]
    return Desk(shell, runs)


# ------------------------------------------------------------------------------------- conversations


def test_a_conversation_is_shown_whole_without_what_failed_runs_said(desk: Desk) -> None:
    shell = desk.shell
    document = shell.evrt("conversations", "show", "c1", "--json").document
    said = [(message["role"], message["content"]) for message in document["messages"]]
    hello = [("user", "hello"), ("assistant", "You said hello.")]
    learnt = [("user", "rain"), ("user", LONG), ("user", "null"), ("user", "snow")]
    assert said == [*hello, *hello, ("user", "long"), ("assistant", LONG), *learnt]
    everything = shell.evrt("conversations", "show", "c1", "--include-failed-runs", "--json").document
    assert [message["content"] for message in everything["messages"]][2] == "overload"
    assert (document["conversation_name"], document["owner_name"], document["runs"]) == ("c1", "ann", 8)
    shown = shell.evrt("conversations", "show", document["conversation"]).out
    assert f"c1 ({document['conversation']})" in shown
    assert "8 runs, 1 failed and 7 succeeded" in shown
    assert "assistant   You said hello." in shown


def test_a_conversation_is_shown_as_it_was_at_a_moment_of_a_run_at_a_position_or_at_a_time(
    desk: Desk,
) -> None:
    shell = desk.shell
    run = desk.runs[0]
    [asked] = [
        one for one in shell.evrt("runs", "list", "--json", "--limit", "9").document if one["run"] == run
    ]

    def said(moment: str) -> list[str]:
        document = shell.evrt("conversations", "show", "c1", "--as-of", moment, "--json").document
        return [message["content"] for message in document["messages"]]

    assert said(f"{run}@1") == ["hello"]
    assert said(f"{run}@head") == ["hello", "You said hello."] == said(str(asked["position"]))
    assert said(asked["changed_at"])[:2] == ["hello", "You said hello."]
    assert len(said(f"{desk.runs[-1]}@head")) == 10


def test_conversations_are_listed_all_or_those_of_a_user(desk: Desk) -> None:
    shell = desk.shell
    both = shell.evrt("conversations", "list", "--json").document
    assert [(one["conversation_name"], one["owner_name"], one["runs"]) for one in both] == [
        ("c2", "bob", 1),
        ("c1", "ann", 8),
    ]
    table = shell.evrt("conversations", "list", "--user", "ann").out.splitlines()
    assert table[0].startswith("CONVERSATION")
    assert [line.split()[0] for line in table[1:]] == [both[1]["conversation"]]
    assert "There are more than these 1" in shell.evrt("conversations", "list", "--limit", "1").err


# -------------------------------------------------------------------------------------------- memory


def test_memory_says_what_a_key_holds_now_and_what_it_held_then(desk: Desk) -> None:
    shell = desk.shell
    assert shell.evrt("memory", "get", "topic", "--user", "ann").out == "snow\n"
    assert (
        shell.evrt("memory", "get", "topic", "--user", "ann", "--as-of", f"{desk.runs[4]}@head").out
        == "rain\n"
    )
    long = shell.evrt("memory", "get", "topic", "--user", "ann", "--as-of", f"{desk.runs[5]}@head", "--json")
    assert (long.document["value"], long.document["run"]) == (LONG, desk.runs[5])
    then = ("--user", "ann", "--as-of", f"{desk.runs[6]}@head")
    assert "There is no 'topic' in the memory of user ann as of" in shell.refused(
        "memory", "get", "topic", *then, code=3
    )
    assert shell.evrt("memory", "list", *then).out == ""
    [item] = shell.evrt("memory", "list", "--user", "ann", "--json").document
    assert (item["key"], item["value"], item["run"]) == ("topic", "snow", desk.runs[7])


def test_the_history_of_a_key_says_every_value_when_and_in_which_run(desk: Desk) -> None:
    shell = desk.shell
    changes = shell.evrt("memory", "history", "topic", "--user", "ann", "--json").document
    assert [(one["action"], one["value"], one["run"], one["actor"]) for one in changes] == [
        ("set", "rain", desk.runs[4], "workflow:learn"),
        ("set", LONG, desk.runs[5], "workflow:learn"),
        ("forgotten", None, desk.runs[6], "workflow:learn"),
        ("set", "snow", desk.runs[7], "workflow:learn"),
    ]
    table = shell.evrt("memory", "history", "topic", "--user", "ann").out.splitlines()
    assert [line.split()[-1] for line in table[3:]] == ["(forgotten)", '"snow"']


# --------------------------------------------------------------------------------------------- usage


def test_usage_sums_tokens_and_cost_with_failed_attempts_apart(desk: Desk) -> None:
    shell = desk.shell
    document = shell.evrt("usage", "--json").document
    assert document["total"] == {
        "calls": 5,
        "attempts": 5,
        "input_tokens": 47,
        "output_tokens": 16,
        "cost_usd": 1.5,
        "calls_without_cost": 0,
        "failed_attempts": 1,
        "failed_input_tokens": 7,
        "failed_output_tokens": 0,
        "failed_cost_usd": 0.5,
    }
    heading, line = shell.evrt("usage").out.splitlines()
    assert heading.split("  ")[0] == "MODEL"
    assert line.split() == ["paid", "5", "47", "16", "1.500000", "1", "7", "0", "0.500000"]


@pytest.mark.parametrize(
    "by, calls",
    [("agent", {"desk": 5}), ("user", {"ann": 4, "bob": 1}), ("conversation", {"c1": 4, "c2": 1})],
)
def test_usage_is_summed_by_whatever_is_asked_for(desk: Desk, by: str, calls: dict[str, int]) -> None:
    groups = desk.shell.evrt("usage", "--by", by, "--json").document["groups"]
    assert {group["name"] or group[by]: group["calls"] for group in groups} == calls
    assert "together" in desk.shell.evrt("usage", "--by", "user").out


def test_usage_of_a_time_is_that_of_the_calls_begun_in_it(desk: Desk) -> None:
    shell = desk.shell
    [began] = [one for one in shell.evrt("runs", "list", "--json").document if one["run"] == desk.runs[8]]
    later = shell.evrt("usage", "--by", "run", "--since", began["requested_at"], "--json").document
    assert [group["run"] for group in later["groups"]] == [desk.runs[8]]
    [day] = shell.evrt("usage", "--by", "day", "--since", began["requested_at"][:10], "--json").document[
        "groups"
    ]
    assert (day["day"], day["calls"]) == (began["requested_at"][:10], 5)
    assert "no model call" in shell.evrt("usage", "--until", "2020-01-01").err


@pytest.mark.parametrize("ever", ["999999999w", "0001-01-01T00:00:00+23:59"])
def test_since_before_any_calendar_is_since_ever(desk: Desk, ever: str) -> None:
    for command in (("usage", "--by", "run"), ("runs", "list")):
        everything = desk.shell.evrt(*command, "--json").document
        assert desk.shell.evrt(*command, "--since", ever, "--json").document == everything


def test_since_the_last_moment_of_a_calendar_nothing_has_happened(desk: Desk) -> None:
    assert "no model call" in desk.shell.evrt("usage", "--since", "9999-12-31T23:59:59-23:59").err


# --------------------------------------------------------------------- what waits, and who did what


def test_what_waits_for_a_person_comes_with_the_commands_to_go_on(shell: Shell) -> None:
    shell.write("support.py", DESK)
    first, second = start(shell, "approve", "pay"), start(shell, "approve", "leave")
    found = shell.evrt("questions", "--json").document
    assert [(one["run"], one["question"], one["options"]) for one in found] == [
        (first, "May I pay?", ["yes", "no"]),
        (second, "May I leave?", ["yes", "no"]),
    ]
    told = shell.evrt("questions")
    assert "ask#1 asks: May I pay? [yes / no]" in told.out
    answer, resume, *_ = told.commands
    shell.typed(answer)
    assert [one["run"] for one in shell.evrt("questions", "--json").document] == [second]
    assert shell.typed(resume).out == "yes\n"
    limited = shell.evrt("questions", "--limit", "1")
    assert limited.out.startswith(second)
    shell.evrt("runs", "answer", second, "no")
    assert "Nothing waits for a person" in shell.evrt("questions").err


def test_the_audit_trail_says_who_did_what_for_whom_of_one_run_or_of_all(desk: Desk) -> None:
    shell = desk.shell
    trail = shell.evrt("audit", "trail", desk.runs[4], "--json").document
    facts = [(one["what"], one["who"], one["on_behalf_of_name"]) for one in trail]
    assert ("run.requested", "workflow:learn", "ann") in facts
    assert ("memory.set", "workflow:learn", "ann") in facts
    assert [one["at"] for one in trail] == sorted(one["at"] for one in trail)
    assert {one["run"] for one in trail} == {desk.runs[4]}
    failed = shell.evrt("audit", "trail", "--what", "run.failed").out.splitlines()
    assert len(failed) == 2
    assert desk.runs[1] in failed[1]
    assert "overloaded" in failed[1]
    remembered = shell.evrt("audit", "trail", "--user", "ann", "--what", "memory.set", "--json").document
    assert {one["run"] for one in remembered} == {desk.runs[number] for number in (4, 5, 7)}
    of_bob = shell.evrt("audit", "trail", "--user", "bob", "--json").document
    assert {one["run"] for one in of_bob if one["what"].startswith("run.")} == {desk.runs[8]}
    assert "These are the last 2 facts" in shell.evrt("audit", "trail", "--limit", "2").err


# ------------------------------------------------------------------------------------------ bad input


@pytest.mark.parametrize(
    "words, code, told",
    [
        ("runs list --user nobody", 3, "There is no user 'nobody'"),
        ("runs list --conversation c9", 3, "There is no conversation 'c9'"),
        ("runs list --since yesterday", 2, "--since takes a time, which 'yesterday' is not"),
        ("runs list --until 2026-11-27T12:00:00", 2, "has no zone"),
        ("runs list --since 2026-13-01", 2, "takes a time"),
        ("runs list --since 1h --until 2h", 2, "is not before --until 2h"),
        ("conversations show c9", 3, "There is no conversation 'c9'"),
        ("conversations show conversation-aaaaaaaaaaaaaaaa", 3, "There is no conversation conversation-aaaa"),
        ("conversations show c1 --as-of 99999", 3, "there is no position 99999"),
        ("conversations show c1 --as-of 2100-01-01T00:00:00Z", 3, "is still to come"),
        ("conversations show c1 --as-of 2001-01-01T00:00:00Z", 3, "is before anything happened"),
        ("conversations show c2 --as-of 1", 3, "There is no conversation c2 in sqlite:///evrt.db as of 1."),
        ("conversations show c1 --as-of soon", 2, "'soon' names no moment"),
        ("memory get topic", 2, "--user ID or --conversation ID"),
        ("memory get topic --user ann --conversation c1", 2, "Name one"),
        ("memory get weather --user ann", 3, "Its keys: topic."),
        ("memory get topic --user carl", 3, "There is no user 'carl'"),
        ("memory history weather --user ann", 3, "What there has been: topic."),
        ("audit trail run-nope", 3, "There is no run run-nope"),
        ("usage --since 2d --until 3d", 2, "is not before"),
        ("projections rebuild", 2, "Name them, or give --all"),
        ("projections rebuild run", 3, "Is 'runs' meant?"),
        ("projections lag nothing", 3, "There is no projection 'nothing'"),
        ("projections verify nothing", 3, "There is no projection 'nothing'"),
    ],
)
def test_what_cannot_be_taken_is_told_in_one_paragraph(desk: Desk, words: str, code: int, told: str) -> None:
    assert told in desk.shell.refused(*words.split(), code=code)


@pytest.mark.parametrize("words", ["usage --by colour", "questions --limit 0", "projections lag --max -1"])
def test_options_that_are_wrong_are_told_with_their_name(desk: Desk, words: str) -> None:
    result = desk.shell.evrt(*words.split(), expect=2)
    assert f"Invalid value for '{words.split()[-2]}'" in result.err


# -------------------------------------------------------------------------------------------- places


@pytest.mark.skipif(os.geteuid() != 0, reason="Only root can become somebody who may not write.")
def test_where_nothing_can_be_written_views_are_built_for_the_command(
    desk: Desk, public_folder: Path, forker: Forker, tmp_path: Path
) -> None:
    copy = public_folder / "evrt.db"
    desk.shell.evrt("db", "backup", str(copy))
    copy.chmod(0o444)
    public_folder.chmod(0o555)
    tmp_path.chmod(0o777)
    shell = new_shell(tmp_path, forker)
    for path in tmp_path.iterdir():
        path.chmod(0o777)
    somebody = Shell(shell.folder, shell.streams, forker, {}, NOBODY)
    (shell.folder / "support.py").unlink()
    for name in ("stdin", "stdout", "stderr"):
        (shell.streams / name).touch(0o666)
        (shell.streams / name).chmod(0o666)
    assert len(somebody.evrt("runs", "list", "--json", "--db", str(copy)).document) == 9
    assert somebody.evrt("memory", "get", "topic", "--user", "ann", "--db", str(copy)).out == "snow\n"
    assert (
        "builds the views that it reads for itself"
        in somebody.evrt("projections", "list", "--db", str(copy)).err
    )
    assert [path.name for path in public_folder.iterdir()] == ["evrt.db"]


def test_a_log_of_an_older_version_is_read_as_it_is(shell: Shell) -> None:
    log = shell.folder / "evrt.db"
    log.write_bytes(PAST.read_bytes())
    assert shell.evrt("runs", "list", "--json").document
    assert shell.evrt("conversations", "list").code == 0
    assert log.read_bytes() == PAST.read_bytes()


def test_an_app_that_does_not_load_is_no_obstacle_where_the_log_is_named(desk: Desk) -> None:
    told = desk.shell.evrt("runs", "list", "--db", "evrt.db", "--app", "missing", "--limit", "1")
    assert "Its own projections are left out." in told.err
    assert len(told.out.splitlines()) == 2
    assert "--db FILE looks into a log without the app." in desk.shell.refused(
        "usage", "--app", "missing", code=2
    )


# --------------------------------------------------------------------------------------------- turns


def test_turns_are_exported_as_json_lines_of_one_conversation_or_all(desk: Desk) -> None:
    """B33, S2.7"""
    lines = [json.loads(line) for line in desk.shell.evrt("turns", "export").out.splitlines()]
    assert [line["run"] for line in lines] == desk.runs
    assert [line["turn_index"] for line in lines] == [*range(8), 0]
    assert {line["conversation_id"] for line in lines} == {"c1", "c2"}
    assert (lines[1]["status"], lines[1]["cost_cents"], lines[1]["prompt_tokens"]) == ("failed", 50.0, 7)
    assert desk.shell.evrt("turns", "export", "--json").out == desk.shell.evrt("turns", "export").out
    [bobs] = desk.shell.evrt("turns", "export", "--conversation", "c2").out.splitlines()
    assert json.loads(bobs) == lines[-1]
    later = desk.shell.evrt("turns", "export", "--until", "2020-01-01")
    assert later.out == ""
    assert "no turn that has ended" in later.err
    assert "no conversation 'c9'" in desk.shell.refused("turns", "export", "--conversation", "c9", code=3)


def test_turns_are_exported_to_a_file_for_each_conversation_named_by_its_ref(desk: Desk) -> None:
    """B33, fault 43"""
    paths = desk.shell.evrt("turns", "export", "--folder", "turn log").out.splitlines()
    assert len(paths) == 2
    assert all(re.fullmatch(r"turn log/conversation-[a-z2-7]{16}\.jsonl", path) for path in paths)
