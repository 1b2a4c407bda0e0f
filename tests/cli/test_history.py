"""The past from the command line: the log, a run at any of its events, exact requests, replay, the check."""

from __future__ import annotations

import json
import sqlite3
from contextlib import aclosing, closing

import pytest

from cli.shell import Finished, Shell
from evrt.log import Append, Draft, open_log
from evrt.log.ids import new_event_id

History = tuple[Shell, Finished]


def test_a_run_is_logged_one_line_per_event(history: History) -> None:
    shell, waiting = history
    lines = shell.evrt("log", waiting.run).out.splitlines()
    assert [line.split()[0] for line in lines] == [f"@{version + 1}" for version in range(len(lines))]
    assert [line.split()[3] for line in lines[:3]] == ["run.requested", "run.claimed", "run.started"]
    assert lines[-1].endswith("for an answer: ask#1")
    assert any("gather#1:1/weather#1" in line and '"18 °C in Rome"' in line for line in lines)
    first = shell.evrt("log", f"{waiting.run}@3").out.splitlines()
    assert [line.split() for line in first] == [line.split() for line in lines[:3]]
    asked = shell.evrt("log", "--type", "question", "--type", "run.waiting").out.splitlines()
    assert [line.split()[1].split("@")[0] for line in asked] == [waiting.run, waiting.run]


def test_the_log_as_json_holds_every_event_with_its_proofs(history: History) -> None:
    shell, waiting = history
    events = [json.loads(line) for line in shell.evrt("log", "--json").out.splitlines()]
    assert [event["position"] for event in events] == list(range(1, len(events) + 1))
    requested = next(event for event in events if event["type"] == "run.requested")
    assert requested["event"]["input"] == "Weather?"
    assert len(bytes.fromhex(requested["leaf"])) == 32
    assert requested["known"]
    of_run = [json.loads(line) for line in shell.evrt("log", waiting.run, "--json").out.splitlines()]
    assert of_run == [event for event in events if event["stream"] == waiting.run]
    after = shell.evrt("log", "--json", "--after", str(len(events) - 1)).out.splitlines()
    assert [json.loads(line) for line in after] == events[-1:]


async def test_events_that_are_unknown_erased_or_damaged_are_shown_for_what_they_are(shell: Shell) -> None:
    path = shell.folder / "evrt.db"
    async with aclosing(await open_log(f"sqlite:///{path}")) as log:
        for kind, payload in (("moon.landed", b'{"crew":3}'), ("run.emitted", b"{"), ("run.started", b"{}")):
            draft = Draft("apollo-11", kind, new_event_id(), "apollo-11", b"{}", payload)
            await log.append(Append([draft], {}))
        await log.erase_payload(3)
    shown = shell.evrt("log")
    unknown, damaged, erased = shown.out.splitlines()
    assert unknown.endswith('(of a type or shape that this version does not know) {"crew": 3}')
    assert "Position 2: The payload of a run.emitted event is not JSON" in shown.err
    assert "run.emitted" in damaged
    assert erased.endswith("(erased)")
    documents = [json.loads(line) for line in shell.evrt("log", "--json").out.splitlines()]
    assert [(d["type"], d["known"], d["erased"], d["event"]) for d in documents] == [
        ("moon.landed", False, False, {"crew": 3}),
        ("run.emitted", False, False, None),
        ("run.started", False, True, None),
    ]


def test_following_yields_what_other_processes_write_until_the_run_ends(shell: Shell) -> None:
    waiting = shell.evrt("runs", "start", "two_questions", "--json").document
    run = waiting["run"]
    with shell.begin("log", "--follow", run, "--json") as follower, follower:
        assert follower.stdout is not None
        seen = [json.loads(follower.stdout.readline())]
        for wait in waiting["waits"]:
            shell.evrt("runs", "answer", run, "x", "--operation", wait["operation"])
        shell.evrt("runs", "resume", run)
        seen += [json.loads(line) for line in follower.stdout]
        assert follower.wait() == 0
    assert seen == [json.loads(line) for line in shell.evrt("log", run, "--json").out.splitlines()]
    assert seen[-1]["type"] == "run.succeeded"


def test_the_exact_request_of_a_model_call_is_rebuilt(history: History) -> None:
    shell, waiting = history
    request = shell.evrt("log", waiting.run, "--request", "helper#1/model#2").document
    assert [message["role"] for message in request["messages"]] == ["user", "assistant", "tool", "tool"]
    assert request["model"] == "talker"
    assert request["tools"][0]["function"]["name"] == "weather"


def test_a_run_is_seen_as_it_was_at_any_of_its_events(history: History) -> None:
    shell, waiting = history
    then = shell.evrt("at", f"{waiting.run}@{{planned}}", "--json").document
    assert then["state"] == {"plan": "RAIN"}
    assert then["memory"]["user"]["topic"]["value"] == "rain"
    assert then["messages"] == [{"role": "user", "content": "rain"}]
    assert then["open_operations"] == []
    before = shell.evrt("at", f"{waiting.run}@{then['at'] - 2}", "--json").document
    assert (before["state"], before["memory"]["user"]) == (None, {})
    back = then["head"] - then["at"]
    assert shell.evrt("at", f"{waiting.run}@head~{back}", "--json").document == then
    now = shell.evrt("at", waiting.run).out
    assert '"plan": "RAIN"' in now
    assert "assistant   18 °C in Turin.\n              There is no umbrella.\n" in now
    assert 'user:topic = "rain"' in now
    assert "ask#1  Publish RAIN? [yes / no]" in now


def test_replaying_follows_the_history_and_changes_nothing(history: History) -> None:
    shell, waiting = history
    before = shell.evrt("log", "--json").out
    replayed = shell.evrt("replay", waiting.run)
    assert f"The code follows the history of {waiting.run} as far as it goes: 10 operations" in replayed.out
    ended = shell.evrt("runs", "list", "--agent", "helper", "--json").document[0]["run"]
    report = shell.evrt("replay", ended, "--json").document
    assert (report["ok"], report["complete"], report["divergence"]) == (True, True, None)
    assert report["recorded_output"] == report["replayed_output"] == "18 °C in Turin.\nThere is no umbrella."
    assert shell.evrt("log", "--json").out == before


def test_code_that_diverges_is_told_and_exits_with_one(shell: Shell) -> None:
    waiting = shell.evrt("runs", "start", "report", "rain", "--user", "ann")
    code = (shell.folder / "support.py").read_text("utf-8")
    shell.write("changed.py", code.replace('("Turin", "Rome")', '("Turin", "Oslo")'))
    replayed = shell.evrt("replay", waiting.run, "--app", "changed", expect=1)
    assert "diverges from the history" in replayed.out
    assert "gather#1:1/weather#1" in replayed.out
    divergence = shell.evrt("replay", waiting.run, "--app", "changed", "--json", expect=1).document[
        "divergence"
    ]
    assert divergence["operation"] == "gather#1:1/weather#1"
    shell.evrt("runs", "answer", waiting.run, "yes")
    parked = shell.evrt("runs", "resume", waiting.run, "--app", "changed", expect=1)
    assert "diverges from the history" in parked.err
    assert parked.commands == [f"evrt runs resume {waiting.run} --app changed"]
    assert "diverged" in shell.evrt("runs", "show", waiting.run).out
    assert shell.evrt("runs", "resume", waiting.run, "--json").document["status"] == "succeeded"


def test_a_check_finds_nothing_in_a_sound_log_and_what_was_changed_in_another(shell: Shell) -> None:
    shell.evrt("runs", "start", "helper", "Weather?")
    assert "sqlite:///evrt.db is sound: " in shell.evrt("db", "check").out
    sound = shell.evrt("db", "check", "--db", "evrt.db", "--json").document
    assert (sound["ok"], sound["streams"], sound["findings"]) == (True, 1, [])
    with closing(sqlite3.connect(shell.folder / "evrt.db")) as connection, connection:
        connection.execute("DROP TRIGGER events_update")
        connection.execute("UPDATE events SET payload = x'7b7d' WHERE position = 4")
    unsound = shell.evrt("db", "check", expect=1)
    assert "is not sound" in unsound.out
    assert "  position 4: Its payload is not the one whose digest was recorded." in unsound.out
    findings = shell.evrt("db", "check", "--json", expect=1).document["findings"]
    assert {finding["position"] for finding in findings} == {None, 4}


def test_commands_that_only_read_create_nothing(shell: Shell) -> None:
    for command in ("runs list", "runs show x", "log", "at x@1", "replay x", "db check"):
        told = shell.refused(*command.split(), "--db", "missing.db", code=3)
        assert told.startswith("There is no log at missing.db.")
    for command in ("runs resume x", "runs answer x y", "runs settle x --again"):
        told = shell.refused(*command.split(), "--db", "missing.db", code=3)
        assert told.startswith("There is no log at missing.db.")
    assert not list(shell.folder.glob("missing*"))


@pytest.mark.parametrize("where", ["flag", "environment", "app"])
def test_the_log_is_where_flag_environment_or_app_say(shell: Shell, where: str) -> None:
    shell.write(
        "own.py",
        (shell.folder / "support.py").read_text("utf-8").replace("evrt.App(", "evrt.App('sqlite:///own.db',"),
    )
    words = ("runs", "start", "parrot", "hi", "--app", "own")
    match where:
        case "flag":
            shell.evrt(*words, "--db", "sqlite:///flag.db", EVRT_DB="environment.db")
        case "environment":
            shell.evrt(*words, EVRT_DB="environment.db")
        case _:
            shell.evrt(*words)
            assert len(shell.evrt("runs", "list", "--app", "own", "--json").document) == 1
    assert sorted(path.name for path in shell.folder.glob("*.db")) == [f"{where.replace('app', 'own')}.db"]
