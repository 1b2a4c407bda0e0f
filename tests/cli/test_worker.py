"""Workers from the command line: they execute, drain, die and are replaced, and say how it stands."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from cli.shell import COLUMNS, Shell, plain
from cli.works import WORKS, ending_of, followed, marks, next_event, worker


@pytest.fixture
def works(shell: Shell) -> Shell:
    """A folder with the app whose runs take as long as a test wants."""
    shell.write("support.py", WORKS)
    return shell


def detached(shell: Shell, *words: str) -> str:
    """Put a run into the queue; its id."""
    return shell.evrt("runs", "start", *words, "--detach").out.strip()


def claims(shell: Shell, run: str) -> list[str]:
    """Why it was claimed, each time."""
    lines = shell.evrt("log", run, "--type", "run.claimed").out.splitlines()
    return [line.split("run.claimed")[1].split()[0] for line in lines]


def test_a_worker_executes_what_was_queued_and_ends_with_0_when_it_is_told_to(works: Shell) -> None:
    before = detached(works, "quick", "ann")
    detached(works, "fails")
    with worker(works, "--agents", "quick, fails") as watched:
        started = watched.next("started")
        assert started["targets"] == ["quick", "fails"]
        assert works.evrt("runs", "start", "quick", "bob", "--detach", "--follow").out == "BOB\n"
        assert works.evrt("runs", "show", before, "--json").document["output"] == "ANN"
        (lease,) = works.evrt("queue", "workers", "--json").document
        assert (lease["worker"], lease["alive"]) == (started["worker"], True)
        watched.process.send_signal(signal.SIGTERM)
        assert watched.next("draining")["signal"] == "SIGTERM"
        ended = watched.ended(0)
    assert (ended["claimed"], ended["ended"], ended["failed"]) == (3, 3, 1)
    assert works.evrt("queue", "workers", "--json").document == []


def test_a_worker_that_drains_hands_over_what_lasts_longer_than_its_grace(works: Shell) -> None:
    with worker(works, "--grace", "0.2") as first:
        first.next("started")
        run = detached(works, "long")
        next_event(works, "step.completed", run)
        first.process.send_signal(signal.SIGTERM)
        assert first.ended(0)["parked"] == 1
    assert "for another worker" in works.evrt("runs", "list").out
    with worker(works) as second, followed(works, "quick", "x") as other:
        second.next("started")
        assert ending_of(other)["output"] == "X"
        works.write("go", "")
        next_event(works, "run.succeeded", run)
    assert claims(works, run) == ["start", "resume"]
    assert marks(works) == ["begun", "go came", "done"]


def test_a_second_signal_ends_a_worker_at_once_and_another_goes_on(works: Shell) -> None:
    with worker(works, "--grace", "600") as first:
        first.next("started")
        run = detached(works, "long")
        next_event(works, "step.completed", run)
        first.process.send_signal(signal.SIGTERM)
        first.next("draining")
        first.process.send_signal(signal.SIGINT)
        first.next("stopping")
        first.ended(130)
    assert works.evrt("queue", "--json").document["counts"]["ready"] == 1
    (works.folder / "go").touch()
    with worker(works):
        next_event(works, "run.succeeded", run)
    assert len(claims(works, run)) == 2
    assert marks(works) == ["begun", "go came", "done"]


def test_a_tool_in_a_thread_does_not_keep_a_worker_from_ending(works: Shell) -> None:
    with worker(works) as watched:
        watched.next("started")
        next_event(works, "step.started", detached(works, "stubborn"))
        watched.process.send_signal(signal.SIGTERM)
        watched.next("draining")
        watched.process.send_signal(signal.SIGTERM)
        assert watched.process.wait() == 130


def test_of_several_processes_one_that_is_killed_is_replaced_and_its_run_taken_over(works: Shell) -> None:
    with worker(works, "--processes", "2", "--lease", "1.5") as watched:
        pids = {told["worker"]: told["pid"] for told in (watched.next("process_started") for _ in range(2))}
        run = detached(works, "long")
        next_event(works, "step.completed", run)
        claimed = next_event(works, "run.claimed", run)["event"]["worker"]
        os.kill(pids[claimed], signal.SIGKILL)
        died = watched.next("process_ended")
        assert (died["pid"], died["code"], died["gives_up"]) == (pids[claimed], -9, False)
        assert watched.next("process_started")["process"] == died["process"]
        (works.folder / "go").touch()
        next_event(works, "run.succeeded", run)
        watched.process.send_signal(signal.SIGINT)
        ended = watched.ended(0)
    first, *others = claims(works, run)
    assert (first, set(others)) == ("start", {"takeover"})
    assert marks(works) == ["begun", "go came", "done"]
    assert ended["ended"] == 1
    assert works.evrt("queue", "workers", "--json").document == []


def test_processes_whose_supervisor_is_killed_drain(works: Shell) -> None:
    with worker(works, "--processes", "2", "--grace", "0.2") as watched:
        for _ in range(2):
            watched.next("process_started")
        run = detached(works, "long")
        next_event(works, "step.completed", run)
        watched.process.kill()
        assert watched.process.stderr is not None
        watched.process.stderr.read()  # Ends when nobody holds the other end any more.
    assert works.evrt("queue", "workers", "--json").document == []
    assert works.evrt("runs", "show", run, "--json").document["reason"] == "handover"


def test_a_worker_gives_up_when_its_processes_end_at_once_again_and_again(works: Shell) -> None:
    works.write(
        "support.py", f"{WORKS}\nif '--supervised' in __import__('sys').argv:\n    raise OSError('no key')\n"
    )
    with worker(works, "--processes", "2") as watched:
        codes = []
        while not (died := watched.next("process_ended"))["gives_up"]:
            codes.append(died["code"])
        assert set(codes) == {2}
        assert watched.ended(1)["claimed"] == 0
        assert watched.process.stderr is not None
        told = watched.process.stderr.read()
    assert "it raised OSError: no key" in told
    assert "Traceback" not in told


def test_code_that_changes_is_loaded_anew_also_when_it_was_broken_in_between(works: Shell) -> None:
    with worker(works, "--reload") as watched:
        first = watched.next("process_started")
        assert works.evrt("runs", "start", "quick", "ann", "--detach", "--follow").out == "ANN\n"
        works.write("support.py", f"{WORKS}\nthis is no Python\n")
        assert watched.next("reloading")["path"] == "support.py"
        assert watched.next("process_ended")["gives_up"] is False
        works.write("support.py", WORKS.replace("text.upper()", "text.title()"))
        second = watched.next("process_started")
        assert second["pid"] != first["pid"]
        assert works.evrt("runs", "start", "quick", "ann", "--detach", "--follow").out == "Ann\n"
        watched.process.send_signal(signal.SIGTERM)
        watched.ended(0)


def test_programs_that_tools_start_have_no_part_in_what_supervisor_and_worker_say(works: Shell) -> None:
    with worker(works, "--reload") as watched:
        watched.next("process_started")
        with followed(works, "talks") as process:
            assert ending_of(process)["output"] == "0"
        watched.process.send_signal(signal.SIGTERM)
        watched.ended(0)
        assert watched.process.stderr is not None
        assert watched.process.stderr.read() == "[]\nheard\n"


@pytest.mark.parametrize(
    "words, text",
    [
        (["--concurrency", "0"], "'--concurrency'"),
        (["--concurrency", "-3"], "'--concurrency'"),
        (["--processes", "0"], "'--processes'"),
        (["--processes", "many"], "'--processes'"),
        (["--runs-max", "0"], "'--runs-max'"),
        (["--poll-interval", "nan"], "--poll-interval takes 0.001 to 86400 seconds, not nan."),
        (["--poll-interval", "-1"], "--poll-interval takes"),
        (["--lease", "0"], "--lease takes"),
        (["--grace", "inf"], "--grace takes"),
        (
            ["--agents", "quick,nobody"],
            "no agent or workflow named nobody. It has: asks, fails, long, parent, quick, stubborn, talks.",
        ),
        (["--agents", "quick,,long"], "--agents takes names with commas between them"),
        (["--processes", "2", "--agents", "nobody"], "It has: asks"),
        (["--reload", "--processes", "2"], "--reload is for one process"),
        (["--db", "memory://"], "A log in memory"),
        (["--app", "nothing"], "There is no module 'nothing'"),
    ],
)
def test_options_that_cannot_be_meant_are_refused(works: Shell, words: list[str], text: str) -> None:
    refused = works.evrt("worker", *words, expect=2)
    assert refused.out == ""
    assert text in refused.err
    assert not (works.folder / "evrt.db").exists()


# ---------------------------------------------------------------------------------- on a terminal


class Terminal:
    """A worker whose stderr is a terminal, and what stands there."""

    def __init__(self, process: subprocess.Popen[bytes], ours: int) -> None:
        self.process = process
        self._ours = ours
        self.written = ""

    def until(self, pattern: str) -> str:
        """Read until something like that was written; returns what it was."""
        while (found := re.search(pattern, self.written)) is None:
            self.written += os.read(self._ours, 65_536).decode()
        return found[0]

    def resize(self, columns: int) -> None:
        fcntl.ioctl(self._ours, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        self.written = ""


@contextmanager
def on_terminal(shell: Shell, *options: str) -> Iterator[Terminal]:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, COLUMNS, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-m", "evrt", "worker", *options],
        cwd=shell.folder,
        env=shell.environment_with(COLUMNS=""),
        stdin=theirs,
        stdout=subprocess.DEVNULL,
        stderr=theirs,
    )
    os.close(theirs)
    try:
        yield Terminal(process, ours)
    finally:
        process.kill()
        process.wait()
        os.close(ours)


LIVE = r"\x1b\[J[^\r\n]*1 running[^\r\n]*1 queued[^\n\r]*\r"


def test_on_a_terminal_one_line_says_how_it_stands_and_follows_its_width(works: Shell) -> None:
    run = detached(works, "long")
    detached(works, "asks")
    with on_terminal(works, "--no-reload", "--agents", "long") as terminal:
        line = terminal.until(LIVE)
        assert "\x1b[36m1 running" in line
        assert "1 queued  0 waiting  0.0 done/s  0 failed  lag" in plain(line)
        assert len(plain(line).strip("\r").removeprefix("\x1b[J")) < COLUMNS
        terminal.resize(30)
        short = plain(terminal.until(LIVE)).strip("\r").removeprefix("\x1b[J")
        assert len(short) < 30
        assert short.startswith("1 running  1 queued")
        terminal.process.send_signal(signal.SIGINT)
        assert "no more runs are taken" in terminal.until(r"no more runs[^\n]*")
        terminal.until(r"draining[^\r\n]*1 running")
        (works.folder / "go").touch()
        ending = terminal.until(r"has ended: [^\n]*")
        assert "0 running, 1 ended (0 failed)" in ending
        assert terminal.process.wait() == 0
    assert works.evrt("runs", "show", run, "--json").document["status"] == "succeeded"


def test_on_a_terminal_one_process_reloads_unless_told_otherwise(works: Shell) -> None:
    with on_terminal(works) as terminal:
        assert "anew when code changes" in terminal.until(r"A worker of one process[^\n]*")
        terminal.until(r"Process 1 has begun")
        terminal.process.send_signal(signal.SIGTERM)
        terminal.until(r"has ended")
        assert terminal.process.wait() == 0


def test_a_password_in_the_url_of_a_log_is_not_shown(works: Shell) -> None:
    url = "postgresql://ann:swordfish@127.0.0.1:1/evrt"
    refused = works.refused("worker", "--db", url, code=6)
    assert "swordfish" not in refused
    assert "ann@127.0.0.1:1/evrt" in refused


def test_several_processes_say_once_that_their_log_cannot_be_opened(works: Shell) -> None:
    """And with the exit code that one process has."""
    said = works.refused("worker", "--processes", "3", "--db", "postgresql://ann@127.0.0.1:1/evrt", code=6)
    assert said.count("cannot be opened") == 1
    assert "started again" not in said


def test_a_worker_of_several_processes_serves_a_log_on_postgresql(works: Shell, postgres: str) -> None:
    """What is printed of it has no password; queue and workers are seen from elsewhere."""
    works.environment["EVRT_DB"] = postgres
    run = detached(works, "quick", "ann")
    assert works.evrt("queue").out.splitlines()[0] == "1 ready"
    with worker(works, "--processes", "2") as watched:
        assert watched.next("started")["log"] in postgres
        assert works.evrt("runs", "start", "quick", "bob", "--detach", "--follow").out == "BOB\n"
        next_event(works, "run.succeeded", run)
        watched.process.send_signal(signal.SIGTERM)
        assert watched.ended(0)["ended"] == 2
    assert works.evrt("queue", "workers", "--json").document == []
