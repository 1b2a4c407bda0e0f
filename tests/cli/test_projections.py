"""Views are looked after: how they stand, rebuilt though interrupted, verified, kept current by a process of their own."""

from __future__ import annotations

import re
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from cli.desk import DESK
from cli.forker import Forker
from cli.many import make_runs
from cli.shell import Shell, new_shell, on_terminal

MANY_RUNS = 3_600
WITHIN_SECONDS = 60.0

NEWER = DESK.replace("version=1", "version=12")
"""Of another size: Python takes a module that was written anew in the same second, and is as large, for the one before."""


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log that takes a while to build views of."""
    path = tmp_path_factory.mktemp("large") / "evrt.db"
    make_runs(path, MANY_RUNS)
    return path


@pytest.fixture
def large_shell(large: Path, tmp_path: Path, forker: Forker) -> Shell:
    """A shell with a copy of that log, nothing built of it yet."""
    shell = new_shell(tmp_path, forker)
    shell.environment["EVRT_APP"] = ""
    shell.evrt("db", "backup", "evrt.db", "--db", str(large))
    return shell


def statuses(shell: Shell) -> dict[str, dict[str, Any]]:
    return {status["name"]: status for status in shell.evrt("projections", "list", "--json").document}


def cursor(shell: Shell, name: str, stage: str = "live") -> int:
    """How far a view has come, as its file says; 0 where there is none."""
    file = shell.folder / "evrt.db-views"
    if not file.exists():
        return 0
    try:
        with closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True)) as connection:
            rows = connection.execute("SELECT cursor FROM views WHERE name = ? AND stage = ?", (name, stage))
            return next((position for (position,) in rows), 0)
    except sqlite3.OperationalError:  # It is just being made.
        return 0


def until(condition: Callable[[], bool]) -> None:
    """Return when it holds."""
    end = time.monotonic() + WITHIN_SECONDS
    while not condition():
        assert time.monotonic() < end, "It never came to be."
        time.sleep(0.01)


def interrupted(shell: Shell, *words: str, when: Callable[[], bool]) -> str:
    """What a command says that is interrupted as soon as something is the case."""
    with shell.begin(*words, stderr=subprocess.PIPE) as process:
        until(when)
        process.send_signal(signal.SIGINT)
        assert process.wait() == 130
        assert process.stderr is not None
        return process.stderr.read()


# ------------------------------------------------------------------------------------- how they stand


def test_the_list_tells_of_every_view_and_builds_none(shell: Shell) -> None:
    shell.write("support.py", DESK)
    shell.evrt("runs", "start", "desk", "hello")
    shell.evrt("runs", "list")
    head = int(shell.evrt("log", "--json").out.count("\n"))
    found = statuses(shell)
    assert (found["runs"]["stage"], found["runs"]["position"], found["runs"]["documents"]) == (
        "live",
        head,
        1,
    )
    assert (found["endings"]["stage"], found["endings"]["lag"]) == ("not built", head)
    shell.evrt("runs", "start", "desk", "hello")
    assert statuses(shell)["runs"]["lag"] > 0
    assert "behind" in shell.evrt("projections", "list").out
    shell.evrt("runs", "list")
    line = next(row for row in shell.evrt("projections", "list").out.splitlines() if row.startswith("runs "))
    assert line.split()[2] == "current"
    other = shell.evrt("projections", "list", EVRT_APP="")
    assert "endings" not in other.out


def test_lag_is_told_in_events_and_seconds_and_too_much_of_it_exits_with_one(shell: Shell) -> None:
    shell.write("support.py", DESK)
    shell.evrt("runs", "start", "desk", "hello")
    shell.evrt("runs", "list")
    [now] = shell.evrt("projections", "lag", "runs", "--json", "--max", "0").document
    assert now == {"name": "runs", "events": 0, "seconds": 0.0}
    shell.evrt("runs", "start", "desk", "hello")
    [then] = shell.evrt("projections", "lag", "runs", "--json").document
    assert then["events"] > 0
    assert then["seconds"] > 0
    late = shell.evrt("projections", "lag", "runs", "--max", "0", expect=1)
    assert late.err == "More than 0 events behind: runs. `evrt projections run` keeps views current.\n"
    assert "usage" in shell.evrt("projections", "lag", "--max", "3", expect=1).err


def test_a_projection_that_raises_is_parked_alone_and_goes_on_when_it_is_mended(shell: Shell) -> None:
    shell.write("support.py", DESK)
    shell.write("fragile", "")
    shell.evrt("runs", "start", "desk", "overload", expect=1)
    assert "it is fragile" in shell.refused("projections", "rebuild", "endings", code=6)
    assert len(shell.evrt("runs", "list", "--json").document) == 1
    until(lambda: statuses(shell)["endings"]["error"] is not None)
    parked = statuses(shell)["endings"]
    assert parked["error"].startswith("ValueError: it is fragile (support.py, line ")
    assert parked["position"] == parked["error_position"] - 1
    assert "parked" in shell.evrt("projections", "list").out
    (shell.folder / "fragile").unlink()
    shell.evrt("projections", "rebuild", "endings")
    assert statuses(shell)["endings"]["error"] is None


def test_the_view_of_a_projection_that_is_gone_can_be_removed(shell: Shell) -> None:
    shell.write("support.py", DESK)
    shell.write("fragile", "")
    shell.evrt("runs", "start", "desk", "overload", expect=1)
    shell.refused("projections", "rebuild", "endings", code=6)
    until(lambda: statuses(shell)["endings"]["error"] is not None)
    shell.environment["EVRT_APP"] = ""
    assert "`evrt projections remove endings` ends this" in shell.evrt("doctor", expect=1).out
    assert shell.evrt("projections", "remove", "endings").out == "endings is removed.\n"
    assert "endings" not in statuses(shell)
    assert "endings" not in shell.evrt("doctor").out
    assert "There is no view 'endings'" in shell.refused("projections", "remove", "endings", code=3)
    # One whose projection is there is built again.
    assert len(shell.evrt("runs", "list", "--json").document) == 1
    shell.evrt("projections", "remove", "runs", "--json")
    assert len(shell.evrt("runs", "list", "--json").document) == 1


def test_a_view_that_a_newer_program_built_is_refused_and_left_alone(shell: Shell) -> None:
    shell.write("support.py", NEWER)
    shell.evrt("runs", "start", "desk", "overload", expect=1)
    shell.evrt("projections", "rebuild", "endings")
    shell.write("support.py", DESK)
    told = shell.refused("projections", "verify", "endings", code=2)
    assert "was built with version 12 of its projection, and this program has version 1" in told
    [row] = [row for row in shell.evrt("projections", "list").out.splitlines() if row.startswith("endings")]
    assert "(no such projection, or version, here)" in row


def test_a_version_that_has_not_been_built_is_listed_and_as_far_behind_as_can_be(shell: Shell) -> None:
    shell.write("support.py", DESK)
    shell.evrt("runs", "start", "desk", "overload", expect=1)
    shell.evrt("projections", "rebuild", "endings")
    shell.write("support.py", NEWER)
    found = [one for one in shell.evrt("projections", "list", "--json").document if one["name"] == "endings"]
    assert [(one["version"], one["stage"], one["known"]) for one in found] == [
        (1, "live", False),
        (12, "not built", True),
    ]
    [lag] = shell.evrt("projections", "lag", "endings", "--max", "0", "--json", expect=1).document
    assert lag["events"] == found[1]["lag"] > 0
    assert "has not been built in version 12 yet" in shell.refused("projections", "verify", "endings", code=6)
    shell.evrt("projections", "rebuild", "endings")
    assert shell.evrt("projections", "lag", "endings", "--max", "0", "--json").document[0]["events"] == 0


# ---------------------------------------------------------------------------------- built and rebuilt


def test_a_first_build_that_is_interrupted_is_gone_on_with(large_shell: Shell) -> None:
    told = interrupted(large_shell, "runs", "list", when=lambda: cursor(large_shell, "runs") > 0)
    assert told == "Interrupted. What has been built is kept, and the next command goes on from there.\n"
    kept = cursor(large_shell, "runs")
    assert kept > 0
    with closing(sqlite3.connect(large_shell.folder / "evrt.db-views")) as connection:
        [(view,)] = connection.execute("SELECT id FROM views WHERE name = 'runs'").fetchall()
    assert len(large_shell.evrt("runs", "list", "--limit", "20000", "--json").document) == MANY_RUNS
    with closing(sqlite3.connect(large_shell.folder / "evrt.db-views")) as connection:
        assert connection.execute("SELECT id FROM views WHERE name = 'runs'").fetchall() == [(view,)]


def test_a_rebuild_that_is_interrupted_is_gone_on_with_and_readers_see_the_old_view(
    large_shell: Shell,
) -> None:
    shell = large_shell
    shell.evrt("runs", "list")
    rebuild = ("projections", "rebuild", "runs")
    told = interrupted(shell, *rebuild, when=lambda: cursor(shell, "runs", "building") > 0)
    assert "`evrt projections rebuild runs` goes on from there" in told
    kept = cursor(shell, "runs", "building")
    [building] = [
        one for one in shell.evrt("projections", "list", "--json").document if one["stage"] == "building"
    ]
    assert (building["name"], building["position"]) == ("runs", kept)
    assert kept < building["position"] + building["lag"]
    assert len(shell.evrt("runs", "list", "--limit", "5", "--json").document) == 5
    done = shell.evrt(*rebuild)
    assert done.out.startswith(f"runs is built anew: {MANY_RUNS} documents, as of position ")
    assert "building" not in shell.evrt("projections", "list").out


def test_a_rebuild_of_a_view_that_is_behind_ends_with_one_that_is_not(large_shell: Shell) -> None:
    interrupted(large_shell, "runs", "list", when=lambda: cursor(large_shell, "runs") > 0)
    done = large_shell.evrt("projections", "rebuild", "runs")
    assert done.out.startswith(f"runs is built anew: {MANY_RUNS} documents, as of position ")
    assert statuses(large_shell)["runs"]["lag"] == 0


def test_on_a_terminal_a_long_build_shows_how_fast_it_goes_and_how_long_it_takes(large_shell: Shell) -> None:
    shown = on_terminal(large_shell, "runs", "list", "--limit", "1")
    assert "Building views" in shown
    assert " events/s" in shown
    assert "0:00:" in shown
    assert "Answer" in shown.rpartition("\x1b[2K")[2]  # The bar has gone, the table is there.


def test_a_view_that_is_not_what_the_log_says_is_found_and_mended_by_a_rebuild(shell: Shell) -> None:
    shell.write("support.py", DESK)
    shell.evrt("runs", "start", "desk", "hello")
    assert "No view of sqlite:///evrt.db has been built yet." in shell.evrt("projections", "verify").err
    shell.evrt("runs", "list")
    verified = shell.evrt("projections", "verify", "--json").document
    assert [(one["name"], one["agrees"]) for one in verified] == [("runs", True)]
    assert shell.evrt("projections", "verify").out.startswith("ok  runs: ")
    with closing(sqlite3.connect(shell.folder / "evrt.db-views")) as connection, connection:
        [(view,)] = connection.execute("SELECT id FROM views WHERE name = 'runs'").fetchall()
        connection.execute(f"UPDATE view_{view} SET document = replace(document, 'hello', 'hullo')")
    wrong = shell.evrt("projections", "verify", "runs", expect=1)
    assert wrong.out.startswith("DIFFERENT  runs, as of position ")
    assert wrong.err == "`evrt projections rebuild runs` builds it anew; the log is as it was.\n"
    shell.evrt("projections", "rebuild", "runs")
    assert shell.evrt("projections", "verify", "runs").code == 0


# ------------------------------------------------------------------------------------- kept current


def test_a_process_keeps_views_current_until_it_is_interrupted(shell: Shell) -> None:
    shell.write("support.py", DESK)
    shell.evrt("runs", "start", "desk", "hello")
    with shell.begin("projections", "run", stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        assert "13 views of sqlite:///evrt.db current; Ctrl-C ends it." in process.stderr.readline()
        assert " current, at position " in process.stderr.readline()
        shell.evrt("runs", "start", "desk", "overload", expect=1)
        until(lambda: cursor(shell, "endings") == shell.evrt("log", "--json").out.count("\n"))
        assert shell.evrt("projections", "lag", "--max", "0").code == 0
        process.send_signal(signal.SIGINT)
        assert process.wait() == 0
        assert "Ended." in process.stderr.read()


def test_who_keeps_views_is_told_at_once_of_one_that_is_parked_and_ends_in_order_when_terminated(
    shell: Shell,
) -> None:
    shell.write("support.py", DESK)
    shell.evrt("runs", "start", "desk", "hello")
    with shell.begin("projections", "run", stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        while "13 views current" not in process.stderr.readline():
            pass
        shell.write("fragile", "")
        shell.evrt("runs", "start", "desk", "overload", expect=1)
        told = process.stderr.readline()
        assert re.match(r"endings is parked at position \d+: ValueError: it is fragile", told)
        assert process.stderr.readline().startswith("12 views current, at position ")
        process.send_signal(signal.SIGTERM)
        assert process.wait() == 0


def test_what_another_process_keeps_is_waited_for_and_taken_over_when_that_is_frozen(shell: Shell) -> None:
    shell.write("support.py", DESK)
    shell.evrt("runs", "start", "desk", "hello")
    with shell.begin("projections", "run", stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        while "current, at" not in process.stderr.readline():
            pass
        shell.evrt("runs", "start", "desk", "hello")
        assert len(shell.evrt("runs", "list", "--json").document) == 2
        process.send_signal(signal.SIGSTOP)
        shell.evrt("runs", "start", "desk", "hello")
        assert len(shell.evrt("runs", "list", "--json").document) == 3
        process.send_signal(signal.SIGCONT)
        process.send_signal(signal.SIGTERM)
        assert process.wait() == 0
