"""Runs from the command line: started, waited for, answered, settled, resumed, listed and shown."""

from __future__ import annotations

import signal
import subprocess

import pytest

from cli.shell import Finished, Shell

History = tuple[Shell, Finished]


def test_a_run_tells_its_id_first_and_prints_nothing_but_its_output(shell: Shell) -> None:
    result = shell.evrt("runs", "start", "helper", "Weather?")
    assert result.out == "18 °C in Turin.\nThere is no umbrella.\n"
    assert result.err == f"{result.run}\n"
    assert result.run.startswith("run-")


def test_a_run_that_waits_suggests_commands_that_work_as_they_stand(shell: Shell) -> None:
    flags = ("--app", "support:app", "--db", "my log.db")
    waiting = shell.evrt("runs", "start", "report", "rain", "--user", "ann", *flags, EVRT_APP="")
    assert waiting.out == ""
    assert waiting.err.splitlines()[:4] == [
        waiting.run,
        "About rain.",
        f"{waiting.run} is waiting.",
        "ask#1 asks: Publish RAIN? [yes / no]",
    ]
    answer, resume = waiting.commands
    answered = shell.typed(answer, EVRT_APP="")
    assert answered.out == f"{waiting.run}: ask#1 is answered.\n"
    assert answered.commands == [resume]
    resumed = shell.typed(f"{resume} --json", EVRT_APP="")
    assert resumed.document["status"] == "succeeded"
    assert resumed.document["output"]["sure"] == "yes"
    assert "About rain." not in resumed.err  # What has been said once is not said again.
    assert "has ended (succeeded)" in shell.evrt(*resume.split()[1:3], waiting.run, *flags, expect=4).err


def test_what_a_run_asks_leave_for_is_granted_and_it_is_signalled(shell: Shell) -> None:
    waiting = shell.evrt("runs", "start", "ship", "7")
    run = waiting.run
    assert "approve#1 asks for leave: Ship order 7" in waiting.err
    assert "(until 20" in waiting.err
    approve, _, resume = waiting.commands
    assert shell.evrt("questions").commands == waiting.commands
    [waits] = shell.evrt("runs", "show", run, "--json").document["waits"]
    assert (waits["for"], waits["action"], waits["details"]) == ("approval", "Ship order 7", {"order": 7})
    granted = shell.typed(f"{approve} --by ann")
    assert granted.out == f"{run}: approve#1 is approved.\n"
    for options in ((), ("--operation", "approve#1")):
        late = shell.refused("runs", "deny", run, *options, code=4)
        assert "approve#1" in late
        assert "has been approved by ann. The run goes on when a worker takes it, or with " in late
        assert f"`evrt runs resume {run}`" in late
    resumed = shell.typed(resume)
    assert f"{run} is waiting." in resumed.err
    assert "signal.arrived#1 waits for the signal arrived, until 20" in resumed.err
    shown = shell.evrt("runs", "show", run)
    assert "signal.arrived#1 waits for the signal arrived" in shown.out
    assert shown.commands == resumed.commands
    signal, resume = resumed.commands
    assert signal == f"evrt runs signal {run} arrived PAYLOAD"
    told = shell.evrt("runs", "signal", run, "arrived", '{"at": 5}', "--by", "port")
    assert told.out == f"{run}: the signal arrived is sent.\n"
    assert shell.typed(f"{resume} --json").document["output"] == ["shipped", {"at": 5}]
    assert "has ended (succeeded)" in shell.refused("runs", "signal", run, "arrived", code=4)
    lines = shell.evrt("log", run).out
    for words in ("Ship order 7", "approved", "arrived", "the signal arrived", "at most until 20"):
        assert words in lines, words


def test_what_is_denied_is_not_done_and_the_code_learns_why(shell: Shell) -> None:
    run = shell.evrt("runs", "start", "ship", "8").run
    denied = shell.evrt("runs", "deny", run, "--reason", "It is broken.", "--by", "ann", "--json").document
    assert denied == {"run": run, "operation": "approve#1", "approved": False, "reason": "It is broken."}
    resumed = shell.evrt("runs", "resume", run, "--json").document
    assert resumed["output"] == ["kept", "It is broken.", "ann"]
    sent = shell.evrt("runs", "start", "ship", "9").run
    document = shell.evrt("runs", "signal", sent, "arrived", "early", "--json").document
    assert document == {"run": sent, "signal": "arrived", "payload": "early"}
    assert "A signal's name is text" in shell.refused("runs", "signal", sent, "", code=2)
    assert "There is no run nope" in shell.refused("runs", "signal", "nope", "arrived", code=3)


def test_of_several_questions_each_is_answered_by_its_name(shell: Shell) -> None:
    waiting = shell.evrt("runs", "start", "two_questions", "--json").document
    run = waiting["run"]
    assert waiting["status"] == "waiting"
    assert waiting["reason"] == "question"
    first, second = (wait["operation"] for wait in waiting["waits"])
    assert "name one of" in shell.refused("runs", "answer", run, "Ann", code=2)
    assert shell.evrt("runs", "answer", run, "Ann", "--operation", first, "--json").document == {
        "run": run,
        "operation": first,
        "answer": "Ann",
    }
    assert "does not wait" in shell.refused("runs", "answer", run, "Bob", "--operation", first, code=4)
    shell.evrt("runs", "answer", run, "42", "--operation", second, "--by", "Ann")
    assert shell.evrt("runs", "resume", run, "--json").document["output"] == ["Ann", 42]


def test_the_apps_redaction_applies_to_what_is_answered_and_settled(shell: Shell) -> None:
    code = (shell.folder / "support.py").read_text("utf-8")
    hook = "redact=lambda value: value.replace('swordfish', '****') if isinstance(value, str) else value,"
    shell.write("support.py", code.replace("app = evrt.App(", f"app = evrt.App({hook}"))
    asking = shell.evrt("runs", "start", "two_questions").run
    shell.evrt("runs", "answer", asking, "PIN swordfish", "--operation", "gather#1:0/ask#1")
    died = shell.evrt("runs", "start", "payment", "300", expect=9, DIE_WHILE_PAYING="1").run
    shell.evrt("runs", "resume", died)
    shell.evrt("runs", "settle", died, "--error", "card swordfish refused")
    log = shell.evrt("log", "--json").out
    assert "PIN ****" in log
    assert "card **** refused" in log
    assert "swordfish" not in log


def test_a_run_in_memory_says_that_it_cannot_go_on(shell: Shell) -> None:
    waiting = shell.evrt("runs", "start", "two_questions", "--db", "memory://", expect=1)
    assert "Its log was in memory (memory://) and is gone." in waiting.err
    assert waiting.commands == []
    assert shell.evrt("runs", "start", "parrot", "hi", "--db", "memory://").out == "hi\n"


@pytest.mark.parametrize(
    "which, status, payments", [(0, "succeeded", 1), (1, "failed", 1), (2, "succeeded", 2)]
)
def test_a_write_cut_off_is_in_doubt_until_somebody_says_what_it_came_to(
    shell: Shell, which: int, status: str, payments: int
) -> None:
    died = shell.evrt("runs", "start", "payment", "300", expect=9, DIE_WHILE_PAYING="1")
    waiting = shell.evrt("runs", "resume", died.run)
    assert "pay#1 is in doubt: pay(cents=300) was cut off" in waiting.err
    *settles, resume = waiting.commands
    settled = shell.typed(f"{settles[which]} --json --by ann").document
    assert settled["outcome"] == ("completed", "failed", "again")[which]
    ended = shell.typed(f"{resume} --json") if status == "succeeded" else None
    if ended is None:
        failed = shell.evrt("runs", "resume", died.run, expect=1)
        assert "ToolFailed: pay#1 failed: settled: WHAT WENT WRONG" in failed.err
    else:
        assert ended.document["output"] == ("WHAT IT RETURNED", None, "paid 300")[which]
    assert len((shell.folder / "payments.txt").read_text().split()) == payments


def test_an_end_without_success_says_why_and_exits_with_one(shell: Shell) -> None:
    broken = shell.evrt("runs", "start", "broken", expect=1)
    assert broken.err.splitlines()[1:] == [f"{broken.run} failed: KeyError: 'no such thing'"]
    hasty = shell.evrt("runs", "start", "hasty", "Hurry", "--json", expect=1)
    assert hasty.document["status"] == "timed_out"
    assert f"{hasty.run} timed out after 0.05 s." in hasty.err
    wanderer = shell.evrt("runs", "start", "wanderer", "Go", expect=1)
    assert wanderer.out == "I only got to Turin.\n"
    assert f"{wanderer.run} used up its 2 model turns without an answer." in wanderer.err


def test_a_model_that_nobody_knows_fails_the_run_with_a_reason(shell: Shell) -> None:
    lost = shell.evrt("runs", "start", "lost", "Where am I?", "--json", expect=1)
    assert lost.document["failure"]["error_type"] == "ModelFailed"
    assert "No provider is known for the model 'nowhere/at-all'" in lost.err


def test_input_comes_as_text_as_json_from_a_file_or_from_stdin(shell: Shell) -> None:
    shell.write("input.json", '{"city": "Zürich"}\n')
    as_json = '{"city":"Zürich"}\n'
    assert shell.evrt("runs", "start", "parrot", '{"city": "Zürich"}').out == as_json
    assert shell.evrt("runs", "start", "parrot", "--input-file", "input.json").out == as_json
    assert (
        shell.evrt("runs", "start", "parrot", "-", stdin="{not JSON}\nat all\n").out == "{not JSON}\nat all\n"
    )
    assert shell.evrt("runs", "start", "parrot", "--input-file", "-", stdin="NaN").out == "NaN\n"


def test_an_interrupted_run_tells_how_to_go_on(shell: Shell) -> None:
    with shell.begin("runs", "start", "sleeper", "Sleep", stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        run = process.stderr.readline().strip()
        with shell.begin("log", "--follow", "--type", "model_call.requested") as follower:
            assert follower.stdout is not None
            follower.stdout.readline()
            follower.kill()
        process.send_signal(signal.SIGINT)
        assert process.wait() == 130
        told = process.stderr.read()
    assert told == (f"Interrupted. What {run} has done is kept; it goes on with:\n  evrt runs resume {run}\n")
    shown = shell.evrt("runs", "show", run)
    assert "running" in shown.out
    assert shown.commands == [f"evrt runs resume {run}"]


def test_a_run_that_waits_for_its_next_attempt_says_so_and_can_be_gone_on_with(shell: Shell) -> None:
    storm = shell.folder / "storm"
    storm.touch()
    with shell.begin("runs", "start", "voyage", stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        run = process.stderr.readline().strip()
        told = process.stderr.readline()
        process.kill()
    assert told.startswith(f"{run} failed in harbour#1 (ConnectionError: there is a storm): trying again in ")
    document = shell.evrt("runs", "show", run, "--json").document
    assert (document["status"], document["reason"]) == ("waiting", "retry")
    assert "for its next attempt (harbour#1)" in shell.evrt("runs", "list").out
    line = shell.evrt("log", run, "--type", "run.retry_scheduled").out
    assert "attempt 1 failed: ConnectionError: there is a storm (harbour#1 again in " in line
    storm.unlink()
    [resume] = shell.evrt("runs", "show", run).commands
    assert shell.typed(resume).out == "ships go\n"
    assert "to its end" in shell.evrt("replay", run).out


def test_runs_are_listed_newest_first_and_filtered(history: History) -> None:
    shell, waiting = history
    runs = shell.evrt("runs", "list", "--json").document
    assert [(run["target"], run["status"]) for run in runs] == [
        ("report", "waiting"),
        ("parrot", "succeeded"),
        ("broken", "failed"),
        ("helper", "succeeded"),
    ]
    assert runs[0]["run"] == waiting.run
    assert runs[0]["requested_at"].endswith("Z")
    assert [run["target"] for run in shell.evrt("runs", "list", "--json", "--status", "failed").document] == [
        "broken"
    ]
    limited = shell.evrt("runs", "list", "--limit", "1", "--agent", "report")
    headings, line = limited.out.splitlines()
    assert headings.split("  ")[0] == "RUN"
    assert line.startswith(f"{waiting.run}  waiting  report  {runs[0]['requested_at']}")
    assert line.endswith("for an answer (ask#1)")
    assert limited.err == ""
    told = shell.evrt("runs", "list", "--limit", "3").err
    assert told == "There are more than these 3; --limit shows more at once.\n"
    assert shell.evrt("runs", "list", "--limit", "4").err == ""
    oldest = shell.evrt("runs", "list", "--oldest-first", "--json").document
    assert oldest == list(reversed(runs))
    assert "No run of sqlite:///evrt.db is like that." in shell.evrt("runs", "list", "--agent", "nobody").err


def test_a_run_is_shown_with_what_it_waits_for(history: History) -> None:
    shell, waiting = history
    shown = shell.evrt("runs", "show", waiting.run[:12])
    assert f"{waiting.run}  waiting" in shown.out
    assert "ask#1 asks: Publish RAIN? [yes / no]" in shown.out
    assert "ann (user-" in shown.out
    assert shown.commands == waiting.commands
    document = shell.evrt("runs", "show", waiting.run, "--json").document
    assert document["status"] == "waiting"
    assert document["user_name"] == "ann"
    assert document["conversation_name"] == "c1"
    assert document["operations"]["tool_call"] == 4
    assert [checkpoint["name"] for checkpoint in document["checkpoints"]] == ["planned"]
    assert document["waits"] == [
        {
            "operation": "ask#1",
            "for": "answer",
            "question": "Publish RAIN?",
            "options": ["yes", "no"],
            "descriptions": None,
            "allow_free_form": False,
            "answer_schema": None,
            "tool": None,
            "arguments": None,
            "action": None,
            "details": None,
            "digest": None,
            "due": None,
        }
    ]
    moment = shell.evrt("runs", "show", f"{waiting.run}@3", "--json").document
    assert (moment["at"], moment["status"], moment["waits"]) == (3, "running", [])
    assert moment["head"] == document["at"]


def test_a_tool_that_does_not_exist_is_an_outcome_the_model_sees(history: History) -> None:
    shell, waiting = history
    failed = shell.evrt("log", waiting.run, "--type", "tool_call.failed").out
    assert "unknown_tool: There is no tool 'umbrella'. Tools: weather." in failed


def test_filters_of_the_list_of_runs_combine(history: History) -> None:
    shell, waiting = history
    ref = shell.evrt("runs", "show", waiting.run, "--json").document["user"]

    def targets(*flags: str) -> list[str]:
        return [run["target"] for run in shell.evrt("runs", "list", "--json", *flags).document]

    assert targets("--user", "ann") == targets("--user", ref) == targets("--conversation", "c1") == ["report"]
    assert targets("--user", "ann", "--conversation", "c1", "--status", "waiting", "--since", "2h") == [
        "report"
    ]
    assert targets("--user", "ann", "--status", "failed") == []
    assert targets("--until", "2h ago") == targets("--since", "2100-01-01") == []
    first = shell.evrt("runs", "list", "--json", "--oldest-first", "--limit", "1").document[0]["requested_at"]
    assert targets("--until", first) == []
    assert len(targets("--since", first)) == 4
