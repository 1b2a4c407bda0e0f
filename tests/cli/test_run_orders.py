"""Runs left to workers, cancelled, paused, resumed and retried from the command line, and the queue they stand in."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import time
from typing import Any

import pytest

from cli.shell import Shell
from cli.works import WORKS, followed, marks, next_event, worker


@pytest.fixture
def works(shell: Shell) -> Shell:
    """A folder with the app whose runs take as long as a test wants."""
    shell.write("support.py", WORKS)
    return shell


def detached(shell: Shell, *words: str) -> str:
    return shell.evrt("runs", "start", *words, "--detach").out.strip()


def entries(shell: Shell, *words: str) -> list[tuple[str, str]]:
    """Runs of the queue with their states."""
    found = shell.evrt("queue", "--json", *words).document["entries"]
    return [(entry["run"], entry["state"]) for entry in found]


def status(shell: Shell, run: str) -> Any:
    return shell.evrt("runs", "show", run, "--json").document["status"]


def test_a_detached_run_prints_its_id_alone_and_waits_in_the_queue(works: Shell) -> None:
    result = works.evrt("runs", "start", "quick", "ann", "--detach")
    run = result.out.strip()
    assert (re.fullmatch(r"run-\w{16}", run) is not None, result.err) == (True, "")
    assert entries(works) == [(run, "ready")]
    assert status(works, run) == "queued"
    late = works.evrt("runs", "start", "quick", "ann", "--detach", "--delay", "10m", "--json").document
    assert late["new"] is True
    first = detached(works, "quick", "ann", "--at", "2001-01-01T00:00:00Z", "--priority", "7")
    assert entries(works) == [(run, "ready"), (late["run"], "delayed"), (first, "ready")]
    assert entries(works, "--state", "delayed") == [(late["run"], "delayed")]
    assert entries(works, "--target", "long") == []
    shown = works.evrt("queue", "--limit", "1")
    assert shown.out.splitlines()[0] == "2 ready, 1 delayed"
    assert "There are more than these 1" in shown.err


def test_an_idempotency_key_names_the_run_that_it_was_used_for(works: Shell) -> None:
    words = ("runs", "start", "quick", "ann", "--detach", "--idempotency-key", "k1", "--json")
    first, again = works.evrt(*words).document, works.evrt(*words).document
    assert (first["run"], first["new"], again["new"]) == (again["run"], True, False)
    other = works.refused("runs", "start", "quick", "bob", "--detach", "--idempotency-key", "k1", code=4)
    assert first["run"] in other


def test_runs_of_one_conversation_stand_behind_one_another_unless_told_otherwise(works: Shell) -> None:
    said = [detached(works, "quick", text, "--conversation", "c1") for text in ("a", "b")]
    beside = detached(works, "quick", "c", "--conversation", "c1", "--concurrent")
    assert entries(works) == [(said[0], "ready"), (said[1], "behind"), (beside, "ready")]


@pytest.mark.parametrize(
    "words, text, code",
    [
        (["--priority", "3"], "--priority is for a run that is left to workers", 2),
        (["--follow"], "--follow is for a run that is left to workers", 2),
        (["--detach", "--priority", "5000"], "A priority is a whole number from -1000 to 1000", 2),
        (["--detach", "--delay", "soon"], "soon", 2),
        (["--detach", "--at", "tomorrow"], "--at takes a time with its zone", 2),
        (["--detach", "--at", "2026-11-27T12:00:00"], "has no time zone", 2),
        (["--detach", "--delay", "1m", "--at", "2026-11-27T12:00:00Z"], "not both", 2),
        (["--detach", "--idempotency-key", ""], "An idempotency key is a text", 2),
        (["--detach", "--db", "memory://"], "A log in memory has no workers", 2),
    ],
)
def test_terms_that_cannot_be_meant_are_refused_and_nothing_is_queued(
    works: Shell, words: list[str], text: str, code: int
) -> None:
    assert text in works.refused("runs", "start", "quick", "ann", *words, code=code)
    detached(works, "asks")
    assert len(entries(works)) == 1


def test_a_run_that_is_followed_ends_as_one_that_is_executed_here(works: Shell) -> None:
    with worker(works) as watched:
        watched.next("started")
        done = works.evrt("runs", "start", "quick", "ann", "--detach", "--follow")
        assert (done.out, done.err) == ("ANN\n", f"{done.run}\n")
        failed = works.evrt("runs", "start", "fails", "--detach", "--follow", expect=1)
        assert f"{failed.run} failed: KeyError: 'no such thing'" in failed.err
        asking = works.evrt("runs", "start", "asks", "--detach", "--follow")
        assert "ask#1 asks: May I? [yes / no]" in asking.err
        with followed(works, "long") as process:
            assert process.stderr is not None
            run = process.stderr.readline().strip()
            next_event(works, "step.completed", run)
            process.send_signal(signal.SIGINT)
            _, err = process.communicate()
        assert err == f"Interrupted. {run} goes on without us: workers execute it.\n"
        works.write("go", "")
        next_event(works, "run.succeeded", run)
    assert marks(works) == ["begun", "go came", "done"]


def test_a_run_in_the_queue_is_cancelled_without_an_app(works: Shell) -> None:
    run = detached(works, "quick", "ann")
    flags = ("--db", "evrt.db")
    cancelled = works.evrt(
        "runs", "cancel", run, "--reason", "not needed", "--by", "ann", "--json", *flags, EVRT_APP=""
    )
    assert cancelled.document == {"run": run, "cancel": "cancelled"}
    assert entries(works) == []
    assert works.evrt("runs", "list", "--status", "cancelled").out.split()[-2:] == ["not", "needed"]
    assert "cancelled     not needed" in works.evrt("runs", "show", run).out
    assert "asked for by ann: not needed" in works.evrt("log", run, "--type", "run.cancelled").out
    assert "has ended (cancelled)" in works.refused("runs", "cancel", run, code=4)
    assert "has ended (cancelled)" in works.refused("runs", "pause", run, code=4)
    assert "has ended (cancelled)" in works.refused("runs", "resume", run, "--detach", code=4)
    assert "There is no run" in works.refused("runs", "cancel", "run-nobody", code=3)


def test_a_run_that_a_worker_executes_is_cancelled_at_its_next_operation(works: Shell) -> None:
    with worker(works) as watched, followed(works, "long") as process:
        watched.next("started")
        assert process.stderr is not None
        run = process.stderr.readline().strip()
        next_event(works, "step.completed", run)
        assert "will be cancelled" in works.evrt("runs", "cancel", run, "--reason", "enough").out
        out, err = process.communicate()
        assert process.returncode == 1
        assert json.loads(out)["status"] == "cancelled"
        assert f"{run} was cancelled: enough." in err


def test_a_run_that_is_answered_behind_another_of_its_conversation_says_so(works: Shell) -> None:
    first = detached(works, "quick", "a", "--conversation", "c1")
    waiting = works.evrt("runs", "start", "asks", "--conversation", "c1").run
    assert "for an answer (ask#1)" in works.evrt("runs", "list", "--agent", "asks").out
    assert f"It is behind {first} of its conversation" in works.evrt("runs", "answer", waiting, "yes").err
    assert f"It is behind {first} of its conversation" in works.evrt("runs", "show", waiting).out
    [line] = works.evrt("runs", "list", "--agent", "asks").out.splitlines()[1:]
    assert line.endswith(f"to go on, behind {first}")
    queued = {one["run"]: one["behind"] for one in works.evrt("queue", "--json").document["entries"]}
    assert queued == {first: None, waiting: first}
    assert f"  {first}  asks" in works.evrt("queue").out
    alone = works.evrt("runs", "start", "asks").run
    works.evrt("runs", "answer", alone, "yes")
    assert works.evrt("runs", "list", "--agent", "asks").out.splitlines()[1].endswith("  to go on")


def test_a_run_that_waits_for_its_child_names_it_and_what_helps(works: Shell) -> None:
    waiting = works.evrt("runs", "start", "parent")
    [child] = works.evrt("runs", "list", "--parent", waiting.run, "--json").document
    shown = works.evrt("runs", "show", waiting.run)
    for text in (waiting.err, shown.out):
        assert f"waits for its child {child['run']} (quick), which has not ended." in text
    assert shown.commands == waiting.commands
    work, child_first, resume = waiting.commands
    assert (work, child_first) == ("evrt worker", f"evrt runs resume {child['run']}")
    # Until the child has ended, going on with its parent says the same again.
    assert works.typed(resume).commands == waiting.commands
    works.typed(child_first)
    assert works.typed(resume).out == "CHILD\n"


def test_a_paused_run_stays_until_it_is_resumed_here_or_in_a_worker(works: Shell) -> None:
    here, there = detached(works, "quick", "ann"), detached(works, "quick", "bob")
    paused = works.evrt("runs", "pause", here, "--by", "ann", EVRT_APP="")
    assert paused.out == f"{here} is paused.\n"
    assert paused.commands == [f"evrt runs resume {here} --detach"]
    assert "is paused already" in works.refused("runs", "pause", here, code=4)
    works.evrt("runs", "pause", there, "--json")
    assert entries(works) == [(here, "paused"), (there, "paused")]
    assert works.evrt("runs", "list").out.count("paused") == 2
    assert works.evrt("runs", "resume", here, "--by", "bob").out == "ANN\n"
    assert "by bob" in works.evrt("log", here, "--type", "run.unpaused").out
    assert works.evrt("runs", "resume", there, "--detach", EVRT_APP="").out == f"{there}\n"
    assert entries(works) == [(there, "ready")]


def test_what_a_living_worker_executes_is_not_taken_away_from_it(works: Shell) -> None:
    with worker(works) as watched:
        name = watched.next("started")["worker"]
        run = detached(works, "long")
        next_event(works, "step.completed", run)
        with works.begin("runs", "resume", run, stderr=subprocess.PIPE) as process:
            assert process.stderr is not None
            told = process.stderr.readline()
            process.kill()  # Had it taken the run, it would now execute it.
        assert told.startswith(f"{name} is executing {run}, and goes on with it.")
        shown = works.evrt("queue", "workers").out
        assert name in shown
        assert f"{run} (long)" in shown
        works.write("go", "")
        next_event(works, "run.succeeded", run)


def test_an_interrupted_run_that_is_in_no_queue_is_left_to_a_worker(works: Shell) -> None:
    with works.begin("runs", "start", "long", stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        run = process.stderr.readline().strip()
        next_event(works, "step.completed", run)
        process.kill()
    assert entries(works) == []
    works.evrt("runs", "resume", run, "--detach", EVRT_APP="")
    assert entries(works) == [(run, "ready")]
    works.write("go", "")
    with worker(works):
        next_event(works, "run.succeeded", run)
    assert marks(works) == ["begun", "go came", "done"]


def test_a_run_that_failed_is_retried_as_a_new_one_here_or_in_a_worker(works: Shell) -> None:
    failed = works.evrt("runs", "start", "fails", expect=1).run
    works.write("support.py", WORKS.replace('raise KeyError("no such thing")', 'return "mended"'))
    retried = works.evrt("runs", "retry", failed)
    assert retried.out == "mended\n"
    assert retried.run != failed
    assert f"by {retried.run}" in works.evrt("log", failed, "--type", "run.superseded").out
    left = works.evrt("runs", "retry", failed, "--detach", EVRT_APP="").out.strip()
    assert entries(works) == [(left, "ready")]
    assert "there is nothing to try again" in works.refused("runs", "retry", left, code=4)


def test_doctor_tells_what_is_stuck_and_what_to_do(works: Shell) -> None:
    with worker(works, "--lease", "1.5") as watched:
        watched.next("started")
        run = detached(works, "long")
        next_event(works, "step.completed", run)
        well = {d["name"]: d["found"] for d in works.evrt("doctor", "--json").document}
        assert well["queue"] == "entries: 1, workers alive: 1"
        watched.process.kill()
        watched.process.wait()
    while (lease := works.evrt("queue", "workers", "--json").document[0])["alive"]:
        time.sleep(lease["left_seconds"])
    stuck = [d for d in works.evrt("doctor", "--json").document if d["name"] == "queue"]
    assert [d["verdict"] for d in stuck] == ["mind"]
    assert "1 are claimed by workers that are gone (" in stuck[0]["found"]
    assert run in stuck[0]["found"]
    assert stuck[0]["remedy"] == "`evrt worker` with the app of long takes them over."
    works.write("go", "")
    with worker(works) as watched:
        next_event(works, "run.succeeded", run)
        watched.process.send_signal(signal.SIGTERM)
        watched.ended(0)
    assert [d["found"] for d in works.evrt("doctor", "--json").document if d["name"] == "queue"] == [
        "entries: 0, workers alive: 0"
    ]
